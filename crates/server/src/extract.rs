//! Taking a request apart: body, path, query, headers.

use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderName};
use http_body::Body as _;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use onefold_core::canonical::validate;
use onefold_core::{JobId, Key, QueueName, TraceParent, limits};
use onefold_wire::{ErrorCode, RawValue, read};
use percent_encoding::percent_decode;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::accept::BodyError;
use crate::failure::Failure;
use crate::state::AppState;

/// A body in JSON, read to its end; empty if there was none.
pub(crate) struct JsonBody {
    pub(crate) bytes: Bytes,
}

impl FromRequest<AppState> for JsonBody {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &AppState) -> Result<JsonBody, Failure> {
        let max = state.config().request_bytes_max();
        let (parts, body) = request.into_parts();
        if body.is_end_stream() {
            return Ok(JsonBody { bytes: Bytes::new() });
        }
        check_media_type(&parts.headers)?;
        let too_large = || {
            Failure::new(
                ErrorCode::RequestTooLarge,
                format!("a request has at most {max} bytes: send several"),
            )
        };
        let announced =
            parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if announced.is_some_and(|length| length > max) {
            return Err(too_large());
        }
        let bytes = match Limited::new(body, max).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => return Err(too_large()),
            Err(error) => return Err(incomplete(error.as_ref())),
        };
        if let Err(error) = std::str::from_utf8(&bytes) {
            return Err(Failure::new(ErrorCode::InvalidUtf8, format!("{error}: send JSON in UTF-8")));
        }
        Ok(JsonBody { bytes })
    }
}

fn incomplete(error: &(dyn std::error::Error + 'static)) -> Failure {
    let why = BodyError::find(error);
    let code = match why {
        Some(BodyError::Stalled | BodyError::TooSlow | BodyError::TooLong) => ErrorCode::RequestTimeout,
        Some(BodyError::Broken(_)) | None => ErrorCode::IncompleteBody,
    };
    let why = why.map_or_else(|| error.to_string(), ToString::to_string);
    Failure::new(code, format!("{why} (nothing was done)"))
}

fn check_media_type(headers: &HeaderMap) -> Result<(), Failure> {
    let refuse = |detail: &'static str| Err(Failure::new(ErrorCode::UnsupportedMediaType, detail));
    let encoded = headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"));
    if encoded {
        return refuse("compressed bodies are not taken: leave Content-Encoding out");
    }
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(given), None) = (types.next(), types.next()) else {
        return refuse("send the header `Content-Type: application/json`, once");
    };
    let mut parts = given.as_bytes().split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    if !parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case(b"application/json")) {
        return refuse("send the header `Content-Type: application/json`");
    }
    let other_charset = |part: &[u8]| {
        part.get(..8).is_some_and(|name| name.eq_ignore_ascii_case(b"charset="))
            && !part[8..].trim_ascii().eq_ignore_ascii_case(b"utf-8")
            && !part[8..].trim_ascii().eq_ignore_ascii_case(b"\"utf-8\"")
    };
    if parts.any(other_charset) {
        return refuse("JSON is sent in UTF-8");
    }
    Ok(())
}

impl JsonBody {
    /// The text; an object without members if there was no body.
    pub(crate) fn text(&self) -> &str {
        match std::str::from_utf8(&self.bytes) {
            Ok("") | Err(_) => "{}",
            Ok(text) => text,
        }
    }

    pub(crate) fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Failure> {
        Ok(read(self.text())?)
    }
}

/// Reads one item of an array in which something is wrong. That it is JSON is known; what JSON
/// allows and we do not is told first.
pub(crate) fn read_item<'a, T: Deserialize<'a>>(item: &'a RawValue) -> Result<T, Failure> {
    // The item around its payload is one level more.
    validate(item.get().as_bytes(), limits::JSON_DEPTH_MAX + 1).map_err(|why| Failure::json("", why))?;
    Ok(read(item.get())?)
}

/// The parameters in the path, percent-decoded once.
pub(crate) struct InPath<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<AppState> for InPath<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<InPath<T>, Failure> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(parameters)) => Ok(InPath(parameters)),
            Err(_) => Err(Failure::new(ErrorCode::InvalidUrl, "the path must be percent-encoded UTF-8")),
        }
    }
}

/// The parameters of the query, decoded once.
pub(crate) struct Query(Vec<(String, String)>);

impl FromRequestParts<AppState> for Query {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Query, Failure> {
        Query::parse(parts.uri.query().unwrap_or_default())
    }
}

impl Query {
    fn parse(query: &str) -> Result<Query, Failure> {
        let decode = |text: &str| {
            let spaced = text.replace('+', " ");
            let decoded = percent_decode(spaced.as_bytes()).decode_utf8().map(|text| text.into_owned());
            decoded
                .map_err(|_| Failure::new(ErrorCode::InvalidUrl, "the query must be percent-encoded UTF-8"))
        };
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let decoded = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(value)?))
        });
        decoded.collect::<Result<_, Failure>>().map(Query)
    }

    /// Everything given, for telling one query from another.
    pub(crate) fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// Takes a parameter that may be given once.
    pub(crate) fn one(&mut self, name: &'static str) -> Result<Option<String>, Failure> {
        let mut values = self.all(name);
        match (values.pop(), values.pop()) {
            (value, None) => Ok(value),
            _ => Err(Failure::field(ErrorCode::InvalidField, name, "this is given twice; keep one of them")),
        }
    }

    /// Takes a parameter that may be given several times, or with commas.
    pub(crate) fn list(&mut self, name: &'static str) -> Vec<String> {
        self.all(name).iter().flat_map(|value| value.split(',')).map(str::to_owned).collect()
    }

    /// Takes `true`, `false`, or nothing.
    pub(crate) fn flag(&mut self, name: &'static str) -> Result<bool, Failure> {
        match self.one(name)?.as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Failure::field(ErrorCode::InvalidField, name, "this is true or false")),
        }
    }

    /// Refuses what nobody took.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        match self.0.into_iter().next() {
            None => Ok(()),
            Some((name, _)) => Err(Failure::unknown(name)),
        }
    }

    fn all(&mut self, name: &str) -> Vec<String> {
        let (taken, rest) = std::mem::take(&mut self.0).into_iter().partition(|(given, _)| given == name);
        self.0 = rest;
        let taken: Vec<(String, String)> = taken;
        taken.into_iter().map(|(_, value)| value).collect()
    }
}

/// No parameters in the query.
pub(crate) struct NoQuery;

impl FromRequestParts<AppState> for NoQuery {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<NoQuery, Failure> {
        match parts.uri.query() {
            None | Some("") => Ok(NoQuery),
            Some(query) => Query::parse(query)?.finish().map(|()| NoQuery),
        }
    }
}

pub(crate) fn queue_name(text: &str) -> Result<QueueName, Failure> {
    QueueName::new(text).map_err(|error| Failure::field(ErrorCode::InvalidQueueName, "queue", error))
}

pub(crate) fn key(text: &str) -> Result<Key, Failure> {
    Key::new(text).map_err(|error| Failure::field(ErrorCode::InvalidKey, "key", error))
}

/// What is not an id names no job.
pub(crate) fn job_id(text: &str) -> Result<JobId, Failure> {
    text.parse().map_err(|_| Failure::job_not_found())
}

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The key in an `Idempotency-Key` header: an RFC 9651 string, its quotes removed, or the bare value.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<Key>, Failure> {
    let refuse = |detail: &'static str| Err(Failure::new(ErrorCode::InvalidIdempotencyKey, detail));
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let value = match (values.next(), values.next()) {
        (None, _) => return Ok(None),
        (Some(value), None) => value,
        (Some(_), Some(_)) => return refuse("two Idempotency-Key headers: send one"),
    };
    let Ok(text) = value.to_str() else {
        return refuse("an Idempotency-Key is ASCII: put keys with other characters into the body as `key`");
    };
    let text = text.trim();
    let unquoted = match text.strip_prefix('"') {
        None => text.to_owned(),
        Some(rest) => match unquote(rest) {
            Some(unquoted) => unquoted,
            None => {
                return refuse("an Idempotency-Key that starts with a quote must be a string as in RFC 9651");
            }
        },
    };
    Key::new(unquoted)
        .map(Some)
        .map_err(|error| Failure::field(ErrorCode::InvalidKey, IDEMPOTENCY_KEY.as_str(), error))
}

/// The rest of an RFC 9651 string after its opening quote.
fn unquote(rest: &str) -> Option<String> {
    let mut unquoted = String::with_capacity(rest.len());
    let mut chars = rest.chars();
    loop {
        match chars.next()? {
            '"' => return chars.as_str().is_empty().then_some(unquoted),
            '\\' => unquoted.push(chars.next().filter(|escaped| matches!(escaped, '"' | '\\'))?),
            '\t' => return None,
            plain => unquoted.push(plain),
        }
    }
}

/// The request's own trace, for jobs that carry none. A header that is not one is ignored, as W3C says.
pub(crate) fn traceparent(headers: &HeaderMap) -> Option<TraceParent> {
    TraceParent::new(headers.get(TRACEPARENT)?.to_str().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idempotency(value: &[u8]) -> Result<String, ErrorCode> {
        let mut headers = HeaderMap::new();
        headers.insert(IDEMPOTENCY_KEY, http::HeaderValue::from_bytes(value).unwrap());
        idempotency_key(&headers).map(|key| key.unwrap().to_string()).map_err(|failure| failure.code())
    }

    #[test]
    fn quoted_and_bare_are_one_key() {
        assert_eq!(idempotency(b"abc"), Ok("abc".into()));
        assert_eq!(idempotency(b"\"abc\""), Ok("abc".into()));
        assert_eq!(idempotency(br#""a\"b\\c""#), Ok(r#"a"b\c"#.into()));
        assert_eq!(idempotency(b"a\"b"), Ok("a\"b".into()));
    }

    #[test]
    fn half_a_string_is_not_a_key() {
        for bad in [&b"\"abc"[..], b"\"", br#""a\c""#, b"\"a\"b", b"\"a\";p=1", "\u{1f600}".as_bytes()] {
            assert_eq!(idempotency(bad), Err(ErrorCode::InvalidIdempotencyKey));
        }
        for bad in [&b""[..], b"\"\"", b"\" \"", "k".repeat(256).as_bytes()] {
            assert_eq!(idempotency(bad), Err(ErrorCode::InvalidKey));
        }
    }

    #[test]
    fn a_query_is_decoded_once_and_read_to_its_end() {
        let mut query =
            Query::parse("key=a%2520b+c&state=dead,cancelled&state=running&x=1").unwrap_or(Query(Vec::new()));
        assert_eq!(query.one("key").ok(), Some(Some("a%20b c".into())));
        assert_eq!(query.list("state"), ["dead", "cancelled", "running"]);
        assert_eq!(query.finish().map_err(|failure| failure.0.field), Err(Some("x".into())));
        assert!(Query::parse("a=%ff").is_err());
        assert!(Query::parse("a=1&a=2").is_ok_and(|mut query| query.one("a").is_err()));
    }
}
