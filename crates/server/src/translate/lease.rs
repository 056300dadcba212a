//! A call for jobs, and jobs under lease.

use onefold_core::{DurationMs, LeaseParams, LeasedJob, WorkerName, limits};
use onefold_wire::{self as wire, ErrorCode, Span, Text};

use super::job::{headers, payload};
use super::{duration_within, number_within, shown, text, time_text};
use crate::answer::raw;
use crate::auth::{Token, poll_hash};
use crate::extract::queue_name;
use crate::failure::Failure;

const WORKER_DEFAULT: &str = "anonymous";

/// What a worker asks for.
pub(crate) fn params(given: wire::LeaseRequest<'_>, token: Option<&Token>) -> Result<LeaseParams, Failure> {
    if !(1..=limits::LEASE_QUEUES_MAX).contains(&given.queues.len()) {
        let why = format!("name 1 to {} queues", limits::LEASE_QUEUES_MAX);
        return Err(Failure::field(ErrorCode::InvalidField, "queues", why));
    }
    let queues = given.queues.iter().map(|name| queue_name(name)).collect::<Result<Vec<_>, _>>()?;
    let named = text("worker", ErrorCode::InvalidField, given.worker)?;
    let worker = match named {
        Some(worker) => worker,
        None => WorkerName::new(WORKER_DEFAULT).map_err(|why| Failure::internal(why.to_string()))?,
    };
    let poll = match given.poll_id {
        None => None,
        Some(id) if (1..=limits::POLL_ID_BYTES_MAX).contains(&id.len()) => {
            Some(poll_hash(token, worker.as_str(), &id))
        }
        Some(_) => {
            let why = format!("a poll id has 1 to {} bytes", limits::POLL_ID_BYTES_MAX);
            return Err(Failure::field(ErrorCode::InvalidField, "poll_id", why));
        }
    };
    let lease = duration_within("lease", given.lease.as_ref(), limits::LEASE_MIN..=limits::LEASE_MAX)?;
    let wait = duration_within("wait", given.wait.as_ref(), DurationMs::ZERO..=limits::WAIT_MAX)?;
    Ok(LeaseParams {
        queues,
        max: number_within("max", given.max, 1..=limits::LEASE_JOBS_MAX)?.unwrap_or(1),
        lease: lease.unwrap_or(limits::LEASE_DEFAULT),
        worker,
        fair: given.fair.unwrap_or(false),
        wait: wait.unwrap_or(DurationMs::ZERO),
        poll,
    })
}

/// A job handed to a worker.
pub(crate) fn leased(leased: &LeasedJob) -> Result<wire::LeasedJob<'_>, Failure> {
    let LeasedJob { job, spec, checkpoint } = leased;
    let attempt = leased.attempt().ok_or_else(|| Failure::internal("a leased job without an attempt"))?;
    let (payload, payload_base64, content_type) = payload(&spec.payload)?;
    Ok(wire::LeasedJob {
        id: shown(job.id),
        queue: Text::from(job.queue.as_str()),
        kind: spec.kind.as_ref().map(|kind| Text::from(kind.as_str())),
        payload,
        payload_base64,
        content_type,
        fencing_token: attempt.token.get(),
        attempt: attempt.number,
        failures: job.failures,
        max_attempts: job.max_attempts,
        key: spec.key.as_ref().map(|key| Text::from(key.as_str())),
        group: spec.group.as_ref().map(|group| Text::from(group.as_str())),
        headers: headers(&spec.headers),
        labels: spec.labels.iter().map(|label| Text::from(label.as_str())).collect(),
        checkpoint: checkpoint.as_deref().map(raw).transpose()?,
        timeout: Span::from(spec.timeout.unwrap_or(limits::ATTEMPT_TIMEOUT).to_string()),
        created_at: time_text(job.created_at()),
        lease_until: time_text(attempt.lease_until),
        lease_ms: attempt.lease.as_ms(),
        retry_until: job.retry_until.map(time_text),
        traceparent: spec.traceparent.as_ref().map(|trace| Text::from(trace.as_str())),
    })
}
