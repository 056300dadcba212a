//! A job as it is shown.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use onefold_core::{
    Attempt, AttemptEnd, Evidence, Exchange, ExchangeTiming, HttpTarget, Job, JobEdit, JobError, JobSpec,
    JobSummary, JobView, LateWrites, Payload, Waiting,
};
use onefold_wire::{self as wire, Headers, RawValue, Text};

use super::add::dedup_view;
use super::{backoff_view, labels, shown, span, time, time_text, word};
use crate::answer::raw;
use crate::failure::Failure;

/// Everything there is to say about a job.
pub(crate) fn view(view: &JobView) -> Result<wire::Job<'_>, Failure> {
    let mut job = shell(&view.job, &view.spec, view.waiting);
    (job.payload, job.payload_base64, job.content_type) = payload(&view.spec.payload)?;
    job.result = view.result.as_deref().map(raw).transpose()?;
    job.checkpoint = view.checkpoint.as_deref().map(raw).transpose()?;
    job.late_writes = Some(view.attempts.iter().map(|a| a.late_success.count + a.late_failure.count).sum());
    job.attempts = Some(view.attempts.iter().map(attempt).collect());
    job.history = Some(view.evidence.iter().map(evidence).collect());
    job.effects = Some(view.effects.iter().map(super::effect::view).collect::<Result<_, _>>()?);
    Ok(job)
}

/// The change a caller asks for.
pub(crate) fn edit(given: wire::JobPatch<'_>) -> Result<JobEdit, Failure> {
    Ok(JobEdit {
        run_at: given.run_at.map(|at| time("run_at", &at)).transpose()?,
        priority: given.priority,
        labels: labels(given.labels)?,
    })
}

/// A job in a list.
pub(crate) fn summary(summary: &JobSummary) -> wire::Job<'_> {
    shell(&summary.job, &summary.spec, summary.waiting)
}

/// JSON, or base64 and its media type.
type PayloadView<'a> = (Option<&'a RawValue>, Option<Text<'a>>, Option<Text<'a>>);

pub(crate) fn payload(payload: &Payload) -> Result<PayloadView<'_>, Failure> {
    Ok(match payload {
        Payload::Absent => (None, None, None),
        Payload::Json(text) => (Some(raw(text)?), None, None),
        Payload::Raw { bytes, content_type } => {
            (None, Some(Text::from(BASE64_STANDARD.encode(bytes))), Some(Text::from(content_type.as_str())))
        }
    })
}

pub(crate) fn headers(headers: &[(String, String)]) -> Option<Headers<'_>> {
    let pairs = headers.iter().map(|(name, value)| (Text::from(name.as_str()), Text::from(value.as_str())));
    (!headers.is_empty()).then(|| Headers(pairs.collect()))
}

fn shell<'a>(job: &'a Job, spec: &'a JobSpec, waiting: Option<Waiting>) -> wire::Job<'a> {
    let error = job.attempt.as_ref().and_then(|attempt| attempt.end.as_ref()?.error.as_ref());
    wire::Job {
        id: shown(job.id),
        queue: Text::from(job.queue.as_str()),
        state: word(job.state.as_str()),
        reason: job.reason.map(|reason| word(reason.as_str())),
        waiting: waiting.map(|waiting| word(waiting.as_str())),
        kind: spec.kind.as_ref().map(|kind| Text::from(kind.as_str())),
        payload: None,
        payload_base64: None,
        content_type: None,
        key: spec.key.as_ref().map(|key| Text::from(key.as_str())),
        fingerprint: spec.fingerprint.as_ref().map(shown),
        dedup: spec.key.is_some().then(|| dedup_view(&spec.dedup, true)),
        group: spec.group.as_ref().map(|group| Text::from(group.as_str())),
        priority: job.priority,
        created_at: time_text(job.created_at()),
        run_at: time_text(job.run_at),
        finished_at: job.finished_at.map(time_text),
        retry_until: job.retry_until.map(time_text),
        cancel_requested: job.cancel_requested,
        attempt: job.attempts(),
        failures: job.failures,
        lost_leases: job.lost_leases,
        max_attempts: job.max_attempts,
        backoff: spec.backoff.as_ref().map(backoff_view),
        timeout: spec.timeout.map(span),
        retain: spec.retain.map(span),
        target: spec.target.http().map(target),
        on_success: spec.on_success.as_deref().map(target),
        on_failure: spec.on_failure.as_deref().map(target),
        headers: headers(&spec.headers),
        labels: spec.labels.iter().map(|label| Text::from(label.as_str())).collect(),
        traceparent: spec.traceparent.as_ref().map(|trace| Text::from(trace.as_str())),
        duplicates: job.duplicates,
        mismatches: job.mismatches,
        late_writes: None,
        error: error.map(attempt_error),
        result: None,
        checkpoint: None,
        attempts: None,
        history: None,
        effects: None,
    }
}

/// Values of `authorization` and `cookie` are not shown.
pub(crate) fn target(target: &HttpTarget) -> wire::Target<'_> {
    let headers = target.headers.as_map().iter().map(|(name, value)| {
        let shown = if value.is_sensitive() {
            Text::from("(not shown)")
        } else {
            Text::from(String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        (Text::from(name.as_str()), shown)
    });
    let headers: Vec<_> = headers.collect();
    wire::Target {
        url: Text::from(target.url.as_str()),
        method: Some(word(target.method.as_str())),
        headers: (!headers.is_empty()).then_some(Headers(headers)),
        timeout: Some(span(target.timeout())),
    }
}

fn attempt_error(error: &JobError) -> wire::AttemptError<'_> {
    wire::AttemptError {
        message: Text::from(error.message.as_str()),
        kind: error.kind.as_deref().map(Text::from),
    }
}

fn attempt(attempt: &Attempt) -> wire::Attempt<'_> {
    let end: Option<&AttemptEnd> = attempt.end.as_ref();
    wire::Attempt {
        number: attempt.number,
        fencing_token: attempt.token.get(),
        worker: Text::from(attempt.worker.as_str()),
        started_at: time_text(attempt.started_at),
        lease_until: time_text(attempt.lease_until),
        ended_at: end.map(|end| time_text(end.at)),
        outcome: end.map(|end| word(end.outcome.as_str())),
        state: end.map(|end| word(end.state.as_str())),
        error: end.and_then(|end| end.error.as_ref()).map(attempt_error),
        progress: attempt.progress.as_ref().map(|progress| wire::Progress {
            percent: progress.percent,
            message: progress.message.as_deref().map(Text::from),
        }),
        exchange: attempt.exchange.as_deref().map(|exchange| Box::new(exchange_view(exchange))),
        log: attempt.log.iter().map(|line| Text::from(line.as_str())).collect(),
        late_success: late_writes(&attempt.late_success),
        late_failure: late_writes(&attempt.late_failure),
    }
}

fn exchange_view(of: &Exchange) -> wire::Exchange<'_> {
    let text = |text: &Option<String>| text.clone().map(Text::from);
    let pairs = |pairs: &[(String, String)]| {
        pairs.iter().map(|(a, b)| (Text::from(a.clone()), Text::from(b.clone()))).collect()
    };
    let ExchangeTiming { dns, connect, tls, head, body, total } = of.timing;
    wire::Exchange {
        method: Text::from(of.method.as_str()),
        url: Text::from(of.url.as_str()),
        address: text(&of.address),
        reused: of.reused,
        dials: pairs(&of.dials),
        status: of.status,
        headers: pairs(&of.headers),
        body: text(&of.body),
        body_base64: text(&of.body_base64),
        body_bytes: of.body_bytes,
        failure: text(&of.failure),
        timing_ms: wire::ExchangeTiming { dns, connect, tls, head, body, total },
    }
}

pub(crate) fn late_writes(late: &LateWrites) -> Option<wire::LateWrites<'static>> {
    (!late.is_empty()).then(|| wire::LateWrites {
        count: late.count,
        first_at: late.first_at.map(time_text),
        last_at: late.last_at.map(time_text),
    })
}

fn evidence(evidence: &Evidence) -> wire::Evidence<'_> {
    wire::Evidence {
        kind: word(evidence.kind.as_str()),
        number: evidence.number,
        at: time_text(evidence.at),
        note: evidence.note.as_deref().map(Text::from),
    }
}
