//! Targets that are parked, and going on with them.

use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::State;
use onefold_core::{ParkedTargets, TargetUrl};
use onefold_wire::{self as wire, ErrorCode, Text};

use crate::answer::ok;
use crate::extract::{JsonBody, NoQuery};
use crate::failure::{Answer, Failure};
use crate::state::AppState;

/// The targets that said that they are gone.
#[utoipa::path(
    get,
    operation_id = "listTargets",
    path = "/v1/targets",
    tag = "Targets",
    responses((status = 200, description = "Those that are parked", body = wire::TargetList<'static>)),
)]
pub(crate) async fn list(State(app): State<AppState>, _: NoQuery) -> Answer {
    let targets = ParkedTargets::of(app.engine()).await?;
    let parked = targets.iter().map(|(origin, parked)| wire::ParkedTarget {
        origin: Text::from(origin),
        since: Text::from(parked.since.as_str()),
        job: Text::from(parked.job.as_str()),
    });
    Ok(ok(&wire::TargetList { parked: parked.collect() }))
}

/// Delivers to a target again.
#[utoipa::path(
    post,
    operation_id = "resumeTarget",
    path = "/v1/targets/resume",
    tag = "Targets",
    request_body = wire::ResumeTarget<'static>,
    responses((status = 200, description = "It is not parked any more", body = wire::ResumedTarget<'static>)),
)]
pub(crate) async fn resume(State(app): State<AppState>, _: NoQuery, body: JsonBody) -> Answer {
    let given: wire::ResumeTarget<'_> = body.read()?;
    let url = TargetUrl::parse(&given.url);
    let origin = url.map_err(|why| Failure::field(ErrorCode::InvalidTarget, "url", why))?.origin();
    let resumed = AtomicBool::new(false);
    let resume = |targets: &mut ParkedTargets| resumed.store(targets.resume(&origin), Ordering::Relaxed);
    ParkedTargets::change(app.engine(), resume).await?;
    let origin = Text::from(origin.to_string());
    Ok(ok(&wire::ResumedTarget { origin, resumed: resumed.into_inner() }))
}
