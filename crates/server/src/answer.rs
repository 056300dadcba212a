//! Writing answers.

use axum::body::Body;
use axum::response::Response;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use onefold_wire::{Problem, RawValue};
use serde::Serialize;

use crate::failure::Failure;

/// The problem of an answer that cannot be written, for which nothing can be written anew.
const UNWRITABLE: &str = r#"{"type":"/errors/internal","title":"Something went wrong inside the server","status":500,"detail":"the answer could not be written","code":"internal"}"#;

/// An answer in JSON.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let mut body = Vec::with_capacity(512);
    // Writing our own types into memory fails only if a map has keys that are no strings; none has.
    if let Err(error) = serde_json::to_writer(&mut body, value) {
        tracing::error!("an answer could not be written: {error}");
        return plain(StatusCode::INTERNAL_SERVER_ERROR, Problem::MEDIA_TYPE, Body::from(UNWRITABLE));
    }
    plain(status, "application/json", Body::from(body))
}

/// `200` in JSON.
pub(crate) fn ok(value: &impl Serialize) -> Response {
    json(StatusCode::OK, value)
}

/// An answer of any type.
pub(crate) fn plain(status: StatusCode, content_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Stored JSON, to be written as the bytes it is.
pub(crate) fn raw(stored: &[u8]) -> Result<&RawValue, Failure> {
    serde_json::from_slice(stored).map_err(|error| {
        tracing::error!("a stored value is not JSON: {error}");
        Failure::new(
            onefold_wire::ErrorCode::StoreDamaged,
            "a stored value is not the JSON it was when it was accepted",
        )
    })
}
