//! Making the dead letters of a queue run again.

use axum::extract::State;
use onefold_core::{RedriveParams, State as JobState, limits};
use onefold_wire::{self as wire, ErrorCode, NotRedriven, Text};

use crate::answer::ok;
use crate::extract::{InPath, JsonBody, NoQuery, queue_name};
use crate::failure::{Answer, Failure};
use crate::state::AppState;
use crate::translate::{filter, state};

/// Makes the dead or cancelled jobs of a queue run again, oldest first.
#[utoipa::path(
    post,
    operation_id = "redriveQueue",
    path = "/v1/queues/{queue}/redrive",
    tag = "Jobs",
    params(("queue" = String, Path, description = "`[A-Za-z0-9._-]{1,128}`")),
    request_body = Option<wire::RedriveRequest<'static>>,
    responses(
        (status = 200, description = "How many, and which were refused", body = wire::Redriven<'static>),
    ),
)]
pub(crate) async fn redrive(
    State(app): State<AppState>,
    InPath(queue): InPath<String>,
    _: NoQuery,
    body: JsonBody,
) -> Answer {
    let queue = queue_name(&queue)?;
    let given: wire::RedriveRequest<'_> = body.read()?;
    let states = match given.states {
        None => vec![JobState::Dead],
        Some(words) => words.iter().map(|word| redrivable(word)).collect::<Result<_, _>>()?,
    };
    let limit = given.limit.unwrap_or(limits::REDRIVE_JOBS_MAX);
    if !(1..=limits::REDRIVE_JOBS_MAX).contains(&limit) {
        let why = format!("this is 1 to {}", limits::REDRIVE_JOBS_MAX);
        return Err(Failure::field(ErrorCode::InvalidField, "limit", why));
    }
    let filter = given.filter.map(filter::from_redrive).transpose()?.unwrap_or_default();
    let accept_duplicates = given.accept_duplicates.unwrap_or(false);
    let done =
        app.engine().redrive(RedriveParams { filter, queue, states, limit, accept_duplicates }).await??;
    let refused = done.refused.into_iter().map(|(id, refusal)| NotRedriven {
        id: Text::from(id.to_string()),
        error: *Failure::from(refusal).0,
    });
    Ok(ok(&wire::Redriven { redriven: done.redriven, refused: refused.collect() }))
}

fn redrivable(word: &str) -> Result<JobState, Failure> {
    match state("states", word)? {
        state @ (JobState::Dead | JobState::Cancelled) => Ok(state),
        _ => Err(Failure::field(
            ErrorCode::InvalidField,
            "states",
            "only dead and cancelled jobs are redriven",
        )),
    }
}
