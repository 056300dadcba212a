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
        let detail = "the server made a mistake; whether the request took effect is not known: repeat it with \
                      the same key";
        Failure::internal(detail).into_response()
    })
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use axum::body::Body;
    use axum::extract::ConnectInfo;
    use axum::middleware::from_fn_with_state;
    use axum::routing::get;
    use onefold_core::reference::ReferenceEngine;
    use onefold_core::{ManualClock, SeededEntropy, Timestamp};
    use onefold_runtime::Runtime;
    use tower::Service;

    use super::*;
    use crate::Config;

    #[tokio::test]
    async fn a_panic_is_a_500() {
        let clock = Arc::new(ManualClock::at(Timestamp::EPOCH));
        let engine = ReferenceEngine::new(Arc::clone(&clock) as _, Arc::new(SeededEntropy::new(1)));
        let runtime = Runtime::start(Arc::new(engine), Arc::clone(&clock) as _);
        let engine = Arc::clone(runtime.engine());
        let app = AppState::new(engine, clock, Config::default(), runtime.watch_health());
        let broken = get(|| async { panic!("a handler breaks") as &'static str });
        let mut router = axum::Router::new().route("/", broken).layer(from_fn_with_state(app, guard));
        let peer = ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 9)));
        let request = Request::builder().header("host", "localhost").extension(peer).body(Body::empty());
        let answer = router.call(request.unwrap()).await.unwrap();
        assert_eq!(answer.status(), 500);
    }
}
