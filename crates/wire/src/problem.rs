//! Problem documents (RFC 9457): how every failure is told.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::ErrorCode;

/// Why a request, or one item of it, was refused, and what to do about it.
///
/// As the body of an answer its media type is [`Problem::MEDIA_TYPE`]. The members after `code` are there
/// where they mean something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// The page that tells what to do about it, on the server.
    #[serde(rename = "type")]
    pub page: Cow<'static, str>,
    /// The same for every problem of this code.
    pub title: Cow<'static, str>,
    /// The HTTP status.
    pub status: u16,
    /// What happened this time.
    pub detail: Cow<'static, str>,
    /// The stable word; see [`Problem::error_code`].
    pub code: Cow<'static, str>,
    /// The member or parameter that is wrong, such as `dedup.window`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The job that holds the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub existing_id: Option<String>,
    /// Where the job stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Cow<'static, str>>,
    /// Why the job is dead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'static, str>>,
    /// The item of an atomic request that was refused, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<u64>,
    /// How many jobs of the queue are not finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfinished: Option<u64>,
    /// When to try again, in milliseconds: `Retry-After` tells whole seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// Until when the job could be retried without risk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_until: Option<String>,
}

impl Problem {
    /// `Content-Type` of a problem.
    pub const MEDIA_TYPE: &'static str = "application/problem+json";

    /// A problem of this code.
    pub fn new(code: ErrorCode, detail: impl Into<Cow<'static, str>>) -> Problem {
        Problem {
            page: Cow::Borrowed(code.page()),
            title: Cow::Borrowed(code.title()),
            status: code.status(),
            detail: detail.into(),
            code: Cow::Borrowed(code.as_str()),
            field: None,
            existing_id: None,
            state: None,
            reason: None,
            item: None,
            unfinished: None,
            retry_after_ms: None,
            retry_until: None,
        }
    }

    /// The code, `None` if it is one of a newer server.
    pub fn error_code(&self) -> Option<ErrorCode> {
        ErrorCode::parse(&self.code)
    }
}
