//! Where a job runs: a worker leases it, or it is delivered to a URL.

mod headers;
mod parked;
mod url;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use self::headers::{InvalidTargetHeader, TargetHeaders};
pub use self::parked::{Parked, ParkedTargets};
pub use self::url::{
    InvalidMethod, InvalidTarget, Origin, Scheme, TargetHost, TargetMethod, TargetUrl, URL_BYTES_MAX,
};
use crate::{DurationMs, limits};

/// Where a job runs. One state machine for both.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Target {
    /// A worker leases it.
    #[default]
    Pull,
    /// It is delivered over HTTP.
    Http(Arc<HttpTarget>),
}

impl Target {
    /// Where it is delivered, if it is.
    pub fn http(&self) -> Option<&HttpTarget> {
        match self {
            Target::Pull => None,
            Target::Http(target) => Some(target),
        }
    }

    /// The lane it stands in.
    pub fn lane(&self) -> Lane {
        self.http().map_or(Lane::PULL, HttpTarget::lane)
    }
}

/// Where a job is delivered, or its end is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "StoredTarget", into = "StoredTarget")]
pub struct HttpTarget {
    /// Where to.
    pub url: TargetUrl,
    /// How it is asked.
    pub method: TargetMethod,
    /// Headers of the caller's.
    pub headers: TargetHeaders,
    /// Deadline of one delivery, or [`limits::DELIVERY_TIMEOUT`].
    pub timeout: Option<DurationMs>,
}

impl HttpTarget {
    /// A `POST` to `url`, without headers of the caller's.
    pub fn post(url: TargetUrl) -> HttpTarget {
        HttpTarget { url, method: TargetMethod::default(), headers: TargetHeaders::default(), timeout: None }
    }

    /// Deadline of one delivery.
    pub fn timeout(&self) -> DurationMs {
        self.timeout.unwrap_or(limits::DELIVERY_TIMEOUT)
    }

    /// The hard limit of an attempt that says none: the delivery's deadline and [`limits::DELIVERY_MARGIN`].
    pub fn attempt_timeout(&self) -> DurationMs {
        self.timeout().saturating_add(limits::DELIVERY_MARGIN)
    }

    /// The lane of its origin.
    pub fn lane(&self) -> Lane {
        Lane::of(&self.url.origin())
    }
}

/// What jobs stand in line for: workers, or an origin that is delivered to. The lane of an origin is a number that is
/// computed from its text, the same everywhere and for ever. Two origins with one lane share their place in line and
/// nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane(u32);

impl Lane {
    /// That of jobs that workers lease.
    pub const PULL: Lane = Lane(0);

    /// The last there can be.
    pub const MAX: Lane = Lane((1 << 31) - 1);

    /// That of an origin: the first 31 bits of the SHA-256 of its text, and 1 instead of 0.
    pub fn of(origin: &Origin) -> Lane {
        let [a, b, c, d, ..] = <[u8; 32]>::from(Sha256::digest(origin.to_string().as_bytes()));
        Lane((u32::from_be_bytes([a, b, c, d]) >> 1).max(1))
    }

    /// Whether its jobs are delivered.
    pub const fn is_http(self) -> bool {
        self.0 != 0
    }

    /// The number: 0 for workers, else below 2^31.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The lane of that number.
    pub const fn new(number: u32) -> Option<Lane> {
        if number < 1 << 31 { Some(Lane(number)) } else { None }
    }
}

/// A target as it is written down.
#[derive(Clone, Serialize, Deserialize)]
struct StoredTarget {
    url: String,
    method: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout: Option<DurationMs>,
}

impl From<HttpTarget> for StoredTarget {
    fn from(target: HttpTarget) -> StoredTarget {
        StoredTarget {
            url: target.url.as_str().to_owned(),
            method: target.method.as_str().to_owned(),
            headers: target
                .headers
                .iter()
                .map(|(name, value)| (name.to_owned(), value.into_owned()))
                .collect(),
            timeout: target.timeout,
        }
    }
}

impl TryFrom<StoredTarget> for HttpTarget {
    type Error = String;

    fn try_from(stored: StoredTarget) -> Result<HttpTarget, String> {
        Ok(HttpTarget {
            url: TargetUrl::parse(&stored.url).map_err(|why| why.to_string())?,
            method: stored.method.parse().map_err(|why: InvalidMethod| why.to_string())?,
            headers: TargetHeaders::parse(&stored.headers).map_err(|why| why.to_string())?,
            timeout: stored.timeout,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> HttpTarget {
        HttpTarget::post(TargetUrl::parse(url).unwrap())
    }

    /// Nodes and stores of other times find each other's lines.
    #[test]
    fn the_lane_of_an_origin_never_changes() {
        let lane = |url: &str| target(url).lane().get();
        assert_eq!(lane("https://example.com/a"), lane("HTTPS://EXAMPLE.com:443/b?c"));
        assert_ne!(lane("https://example.com/"), lane("http://example.com/"));
        // The first 31 bits of the SHA-256 of `https://example.com:443`, by another program.
        assert_eq!(lane("https://example.com/"), 423_324_161);
    }

    #[test]
    fn a_target_is_read_as_it_was_written() {
        let given = HttpTarget {
            method: TargetMethod::Put,
            headers: TargetHeaders::parse(&[("X-Shop", "7"), ("authorization", "é")]).unwrap(),
            timeout: Some(DurationMs::from_ms(5)),
            ..target("http://[::1]:8080/a?b=c")
        };
        let text = serde_json::to_string(&given).unwrap();
        assert_eq!(serde_json::from_str::<HttpTarget>(&text).unwrap(), given, "{text}");
    }
}
