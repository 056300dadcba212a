//! What a target receives beside the body.

use http::header::{ACCEPT_ENCODING, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use onefold_core::{
    FencingToken, InvalidTargetHeader, JobId, TargetHeaders, TargetUrl, Timestamp, TraceParent,
};

use crate::sign::{SigningKeys, webhook_timestamp};

const USER_AGENT_VALUE: HeaderValue =
    HeaderValue::from_static(concat!("Onefold/", env!("CARGO_PKG_VERSION")));

/// What is said of the attempt in its headers.
#[derive(Debug, Clone)]
pub struct Stamp<'a> {
    /// The job.
    pub job: JobId,
    /// The number of the attempt.
    pub attempt: u32,
    /// Its fencing token.
    pub token: FencingToken,
    /// No automatic attempt starts later (I11).
    pub retry_until: Option<Timestamp>,
    /// The trace it belongs to.
    pub traceparent: Option<&'a TraceParent>,
    /// The headers of the job, which every handler is handed.
    pub job_headers: &'a [(String, String)],
    /// When the attempt is made: the time that is signed.
    pub now: Timestamp,
}

/// All headers of one delivery: can only be made from a [`Stamp`], so none is missing and none is the caller's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryHeaders(HeaderMap);

impl DeliveryHeaders {
    /// The headers of a delivery of `body` to `url`.
    ///
    /// `content_type` is that of the payload and is kept only if the caller gave no other. `Idempotency-Key` is the
    /// job's id unless the caller gave one. What the caller gave for the target wins over headers of the job.
    ///
    /// # Errors
    /// [`InvalidTargetHeader`] for a content type, or a header of the job, that a target cannot have. Both are checked
    /// when they are accepted.
    pub fn new(
        url: &TargetUrl,
        stamp: &Stamp<'_>,
        target: &TargetHeaders,
        content_type: Option<&str>,
        keys: &SigningKeys,
        body: &[u8],
    ) -> Result<DeliveryHeaders, InvalidTargetHeader> {
        let mut headers = HeaderMap::with_capacity(target.as_map().len() + 16);
        let id = stamp.job.to_string();
        let idempotency_key = HeaderName::from_static("idempotency-key");
        // What the caller may choose, then what the caller gave, then what is ours.
        if let Some(content_type) = content_type {
            let name = || CONTENT_TYPE.as_str().to_owned();
            let value =
                HeaderValue::try_from(content_type).map_err(|_| InvalidTargetHeader::Value(name()))?;
            headers.insert(CONTENT_TYPE, value);
        }
        headers.insert(USER_AGENT, USER_AGENT_VALUE);
        headers.insert(idempotency_key, plain(&id));
        let own = TargetHeaders::parse(stamp.job_headers)?;
        for (name, value) in own.as_map().iter().chain(target.as_map()) {
            headers.insert(name.clone(), value.clone());
        }
        headers.insert(HOST, url.host_header().clone());
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let mut ours = |name: &'static str, value: HeaderValue| {
            headers.insert(HeaderName::from_static(name), value);
        };
        ours("onefold-job-id", plain(&id));
        ours("onefold-attempt", HeaderValue::from(stamp.attempt));
        ours("onefold-fencing-token", HeaderValue::from(stamp.token.get()));
        if let Some(retry_until) = stamp.retry_until {
            ours("onefold-retry-until", plain(&retry_until.to_string()));
        }
        if let Some(traceparent) = stamp.traceparent {
            ours("traceparent", plain(traceparent.as_str()));
        }
        ours("webhook-id", plain(&id));
        ours("webhook-timestamp", plain(&webhook_timestamp(stamp.now)));
        if let Some(signature) = keys.sign(&id, stamp.now, body) {
            ours("webhook-signature", plain(&signature));
        }
        Ok(DeliveryHeaders(headers))
    }

    /// What is sent, for the record. Values of `authorization` and `cookie` are marked sensitive.
    pub fn as_map(&self) -> &HeaderMap {
        &self.0
    }

    pub(crate) fn into_map(self) -> HeaderMap {
        self.0
    }
}

/// A value made of our own digits, letters and signs.
fn plain(text: &str) -> HeaderValue {
    // Ids, times, traces and base64 are printable ASCII; an empty value would only show a mistake of ours.
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use onefold_core::{Seq, limits};

    use super::*;
    use crate::sign::{SigningKey, TOLERANCE, verify};

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn time() -> Timestamp {
        "2026-11-21T09:30:00.123Z".parse().unwrap()
    }

    fn made(target: &[(&str, &str)], content_type: Option<&str>, body: &[u8]) -> HeaderMap {
        made_of(&[], target, content_type, body)
    }

    fn made_of(
        job_headers: &[(String, String)],
        target: &[(&str, &str)],
        content_type: Option<&str>,
        body: &[u8],
    ) -> HeaderMap {
        let traceparent =
            TraceParent::new("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        let stamp = Stamp {
            job: JobId::new(time(), Seq::new(7).unwrap()),
            attempt: 3,
            token: FencingToken::new(1 << 52).unwrap(),
            retry_until: Some(time()),
            traceparent: Some(&traceparent),
            job_headers,
            now: time(),
        };
        let url = TargetUrl::parse("https://example.com:8443/x").unwrap();
        let keys = SigningKeys::one(SECRET.parse::<SigningKey>().unwrap());
        let target = TargetHeaders::parse(target).unwrap();
        DeliveryHeaders::new(&url, &stamp, &target, content_type, &keys, body).unwrap().into_map()
    }

    #[test]
    fn a_target_receives_what_semantics_promises() {
        let headers = made(&[("x-shop", "7")], Some("application/json"), b"{}");
        let id = "job_01a1fd70f23b70008000000000000007";
        for (name, value) in [
            ("onefold-job-id", id),
            ("onefold-attempt", "3"),
            ("onefold-fencing-token", "4503599627370496"),
            ("onefold-retry-until", "2026-11-21T09:30:00.123Z"),
            ("idempotency-key", id),
            ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            ("webhook-id", id),
            ("webhook-timestamp", "1795253400"),
            ("content-type", "application/json"),
            ("accept-encoding", "identity"),
            ("host", "example.com:8443"),
            ("x-shop", "7"),
        ] {
            assert_eq!(headers.get(name).map(|value| value.to_str().unwrap()), Some(value), "{name}");
        }
        let text = |name: &str| headers.get(name).unwrap().to_str().unwrap();
        let signed = (id, "1795253400", text("webhook-signature"));
        assert_eq!(verify(&[SECRET.parse().unwrap()], signed, b"{}", time(), TOLERANCE), Ok(()));
    }

    #[test]
    fn the_caller_chooses_what_is_the_callers() {
        let given = [("Idempotency-Key", "order-7"), ("Content-Type", "text/plain"), ("User-Agent", "me")];
        let headers = made(&given, Some("application/json"), b"x");
        for (name, value) in given {
            assert_eq!(headers.get_all(name).iter().collect::<Vec<_>>(), [value], "{name}");
        }
        assert_ne!(headers.get("webhook-id").unwrap(), "order-7");
    }

    /// A target is a handler, and handlers are handed the headers of their job.
    #[test]
    fn headers_of_the_job_are_sent_and_those_of_the_target_win() {
        let job = [("X-Shop", "job"), ("schedule-id", "nightly"), ("Content-Type", "text/csv")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let headers = made_of(&job, &[("x-shop", "target")], Some("application/json"), b"x");
        for (name, value) in [("x-shop", "target"), ("schedule-id", "nightly"), ("content-type", "text/csv")]
        {
            assert_eq!(headers.get_all(name).iter().collect::<Vec<_>>(), [value], "{name}");
        }
    }

    #[test]
    fn h_09_the_caller_cannot_set_what_is_ours() {
        for name in [
            "Host",
            "content-length",
            "Transfer-Encoding",
            "connection",
            "webhook-signature",
            "Webhook-Id",
            "onefold-job-id",
            "Onefold-Anything",
            "traceparent",
            "accept-encoding",
            "expect",
            "TE",
        ] {
            let refused = TargetHeaders::parse(&[(name, "x")]);
            assert_eq!(refused, Err(InvalidTargetHeader::Ours(name.to_owned())), "{name}");
        }
    }

    #[test]
    fn h_08_no_line_break_gets_into_a_header() {
        for value in ["a\r\nx: y", "a\nb", "a\rb", "a\0b", "\u{7f}"] {
            let refused = TargetHeaders::parse(&[("a", value)]);
            assert_eq!(refused, Err(InvalidTargetHeader::Value("a".to_owned())), "{value:?}");
        }
        for name in ["", " a", "a b", "a:", "a\r\nb", "é"] {
            let refused = TargetHeaders::parse(&[(name, "x")]);
            assert_eq!(refused, Err(InvalidTargetHeader::Name(name.to_owned())), "{name:?}");
        }
        let refused = DeliveryHeaders::new(
            &TargetUrl::parse("http://example.com/").unwrap(),
            &Stamp {
                job: JobId::new(time(), Seq::MAX),
                attempt: 1,
                token: FencingToken::new(1).unwrap(),
                retry_until: None,
                traceparent: None,
                job_headers: &[],
                now: time(),
            },
            &TargetHeaders::default(),
            Some("text/plain\r\nx: y"),
            &SigningKeys::none(),
            b"",
        );
        assert_eq!(refused, Err(InvalidTargetHeader::Value("content-type".to_owned())));
    }

    #[test]
    fn headers_are_few_and_small_and_given_once() {
        let many = |count: usize| (0..count).map(|n| (format!("x-{n}"), "v".to_owned())).collect::<Vec<_>>();
        assert!(TargetHeaders::parse(&many(limits::HEADERS_MAX)).is_ok());
        assert_eq!(TargetHeaders::parse(&many(limits::HEADERS_MAX + 1)), Err(InvalidTargetHeader::TooMany));
        let sized = |bytes: usize| TargetHeaders::parse(&[("a".to_owned(), "v".repeat(bytes - 1))]);
        assert!(sized(limits::HEADER_BYTES_MAX).is_ok());
        assert_eq!(sized(limits::HEADER_BYTES_MAX + 1), Err(InvalidTargetHeader::TooLarge("a".to_owned())));
        let twice = TargetHeaders::parse(&[("a", "1"), ("A", "2")]);
        assert_eq!(twice, Err(InvalidTargetHeader::Twice("A".to_owned())));
    }

    #[test]
    fn credentials_are_not_shown() {
        let headers = TargetHeaders::parse(&[("Authorization", "Bearer hush"), ("Cookie", "hush")]).unwrap();
        assert!(!format!("{headers:?}").contains("hush"));
    }
}
