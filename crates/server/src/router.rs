//! Which request goes where.

use axum::Router;
use axum::extract::Request;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use onefold_wire::ErrorCode;

use crate::failure::{Answer, Failure};
use crate::guard::guard;
use crate::routes::{add, health, jobs, keys, leases, queues, redrive};
use crate::state::AppState;

/// The whole API.
pub fn router(state: AppState) -> Router {
    Router::new()
        .route("/v1/queues/{queue}/jobs", post(add::add))
        .route("/v1/jobs", get(jobs::list))
        .route("/v1/jobs/{id}", get(jobs::get).patch(jobs::edit).delete(jobs::delete))
        .route("/v1/jobs/{id}/result", get(jobs::result))
        .route("/v1/jobs/{id}/cancel", post(jobs::cancel))
        .route("/v1/jobs/{id}/retry", post(jobs::retry))
        .route("/v1/queues/{queue}/redrive", post(redrive::redrive))
        .route("/v1/queues/{queue}/keys/{key}", get(keys::get).delete(keys::release))
        .route("/v1/leases", post(leases::lease))
        .route("/v1/leases/settle", post(leases::settle))
        .route("/v1/queues", get(queues::list))
        .route("/v1/queues/{queue}", get(queues::get).put(queues::put).delete(queues::delete))
        .route("/v1/queues/{queue}/pause", post(queues::pause))
        .route("/v1/queues/{queue}/resume", post(queues::resume))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(from_fn_with_state(state.clone(), guard))
        .with_state(state)
}

async fn no_route(request: Request) -> Answer {
    let detail = format!("there is no route {}: see /openapi.json", request.uri().path());
    Err(Failure::new(ErrorCode::RouteNotFound, detail))
}

async fn no_method(request: Request) -> Answer {
    let detail =
        format!("{} has no {}: the Allow header names what it has", request.uri().path(), request.method());
    Err(Failure::new(ErrorCode::MethodNotAllowed, detail))
}
