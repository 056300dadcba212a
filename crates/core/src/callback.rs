//! Telling of the end of a job: a job of its own, added in the transaction that ends the first, so that there is exactly
//! one for each end.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::{HttpTarget, Job, JobSpec, Kind, NewJob, Payload, State, Target};

impl JobSpec {
    /// Who is told when the job ends in `state`.
    pub fn told_of(&self, state: State) -> Option<&Arc<HttpTarget>> {
        match state {
            State::Completed => self.on_success.as_ref(),
            State::Dead | State::Cancelled => self.on_failure.as_ref(),
            State::Scheduled | State::Available | State::Running | State::Retrying => None,
        }
    }
}

/// The job that tells of the end of `job`, for its queue, if somebody is to be told. `result` is what it ended with.
///
/// Its payload: `job_id`, `queue`, `kind` and `key` if there are any, `state`, `attempt`, `reason` of a dead job, `error` of
/// the last attempt if that failed, and `result` of a completed one.
pub fn callback(job: &Job, spec: &JobSpec, result: Option<&Bytes>) -> Option<NewJob> {
    let target = spec.told_of(job.state)?;
    let mut told = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        told.extend(value.map(|value| (name.to_owned(), value)));
    };
    put("job_id", Some(job.id.to_string().into()));
    put("queue", Some(job.queue.as_str().into()));
    put("kind", spec.kind.as_ref().map(|kind| kind.as_str().into()));
    put("key", spec.key.as_ref().map(|key| key.as_str().into()));
    put("state", Some(job.state.as_str().into()));
    put("attempt", Some(job.attempts().into()));
    put("reason", job.reason.map(|reason| reason.as_str().into()));
    let error = job.attempt.as_ref().and_then(|attempt| attempt.end.as_ref()?.error.as_ref());
    put("error", error.and_then(|error| serde_json::to_value(error).ok()));
    let mut text = Value::Object(told).to_string();
    // A result is JSON, and stays as it was written.
    if let (State::Completed, Some(result)) =
        (job.state, result.and_then(|result| std::str::from_utf8(result).ok()))
    {
        text.truncate(text.len() - 1);
        text = format!("{text},\"result\":{result}}}");
    }
    let spec = JobSpec {
        kind: Kind::new("callback").ok(),
        payload: Payload::Json(text.into()),
        target: Target::Http(Arc::clone(target)),
        traceparent: spec.traceparent.clone(),
        ..JobSpec::default()
    };
    Some(NewJob { spec, ..NewJob::default() })
}
