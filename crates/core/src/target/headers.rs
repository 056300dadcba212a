//! Headers that a target is given by the caller of a job.

use std::borrow::Cow;

use http::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName, HeaderValue};
use thiserror::Error;

use crate::limits;

/// Names that are ours or the connection's, and beginnings of such names.
const OURS: [&str; 15] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "upgrade",
    "http2-settings",
    "expect",
    "accept-encoding",
    "traceparent",
];
const OUR_PREFIXES: [&str; 2] = ["webhook-", "onefold-"];

/// Headers that the caller of a job gave its target: valid, few, and none of ours.
///
/// They may set what is theirs to choose: `idempotency-key`, `content-type`, `user-agent`, `authorization`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TargetHeaders(HeaderMap);

/// A header that a target cannot have.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidTargetHeader {
    /// More than a job may have.
    #[error("a target has at most {} headers", limits::HEADERS_MAX)]
    TooMany,
    /// No name that HTTP can carry.
    #[error("`{0}` is no name of a header")]
    Name(String),
    /// Holds a line break, a NUL or another control character.
    #[error("the value of the header `{0}` holds a control character")]
    Value(String),
    /// Longer than a header of a job may be.
    #[error("the header `{0}` has more than {max} bytes", max = limits::HEADER_BYTES_MAX)]
    TooLarge(String),
    /// Given twice.
    #[error("the header `{0}` is given twice")]
    Twice(String),
    /// Set by Onefold or by the connection.
    #[error("the header `{0}` is set by Onefold on every delivery: leave it out")]
    Ours(String),
}

impl TargetHeaders {
    /// Reads them.
    ///
    /// # Errors
    /// [`InvalidTargetHeader`], naming the header.
    pub fn parse<N: AsRef<str>, V: AsRef<str>>(
        headers: &[(N, V)],
    ) -> Result<TargetHeaders, InvalidTargetHeader> {
        if headers.len() > limits::HEADERS_MAX {
            return Err(InvalidTargetHeader::TooMany);
        }
        let mut read = HeaderMap::with_capacity(headers.len());
        for (given, value) in headers {
            let (given, value) = (given.as_ref(), value.as_ref());
            let wrong = |why: fn(String) -> InvalidTargetHeader| why(given.to_owned());
            if given.len() + value.len() > limits::HEADER_BYTES_MAX {
                return Err(wrong(InvalidTargetHeader::TooLarge));
            }
            let name = HeaderName::try_from(given).map_err(|_| wrong(InvalidTargetHeader::Name))?;
            if TargetHeaders::are_ours(name.as_str()) {
                return Err(wrong(InvalidTargetHeader::Ours));
            }
            let mut value = HeaderValue::try_from(value).map_err(|_| wrong(InvalidTargetHeader::Value))?;
            value.set_sensitive(name == AUTHORIZATION || name == COOKIE);
            if read.insert(name, value).is_some() {
                return Err(wrong(InvalidTargetHeader::Twice));
            }
        }
        Ok(TargetHeaders(read))
    }

    /// Whether headers of this name, in lower case, are set by Onefold or by the connection.
    pub fn are_ours(name: &str) -> bool {
        OURS.contains(&name) || OUR_PREFIXES.iter().any(|ours| name.starts_with(ours))
    }

    /// The headers as they are sent. Values of `authorization` and `cookie` are marked sensitive.
    pub fn as_map(&self) -> &HeaderMap {
        &self.0
    }

    /// Names in lower case and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
        self.0.iter().map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes())))
    }
}
