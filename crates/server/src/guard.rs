//! Around every request: who may ask, and what happens when a handler breaks.

use std::panic::AssertUnwindSafe;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;

use crate::auth;
use crate::failure::Failure;
use crate::state::AppState;

pub(crate) async fn guard(State(app): State<AppState>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    if let Err(failure) = auth::check(app.config().token.as_ref(), &parts) {
        return failure.into_response();
    }
    let answer = AssertUnwindSafe(next.run(Request::from_parts(parts, body))).catch_unwind().await;
    answer.unwrap_or_else(|_| {
        // The panic hook has told where.
        Failure::internal("the server made a mistake; whether the request took effect is not known: repeat it with the same key")
            .into_response()
    })
}
