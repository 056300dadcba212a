//! What a delivery means: for its job, and for the lane of its target. Pure: status, headers, failure and time in,
//! verdict out.

use std::borrow::Cow;

use http::header::LOCATION;
use http::{HeaderMap, StatusCode};
use onefold_core::{DurationMs, Timestamp};

use crate::Failure;
use crate::wishes::{rate_limit, retry_after};

/// QStash's word for "do not retry": together with status 489 it ends a job.
const NON_RETRYABLE: &str = "upstash-nonretryable-error";
const NON_RETRYABLE_STATUS: u16 = 489;
/// Bytes of a `Location` that are quoted.
const LOCATION_QUOTED_MAX: usize = 256;
/// How long a job is put off when this machine is out of sockets.
pub const LOCAL_PAUSE: DurationMs = DurationMs::from_ms(1_000);

/// What is known after a delivery.
#[derive(Debug, Clone, Copy)]
pub enum Ending<'a> {
    /// A whole answer.
    Answered {
        /// Its status.
        status: StatusCode,
        /// Its headers.
        headers: &'a HeaderMap,
    },
    /// None, or not a whole one. What had come of it does not count: an answer that breaks off acknowledges nothing.
    Failed(&'a Failure),
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// With the job.
    pub job: JobVerdict,
    /// With the lane of its target.
    pub lane: LaneNews,
}

/// What becomes of the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobVerdict {
    /// It is acknowledged.
    Complete,
    /// The attempt failed; trying again may help.
    Fail {
        /// Why.
        cause: Cause,
        /// Not before this long from now, if the target asked for it.
        not_before: Option<DurationMs>,
    },
    /// The attempt failed, and trying again cannot help: the job is dead, `permanent`.
    FailForGood {
        /// Why.
        cause: Cause,
    },
    /// Nothing was said to the target, and it is not the target's doing: again after `delay`, at no cost.
    Snooze {
        /// Why.
        cause: Cause,
        /// How long.
        delay: DurationMs,
    },
}

impl JobVerdict {
    /// Why it is not complete.
    pub fn cause(&self) -> Option<&Cause> {
        match self {
            JobVerdict::Complete => None,
            JobVerdict::Fail { cause, .. }
            | JobVerdict::FailForGood { cause }
            | JobVerdict::Snooze { cause, .. } => Some(cause),
        }
    }

    /// The wait of a failed job: its backoff, or what the target asked for if that is longer.
    pub fn wait(&self, backoff: DurationMs) -> DurationMs {
        match self {
            JobVerdict::Fail { not_before: Some(not_before), .. } => backoff.max(*not_before),
            JobVerdict::Snooze { delay, .. } => *delay,
            JobVerdict::Fail { not_before: None, .. }
            | JobVerdict::FailForGood { .. }
            | JobVerdict::Complete => backoff,
        }
    }
}

/// Why a job is not complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// There was no whole answer.
    Failure(Failure),
    /// The target answered with a redirect, which is never followed.
    Redirect {
        /// The status.
        status: StatusCode,
        /// Where to, cut to 256 bytes.
        location: Option<String>,
    },
    /// The target answered with another status than success.
    Status(StatusCode),
}

impl Cause {
    /// The stable code: that of the failure, `redirect`, or `status-` and the number.
    pub fn code(&self) -> Cow<'static, str> {
        match self {
            Cause::Failure(failure) => Cow::Borrowed(failure.code()),
            Cause::Redirect { .. } => Cow::Borrowed("redirect"),
            Cause::Status(status) => Cow::Owned(format!("status-{}", status.as_u16())),
        }
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Cause::Failure(failure) => std::fmt::Display::fmt(failure, f),
            Cause::Redirect { status, location: Some(location) } => {
                write!(
                    f,
                    "answered {} and points to {location}: redirects are not followed, write the final URL",
                    status.as_u16()
                )
            }
            Cause::Redirect { status, location: None } => {
                write!(f, "answered {}: redirects are not followed, write the final URL", status.as_u16())
            }
            Cause::Status(status) => write!(f, "answered {}", status.as_u16()),
        }
    }
}

/// What a lane learns from a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneNews {
    /// How the target is.
    pub health: Health,
    /// Nothing more to it for this long, if it asked for that.
    pub pause: Option<DurationMs>,
}

/// How a target is, by one delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It works. An answer that refuses one request says so, too.
    Well,
    /// It does not: network, TLS, time, 5xx, 429.
    Unwell,
    /// Nothing was learned.
    Unknown,
    /// It said that it is gone: 410. Its lane is parked until somebody resumes it.
    Gone,
}

/// What `ending` means at `now`.
pub fn judge(ending: Ending<'_>, now: Timestamp) -> Verdict {
    match ending {
        Ending::Answered { status, headers } => judge_answer(status, headers, now),
        Ending::Failed(failure) => judge_failure(failure),
    }
}

fn judge_answer(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Verdict {
    let (after, limit) = (retry_after(headers, now), rate_limit(headers, now));
    if status.is_success() {
        return Verdict { job: JobVerdict::Complete, lane: LaneNews { health: Health::Well, pause: limit } };
    }
    let throttled = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    let not_before = if throttled { after.max(limit) } else { after };
    let health = match status {
        StatusCode::GONE => Health::Gone,
        StatusCode::TOO_MANY_REQUESTS => Health::Unwell,
        _ if status.is_server_error() => Health::Unwell,
        _ => Health::Well,
    };
    let pause = if throttled { not_before } else { limit };
    Verdict { job: not_acknowledged(status, headers, not_before), lane: LaneNews { health, pause } }
}

fn not_acknowledged(status: StatusCode, headers: &HeaderMap, not_before: Option<DurationMs>) -> JobVerdict {
    if status.is_redirection() {
        let location = headers.get(LOCATION).map(|value| quoted(value.as_bytes()));
        return JobVerdict::Fail { cause: Cause::Redirect { status, location }, not_before };
    }
    let cause = Cause::Status(status);
    let never =
        headers.get(NON_RETRYABLE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"));
    if status.as_u16() == NON_RETRYABLE_STATUS && never {
        return JobVerdict::FailForGood { cause };
    }
    JobVerdict::Fail { cause, not_before }
}

/// Bytes of a stranger as text: escaped, and not too many.
fn quoted(bytes: &[u8]) -> String {
    let kept = bytes.get(..LOCATION_QUOTED_MAX).unwrap_or(bytes);
    kept.escape_ascii().to_string()
}

fn judge_failure(failure: &Failure) -> Verdict {
    let cause = Cause::Failure(failure.clone());
    let fail = |cause| JobVerdict::Fail { cause, not_before: None };
    let (job, health) = match failure {
        Failure::LocalResources { .. } => (JobVerdict::Snooze { cause, delay: LOCAL_PAUSE }, Health::Unknown),
        // It says something about our rules. They or the name may change: the job may try again.
        Failure::AddressDenied(_) => (fail(cause), Health::Unknown),
        Failure::DnsFailed { .. }
        | Failure::DnsTimeout { .. }
        | Failure::ConnectRefused { .. }
        | Failure::ConnectTimeout { .. }
        | Failure::ConnectFailed { .. }
        | Failure::Tls { .. }
        | Failure::TlsTimeout
        | Failure::HeadersTimeout
        | Failure::BodyTimeout
        | Failure::Reset { .. }
        | Failure::InvalidResponse { .. }
        | Failure::HeadersTooLarge
        | Failure::BodyTooLarge { .. } => (fail(cause), Health::Unwell),
    };
    Verdict { job, lane: LaneNews { health, pause: None } }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::{Denied, Lost, Part, TlsFault};

    fn now() -> Timestamp {
        "2026-11-21T09:30:00Z".parse().unwrap()
    }

    fn answered(status: u16, lines: &[(&'static str, &'static str)]) -> Verdict {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        judge(Ending::Answered { status: StatusCode::from_u16(status).unwrap(), headers: &headers }, now())
    }

    fn seconds(n: u64) -> Option<DurationMs> {
        Some(DurationMs::from_ms(n * 1000))
    }

    #[test]
    fn only_2xx_acknowledges() {
        for status in 200..300 {
            assert_eq!(answered(status, &[]).job, JobVerdict::Complete, "{status}");
        }
        for status in (300..=599).chain([600, 799, 999]) {
            assert!(matches!(answered(status, &[]).job, JobVerdict::Fail { .. }), "{status}");
        }
    }

    #[test]
    fn w_06_a_redirect_is_a_failure_that_says_where_to() {
        for status in [300, 301, 302, 303, 304, 307, 308] {
            let verdict = answered(status, &[("location", "http://169.254.169.254/")]);
            let cause = verdict.job.cause().unwrap();
            assert_eq!(cause.code(), "redirect", "{status}");
            assert!(cause.to_string().contains("http://169.254.169.254/"), "{cause}");
        }
        let mut headers = HeaderMap::new();
        let hostile = [b"\x1b[31m\xff<script>".as_slice(), &[b'a'; 10_000]].concat();
        headers.insert(LOCATION, HeaderValue::from_bytes(&hostile[1..]).unwrap());
        let verdict = judge(Ending::Answered { status: StatusCode::FOUND, headers: &headers }, now());
        let shown = verdict.job.cause().unwrap().to_string();
        assert!(shown.len() < 2_000 && shown.is_ascii() && shown.contains("\\xff"), "{shown}");
    }

    #[test]
    fn w_07_gone_parks_the_target() {
        let verdict = answered(410, &[]);
        assert_eq!(verdict.lane.health, Health::Gone);
        assert!(matches!(verdict.job, JobVerdict::Fail { .. }));
    }

    #[test]
    fn w_08_retry_after_holds_the_job_and_on_429_and_503_the_lane() {
        for status in [429, 503] {
            let verdict = answered(status, &[("retry-after", "3600")]);
            assert_eq!(verdict.lane, LaneNews { health: Health::Unwell, pause: seconds(3600) }, "{status}");
            assert_eq!(verdict.job.wait(DurationMs::from_ms(5_000)), DurationMs::from_ms(3_600_000));
        }
        for status in [302, 400, 404, 425, 500, 504] {
            let verdict = answered(status, &[("retry-after", "3600")]);
            assert_eq!(verdict.lane.pause, None, "{status}");
            let JobVerdict::Fail { not_before, .. } = verdict.job else { panic!("{status}") };
            assert_eq!(not_before, seconds(3600), "{status}");
        }
        let short = answered(429, &[("retry-after", "1")]);
        assert_eq!(
            short.job.wait(DurationMs::from_ms(5_000)),
            DurationMs::from_ms(5_000),
            "never below the backoff"
        );
        let garbage = answered(429, &[("retry-after", "NaN")]);
        assert_eq!(garbage.lane, LaneNews { health: Health::Unwell, pause: None });
    }

    #[test]
    fn a_used_up_rate_limit_holds_the_lane_even_after_success() {
        let limit = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "30")];
        let verdict = answered(200, &limit);
        assert_eq!((verdict.job, verdict.lane.pause), (JobVerdict::Complete, seconds(30)));
        let verdict = answered(429, &limit);
        assert_eq!(verdict.job.wait(DurationMs::ZERO), DurationMs::from_ms(30_000));
    }

    #[test]
    fn retry_after_means_nothing_after_success() {
        let verdict = answered(200, &[("retry-after", "3600")]);
        assert_eq!(verdict.lane, LaneNews { health: Health::Well, pause: None });
    }

    #[test]
    fn only_both_words_of_qstash_end_a_job_for_good() {
        let never = [("upstash-nonretryable-error", "true")];
        assert!(matches!(answered(489, &never).job, JobVerdict::FailForGood { .. }));
        assert!(matches!(answered(489, &[]).job, JobVerdict::Fail { .. }));
        assert!(matches!(answered(500, &never).job, JobVerdict::Fail { .. }));
        assert!(matches!(
            answered(489, &[("upstash-nonretryable-error", "false")]).job,
            JobVerdict::Fail { .. }
        ));
        assert_eq!(answered(200, &never).job, JobVerdict::Complete);
    }

    #[test]
    fn a_refusal_of_one_request_says_that_the_target_works() {
        for (status, health) in [
            (400, Health::Well),
            (401, Health::Well),
            (404, Health::Well),
            (422, Health::Well),
            (301, Health::Well),
            (429, Health::Unwell),
            (500, Health::Unwell),
            (502, Health::Unwell),
            (504, Health::Unwell),
        ] {
            assert_eq!(answered(status, &[]).lane.health, health, "{status}");
        }
    }

    #[test]
    fn every_failure_has_its_own_code_and_is_told_from_ours() {
        let address = "192.0.2.1:443".parse().unwrap();
        let why = || "x".to_owned();
        let tls = |fault| Failure::Tls { fault, why: why() };
        let failures = [
            (
                Failure::AddressDenied(Denied::Metadata { address: "169.254.169.254".parse().unwrap() }),
                "address-denied",
            ),
            (Failure::DnsFailed { host: why(), why: why() }, "dns-failed"),
            (Failure::DnsTimeout { host: why() }, "dns-timeout"),
            (Failure::ConnectRefused { address }, "connect-refused"),
            (Failure::ConnectTimeout { address }, "connect-timeout"),
            (Failure::ConnectFailed { address, why: why() }, "connect-failed"),
            (tls(TlsFault::Expired), "tls-expired"),
            (tls(TlsFault::NotYetValid), "tls-not-yet-valid"),
            (tls(TlsFault::WrongName), "tls-wrong-name"),
            (tls(TlsFault::UnknownIssuer), "tls-unknown-issuer"),
            (tls(TlsFault::Revoked), "tls-revoked"),
            (tls(TlsFault::BadCertificate), "tls-bad-certificate"),
            (tls(TlsFault::ClientCertificate), "tls-client-certificate"),
            (tls(TlsFault::Incompatible), "tls-incompatible"),
            (tls(TlsFault::Handshake), "tls-handshake"),
            (tls(TlsFault::NoAuthorities), "tls-no-authorities"),
            (Failure::TlsTimeout, "tls-timeout"),
            (Failure::HeadersTimeout, "timeout-headers"),
            (Failure::BodyTimeout, "timeout-body"),
            (Failure::Reset { lost: Lost::InBody }, "reset"),
            (Failure::InvalidResponse { part: Part::Head, why: why() }, "invalid-response"),
            (Failure::HeadersTooLarge, "headers-too-large"),
            (Failure::BodyTooLarge { limit: 1 }, "body-too-large"),
            (Failure::LocalResources { why: why() }, "local-resources"),
        ];
        for (failure, code) in failures {
            assert_eq!(failure.code(), code);
            let verdict = judge(Ending::Failed(&failure), now());
            // W-17: what is our own doing costs the job nothing and says nothing about the target.
            let free = matches!(verdict.job, JobVerdict::Snooze { .. });
            assert_eq!(free, code == "local-resources", "{code}");
            let ours = matches!(code, "local-resources" | "address-denied");
            assert_eq!(verdict.lane.health == Health::Unknown, ours, "{code}");
        }
    }
}
