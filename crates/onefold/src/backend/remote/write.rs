//! Requests in the server's words.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use onefold_core::schedule::Pattern;
use onefold_core::{
    Backoff, Dedup, DurationMs, EffectAction, EffectOp, End, FreeOn, HttpTarget, JobEdit, JobFilter,
    LeaseParams, OnDuplicate, OnMismatch, Payload, QueuePatch, SettleAction, SettleOp, Timestamp, When,
    limits,
};
use onefold_wire::{self as wire, RawValue, Span, Text};

use crate::backend::{Outcome, ToAdd, ToSchedule};
use crate::view::RedriveQuery;
use crate::{Error, Invalid};

fn span(duration: DurationMs) -> Span<'static> {
    // No duration is that long.
    Span::Ms(i64::try_from(duration.as_ms()).unwrap_or(i64::MAX))
}

/// A JSON text that has been checked, or was written by serde.
fn raw(text: &[u8]) -> Outcome<&RawValue> {
    let invalid = |error: serde_json::Error| Error::from(Invalid::Unserializable(error.to_string()));
    serde_json::from_slice(text).map_err(invalid)
}

/// A job to add, as JSON.
pub(super) fn new_job(to_add: &ToAdd) -> Outcome<Vec<u8>> {
    super::text(&job(to_add)?)
}

/// A schedule to put, as JSON.
pub(super) fn schedule(schedule: &ToSchedule) -> Outcome<Vec<u8>> {
    let timing = &schedule.timing;
    let time = |at: Option<Timestamp>| at.map(|at| Text::from(at.to_string()));
    let (cron, timezone, every, anchor) = match timing.pattern() {
        Pattern::Cron { cron, zone } => {
            (Some(Text::from(cron.source())), Some(Text::from(zone.to_string())), None, None)
        }
        Pattern::Every(interval) => (None, None, Some(span(interval.every())), time(Some(interval.anchor()))),
    };
    super::text(&wire::NewSchedule {
        cron,
        timezone,
        every,
        anchor,
        start: time(timing.start()),
        end: time(timing.end()),
        queue: schedule.queue.as_str().into(),
        job: Some(job(&schedule.job)?),
        missed: Some(schedule.missed.as_str().into()),
        overlap: Some(schedule.overlap.as_str().into()),
    })
}

fn job(to_add: &ToAdd) -> Outcome<wire::NewJob<'_>> {
    let job = &to_add.job;
    let spec = &job.spec;
    let (payload, payload_base64, content_type) = match &spec.payload {
        Payload::Absent => (None, None, None),
        Payload::Json(text) => (Some(raw(text)?), None, None),
        Payload::Raw { bytes, content_type } => {
            let encoded = Text::from(BASE64_STANDARD.encode(bytes));
            (None, Some(encoded), Some(Text::from(content_type.as_str())))
        }
    };
    let (delay, run_at) = match job.when {
        When::Now => (None, None),
        When::After(delay) => (Some(span(delay)), None),
        When::At(time) => (None, Some(Text::from(time.to_string()))),
    };
    let headers = spec.headers.iter().map(|(name, value)| (name.as_str().into(), value.as_str().into()));
    let labels = spec.labels.iter().map(|label| Text::from(label.as_str()));
    Ok(wire::NewJob {
        kind: spec.kind.as_ref().map(|kind| kind.as_str().into()),
        payload,
        payload_base64,
        content_type,
        key: spec.key.as_ref().map(|key| key.as_str().into()),
        fingerprint: to_add.fingerprint.as_deref().map(Text::from),
        dedup: dedup(&spec.dedup, job.window_given),
        delay,
        run_at,
        priority: Some(job.priority).filter(|priority| *priority != 0),
        group: spec.group.as_ref().map(|group| group.as_str().into()),
        max_attempts: job.max_attempts,
        backoff: spec.backoff.as_ref().map(backoff),
        timeout: spec.timeout.map(span),
        headers: (!spec.headers.is_empty()).then(|| wire::Headers(headers.collect())),
        labels: (!spec.labels.is_empty()).then(|| labels.collect()),
        retain: spec.retain.map(span),
        traceparent: spec.traceparent.as_ref().map(|trace| trace.as_str().into()),
        target: spec.target.http().map(target),
        on_success: spec.on_success.as_deref().map(target),
        on_failure: spec.on_failure.as_deref().map(target),
        ..wire::NewJob::default()
    })
}

fn target(target: &HttpTarget) -> wire::Target<'_> {
    let headers: Vec<_> =
        target.headers.iter().map(|(name, value)| (name.into(), value.into_owned().into())).collect();
    wire::Target {
        url: target.url.as_str().into(),
        method: Some(target.method.as_str().into()),
        headers: (!headers.is_empty()).then_some(wire::Headers(headers)),
        timeout: target.timeout.map(span),
    }
}

/// What differs from the default; the echo in the answer is for what was said only.
fn dedup(dedup: &Dedup, window_given: bool) -> Option<wire::Dedup<'static>> {
    let words = [
        ("completed", dedup.free_on.completed),
        ("dead", dedup.free_on.dead),
        ("cancelled", dedup.free_on.cancelled),
    ];
    let free_on = words.into_iter().filter(|(_, frees)| *frees).map(|(word, _)| Text::from(word));
    let given = wire::Dedup {
        window: window_given.then(|| span(dedup.window)),
        free_on: (dedup.free_on != FreeOn::default()).then(|| free_on.collect()),
        until: None,
        on_duplicate: (dedup.on_duplicate != OnDuplicate::Return)
            .then(|| Text::from(dedup.on_duplicate.as_str())),
        on_mismatch: (dedup.on_mismatch != OnMismatch::Reject)
            .then(|| Text::from(dedup.on_mismatch.as_str())),
        version: dedup.version,
        max_delay: dedup.max_delay.map(span),
    };
    (window_given || *dedup != Dedup { window: dedup.window, ..Dedup::default() }).then_some(given)
}

fn backoff(backoff: &Backoff) -> wire::Backoff<'static> {
    match backoff {
        Backoff::Exponential { base, max } => {
            wire::Backoff::Exponential { base: span(*base), max: span(*max) }
        }
        Backoff::Fixed(wait) => wire::Backoff::Fixed(span(*wait)),
        Backoff::List(waits) => wire::Backoff::List(waits.iter().copied().map(span).collect()),
    }
}

/// A change of a job.
pub(super) fn job_edit(edit: &JobEdit) -> wire::JobPatch<'_> {
    wire::JobPatch {
        run_at: edit.run_at.map(|time| time.to_string().into()),
        priority: edit.priority,
        labels: edit.labels.as_ref().map(|labels| labels.iter().map(|label| label.as_str().into()).collect()),
    }
}

/// A call for jobs.
pub(super) fn lease(params: &LeaseParams) -> wire::LeaseRequest<'_> {
    wire::LeaseRequest {
        queues: params.queues.iter().map(|queue| queue.as_str().into()).collect(),
        max: Some(params.max.min(limits::LEASE_JOBS_MAX)),
        wait: Some(span(params.wait)),
        lease: Some(span(params.lease)),
        worker: Some(params.worker.as_str().into()),
        fair: params.fair.then_some(true),
        poll_id: params.poll.map(|poll| Text::from(format!("{poll:016x}"))),
    }
}

/// Operations of a settle, as JSON.
pub(super) fn settle(ops: &[SettleOp]) -> Outcome<Vec<u8>> {
    let ops = ops.iter().map(settle_op).collect::<Outcome<Vec<_>>>()?;
    super::text(&wire::SettleRequest { ops })
}

fn settle_op(op: &SettleOp) -> Outcome<wire::SettleOp<'_>> {
    let (id, token) = (op.id.to_string(), op.token.get());
    Ok(match &op.action {
        SettleAction::End(End::Complete { result }) => {
            wire::SettleOp::complete(id, token, result.as_deref().map(raw).transpose()?)
        }
        SettleAction::End(End::Fail { error, retryable, retry_in }) => {
            let error = wire::OpError {
                message: error.message.as_str().into(),
                kind: error.kind.as_deref().map(Text::from),
                retryable: (!retryable).then_some(false),
            };
            wire::SettleOp::fail(id, token, error, retry_in.map(span))
        }
        SettleAction::End(End::Snooze { delay }) => wire::SettleOp::snooze(id, token, span(*delay)),
        SettleAction::End(End::Release) => wire::SettleOp::release(id, token),
        SettleAction::Extend(lease) => wire::SettleOp::extend(id, token, span(*lease)),
        SettleAction::Progress(progress) => {
            wire::SettleOp::progress(id, token, progress.percent, progress.message.as_deref().map(Text::from))
        }
        SettleAction::Checkpoint(value) => wire::SettleOp::checkpoint(id, token, raw(value)?),
        SettleAction::Log(lines) => {
            wire::SettleOp::log(id, token, lines.iter().map(|line| line.as_str().into()).collect())
        }
        // Who delivers has the store at hand: to a server, it is a line of the log.
        SettleAction::Exchange(exchange) => {
            let line = format!("{} {}", exchange.method, exchange.url);
            wire::SettleOp::log(id, token, vec![Text::from(line)])
        }
    })
}

/// What is done with an effect, as the last part of its path and JSON.
pub(super) fn effect(op: &EffectOp) -> Outcome<(&'static str, Vec<u8>)> {
    let key = || Text::from(op.name.key.as_str());
    Ok(match &op.action {
        EffectAction::Begin(begin) => {
            let job = begin.job.map(|claim| wire::EffectJob {
                id: claim.id.to_string().into(),
                fencing_token: claim.token.get(),
            });
            let standalone = begin.job.is_none();
            let request = wire::BeginEffect {
                key: key(),
                // Only a server's own callers give one: it hashes it itself.
                fingerprint: None,
                lease: standalone.then(|| span(begin.lease)),
                policy: Some(begin.policy.as_str().into()),
                key_valid_for: begin.key_valid_for.map(span),
                ttl: standalone.then(|| span(begin.ttl)),
                job,
                begin_id: begin.call.map(|call| Text::from(format!("{call:016x}"))),
            };
            ("begin", super::text(&request)?)
        }
        EffectAction::Commit { token, result } => {
            let result = result.as_deref().map(raw).transpose()?;
            ("commit", super::text(&wire::CommitEffect { key: key(), fencing_token: token.get(), result })?)
        }
        EffectAction::Extend { token, lease } => {
            let lease = Some(span(*lease));
            ("extend", super::text(&wire::ExtendEffect { key: key(), fencing_token: token.get(), lease })?)
        }
        EffectAction::Release { token, outcome } => {
            let outcome = Some(outcome.as_str().into());
            (
                "release",
                super::text(&wire::ReleaseEffect { key: key(), fencing_token: token.get(), outcome })?,
            )
        }
        EffectAction::Resolve { outcome, result, note } => {
            let result = result.as_deref().map(raw).transpose()?;
            let (outcome, note) = (outcome.as_str().into(), note.as_str().into());
            ("resolve", super::text(&wire::ResolveEffect { key: key(), outcome, note, result })?)
        }
    })
}

/// Which jobs to run again.
pub(super) fn redrive(query: &RedriveQuery) -> wire::RedriveRequest<'_> {
    let filter = &query.filter;
    let given = wire::RedriveFilter {
        kind: filter.kind.as_ref().map(|kind| kind.as_str().into()),
        label: filter.label.as_ref().map(|label| label.as_str().into()),
        key: filter.key.as_ref().map(|key| key.as_str().into()),
        group: filter.group.as_ref().map(|group| group.as_str().into()),
        since: filter.since.map(|time| time.to_string().into()),
        until: filter.until.map(|time| time.to_string().into()),
    };
    wire::RedriveRequest {
        states: Some(query.states.iter().map(|state| state.as_str().into()).collect()),
        limit: query.limit,
        filter: (*filter != JobFilter::default()).then_some(given),
        accept_duplicates: query.accept_duplicates.then_some(true),
    }
}

/// A change of a queue's settings.
pub(super) fn queue_patch(patch: &QueuePatch) -> wire::QueuePatch<'static> {
    let time = |wish: Option<Option<DurationMs>>| wish.map(|wish| wish.map(span));
    let group_policy = wire::GroupPolicy {
        head: patch.group_head.map(|wish| wish.map(|head| head.as_str().into())),
        on_dead: patch.on_dead.map(|wish| wish.map(|on_dead| on_dead.as_str().into())),
    };
    let retry = wire::Retry {
        max_attempts: patch.max_attempts,
        backoff: patch.backoff.as_ref().map(|wish| wish.as_ref().map(backoff)),
    };
    let retention = wire::Retention {
        completed: time(patch.retain_completed),
        cancelled: time(patch.retain_cancelled),
        dead: time(patch.retain_dead),
    };
    wire::QueuePatch {
        paused: patch.paused,
        concurrency: patch.concurrency,
        rate: patch.rate.map(|wish| wish.map(|rate| wire::Rate { limit: rate.limit, per: span(rate.per) })),
        group_policy: (patch.group_head.is_some() || patch.on_dead.is_some()).then_some(Some(group_policy)),
        retry: (patch.max_attempts.is_some() || patch.backoff.is_some()).then_some(Some(retry)),
        dedup_window: time(patch.dedup_window),
        retention: (patch.retain_completed.is_some()
            || patch.retain_cancelled.is_some()
            || patch.retain_dead.is_some())
        .then_some(Some(retention)),
    }
}
