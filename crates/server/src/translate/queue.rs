//! Queues and their settings.

use onefold_core::{
    DurationMs, GroupHead, OnDead, QueueCounts, QueuePatch, QueueSettings, QueueView, Rate, Timestamp, limits,
};
use onefold_wire::{self as wire, ErrorCode, Span, Text};

use super::{backoff, backoff_view, duration, number_within, some_duration, span, time_text, word};
use crate::failure::Failure;

/// The change a caller asks for. `null` for a group of settings resets each of them.
pub(crate) fn patch(given: wire::QueuePatch<'_>) -> Result<QueuePatch, Failure> {
    let policy = match given.group_policy {
        None => wire::GroupPolicy::default(),
        Some(Some(policy)) => policy,
        Some(None) => wire::GroupPolicy { head: Some(None), on_dead: Some(None) },
    };
    let retry = match given.retry {
        None => wire::Retry::default(),
        Some(Some(retry)) => retry,
        Some(None) => wire::Retry { max_attempts: Some(None), backoff: Some(None) },
    };
    let retention = match given.retention {
        None => wire::Retention::default(),
        Some(Some(retention)) => retention,
        Some(None) => wire::Retention { completed: Some(None), cancelled: Some(None), dead: Some(None) },
    };
    let attempts_within =
        |attempts| number_within("retry.max_attempts", attempts, 1..=limits::MAX_ATTEMPTS_MAX);
    let max_attempts = retry.max_attempts.map(attempts_within).transpose()?;
    // Jobs of the queue may be given any number of attempts, so all waits are computed.
    let compiled = |given: Option<wire::Backoff<'_>>| {
        given.map(|given| backoff("retry.backoff", &given, limits::MAX_ATTEMPTS_MAX)).transpose()
    };
    let concurrency_within = |limit| number_within("concurrency", limit, 1..=limits::CONCURRENCY_MAX);
    Ok(QueuePatch {
        paused: given.paused,
        concurrency: given.concurrency.map(concurrency_within).transpose()?,
        rate: given.rate.map(|wish| wish.map(rate).transpose()).transpose()?,
        group_head: chosen("group_policy.head", policy.head, GroupHead::parse, "hold or skip")?,
        on_dead: chosen("group_policy.on_dead", policy.on_dead, OnDead::parse, "continue or block")?,
        max_attempts,
        backoff: retry.backoff.map(compiled).transpose()?,
        dedup_window: lasting("dedup_window", given.dedup_window)?,
        retain_completed: lasting("retention.completed", retention.completed)?,
        retain_cancelled: lasting("retention.cancelled", retention.cancelled)?,
        retain_dead: lasting("retention.dead", retention.dead)?,
    })
}

fn rate(given: wire::Rate<'_>) -> Result<Rate, Failure> {
    let rate = Rate { limit: given.limit, per: duration("rate.per", &given.per)? };
    rate.check().map_err(|why| Failure::not_allowed("rate", why))?;
    Ok(rate)
}

/// Absent: stays; `null`: back to the default.
type Wish<T> = Option<Option<T>>;

fn chosen<T>(
    field: &'static str,
    given: Wish<Text<'_>>,
    parse: fn(&str) -> Option<T>,
    words: &'static str,
) -> Result<Wish<T>, Failure> {
    let Some(Some(given)) = given else { return Ok(given.map(|_| None)) };
    match parse(&given) {
        Some(value) => Ok(Some(Some(value))),
        None => Err(Failure::field(ErrorCode::InvalidField, field, format_args!("this is {words}"))),
    }
}

fn lasting(field: &'static str, given: Wish<Span<'_>>) -> Result<Wish<DurationMs>, Failure> {
    given.map(|given| some_duration(field, given.as_ref())).transpose()
}

/// A queue as it is shown at `now`.
pub(crate) fn view(queue: &QueueView, now: Timestamp) -> wire::Queue<'_> {
    let settings = &queue.settings;
    wire::Queue {
        name: Text::from(queue.name.as_str()),
        paused: settings.paused,
        concurrency: settings.concurrency,
        rate: settings.rate.map(|rate| wire::Rate { limit: rate.limit, per: span(rate.per) }),
        group_policy: group_policy(settings),
        retry: retry(settings),
        dedup_window: settings.dedup_window.map(span),
        retention: retention(settings),
        counts: counts(&queue.counts),
        oldest_available_at: queue.oldest_available.map(time_text),
        oldest_available_age_ms: queue.oldest_available.map(|oldest| now.since(oldest).as_ms()),
    }
}

fn group_policy(settings: &QueueSettings) -> Option<wire::GroupPolicy<'static>> {
    let any = settings.group_head.is_some() || settings.on_dead.is_some();
    any.then(|| wire::GroupPolicy {
        head: settings.group_head.map(|head| Some(word(head.as_str()))),
        on_dead: settings.on_dead.map(|on_dead| Some(word(on_dead.as_str()))),
    })
}

fn retry(settings: &QueueSettings) -> Option<wire::Retry<'static>> {
    let any = settings.max_attempts.is_some() || settings.backoff.is_some();
    any.then(|| wire::Retry {
        max_attempts: settings.max_attempts.map(Some),
        backoff: settings.backoff.as_ref().map(|backoff| Some(backoff_view(backoff))),
    })
}

fn retention(settings: &QueueSettings) -> Option<wire::Retention<'static>> {
    let kept = |kept: Option<DurationMs>| kept.map(|kept| Some(span(kept)));
    let retention = wire::Retention {
        completed: kept(settings.retain_completed),
        cancelled: kept(settings.retain_cancelled),
        dead: kept(settings.retain_dead),
    };
    let any = retention.completed.is_some() || retention.cancelled.is_some() || retention.dead.is_some();
    any.then_some(retention)
}

fn counts(counts: &QueueCounts) -> wire::QueueCounts {
    wire::QueueCounts {
        accepted: counts.accepted,
        scheduled: counts.scheduled,
        available: counts.available,
        running: counts.running,
        retrying: counts.retrying,
        completed: counts.completed,
        dead: counts.dead,
        cancelled: counts.cancelled,
        purged: counts.purged_retention + counts.purged_deleted,
        purged_retention: counts.purged_retention,
        purged_deleted: counts.purged_deleted,
        duplicates: counts.duplicates,
        mismatches: counts.mismatches,
        late_writes: counts.late_writes,
    }
}
