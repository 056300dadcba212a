//! Targets nothing is delivered to until somebody resumes them.

use serde::{Deserialize, Serialize};

use crate::Text;

/// `GET /v1/targets`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TargetList<'a> {
    /// The parked ones, by origin.
    #[serde(borrow)]
    pub parked: Vec<ParkedTarget<'a>>,
}

/// A target that answered `410`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ParkedTarget<'a> {
    /// Scheme, host and port.
    #[serde(borrow)]
    pub origin: Text<'a>,
    /// When it said that it is gone.
    #[serde(borrow)]
    pub since: Text<'a>,
    /// The job whose delivery it answered so.
    #[serde(borrow)]
    pub job: Text<'a>,
}

/// `POST /v1/targets/resume`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ResumeTarget<'a> {
    /// Any URL of the target: its scheme, host and port are what counts.
    #[serde(borrow)]
    pub url: Text<'a>,
}

/// The answer to it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ResumedTarget<'a> {
    /// Scheme, host and port.
    #[serde(borrow)]
    pub origin: Text<'a>,
    /// Whether it was parked.
    pub resumed: bool,
}
