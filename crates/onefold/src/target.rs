//! Where a job is delivered over HTTP.

use std::sync::Arc;
use std::time::Duration;

use onefold_core::{DurationMs, HttpTarget, InvalidMethod, TargetHeaders, TargetUrl, limits};

use crate::time::to_ms;
use crate::{ErrorCode, Invalid};

/// A URL a job is delivered to until it is acknowledged or exhausted, or that is told of its end.
///
/// The payload is the body. Each delivery carries the job's id, its key as `Idempotency-Key`, the attempt and the fencing token.
/// It is made by a server that serves the store: see [`JobBuilder::target`](crate::JobBuilder::target).
///
/// ```
/// # use std::time::Duration;
/// let target = onefold::Target::new("https://example.com/hooks").method("PUT").header("X-Shop", "7").timeout(Duration::from_secs(5));
/// ```
#[derive(Clone)]
pub struct Target {
    url: String,
    method: Option<String>,
    headers: Vec<(String, String)>,
    timeout: Option<Duration>,
}

/// Without headers: they may hold secrets.
impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").field("url", &self.url).field("method", &self.method).finish_non_exhaustive()
    }
}

impl Target {
    /// A `POST` to this URL: `http://` or `https://`, without user and password.
    pub fn new(url: impl Into<String>) -> Target {
        Target { url: url.into(), method: None, headers: Vec::new(), timeout: None }
    }

    /// `GET`, `HEAD`, `POST` (the default), `PUT`, `PATCH`, `DELETE` or `OPTIONS`.
    #[must_use]
    pub fn method(mut self, method: impl Into<String>) -> Target {
        self.method = Some(method.into());
        self
    }

    /// A header sent with each delivery; up to 64, of 8 KiB each.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Target {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Deadline of one delivery, from looking its host up to the end of the answer; 30 s unless given, up to an hour.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Target {
        self.timeout = Some(timeout);
        self
    }

    pub(crate) fn finish(self) -> Result<Arc<HttpTarget>, Invalid> {
        let refuse = |code, why: String| Invalid::coded(code, "target", format!("is not allowed: {why}"));
        let url = TargetUrl::parse(&self.url);
        let url = url.map_err(|why| refuse(ErrorCode::InvalidTarget, why.to_string()))?;
        let method = self.method.map(|method| method.parse()).transpose();
        let method =
            method.map_err(|why: InvalidMethod| refuse(ErrorCode::InvalidTarget, why.to_string()))?;
        let headers = TargetHeaders::parse(&self.headers);
        let headers = headers.map_err(|why| refuse(ErrorCode::InvalidHeader, why.to_string()))?;
        let timeout = self.timeout.map(|timeout| to_ms("timeout of a target", timeout)).transpose()?;
        let allowed = DurationMs::from_ms(1)..=limits::DELIVERY_TIMEOUT_MAX;
        if timeout.is_some_and(|timeout| !allowed.contains(&timeout)) {
            let rule = format!("is more than no time, and up to {}", limits::DELIVERY_TIMEOUT_MAX);
            return Err(Invalid::coded(ErrorCode::InvalidDuration, "the timeout of a target", rule));
        }
        Ok(Arc::new(HttpTarget { url, method: method.unwrap_or_default(), headers, timeout }))
    }
}

impl From<&str> for Target {
    fn from(url: &str) -> Target {
        Target::new(url)
    }
}

impl From<String> for Target {
    fn from(url: String) -> Target {
        Target::new(url)
    }
}
