//! A job to add, and the answer to it.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use onefold_core::canonical::canonicalize;
use onefold_core::{
    Added, BadHeader, Dedup, DurationMs, Fingerprint, FingerprintInput, FreeOn, HttpTarget, InvalidMethod,
    JobSpec, JobStatus, Key, NewJob, NotAllowed, OnDuplicate, OnMismatch, Payload, PayloadForm, QueueName,
    RequestIdentity, Target, TargetHeaders, TargetUrl, TraceParent, When, check_headers, check_media_type,
    check_payload_size, check_timeout, limits,
};
use onefold_wire::{self as wire, ErrorCode, Headers, RawValue, Text};

use super::{
    backoff, duration, labels, number_within, shown, some_duration, span, text, time, time_text, word,
};
use crate::failure::Failure;

/// What a job of a request may take from around it.
pub(crate) struct Around<'a> {
    /// The whole body: payloads are cut out of it, not copied.
    pub(crate) body: &'a Bytes,
    /// For jobs that carry none.
    pub(crate) traceparent: Option<TraceParent>,
    /// Bytes of a payload at the most.
    pub(crate) payload_bytes_max: usize,
    /// Whether this process delivers, or another one that shares the store may.
    pub(crate) delivers: bool,
}

/// The job a caller asks for.
pub(crate) fn new_job(job: wire::NewJob<'_>, around: &Around<'_>) -> Result<NewJob, Failure> {
    refuse_unbuilt(&job, around)?;
    let payload = payload(job.payload, job.payload_base64, job.content_type, around)?;
    let max_attempts = number_within("max_attempts", job.max_attempts, 1..=limits::MAX_ATTEMPTS_MAX)?;
    // The queue may give a job that does not say it any number of attempts.
    let waits = max_attempts.unwrap_or(limits::MAX_ATTEMPTS_MAX);
    let window_given = job.dedup.as_ref().is_some_and(|dedup| dedup.window.is_some());
    let timeout = some_duration("timeout", job.timeout.as_ref())?;
    timeout.map_or(Ok(()), check_timeout).map_err(|why| Failure::not_allowed("timeout", why))?;
    let target =
        job.target.map(|given| http_target("target", given)).transpose()?.map_or(Target::Pull, Target::Http);
    let mut spec = JobSpec {
        kind: text("kind", ErrorCode::InvalidField, job.kind)?,
        payload,
        key: text("key", ErrorCode::InvalidKey, job.key)?,
        fingerprint: job.fingerprint.map(own_fingerprint).transpose()?,
        dedup: job.dedup.map(dedup).transpose()?.unwrap_or_default(),
        group: text("group", ErrorCode::InvalidField, job.group)?,
        backoff: job.backoff.map(|given| backoff("backoff", &given, waits)).transpose()?,
        timeout,
        on_success: job.on_success.map(|given| http_target("on_success", given)).transpose()?,
        on_failure: job.on_failure.map(|given| http_target("on_failure", given)).transpose()?,
        headers: job.headers.map(|given| headers(given, &target)).transpose()?.unwrap_or_default(),
        target,
        labels: labels(job.labels)?.unwrap_or_default(),
        retain: some_duration("retain", job.retain.as_ref())?,
        traceparent: text("traceparent", ErrorCode::InvalidField, job.traceparent)?,
    };
    spec.traceparent = spec.traceparent.or_else(|| around.traceparent.clone());
    read_payload(&mut spec)?;
    let when = match (job.delay, job.run_at) {
        (None, None) => When::Now,
        (Some(delay), None) => When::After(duration("delay", &delay)?),
        (None, Some(at)) => When::At(time("run_at", &at)?),
        (Some(_), Some(_)) => return Err(Failure::conflict("delay", "run_at")),
    };
    let priority = job.priority.unwrap_or(0);
    Ok(NewJob { spec, when, priority, max_attempts, window_given, request: None })
}

pub(crate) fn own_fingerprint(given: Text<'_>) -> Result<Fingerprint, Failure> {
    Fingerprint::custom(&given)
        .map_err(|why| Failure::field(ErrorCode::InvalidFingerprint, "fingerprint", why))
}

fn refuse_unbuilt(job: &wire::NewJob<'_>, around: &Around<'_>) -> Result<(), Failure> {
    let needs_deliverer =
        [("target", &job.target), ("on_success", &job.on_success), ("on_failure", &job.on_failure)];
    let needs = needs_deliverer.into_iter().find(|(_, given)| given.is_some() && !around.delivers);
    if let Some((field, _)) = needs {
        let why = "this server delivers nothing over HTTP: leave it out and lease the job with a worker";
        return Err(Failure::field(ErrorCode::NoDeliverer, field, why));
    }
    if job.flow_key.is_some() {
        return Err(Failure::field(ErrorCode::NotYet, "flow_key", "flows are not built yet: leave it out"));
    }
    Ok(())
}

fn http_target(field: &'static str, given: wire::Target<'_>) -> Result<Arc<HttpTarget>, Failure> {
    let of = |member: &str| format!("{field}.{member}");
    let refuse = |member: &str, why: String| Failure::field(ErrorCode::InvalidTarget, of(member), why);
    let url = TargetUrl::parse(&given.url).map_err(|why| refuse("url", why.to_string()))?;
    let method = given.method.map(|method| method.parse()).transpose();
    let method = method.map_err(|why: InvalidMethod| refuse("method", why.to_string()))?.unwrap_or_default();
    let headers = given.headers.map_or_else(Vec::new, |headers| headers.0);
    let pairs: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    let headers = TargetHeaders::parse(&pairs);
    let headers = headers.map_err(|why| Failure::field(ErrorCode::InvalidHeader, of("headers"), why))?;
    let timeout = given.timeout.map(|timeout| duration(&of("timeout"), &timeout)).transpose()?;
    let allowed = DurationMs::from_ms(1)..=limits::DELIVERY_TIMEOUT_MAX;
    if timeout.is_some_and(|timeout| !allowed.contains(&timeout)) {
        let why =
            format!("a delivery may take more than no time, and up to {}", limits::DELIVERY_TIMEOUT_MAX);
        return Err(Failure::field(ErrorCode::InvalidDuration, of("timeout"), why));
    }
    Ok(Arc::new(HttpTarget { url, method, headers, timeout }))
}

fn payload(
    json: Option<&RawValue>,
    base64: Option<Text<'_>>,
    content_type: Option<Text<'_>>,
    around: &Around<'_>,
) -> Result<Payload, Failure> {
    let max = around.payload_bytes_max;
    let check_size = |field: &str, bytes: usize| {
        check_payload_size(bytes, max).map_err(|why| Failure::not_allowed(field, why))
    };
    match (json, base64) {
        (Some(_), Some(_)) => Err(Failure::conflict("payload", "payload_base64")),
        (None, None) if content_type.is_some() => Err(Failure::missing("payload_base64")),
        (None, None) => Ok(Payload::Absent),
        (Some(_), None) if content_type.is_some() => Err(Failure::conflict("content_type", "payload")),
        (Some(json), None) => {
            let text = json.get().as_bytes();
            check_size("payload", text.len())?;
            Ok(Payload::Json(around.body.slice_ref(text)))
        }
        (None, Some(encoded)) => {
            // Three bytes in four characters, of which two may be padding: what is far too long is not decoded first.
            check_size("payload_base64", (encoded.len() / 4 * 3).saturating_sub(2))?;
            let bytes = BASE64_STANDARD.decode(&*encoded).map_err(|why| {
                Failure::field(
                    ErrorCode::InvalidField,
                    "payload_base64",
                    format!("this is not padded base64: {why}"),
                )
            })?;
            check_size("payload_base64", bytes.len())?;
            let content_type = media_type(content_type)?;
            Ok(Payload::Raw { bytes: bytes.into(), content_type })
        }
    }
}

fn media_type(given: Option<Text<'_>>) -> Result<String, Failure> {
    let Some(given) = given else { return Ok("application/octet-stream".to_owned()) };
    check_media_type(&given).map_err(|why| Failure::not_allowed("content_type", why))?;
    Ok(given.into_owned())
}

fn headers(given: Headers<'_>, target: &Target) -> Result<Vec<(String, String)>, Failure> {
    // Before names are compared with each other.
    if given.0.len() > limits::HEADERS_MAX {
        return Err(Failure::not_allowed("headers", NotAllowed::Header(BadHeader::TooMany)));
    }
    let mut headers: Vec<(String, String)> = Vec::with_capacity(given.0.len());
    for (name, value) in given.0 {
        if headers.iter().any(|(other, _)| *other == *name) {
            let field = format!("headers.{name}");
            return Err(Failure::field(ErrorCode::DuplicateMember, field, "this is given twice"));
        }
        headers.push((name.into_owned(), value.into_owned()));
    }
    check_headers(&headers, target).map_err(|why| Failure::not_allowed("headers", why))?;
    Ok(headers)
}

fn dedup(given: wire::Dedup<'_>) -> Result<Dedup, Failure> {
    let on_duplicate =
        choice("dedup.on_duplicate", given.on_duplicate, OnDuplicate::parse, OnDuplicate::ALL)?
            .unwrap_or(OnDuplicate::Return);
    let on_mismatch = choice("dedup.on_mismatch", given.on_mismatch, OnMismatch::parse, OnMismatch::ALL)?
        .unwrap_or(OnMismatch::Reject);
    let free_on = match (given.free_on, given.until) {
        (None, None) => FreeOn::default(),
        (Some(ends), None) => free_on(&ends)?,
        (None, Some(until)) if &*until == "done" => FreeOn::DONE,
        (None, Some(_)) => {
            return Err(Failure::field(ErrorCode::InvalidField, "dedup.until", "the only word here is done"));
        }
        (Some(_), Some(_)) => return Err(Failure::conflict("dedup.until", "dedup.free_on")),
    };
    let dedup = Dedup {
        window: some_duration("dedup.window", given.window.as_ref())?.unwrap_or(limits::DEDUP_WINDOW),
        free_on,
        on_duplicate,
        on_mismatch,
        version: given.version,
        max_delay: some_duration("dedup.max_delay", given.max_delay.as_ref())?,
    };
    match dedup.check() {
        Ok(()) => Ok(dedup),
        Err(why @ NotAllowed::OnlyReplace { option }) => {
            Err(Failure::not_allowed(format!("dedup.{option}"), why))
        }
        Err(why) => Err(Failure::not_allowed("dedup", why)),
    }
}

fn choice<T: std::fmt::Display>(
    field: &'static str,
    given: Option<Text<'_>>,
    parse: fn(&str) -> Option<T>,
    all: &[T],
) -> Result<Option<T>, Failure> {
    let Some(given) = given else { return Ok(None) };
    parse(&given).map(Some).ok_or_else(|| {
        let words: Vec<String> = all.iter().map(ToString::to_string).collect();
        Failure::field(ErrorCode::InvalidField, field, format!("this is one of {}", words.join(", ")))
    })
}

fn free_on(ends: &[Text<'_>]) -> Result<FreeOn, Failure> {
    let mut free_on = FreeOn::default();
    for end in ends {
        match &**end {
            "completed" => free_on.completed = true,
            "dead" => free_on.dead = true,
            "cancelled" => free_on.cancelled = true,
            _ => {
                let why = "an end is completed, dead or cancelled";
                return Err(Failure::field(ErrorCode::InvalidField, "dedup.free_on", why));
            }
        }
    }
    Ok(free_on)
}

fn read_payload(spec: &mut JobSpec) -> Result<(), Failure> {
    spec.read_payload().map_err(|why| Failure::json("payload", why))
}

/// Puts the key of an `Idempotency-Key` header into the job: alone it is the job's key, beside
/// another one it is the identity of the request, whose fingerprint covers all of the body.
pub(crate) fn identify(job: &mut NewJob, header: Key, body: &str) -> Result<(), Failure> {
    match &job.spec.key {
        Some(key) if *key == header => {}
        Some(_) => {
            // One level more than a payload has: the job around it.
            let canonical = canonicalize(body.as_bytes(), limits::JSON_DEPTH_MAX + 1)
                .map_err(|why| Failure::json("", why))?;
            let input =
                FingerprintInput { payload: PayloadForm::Raw(&canonical), ..FingerprintInput::default() };
            let fingerprint = Fingerprint::compute(input).map_err(|why| Failure::json("", why))?;
            job.request = Some(RequestIdentity { key: header, fingerprint });
        }
        None => {
            job.spec.key = Some(header);
            read_payload(&mut job.spec)?;
        }
    }
    Ok(())
}

/// The options that are echoed, if any were given.
pub(crate) fn echo(given: bool, job: &NewJob) -> Option<Box<wire::Dedup<'static>>> {
    given.then(|| Box::new(dedup_view(&job.spec.dedup, job.window_given)))
}

pub(crate) fn dedup_view(dedup: &Dedup, with_window: bool) -> wire::Dedup<'static> {
    wire::Dedup {
        window: with_window.then(|| span(dedup.window)),
        free_on: Some(free_on_view(dedup.free_on)),
        until: None,
        on_duplicate: Some(word(dedup.on_duplicate.as_str())),
        on_mismatch: Some(word(dedup.on_mismatch.as_str())),
        version: dedup.version,
        max_delay: dedup.max_delay.map(span),
    }
}

pub(crate) fn free_on_view(free_on: FreeOn) -> Vec<Text<'static>> {
    let ends = [(free_on.completed, "completed"), (free_on.dead, "dead"), (free_on.cancelled, "cancelled")];
    ends.into_iter().filter(|(frees, _)| *frees).map(|(_, end)| word(end)).collect()
}

pub(crate) fn status_word(status: JobStatus) -> Text<'static> {
    match status {
        JobStatus::Known(state) => word(state.as_str()),
        JobStatus::Purged => word("purged"),
    }
}

/// What a caller hears of an accepted job.
pub(crate) fn added(added: &Added, dedup: Option<Box<wire::Dedup<'static>>>) -> wire::Added<'static> {
    wire::Added {
        id: shown(added.id),
        state: status_word(added.status),
        run_at: added.run_at.map(time_text),
        duplicate: added.duplicate,
        replaced: added.replaced,
        dedup,
    }
}

/// Who holds a key.
pub(crate) fn held_key(queue: &QueueName, key: &Key, view: &onefold_core::KeyView) -> wire::HeldKey<'static> {
    wire::HeldKey {
        queue: shown(queue),
        key: shown(key),
        id: shown(view.job),
        state: status_word(view.status),
        held_until: time_text(view.until),
        free_on: free_on_view(view.free_on),
    }
}
