//! How the server is.

use axum::extract::State;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use onefold_core::EngineError;
use onefold_runtime::{Health, Phase};
use onefold_wire::{Alive, ErrorCode, Problem, Ready, Text};
use serde::Serialize;

use crate::answer::{json, ok};
use crate::failure::{Answer, Failure};
use crate::state::AppState;

/// The process answers.
#[utoipa::path(
    get,
    operation_id = "getHealth",
    path = "/healthz",
    tag = "Server",
    responses((status = 200, description = "The process answers", body = Alive)),
)]
pub(crate) async fn alive() -> Answer {
    Ok(ok(&Alive { alive: true }))
}

/// Whether new work is welcome.
#[utoipa::path(
    get,
    operation_id = "getReadiness",
    path = "/readyz",
    tag = "Server",
    responses(
        (status = 200, description = "New work is welcome", body = Ready<'static>),
        (status = 503, description = "It is not, or not yet: a problem with these members, too", body = Ready<'static>),
    ),
)]
pub(crate) async fn ready(State(app): State<AppState>) -> Answer {
    let health = app.health();
    let store = app.config().store.borrow().clone();
    let mut notes: Vec<Text<'_>> = store.notes.into_iter().map(Text::from).collect();
    let phase = match &health.phase {
        Phase::Starting => "starting",
        Phase::Serving if is_unavailable(&health) => "unavailable",
        Phase::Serving => "serving",
        Phase::Draining => "draining",
        Phase::Stopped => "stopped",
        Phase::Failed(_) => "failed",
    };
    if let Some(error) = &health.error {
        notes.push(Text::from(format!("the last tick failed: {error}")));
    }
    if let Phase::Failed(error) = &health.phase {
        notes.push(Text::from(error.to_string()));
    }
    let ready = health.is_serving() && !is_unavailable(&health);
    let told = Ready { ready, phase: Text::from(phase), standby: store.standby.map(Text::from), notes };
    if ready {
        return Ok(ok(&told));
    }
    let why = match &health.error {
        Some(error @ EngineError::Unavailable(_)) => error.to_string(),
        _ => format!("the server is {phase}"),
    };
    let problem = Failure::new(ErrorCode::NotReady, why).0;
    let mut response = json(StatusCode::SERVICE_UNAVAILABLE, &NotReady { problem: &problem, ready: &told });
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(Problem::MEDIA_TYPE));
    Ok(response)
}

/// Whether the store is elsewhere, and cannot be used from here now.
fn is_unavailable(health: &Health) -> bool {
    matches!(health.error, Some(EngineError::Unavailable(_)))
}

/// Both say why new work is not welcome: one to whoever knows problems, one to whoever knows `/readyz`.
#[derive(Serialize)]
struct NotReady<'a> {
    #[serde(flatten)]
    problem: &'a Problem,
    #[serde(flatten)]
    ready: &'a Ready<'a>,
}
