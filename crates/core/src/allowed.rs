//! What a job and a queue's settings may be: checked where they enter, by the server and by the library alike, so
//! that an embedded store takes nothing a server would refuse.

use std::ops::RangeInclusive;

use thiserror::Error;

use crate::canonical::{CanonicalError, validate};
use crate::{
    Backoff, Dedup, DurationMs, Fingerprint, FingerprintInput, JobSpec, Kind, OnDuplicate, Payload,
    PayloadForm, QueuePatch, Rate, Target, TargetHeaders, limits,
};

/// What is not allowed about a job or a queue's settings. Says what is, without the name of the field.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotAllowed {
    /// Over [`limits::LABELS_MAX`].
    #[error("a job has at most {} labels", limits::LABELS_MAX)]
    Labels,
    /// A header HTTP cannot carry, or too many of them.
    #[error("{0}")]
    Header(BadHeader),
    /// Not 1 to 255 printable ASCII characters.
    #[error("a media type is 1 to 255 ASCII characters, like image/png")]
    MediaType,
    /// More bytes than the store takes.
    #[error("a payload has at most {max} bytes: send a reference to it")]
    PayloadTooLarge {
        /// The limit.
        max: usize,
    },
    /// Not JSON that can be kept.
    #[error("{0}")]
    Json(#[from] CanonicalError),
    /// A hard limit of nothing.
    #[error("an attempt needs more than no time")]
    Timeout,
    /// The time of a rate too short or too long.
    #[error("a rate is per {} to {}", limits::RATE_PER_MIN, limits::RATE_PER_MAX)]
    RatePer,
    /// Waits that cannot be followed.
    #[error("{0}")]
    Backoff(BadBackoff),
    /// `version` or `max_delay` of a job that does not replace another.
    #[error("this means something only with `on_duplicate: replace`")]
    OnlyReplace {
        /// Which of them.
        option: &'static str,
    },
    /// A number out of its range.
    #[error("this is {} to {}, not {value}", allowed.start(), allowed.end())]
    Number {
        /// What was given.
        value: u32,
        /// What may be.
        allowed: RangeInclusive<u32>,
    },
}

/// See [`NotAllowed::Header`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadHeader {
    /// Over [`limits::HEADERS_MAX`].
    #[error("a job has at most {} headers", limits::HEADERS_MAX)]
    TooMany,
    /// A name that is not an RFC 9110 token.
    #[error("{0:?}: a name is made of letters, digits and !#$%&'*+-.^_`|~")]
    Name(String),
    /// A control character in the value of this header.
    #[error("{0:?}: a value has no CR, LF, NUL or other control characters")]
    Value(String),
    /// A name that was there already, in whatever case.
    #[error("{0:?}: two names that differ only in case are one header, and a header is given once")]
    Twice(String),
    /// Set by Onefold or by the connection, on a job that is delivered over HTTP.
    #[error("{0:?} is set by Onefold on every delivery: leave it out")]
    Ours(String),
    /// Over [`limits::HEADER_BYTES_MAX`].
    #[error("{0:?}: a header has at most {max} bytes", max = limits::HEADER_BYTES_MAX)]
    TooLarge(String),
}

/// See [`NotAllowed::Backoff`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadBackoff {
    /// None, or over [`limits::BACKOFF_LIST_MAX`].
    #[error("a list has 1 to {} waits", limits::BACKOFF_LIST_MAX)]
    List,
    /// It would never wait, or shrink.
    #[error("`base` must be more than 0, and `max` not less than it")]
    Exponential,
}

impl JobSpec {
    /// Checks everything but the inside of a JSON payload, which [`JobSpec::read_payload`] does.
    ///
    /// # Errors
    /// The first thing that is not allowed.
    pub fn check(&self, payload_bytes_max: usize) -> Result<(), NotAllowed> {
        check_labels(self.labels.len())?;
        check_headers(&self.headers, &self.target)?;
        self.payload.check(payload_bytes_max)?;
        self.timeout.map_or(Ok(()), check_timeout)?;
        self.backoff.as_ref().map_or(Ok(()), Backoff::check)?;
        self.dedup.check()
    }

    /// Reads the payload to its end once: for its fingerprint if there is a key and no fingerprint of the caller's
    /// own, else to see that it is JSON that can be kept.
    ///
    /// # Errors
    /// [`CanonicalError`] of a JSON payload.
    pub fn read_payload(&mut self) -> Result<(), CanonicalError> {
        if self.key.is_some() && self.fingerprint.is_none() {
            self.fingerprint = Some(self.content_fingerprint()?);
            return Ok(());
        }
        self.payload.validate()
    }

    /// The fingerprint of what is asked for: kind, media type, payload, method and URL.
    ///
    /// # Errors
    /// [`CanonicalError`] of a JSON payload.
    pub fn content_fingerprint(&self) -> Result<Fingerprint, CanonicalError> {
        let (content_type, payload) = match &self.payload {
            Payload::Absent => (None, PayloadForm::Absent),
            Payload::Json(text) => (None, PayloadForm::Json(text)),
            Payload::Raw { bytes, content_type } => (Some(content_type.as_str()), PayloadForm::Raw(bytes)),
        };
        let kind = self.kind.as_ref().map(Kind::as_str);
        Fingerprint::compute(FingerprintInput {
            kind,
            content_type,
            payload,
            target_method: self.target.http().map(|target| target.method.as_str()),
            target_url: self.target.http().map(|target| target.url.as_str()),
        })
    }
}

impl Payload {
    /// Checks the size and the media type.
    ///
    /// # Errors
    /// [`NotAllowed::PayloadTooLarge`], [`NotAllowed::MediaType`].
    pub fn check(&self, bytes_max: usize) -> Result<(), NotAllowed> {
        if let Payload::Raw { content_type, .. } = self {
            check_media_type(content_type)?;
        }
        check_payload_size(self.len(), bytes_max)
    }

    /// Checks that a JSON payload is JSON that can be kept.
    ///
    /// # Errors
    /// [`CanonicalError`].
    pub fn validate(&self) -> Result<(), CanonicalError> {
        match self {
            Payload::Json(text) => validate(text, limits::JSON_DEPTH_MAX),
            Payload::Absent | Payload::Raw { .. } => Ok(()),
        }
    }
}

impl Backoff {
    /// Checks that its waits can be followed.
    ///
    /// # Errors
    /// [`NotAllowed::Backoff`].
    pub fn check(&self) -> Result<(), NotAllowed> {
        match self {
            Backoff::List(waits) if waits.is_empty() || waits.len() > limits::BACKOFF_LIST_MAX => {
                Err(NotAllowed::Backoff(BadBackoff::List))
            }
            Backoff::Exponential { base, max } if base.is_zero() || max < base => {
                Err(NotAllowed::Backoff(BadBackoff::Exponential))
            }
            Backoff::List(_) | Backoff::Exponential { .. } | Backoff::Fixed(_) => Ok(()),
        }
    }
}

impl Dedup {
    /// Checks that its options mean something together.
    ///
    /// # Errors
    /// [`NotAllowed::OnlyReplace`].
    pub fn check(&self) -> Result<(), NotAllowed> {
        let replaces = match self.on_duplicate {
            OnDuplicate::Replace => true,
            OnDuplicate::Return | OnDuplicate::Reject => false,
        };
        match (replaces, self.version, self.max_delay) {
            (false, Some(_), _) => Err(NotAllowed::OnlyReplace { option: "version" }),
            (false, None, Some(_)) => Err(NotAllowed::OnlyReplace { option: "max_delay" }),
            (true, _, _) | (false, None, None) => Ok(()),
        }
    }
}

impl QueuePatch {
    /// Checks the settings that are given.
    ///
    /// # Errors
    /// The first thing that is not allowed, and the setting it is about.
    pub fn check(&self) -> Result<(), (&'static str, NotAllowed)> {
        let about = |setting| move |why| (setting, why);
        if let Some(Some(limit)) = self.concurrency {
            check_concurrency(limit).map_err(about("concurrency"))?;
        }
        if let Some(Some(rate)) = self.rate {
            rate.check().map_err(about("rate"))?;
        }
        if let Some(Some(attempts)) = self.max_attempts {
            check_max_attempts(attempts).map_err(about("max_attempts"))?;
        }
        if let Some(Some(backoff)) = &self.backoff {
            backoff.check().map_err(about("backoff"))?;
        }
        Ok(())
    }
}

impl Rate {
    /// Checks the limit and the time.
    ///
    /// # Errors
    /// [`NotAllowed::Number`] and [`NotAllowed::RatePer`].
    pub fn check(&self) -> Result<(), NotAllowed> {
        check_number(self.limit, 1..=limits::RATE_LIMIT_MAX)?;
        let allowed = limits::RATE_PER_MIN..=limits::RATE_PER_MAX;
        if allowed.contains(&self.per) { Ok(()) } else { Err(NotAllowed::RatePer) }
    }
}

/// Checks how many labels there are; what one may be is [`Label`](crate::Label)'s own rule.
///
/// # Errors
/// [`NotAllowed::Labels`].
pub fn check_labels(count: usize) -> Result<(), NotAllowed> {
    if count <= limits::LABELS_MAX { Ok(()) } else { Err(NotAllowed::Labels) }
}

/// Checks headers handed on with a job: few, small, and such as HTTP can carry. An HTTP target receives them, so that none
/// of them may be one that is set on every delivery.
///
/// # Errors
/// [`NotAllowed::Header`].
pub fn check_headers(headers: &[(String, String)], target: &Target) -> Result<(), NotAllowed> {
    if headers.len() > limits::HEADERS_MAX {
        return Err(NotAllowed::Header(BadHeader::TooMany));
    }
    for (place, (name, value)) in headers.iter().enumerate() {
        let wrong = |why: fn(String) -> BadHeader| Err(NotAllowed::Header(why(name.clone())));
        let of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if headers.iter().take(place).any(|(earlier, _)| earlier.eq_ignore_ascii_case(name)) {
            return wrong(BadHeader::Twice);
        }
        if name.is_empty() || !name.bytes().all(of_name) {
            return wrong(BadHeader::Name);
        }
        if value.bytes().any(|byte| byte != b'\t' && byte.is_ascii_control()) {
            return wrong(BadHeader::Value);
        }
        if name.len() + value.len() > limits::HEADER_BYTES_MAX {
            return wrong(BadHeader::TooLarge);
        }
        if target.http().is_some() && TargetHeaders::are_ours(&name.to_ascii_lowercase()) {
            return wrong(BadHeader::Ours);
        }
    }
    Ok(())
}

/// Checks the media type of a payload that is not JSON.
///
/// # Errors
/// [`NotAllowed::MediaType`].
pub fn check_media_type(given: &str) -> Result<(), NotAllowed> {
    let printable = given.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if printable && given.trim() == given && (1..=255).contains(&given.len()) {
        return Ok(());
    }
    Err(NotAllowed::MediaType)
}

/// Checks how many bytes a payload has.
///
/// # Errors
/// [`NotAllowed::PayloadTooLarge`].
pub fn check_payload_size(bytes: usize, max: usize) -> Result<(), NotAllowed> {
    if bytes <= max { Ok(()) } else { Err(NotAllowed::PayloadTooLarge { max }) }
}

/// Checks the hard limit of an attempt.
///
/// # Errors
/// [`NotAllowed::Timeout`].
pub fn check_timeout(timeout: DurationMs) -> Result<(), NotAllowed> {
    if timeout.is_zero() { Err(NotAllowed::Timeout) } else { Ok(()) }
}

/// Checks how many attempts a job may have.
///
/// # Errors
/// [`NotAllowed::Number`].
pub fn check_max_attempts(attempts: u32) -> Result<(), NotAllowed> {
    check_number(attempts, 1..=limits::MAX_ATTEMPTS_MAX)
}

/// Checks how many jobs of a queue may run at once.
///
/// # Errors
/// [`NotAllowed::Number`].
pub fn check_concurrency(limit: u32) -> Result<(), NotAllowed> {
    check_number(limit, 1..=limits::CONCURRENCY_MAX)
}

/// Checks that a number lies where it must.
///
/// # Errors
/// [`NotAllowed::Number`].
pub fn check_number(value: u32, allowed: RangeInclusive<u32>) -> Result<(), NotAllowed> {
    if allowed.contains(&value) { Ok(()) } else { Err(NotAllowed::Number { value, allowed }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Key, Label};
    use bytes::Bytes;

    fn spec(change: impl FnOnce(&mut JobSpec)) -> Result<(), NotAllowed> {
        let mut spec = JobSpec::default();
        change(&mut spec);
        spec.check(1000)
    }

    #[test]
    fn limits_hold_at_and_above() {
        let headers = |count| (0..count).map(|n| (format!("a{n}"), "b".to_owned())).collect();
        assert_eq!(spec(|spec| spec.headers = headers(limits::HEADERS_MAX)), Ok(()));
        let many = spec(|spec| spec.headers = headers(limits::HEADERS_MAX + 1));
        assert_eq!(many, Err(NotAllowed::Header(BadHeader::TooMany)));
        let header = |size: usize| vec![("a".to_owned(), "b".repeat(size - 1))];
        assert_eq!(spec(|spec| spec.headers = header(limits::HEADER_BYTES_MAX)), Ok(()));
        let large = spec(|spec| spec.headers = header(limits::HEADER_BYTES_MAX + 1));
        assert_eq!(large, Err(NotAllowed::Header(BadHeader::TooLarge("a".to_owned()))));
        let labels = |count| vec![Label::new("l").unwrap(); count];
        assert_eq!(spec(|spec| spec.labels = labels(limits::LABELS_MAX)), Ok(()));
        assert_eq!(spec(|spec| spec.labels = labels(limits::LABELS_MAX + 1)), Err(NotAllowed::Labels));
        let payload = |size| Payload::Raw { bytes: vec![0; size].into(), content_type: "a/b".to_owned() };
        assert_eq!(spec(|spec| spec.payload = payload(1000)), Ok(()));
        assert_eq!(spec(|spec| spec.payload = payload(1001)), Err(NotAllowed::PayloadTooLarge { max: 1000 }));
        assert_eq!(spec(|spec| spec.timeout = Some(DurationMs::from_ms(1))), Ok(()));
        assert_eq!(spec(|spec| spec.timeout = Some(DurationMs::ZERO)), Err(NotAllowed::Timeout));
        for attempts in [1, limits::MAX_ATTEMPTS_MAX] {
            assert_eq!(check_max_attempts(attempts), Ok(()));
        }
        for attempts in [0, limits::MAX_ATTEMPTS_MAX + 1] {
            assert!(check_max_attempts(attempts).is_err());
        }
        assert_eq!(check_concurrency(limits::CONCURRENCY_MAX), Ok(()));
        assert!(check_concurrency(limits::CONCURRENCY_MAX + 1).is_err());
        let (min, max) = (limits::RATE_PER_MIN, limits::RATE_PER_MAX);
        let a_moment = DurationMs::from_ms(1);
        for (limit, per, allowed) in [
            (1, min, true),
            (limits::RATE_LIMIT_MAX, max, true),
            (0, min, false),
            (limits::RATE_LIMIT_MAX + 1, min, false),
            (1, min.saturating_sub(a_moment), false),
            (1, max.saturating_add(a_moment), false),
        ] {
            assert_eq!(Rate { limit, per }.check().is_ok(), allowed, "{limit} per {per}");
        }
    }

    #[test]
    fn a_backoff_can_be_followed() {
        let waits = |count| Backoff::List(vec![DurationMs::ZERO; count]);
        for count in [1, limits::BACKOFF_LIST_MAX] {
            assert_eq!(spec(|spec| spec.backoff = Some(waits(count))), Ok(()));
        }
        for count in [0, limits::BACKOFF_LIST_MAX + 1] {
            let refused = spec(|spec| spec.backoff = Some(waits(count)));
            assert_eq!(refused, Err(NotAllowed::Backoff(BadBackoff::List)));
        }
        let exponential = |base, max| Backoff::Exponential {
            base: DurationMs::from_ms(base),
            max: DurationMs::from_ms(max),
        };
        assert_eq!(exponential(1, 1).check(), Ok(()));
        for wrong in [exponential(0, 1), exponential(2, 1)] {
            assert_eq!(wrong.check(), Err(NotAllowed::Backoff(BadBackoff::Exponential)));
        }
        let patch = QueuePatch { backoff: Some(Some(waits(0))), ..QueuePatch::default() };
        assert_eq!(patch.check(), Err(("backoff", NotAllowed::Backoff(BadBackoff::List))));
        assert_eq!(QueuePatch { backoff: Some(None), ..QueuePatch::default() }.check(), Ok(()));
    }

    #[test]
    fn headers_are_what_http_can_carry() {
        let with = |headers: &[(&str, &str)]| {
            let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            check_headers(&headers.iter().map(owned).collect::<Vec<_>>(), &Target::Pull)
        };
        assert_eq!(with(&[("Lang", "en\tde"), ("x!#$%&'*+-.^_`|~9", "ä")]), Ok(()));
        for name in ["", "a b", "a:", "a\"", "ä", "a\0", "(a)", "a/b"] {
            assert_eq!(with(&[(name, "")]), Err(NotAllowed::Header(BadHeader::Name(name.to_owned()))));
        }
        for value in ["b\r\nc: d", "\0", "\u{7f}", "\n"] {
            assert_eq!(with(&[("a", value)]), Err(NotAllowed::Header(BadHeader::Value("a".to_owned()))));
        }
        for twice in ["a", "A"] {
            let refused = with(&[("a", "1"), (twice, "2")]);
            assert_eq!(refused, Err(NotAllowed::Header(BadHeader::Twice(twice.to_owned()))));
        }
    }

    /// H-09: a worker is handed any header as data; a target would believe it.
    #[test]
    fn h_09_headers_of_a_job_that_is_delivered_are_none_of_ours() {
        let url = crate::TargetUrl::parse("http://example.com/").unwrap();
        let target = Target::Http(std::sync::Arc::new(crate::HttpTarget::post(url)));
        for name in ["Webhook-Signature", "host", "Content-Length", "onefold-job-id", "Connection"] {
            let headers = [(name.to_owned(), "x".to_owned())];
            assert_eq!(check_headers(&headers, &Target::Pull), Ok(()), "{name}");
            let refused = Err(NotAllowed::Header(BadHeader::Ours(name.to_owned())));
            assert_eq!(check_headers(&headers, &target), refused);
            let job = spec(|spec| (spec.headers, spec.target) = (headers.to_vec(), target.clone()));
            assert_eq!(job, refused);
        }
        assert_eq!(check_headers(&[("X-Shop".to_owned(), "7".to_owned())], &target), Ok(()));
    }

    #[test]
    fn a_media_type_is_printable_and_short() {
        for fine in ["image/png", "text/plain; charset=utf-8", &"x".repeat(255)] {
            assert_eq!(check_media_type(fine), Ok(()), "{fine}");
        }
        for wrong in ["", " image/png", "image/png ", "image/\n", "image/ä", &"x".repeat(256)] {
            assert_eq!(check_media_type(wrong), Err(NotAllowed::MediaType), "{wrong}");
        }
    }

    #[test]
    fn options_of_a_replace_need_one() {
        let dedup =
            |on_duplicate, version, max_delay| Dedup { on_duplicate, version, max_delay, ..Dedup::default() };
        let delay = Some(DurationMs::from_ms(1));
        assert_eq!(dedup(OnDuplicate::Replace, Some(1), delay).check(), Ok(()));
        for other in [OnDuplicate::Return, OnDuplicate::Reject] {
            assert_eq!(dedup(other, None, None).check(), Ok(()));
            let refused = dedup(other, Some(1), None).check();
            assert_eq!(refused, Err(NotAllowed::OnlyReplace { option: "version" }));
            let refused = dedup(other, None, delay).check();
            assert_eq!(refused, Err(NotAllowed::OnlyReplace { option: "max_delay" }));
        }
    }

    #[test]
    fn a_payload_is_read_for_its_fingerprint_or_to_check_it() {
        let read = |text: &'static str, key: Option<&str>, own: Option<Fingerprint>| {
            let payload = Payload::Json(Bytes::from_static(text.as_bytes()));
            let key = key.map(|key| Key::new(key).unwrap());
            let mut spec = JobSpec { payload, key, fingerprint: own, ..JobSpec::default() };
            spec.read_payload().map(|()| spec.fingerprint)
        };
        let own = Fingerprint::custom("v1").unwrap();
        assert!(read("{}", Some("k"), None).unwrap().is_some_and(|print| !print.is_custom()));
        assert_eq!(read(r#"{"a":1, "b":2}"#, Some("k"), None), read(r#"{"b":2,"a":1}"#, Some("k"), None));
        assert_ne!(read("1", Some("k"), None), read("1.0", Some("k"), None));
        assert_eq!(read("{}", Some("k"), Some(own.clone())), Ok(Some(own.clone())));
        assert_eq!(read("{}", None, None), Ok(None));
        for (key, own) in [(None, None), (Some("k"), None), (Some("k"), Some(own))] {
            assert!(read("{", key, own).is_err());
        }
    }
}
