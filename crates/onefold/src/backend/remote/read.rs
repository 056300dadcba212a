//! Answers of the server in our words.

use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use onefold_core::schedule::{Interval, InvalidTiming, Missed, Overlap, Pattern, TickCounts, Timing, Zone};
use onefold_core::{
    Added, Backoff, DeadReason, DurationMs, EffectDone, EffectState, Evidence, EvidenceKind, FencingToken,
    GroupHead, JobError, JobId, JobStatus, Label, OnDead, Progress, QueueCounts, QueueName, QueueSettings,
    Rate, Settled, State, Timestamp, Waiting,
};
use onefold_wire::{self as wire, RawValue, Span, Text};

use super::{foreign, problem};
use crate::backend::{Leased, Outcome};
use crate::schedule::ScheduleView;
use crate::view::{AttemptView, JobView, KeyView, QueueView, Redriven};
use crate::{Error, RawPayload};

/// A part of a body, sharing its memory.
pub(super) fn slice(part: &RawValue, body: &Bytes) -> Bytes {
    body.slice_ref(part.get().as_bytes())
}

fn from_text<T: FromStr<Err: std::fmt::Display>>(text: &Text<'_>) -> Outcome<T> {
    text.parse().map_err(|error| foreign(format!("{text:?}: {error}")))
}

fn some<T: FromStr<Err: std::fmt::Display>>(text: Option<&Text<'_>>) -> Outcome<Option<T>> {
    text.map(from_text).transpose()
}

fn word<T>(text: &Text<'_>, parse: fn(&str) -> Option<T>) -> Outcome<T> {
    parse(text).ok_or_else(|| foreign(format!("{text:?} is not known")))
}

fn owned(text: Option<&Text<'_>>) -> Option<String> {
    text.map(|text| text.to_string())
}

pub(super) fn state(text: &Text<'_>) -> Outcome<State> {
    word(text, State::parse)
}

fn status(text: &Text<'_>) -> Outcome<JobStatus> {
    if &**text == "purged" { Ok(JobStatus::Purged) } else { state(text).map(JobStatus::Known) }
}

fn span(span: &Span<'_>) -> Outcome<DurationMs> {
    match span {
        Span::Text(text) => from_text(text),
        Span::Ms(ms) => {
            let ms = u64::try_from(*ms).map_err(foreign)?;
            DurationMs::try_from_ms(ms).map_err(foreign)
        }
    }
}

fn token(number: u64) -> Outcome<FencingToken> {
    FencingToken::new(number).ok_or_else(|| foreign(format!("{number} is not a fencing token")))
}

fn payload(
    json: Option<&RawValue>,
    base64: Option<&Text<'_>>,
    content_type: Option<&Text<'_>>,
    body: &Bytes,
) -> Outcome<RawPayload> {
    Ok(match (json, base64) {
        (Some(json), _) => RawPayload::json(slice(json, body)),
        (None, Some(encoded)) => {
            let bytes = BASE64_STANDARD.decode(&**encoded).map_err(foreign)?;
            RawPayload::binary(bytes, content_type.map_or("application/octet-stream", |given| &**given))
        }
        (None, None) => RawPayload::none(),
    })
}

fn headers(headers: Option<&wire::Headers<'_>>) -> Vec<(String, String)> {
    let pairs = headers.map_or(&[][..], |headers| &headers.0);
    pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

/// What became of one job of an array. The outer error is for answers that cannot be read.
pub(super) fn add_outcome(outcome: wire::AddOutcome<'_>) -> Outcome<Outcome<Added>> {
    match outcome {
        wire::AddOutcome::Refused { error } => Ok(Err(problem::error(*error))),
        wire::AddOutcome::Added(added) => Ok(Ok(Added {
            id: from_text(&added.id)?,
            status: status(&added.state)?,
            run_at: some(added.run_at.as_ref())?,
            duplicate: added.duplicate,
            replaced: added.replaced,
        })),
    }
}

/// A job under lease. `queues` are those that were asked for: their names need not be made again.
pub(super) fn leased(job: &wire::LeasedJob<'_>, queues: &[QueueName], body: &Bytes) -> Outcome<Leased> {
    let queue = match queues.iter().find(|queue| queue.as_str() == &*job.queue) {
        Some(queue) => queue.clone(),
        None => from_text(&job.queue)?,
    };
    Ok(Leased {
        id: from_text(&job.id)?,
        token: token(job.fencing_token)?,
        attempt: job.attempt,
        queue,
        kind: some(job.kind.as_ref())?,
        payload: payload(job.payload, job.payload_base64.as_ref(), job.content_type.as_ref(), body)?,
        key: some(job.key.as_ref())?,
        group: some(job.group.as_ref())?,
        headers: headers(job.headers.as_ref()),
        labels: job.labels.iter().map(from_text::<Label>).collect::<Outcome<_>>()?,
        failures: job.failures,
        max_attempts: job.max_attempts,
        timeout: span(&job.timeout)?,
        created_at: from_text(&job.created_at)?,
        retry_until: some(job.retry_until.as_ref())?,
        checkpoint: job.checkpoint.map(|value| slice(value, body)),
        traceparent: some(job.traceparent.as_ref())?,
    })
}

/// What became of one operation of a settle. The outer error is for answers that cannot be read.
pub(super) fn settle_result(result: &wire::SettleResult<'_>) -> Outcome<Outcome<Settled>> {
    if !result.ok {
        return Ok(Err(problem::of_settle(result)));
    }
    let state_text = result.state.as_ref().ok_or_else(|| foreign("a result has no state"))?;
    Ok(Ok(Settled {
        state: state(state_text)?,
        cancel: result.cancel,
        lease_until: some(result.lease_until.as_ref())?,
    }))
}

/// What a begin of an effect was told.
pub(super) fn begun(begun: &wire::BegunEffect<'_>, body: &Bytes) -> Outcome<EffectDone> {
    if let Some(warning) = &begun.warning {
        tracing::warn!(%warning, "the server warns of an effect");
    }
    match begun.fencing_token {
        Some(number) => Ok(EffectDone::Execute { token: token(number)?, forgotten_early: None }),
        None => {
            let result =
                begun.result.ok_or_else(|| foreign("a begin was given neither a token nor a result"))?;
            Ok(EffectDone::Replay { result: Some(slice(result, body)) })
        }
    }
}

/// Where an effect stands.
pub(super) fn standing(standing: &wire::EffectStanding<'_>) -> Outcome<EffectDone> {
    Ok(EffectDone::Standing {
        state: word(&standing.state, EffectState::parse)?,
        lease_until: some(standing.lease_until.as_ref())?,
    })
}

/// Everything about a job, or what a list tells of it.
pub(super) fn job(job: &wire::Job<'_>, body: &Bytes) -> Outcome<JobView> {
    let attempts = job.attempts.iter().flatten().map(attempt).collect::<Outcome<Vec<_>>>()?;
    Ok(JobView {
        id: from_text(&job.id)?,
        queue: job.queue.to_string(),
        state: state(&job.state)?,
        reason: job.reason.as_ref().map(|reason| word(reason, DeadReason::parse)).transpose()?,
        waiting: job.waiting.as_ref().map(|waiting| word(waiting, Waiting::parse)).transpose()?,
        cancel_requested: job.cancel_requested,
        kind: owned(job.kind.as_ref()),
        payload: payload(job.payload, job.payload_base64.as_ref(), job.content_type.as_ref(), body)?,
        key: owned(job.key.as_ref()),
        group: owned(job.group.as_ref()),
        priority: job.priority,
        headers: headers(job.headers.as_ref()),
        labels: job.labels.iter().map(ToString::to_string).collect(),
        created_at: from_text(&job.created_at)?,
        run_at: from_text(&job.run_at)?,
        finished_at: some(job.finished_at.as_ref())?,
        retry_until: some(job.retry_until.as_ref())?,
        failures: job.failures,
        lost_leases: job.lost_leases,
        max_attempts: job.max_attempts,
        attempt: job.attempt,
        duplicates: job.duplicates,
        late_writes: job.late_writes.unwrap_or_default(),
        error: job.error.as_ref().map(error),
        result: job.result.map(|result| slice(result, body)),
        history: job.history.iter().flatten().map(evidence).collect::<Outcome<_>>()?,
        attempts,
    })
}

fn error(error: &wire::AttemptError<'_>) -> JobError {
    JobError { message: error.message.to_string(), kind: owned(error.kind.as_ref()) }
}

fn attempt(attempt: &wire::Attempt<'_>) -> Outcome<AttemptView> {
    let progress = |progress: &wire::Progress<'_>| Progress {
        percent: progress.percent,
        message: owned(progress.message.as_ref()),
    };
    let late = |writes: Option<&wire::LateWrites<'_>>| writes.map_or(0, |writes| writes.count);
    Ok(AttemptView {
        number: attempt.number,
        fencing_token: token(attempt.fencing_token)?,
        worker: attempt.worker.to_string(),
        started_at: from_text(&attempt.started_at)?,
        ended_at: some(attempt.ended_at.as_ref())?,
        outcome: attempt
            .outcome
            .as_ref()
            .map(|word_| word(word_, onefold_core::Outcome::parse))
            .transpose()?,
        error: attempt.error.as_ref().map(error),
        progress: attempt.progress.as_ref().map(progress),
        log: attempt.log.iter().map(ToString::to_string).collect(),
        late_success: late(attempt.late_success.as_ref()),
        late_failure: late(attempt.late_failure.as_ref()),
    })
}

fn evidence(evidence: &wire::Evidence<'_>) -> Outcome<Evidence> {
    Ok(Evidence {
        kind: word(&evidence.kind, EvidenceKind::parse)?,
        number: evidence.number,
        at: from_text(&evidence.at)?,
        note: owned(evidence.note.as_ref()),
    })
}

/// What became of a redrive. A refusal that has no variant is told as an error of the whole.
pub(super) fn redriven(answer: wire::Redriven<'_>) -> Outcome<Redriven> {
    let mut refused = Vec::with_capacity(answer.refused.len());
    for job in answer.refused {
        let id: JobId = from_text(&job.id)?;
        match problem::error(job.error) {
            Error::Refused(refusal) => refused.push((id, refusal)),
            other => return Err(other),
        }
    }
    Ok(Redriven { redriven: answer.redriven, refused })
}

/// A queue.
pub(super) fn queue(queue: &wire::Queue<'_>) -> Outcome<QueueView> {
    let retry = queue.retry.clone().unwrap_or_default();
    let policy = queue.group_policy.clone().unwrap_or_default();
    let retention = queue.retention.clone().unwrap_or_default();
    let time = |given: Option<Option<Span<'_>>>| given.flatten().as_ref().map(span).transpose();
    let settings = QueueSettings {
        paused: queue.paused,
        concurrency: queue.concurrency,
        rate: queue
            .rate
            .as_ref()
            .map(|rate| span(&rate.per).map(|per| Rate { limit: rate.limit, per }))
            .transpose()?,
        group_head: policy.head.flatten().map(|text| word(&text, GroupHead::parse)).transpose()?,
        on_dead: policy.on_dead.flatten().map(|text| word(&text, OnDead::parse)).transpose()?,
        max_attempts: retry.max_attempts.flatten(),
        backoff: retry.backoff.flatten().as_ref().map(backoff).transpose()?,
        dedup_window: queue.dedup_window.as_ref().map(span).transpose()?,
        retain_completed: time(retention.completed)?,
        retain_cancelled: time(retention.cancelled)?,
        retain_dead: time(retention.dead)?,
    };
    Ok(QueueView {
        name: queue.name.to_string(),
        settings,
        counts: counts(&queue.counts),
        oldest_age: queue.oldest_available_age_ms.map(Duration::from_millis),
    })
}

fn backoff(backoff: &wire::Backoff<'_>) -> Outcome<Backoff> {
    Ok(match backoff {
        wire::Backoff::Exponential { base, max } => {
            Backoff::Exponential { base: span(base)?, max: span(max)? }
        }
        wire::Backoff::Fixed(wait) => Backoff::Fixed(span(wait)?),
        wire::Backoff::List(waits) => Backoff::List(waits.iter().map(span).collect::<Outcome<_>>()?),
        wire::Backoff::Expression(source) => {
            return Err(foreign(format!("a backoff is shown as {source:?}")));
        }
    })
}

fn counts(counts: &wire::QueueCounts) -> QueueCounts {
    QueueCounts {
        accepted: counts.accepted,
        scheduled: counts.scheduled,
        available: counts.available,
        running: counts.running,
        retrying: counts.retrying,
        completed: counts.completed,
        dead: counts.dead,
        cancelled: counts.cancelled,
        purged_retention: counts.purged_retention,
        purged_deleted: counts.purged_deleted,
        duplicates: counts.duplicates,
        mismatches: counts.mismatches,
        late_writes: counts.late_writes,
    }
}

/// A held key.
pub(super) fn key(key: &wire::HeldKey<'_>) -> Outcome<KeyView> {
    let state = match status(&key.state)? {
        JobStatus::Known(state) => Some(state),
        JobStatus::Purged => None,
    };
    let until: Timestamp = from_text(&key.held_until)?;
    Ok(KeyView { job: from_text(&key.id)?, state, until })
}

/// A schedule.
pub(super) fn schedule(schedule: &wire::Schedule<'_>) -> Outcome<ScheduleView> {
    let time = |text: &Option<Text<'_>>| text.as_ref().map(from_text::<Timestamp>).transpose();
    let unreadable =
        |_: InvalidTiming| Error::Mistyped("a schedule whose timing this program does not know".to_owned());
    let pattern = match (&schedule.cron, &schedule.every) {
        (Some(cron), _) => {
            let zone: Option<Zone> = schedule.timezone.as_ref().map(from_text).transpose()?;
            Pattern::cron(cron, zone).map_err(unreadable)?
        }
        (None, every) => {
            let every = every.as_ref().map(span).transpose()?.unwrap_or(DurationMs::ZERO);
            let anchor = time(&schedule.anchor)?.unwrap_or(Timestamp::EPOCH);
            Pattern::Every(Interval::new(every, anchor).map_err(|why| unreadable(why.into()))?)
        }
    };
    let timing = Timing::new(pattern, time(&schedule.start)?, time(&schedule.end)?).map_err(unreadable)?;
    Ok(ScheduleView {
        id: schedule.id.to_string(),
        timing,
        queue: schedule.queue.to_string(),
        missed: word(&schedule.missed, Missed::parse)?,
        overlap: word(&schedule.overlap, Overlap::parse)?,
        paused: schedule.paused,
        created_at: from_text(&schedule.created_at)?,
        changed_at: from_text(&schedule.changed_at)?,
        next_tick: time(&schedule.next_tick)?,
        last_tick: time(&schedule.last_tick)?,
        last_job: schedule.last_job.as_ref().map(from_text).transpose()?,
        ticks: TickCounts {
            added: schedule.ticks.added,
            missed: schedule.ticks.missed,
            overlapped: schedule.ticks.overlapped,
        },
    })
}

/// The job that a schedule was made to add.
pub(super) fn schedule_run(run: &wire::ScheduleRun<'_>) -> Outcome<JobId> {
    from_text(&run.id)
}
