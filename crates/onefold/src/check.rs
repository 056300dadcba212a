//! What is checked before anything is sent, so that a mistake is told where it was made and an
//! embedded store takes nothing a server would refuse.

use std::ops::RangeInclusive;

use onefold_core::canonical::{CanonicalError, CanonicalErrorKind, validate};
use onefold_core::{
    Backoff, Fingerprint, FingerprintInput, JobSpec, NewJob, Payload, PayloadForm, QueuePatch, limits,
};

use crate::{ErrorCode, Invalid};

/// What a store wants to be sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wants {
    /// Payloads no larger than this.
    pub(crate) payload_bytes_max: usize,
    /// A fingerprint beside each key. A server computes it itself.
    pub(crate) fingerprints: bool,
}

/// Checks a job and gives it the fingerprint its key needs.
pub(crate) fn finish(mut job: NewJob, wants: Wants) -> Result<NewJob, Invalid> {
    let spec = &job.spec;
    at_most(ErrorCode::InvalidField, "labels", spec.labels.len(), limits::LABELS_MAX)?;
    check_headers(&spec.headers)?;
    check_media_type(&spec.payload)?;
    check_size(ErrorCode::PayloadTooLarge, "the payload", spec.payload.len(), wants.payload_bytes_max)?;
    if spec.timeout.is_some_and(|timeout| timeout.is_zero()) {
        return Err(Invalid::coded(ErrorCode::InvalidDuration, "timeout", "must be more than 0"));
    }
    if let Some(backoff) = &spec.backoff {
        check_backoff(backoff)?;
    }
    if wants.fingerprints && spec.key.is_some() {
        job.spec.fingerprint = Some(fingerprint(spec)?);
    } else {
        check_json(&spec.payload)?;
    }
    Ok(job)
}

fn check_headers(headers: &[(String, String)]) -> Result<(), Invalid> {
    let wrong = |rule: &str| Err(Invalid::coded(ErrorCode::InvalidHeader, "a header", rule));
    at_most(ErrorCode::InvalidHeader, "headers", headers.len(), limits::HEADERS_MAX)?;
    for (place, (name, value)) in headers.iter().enumerate() {
        let of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(of_name) {
            return wrong("has a name made of letters, digits and !#$%&'*+-.^_`|~");
        }
        if value.bytes().any(|byte| byte != b'\t' && byte.is_ascii_control()) {
            return wrong("has a value without control characters");
        }
        if headers.iter().take(place).any(|(earlier, _)| earlier.eq_ignore_ascii_case(name)) {
            return wrong("must not be given twice, nor two that differ in case only");
        }
        check_size(ErrorCode::InvalidHeader, "a header", name.len() + value.len(), limits::HEADER_BYTES_MAX)?;
    }
    Ok(())
}

fn check_media_type(payload: &Payload) -> Result<(), Invalid> {
    let Payload::Raw { content_type, .. } = payload else { return Ok(()) };
    let printable = content_type.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if printable && content_type.trim() == content_type && (1..=255).contains(&content_type.len()) {
        return Ok(());
    }
    Err(Invalid::value("a media type", "is 1 to 255 ASCII characters, like image/png"))
}

fn check_json(payload: &Payload) -> Result<(), Invalid> {
    match payload {
        Payload::Json(text) => validate(text, limits::JSON_DEPTH_MAX).map_err(not_json),
        Payload::Absent | Payload::Raw { .. } => Ok(()),
    }
}

fn not_json(error: CanonicalError) -> Invalid {
    let code = match error.kind {
        CanonicalErrorKind::NotUtf8 => ErrorCode::InvalidUtf8,
        CanonicalErrorKind::DuplicateName => ErrorCode::DuplicateMember,
        CanonicalErrorKind::TooDeep { .. } => ErrorCode::NestingTooDeep,
        _ => ErrorCode::InvalidJson,
    };
    Invalid::coded(code, "the payload", format!("cannot be taken: {error}"))
}

fn fingerprint(spec: &JobSpec) -> Result<Fingerprint, Invalid> {
    let (content_type, payload) = match &spec.payload {
        Payload::Absent => (None, PayloadForm::Absent),
        Payload::Json(text) => (None, PayloadForm::Json(text)),
        Payload::Raw { bytes, content_type } => (Some(content_type.as_str()), PayloadForm::Raw(bytes)),
    };
    let kind = spec.kind.as_ref().map(onefold_core::Kind::as_str);
    let input = FingerprintInput { kind, content_type, payload, target_method: None, target_url: None };
    Fingerprint::compute(input).map_err(not_json)
}

fn check_backoff(backoff: &Backoff) -> Result<(), Invalid> {
    match backoff {
        Backoff::List(waits) if waits.is_empty() => {
            Err(Invalid::coded(ErrorCode::InvalidBackoff, "a backoff list", "must have at least one wait"))
        }
        Backoff::List(waits) => {
            let what = "waits of a backoff list";
            at_most(ErrorCode::InvalidBackoff, what, waits.len(), limits::BACKOFF_LIST_MAX)
        }
        Backoff::Exponential { base, max } if base.is_zero() || max < base => {
            let rule = "needs a base above 0 and a max not below it";
            Err(Invalid::coded(ErrorCode::InvalidBackoff, "an exponential backoff", rule))
        }
        Backoff::Exponential { .. } | Backoff::Fixed(_) => Ok(()),
    }
}

/// Checks the settings of a queue.
pub(crate) fn queue_patch(patch: &QueuePatch) -> Result<(), Invalid> {
    if let Some(Some(concurrency)) = patch.concurrency {
        range("concurrency", concurrency, 1..=limits::CONCURRENCY_MAX)?;
    }
    if let Some(Some(attempts)) = patch.max_attempts {
        range("max_attempts", attempts, 1..=limits::MAX_ATTEMPTS_MAX)?;
    }
    if let Some(Some(backoff)) = &patch.backoff {
        check_backoff(backoff)?;
    }
    Ok(())
}

/// Checks that a number lies where it must.
pub(crate) fn range(what: &'static str, value: u32, allowed: RangeInclusive<u32>) -> Result<u32, Invalid> {
    if allowed.contains(&value) {
        return Ok(value);
    }
    Err(Invalid::value(what, format!("must be {} to {}, not {value}", allowed.start(), allowed.end())))
}

/// Checks that there are not too many.
pub(crate) fn at_most(code: ErrorCode, what: &'static str, count: usize, max: usize) -> Result<(), Invalid> {
    if count <= max {
        return Ok(());
    }
    Err(Invalid::coded(code, what, format!("must be at most {max}, not {count}")))
}

/// Checks that something is not too large.
pub(crate) fn check_size(
    code: ErrorCode,
    what: &'static str,
    size: usize,
    max: usize,
) -> Result<(), Invalid> {
    if size <= max {
        return Ok(());
    }
    Err(Invalid::coded(code, what, format!("has {size} bytes; at most {max} are allowed")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use onefold_core::{DurationMs, Key};

    fn job(change: impl FnOnce(&mut NewJob)) -> Result<NewJob, Invalid> {
        let mut job = NewJob::default();
        change(&mut job);
        finish(job, Wants { payload_bytes_max: 1000, fingerprints: true })
    }

    fn code(refused: Result<NewJob, Invalid>) -> ErrorCode {
        match refused {
            Err(Invalid::Value { code, .. }) => code,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn limits_hold_at_and_above() {
        let headers = |count| (0..count).map(|n| (format!("a{n}"), "b".to_owned())).collect();
        assert!(job(|job| job.spec.headers = headers(limits::HEADERS_MAX)).is_ok());
        let many = job(|job| job.spec.headers = headers(limits::HEADERS_MAX + 1));
        assert_eq!(code(many), ErrorCode::InvalidHeader);
        let header = |size: usize| vec![("a".to_owned(), "b".repeat(size - 1))];
        assert!(job(|job| job.spec.headers = header(limits::HEADER_BYTES_MAX)).is_ok());
        let large = job(|job| job.spec.headers = header(limits::HEADER_BYTES_MAX + 1));
        assert_eq!(code(large), ErrorCode::InvalidHeader);
        let labels = |count| vec![onefold_core::Label::new("l").unwrap(); count];
        assert!(job(|job| job.spec.labels = labels(limits::LABELS_MAX)).is_ok());
        assert!(job(|job| job.spec.labels = labels(limits::LABELS_MAX + 1)).is_err());
        let payload = |size| Payload::Raw { bytes: vec![0; size].into(), content_type: "a/b".to_owned() };
        assert!(job(|job| job.spec.payload = payload(1000)).is_ok());
        assert_eq!(code(job(|job| job.spec.payload = payload(1001))), ErrorCode::PayloadTooLarge);
        assert!(job(|job| job.spec.timeout = Some(DurationMs::from_ms(1))).is_ok());
        assert!(job(|job| job.spec.timeout = Some(DurationMs::ZERO)).is_err());
        let waits = |count| Backoff::List(vec![DurationMs::ZERO; count]);
        assert!(job(|job| job.spec.backoff = Some(waits(limits::BACKOFF_LIST_MAX))).is_ok());
        for count in [0, limits::BACKOFF_LIST_MAX + 1] {
            assert!(job(|job| job.spec.backoff = Some(waits(count))).is_err());
        }
    }

    #[test]
    fn headers_are_what_http_can_carry() {
        let with = |headers: &[(&str, &str)]| {
            let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            job(|job| job.spec.headers = headers.iter().map(owned).collect())
        };
        assert!(with(&[("Lang", "en\tde"), ("X-Ä".trim_end_matches('Ä'), "ä")]).is_ok());
        for wrong in [&[("", "a")][..], &[("a b", "a")], &[("a", "b\r\nc: d")], &[("A", "1"), ("a", "2")]] {
            assert_eq!(code(with(wrong)), ErrorCode::InvalidHeader, "{wrong:?}");
        }
        let typed = |text: &str| Payload::Raw { bytes: Default::default(), content_type: text.to_owned() };
        assert!(job(|job| job.spec.payload = typed("image/png")).is_ok());
        for wrong in ["", " image/png", "image/\n"] {
            assert_eq!(code(job(|job| job.spec.payload = typed(wrong))), ErrorCode::InvalidField);
        }
    }

    #[test]
    fn json_is_checked_with_and_without_a_key() {
        for key in [None, Some(Key::new("k").unwrap())] {
            for (text, expected) in [
                ("{", ErrorCode::InvalidJson),
                (r#"{"a":1,"a":2}"#, ErrorCode::DuplicateMember),
                (&"[".repeat(limits::JSON_DEPTH_MAX + 1), ErrorCode::NestingTooDeep),
            ] {
                let payload = Payload::Json(bytes::Bytes::copy_from_slice(text.as_bytes()));
                let refused = job(|job| (job.spec.payload, job.spec.key) = (payload, key.clone()));
                assert_eq!(code(refused), expected, "{text}");
            }
        }
    }

    #[test]
    fn a_key_brings_a_fingerprint_and_spelling_does_not_matter() {
        let of = |text: &'static str| {
            let (payload, key) = (Payload::Json(text.into()), Some(Key::new("k").unwrap()));
            job(|job| (job.spec.payload, job.spec.key) = (payload, key)).unwrap().spec.fingerprint
        };
        assert!(of("{}").is_some());
        assert_eq!(of(r#"{"a":1, "b":2}"#), of(r#"{"b":2,"a":1}"#));
        assert_ne!(of("1"), of("1.0"));
        assert_eq!(job(|_| ()).unwrap().spec.fingerprint, None);
    }
}
