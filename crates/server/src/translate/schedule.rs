//! Schedules.

use onefold_core::schedule::{
    Interval, InvalidTiming, Missed, NewSchedule, Overlap, Pattern, Schedule, ScheduleView, Template, Tick,
    Timing,
};
use onefold_core::{Timestamp, limits};
use onefold_wire::{self as wire, ErrorCode, Text};

use super::add::{Around, new_job};
use super::job::{headers, payload, target};
use super::{backoff_view, duration, shown, span, time, time_text, word};
use crate::extract::queue_name;
use crate::failure::Failure;

/// Headers that every job of a schedule has.
const OURS: [&str; 2] = [Schedule::ID_HEADER, Schedule::TICK_HEADER];

/// The schedule a caller asks for.
pub(crate) fn new_schedule(
    given: wire::NewSchedule<'_>,
    around: &Around<'_>,
) -> Result<NewSchedule, Failure> {
    let pattern = pattern(&given)?;
    let start = given.start.as_deref().map(|at| time("start", at)).transpose()?;
    let end = given.end.as_deref().map(|at| time("end", at)).transpose()?;
    let timing = Timing::new(pattern, start, end).map_err(|why| refused("end", &why))?;
    Ok(NewSchedule {
        timing,
        queue: queue_name(&given.queue)?,
        missed: choice("missed", given.missed, Missed::parse, Missed::ALL)?,
        overlap: choice("overlap", given.overlap, Overlap::parse, Overlap::ALL)?,
        job: given.job.map(|job| template(job, around)).transpose()?.unwrap_or_default(),
    })
}

fn refused(field: &'static str, why: &InvalidTiming) -> Failure {
    let code = match why {
        InvalidTiming::Cron(_) => ErrorCode::InvalidCron,
        InvalidTiming::Zone(_) => ErrorCode::InvalidTimeZone,
        InvalidTiming::Interval(_) => ErrorCode::InvalidDuration,
        InvalidTiming::TwoZones | InvalidTiming::NotOnePattern | InvalidTiming::Anchor => {
            ErrorCode::ConflictingFields
        }
        InvalidTiming::NeverTicks => ErrorCode::InvalidSchedule,
    };
    Failure::field(code, field, why)
}

fn pattern(given: &wire::NewSchedule<'_>) -> Result<Pattern, Failure> {
    match (&given.cron, &given.every) {
        (Some(_), Some(_)) => Err(Failure::conflict("cron", "every")),
        (None, None) => Err(Failure::missing("cron")),
        (Some(_), None) if given.anchor.is_some() => Err(Failure::conflict("anchor", "cron")),
        (Some(cron), None) => {
            let zone = given.timezone.as_deref().map(str::parse).transpose();
            let zone = zone.map_err(|why| refused("timezone", &InvalidTiming::Zone(why)))?;
            Pattern::cron(cron, zone).map_err(|why| refused("cron", &why))
        }
        (None, Some(_)) if given.timezone.is_some() => Err(Failure::conflict("timezone", "every")),
        (None, Some(every)) => {
            let every = duration("every", every)?;
            let anchor = given.anchor.as_deref().map(|at| time("anchor", at)).transpose()?;
            let interval = Interval::new(every, anchor.unwrap_or(Timestamp::EPOCH));
            Ok(Pattern::Every(interval.map_err(|why| refused("every", &InvalidTiming::Interval(why)))?))
        }
    }
}

fn choice<T: Default + std::fmt::Display>(
    field: &'static str,
    given: Option<Text<'_>>,
    parse: fn(&str) -> Option<T>,
    all: &[T],
) -> Result<T, Failure> {
    let Some(given) = given else { return Ok(T::default()) };
    parse(&given).ok_or_else(|| {
        let words: Vec<String> = all.iter().map(ToString::to_string).collect();
        Failure::field(ErrorCode::InvalidField, field, format!("this is one of {}", words.join(", ")))
    })
}

fn template(job: wire::NewJob<'_>, around: &Around<'_>) -> Result<Template, Failure> {
    let own = [
        ("key", job.key.is_some()),
        ("fingerprint", job.fingerprint.is_some()),
        ("dedup", job.dedup.is_some()),
        ("delay", job.delay.is_some()),
        ("run_at", job.run_at.is_some()),
    ];
    if let Some((field, _)) = own.into_iter().find(|(_, given)| *given) {
        let why = "the tick is a job's identity and says when it runs: leave this out";
        return Err(Failure::field(ErrorCode::InvalidSchedule, format!("job.{field}"), why));
    }
    // A trace of the request that made the schedule is none of its jobs'.
    let around = Around { traceparent: None, ..*around };
    let new = new_job(job, &around).map_err(|failure| failure.within("job"))?;
    let given = &new.spec.headers;
    if given.len() + OURS.len() > limits::HEADERS_MAX {
        let why = format!("jobs of schedules have at most {}", limits::HEADERS_MAX - OURS.len());
        return Err(Failure::field(ErrorCode::InvalidHeader, "job.headers", why));
    }
    if let Some((name, _)) =
        given.iter().find(|(name, _)| OURS.iter().any(|our| name.eq_ignore_ascii_case(our)))
    {
        let why = "every job of a schedule has this header already: leave it out";
        return Err(Failure::field(ErrorCode::InvalidHeader, format!("job.headers.{name}"), why));
    }
    Ok(Template { spec: new.spec, priority: new.priority, max_attempts: new.max_attempts })
}

/// A schedule as it is shown.
pub(crate) fn view(view: &ScheduleView) -> Result<wire::Schedule<'_>, Failure> {
    let schedule = &view.schedule;
    let (cron, timezone, every, anchor) = match schedule.timing.pattern() {
        Pattern::Cron { cron, zone } => (Some(Text::from(cron.source())), Some(shown(zone)), None, None),
        Pattern::Every(interval) => {
            (None, None, Some(span(interval.every())), Some(time_text(interval.anchor())))
        }
    };
    Ok(wire::Schedule {
        id: Text::from(schedule.id.as_str()),
        cron,
        timezone,
        every,
        anchor,
        start: schedule.timing.start().map(time_text),
        end: schedule.timing.end().map(time_text),
        queue: Text::from(schedule.queue.as_str()),
        job: job(view)?,
        missed: word(schedule.missed.as_str()),
        overlap: word(schedule.overlap.as_str()),
        paused: schedule.paused,
        created_at: time_text(schedule.created_at),
        changed_at: time_text(schedule.changed_at),
        next_tick: schedule.next().map(Tick::at).map(time_text),
        last_tick: schedule.last_tick.map(time_text),
        last_job: schedule.last_job.map(shown),
        ticks: wire::TickCounts {
            added: schedule.counts.added,
            missed: schedule.counts.missed,
            overlapped: schedule.counts.overlapped,
        },
    })
}

fn job(view: &ScheduleView) -> Result<wire::NewJob<'_>, Failure> {
    let spec = &view.job;
    let labels = || spec.labels.iter().map(|label| Text::from(label.as_str())).collect();
    let (payload, payload_base64, content_type) = payload(&spec.payload)?;
    Ok(wire::NewJob {
        kind: spec.kind.as_ref().map(|kind| Text::from(kind.as_str())),
        payload,
        payload_base64,
        content_type,
        priority: (view.schedule.priority != 0).then_some(view.schedule.priority),
        group: spec.group.as_ref().map(|group| Text::from(group.as_str())),
        max_attempts: view.schedule.max_attempts,
        backoff: spec.backoff.as_ref().map(backoff_view),
        timeout: spec.timeout.map(span),
        headers: headers(&spec.headers),
        labels: (!spec.labels.is_empty()).then(labels),
        retain: spec.retain.map(span),
        traceparent: spec.traceparent.as_ref().map(|trace| Text::from(trace.as_str())),
        target: spec.target.http().map(target),
        on_success: spec.on_success.as_deref().map(target),
        on_failure: spec.on_failure.as_deref().map(target),
        ..wire::NewJob::default()
    })
}
