//! Which request goes where.

use axum::extract::Request;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use axum::{Extension, Router};
use onefold_wire::ErrorCode;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::failure::{Answer, Failure};
use crate::guard::guard;
use crate::openapi::{Api, document};
use crate::routes::docs::Document;
use crate::routes::{
    add, backup, docs, effects, events, health, jobs, keys, leases, metrics, pages, queues, redrive,
    schedules, targets,
};
use crate::state::AppState;

/// The whole API.
pub fn router(state: AppState) -> Router {
    let (router, openapi) = OpenApiRouter::with_openapi(Api::openapi())
        .routes(routes!(add::add))
        .routes(routes!(jobs::list))
        .routes(routes!(jobs::get, jobs::edit, jobs::delete))
        .routes(routes!(jobs::result))
        .routes(routes!(jobs::cancel))
        .routes(routes!(jobs::retry))
        .routes(routes!(redrive::redrive))
        .routes(routes!(keys::get, keys::release))
        .routes(routes!(leases::lease))
        .routes(routes!(leases::settle))
        .routes(routes!(queues::list))
        .routes(routes!(queues::get, queues::put, queues::delete))
        .routes(routes!(queues::pause))
        .routes(routes!(queues::resume))
        .routes(routes!(effects::list))
        .routes(routes!(effects::get))
        .routes(routes!(effects::begin))
        .routes(routes!(effects::commit))
        .routes(routes!(effects::extend))
        .routes(routes!(effects::release))
        .routes(routes!(effects::resolve))
        .routes(routes!(schedules::list))
        .routes(routes!(schedules::get, schedules::put, schedules::delete))
        .routes(routes!(schedules::pause))
        .routes(routes!(schedules::resume))
        .routes(routes!(schedules::run))
        .routes(routes!(schedules::next))
        .routes(routes!(targets::list))
        .routes(routes!(targets::resume))
        .routes(routes!(events::events))
        .routes(routes!(backup::backup))
        .routes(routes!(metrics::metrics))
        .routes(routes!(health::alive))
        .routes(routes!(health::ready))
        .split_for_parts();
    router
        .route("/openapi.json", get(docs::openapi))
        .route("/errors/{code}", get(docs::error))
        .route("/", get(pages::overview))
        .route("/jobs/{id}", get(pages::job))
        .route("/style.css", get(pages::style))
        .layer(Extension(Document(document(openapi))))
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
