//! The core's rules about jobs and queues, told as mistakes of the caller before anything is sent.

use std::ops::RangeInclusive;

use onefold_core::canonical::{CanonicalError, CanonicalErrorKind};
use onefold_core::{JobEdit, NewJob, NotAllowed, QueuePatch, check_labels, check_number};

use crate::{ErrorCode, Invalid};

/// What a store wants to be sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wants {
    /// Payloads no larger than this.
    pub(crate) payload_bytes_max: usize,
    /// A fingerprint beside each key. A server computes it itself.
    pub(crate) fingerprints: bool,
    /// Targets, because somebody may deliver to them. A server says itself whether it does.
    pub(crate) targets: bool,
}

/// Checks a job and gives it the fingerprint its key needs.
pub(crate) fn finish(mut job: NewJob, wants: Wants) -> Result<NewJob, Invalid> {
    let spec = &job.spec;
    let needs_deliverer = [
        ("target", spec.target.http().is_some()),
        ("on_success", spec.on_success.is_some()),
        ("on_failure", spec.on_failure.is_some()),
    ];
    if let Some((what, _)) = needs_deliverer.into_iter().find(|(_, given)| *given && !wants.targets) {
        let why = "needs somebody who delivers, and this process alone has the store open: connect to a server instead";
        return Err(Invalid::coded(ErrorCode::NoDeliverer, what, why));
    }
    job.spec.check(wants.payload_bytes_max).map_err(|why| not_allowed(what(&why), why))?;
    if wants.fingerprints {
        job.spec.read_payload().map_err(not_json)?;
    } else {
        job.spec.payload.validate().map_err(not_json)?;
    }
    Ok(job)
}

/// Checks a change of a job.
pub(crate) fn edit(edit: &JobEdit) -> Result<(), Invalid> {
    let labels = edit.labels.as_ref().map_or(Ok(()), |labels| check_labels(labels.len()));
    labels.map_err(|why| not_allowed("labels", why))
}

/// Checks the settings of a queue.
pub(crate) fn queue_patch(patch: &QueuePatch) -> Result<(), Invalid> {
    patch.check().map_err(|(setting, why)| not_allowed(setting, why))
}

/// Checks that a number lies where it must.
pub(crate) fn range(what: &'static str, value: u32, allowed: RangeInclusive<u32>) -> Result<u32, Invalid> {
    check_number(value, allowed).map_err(|why| not_allowed(what, why))?;
    Ok(value)
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

/// The option of a job a rule is about.
fn what(why: &NotAllowed) -> &'static str {
    match why {
        NotAllowed::Labels => "labels",
        NotAllowed::Header(_) => "a header",
        NotAllowed::MediaType => "a media type",
        NotAllowed::PayloadTooLarge { .. } | NotAllowed::Json(_) => "the payload",
        NotAllowed::Timeout => "timeout",
        NotAllowed::RatePer => "rate",
        NotAllowed::Backoff(_) => "backoff",
        NotAllowed::OnlyReplace { option } => option,
        NotAllowed::Number { .. } => "a number",
    }
}

fn not_allowed(what: &'static str, why: NotAllowed) -> Invalid {
    let code = match why {
        NotAllowed::Labels | NotAllowed::MediaType | NotAllowed::Number { .. } => ErrorCode::InvalidField,
        NotAllowed::Header(_) => ErrorCode::InvalidHeader,
        NotAllowed::PayloadTooLarge { .. } => ErrorCode::PayloadTooLarge,
        NotAllowed::Json(error) => return not_json(error),
        NotAllowed::Timeout | NotAllowed::RatePer => ErrorCode::InvalidDuration,
        NotAllowed::Backoff(_) => ErrorCode::InvalidBackoff,
        NotAllowed::OnlyReplace { .. } => ErrorCode::ConflictingFields,
    };
    Invalid::coded(code, what, format!("is not allowed: {why}"))
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

#[cfg(test)]
mod tests {
    use super::*;
    use onefold_core::{Backoff, DurationMs, Key, Payload, limits};

    fn code(change: impl FnOnce(&mut NewJob)) -> Option<ErrorCode> {
        let mut job = NewJob::default();
        change(&mut job);
        match finish(job, Wants { payload_bytes_max: 1000, fingerprints: true, targets: true }) {
            Ok(_) => None,
            Err(Invalid::Value { code, .. }) => Some(code),
            Err(other) => panic!("{other:?}"),
        }
    }

    /// The rules themselves are tested where they stand, in the core.
    #[test]
    fn every_rule_of_the_core_is_asked_and_has_the_server_s_code() {
        let raw = |size, content_type: &str| Payload::Raw {
            bytes: vec![0; size].into(),
            content_type: content_type.to_owned(),
        };
        let labels = vec![onefold_core::Label::new("l").unwrap(); limits::LABELS_MAX + 1];
        assert_eq!(code(|job| job.spec.labels = labels), Some(ErrorCode::InvalidField));
        let header = vec![("a b".to_owned(), String::new())];
        assert_eq!(code(|job| job.spec.headers = header), Some(ErrorCode::InvalidHeader));
        assert_eq!(code(|job| job.spec.payload = raw(1000, "a/b")), None);
        assert_eq!(code(|job| job.spec.payload = raw(1001, "a/b")), Some(ErrorCode::PayloadTooLarge));
        assert_eq!(code(|job| job.spec.payload = raw(1, " ")), Some(ErrorCode::InvalidField));
        assert_eq!(code(|job| job.spec.timeout = Some(DurationMs::ZERO)), Some(ErrorCode::InvalidDuration));
        let none = Some(Backoff::List(Vec::new()));
        assert_eq!(code(|job| job.spec.backoff = none), Some(ErrorCode::InvalidBackoff));
        assert_eq!(code(|job| job.spec.dedup.version = Some(1)), Some(ErrorCode::ConflictingFields));
        let patch = QueuePatch { concurrency: Some(Some(0)), ..QueuePatch::default() };
        assert!(queue_patch(&patch).is_err());
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
                let refused = code(|job| (job.spec.payload, job.spec.key) = (payload, key.clone()));
                assert_eq!(refused, Some(expected), "{text}");
            }
        }
    }
}
