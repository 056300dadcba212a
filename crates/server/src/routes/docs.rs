//! What the API says about itself: its description and the pages of its errors.

use axum::Extension;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use onefold_wire::ErrorCode;

use crate::answer::plain;
use crate::error_pages::page;
use crate::extract::InPath;
use crate::failure::{Answer, Failure};

/// The description, made once.
#[derive(Clone)]
pub(crate) struct Document(pub(crate) Bytes);

/// `GET /openapi.json`.
pub(crate) async fn openapi(Extension(Document(json)): Extension<Document>) -> Response {
    plain(StatusCode::OK, "application/json", Body::from(json))
}

/// `GET /errors/{code}`: what to do about it, a problem's `type`.
pub(crate) async fn error(InPath(code): InPath<String>) -> Answer {
    match ErrorCode::parse(&code) {
        Some(code) => Ok(plain(StatusCode::OK, "text/plain; charset=utf-8", Body::from(page(code)))),
        None => Err(Failure::new(ErrorCode::RouteNotFound, "there is no error with this code")),
    }
}
