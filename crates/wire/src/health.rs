//! How the server is.

use serde::{Deserialize, Serialize};

use crate::Text;

/// `GET /healthz`: the process answers.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Alive {
    /// Always true.
    pub alive: bool,
}

/// `GET /readyz`: `200` if `ready`, else `503` and these members beside those of a
/// [`Problem`](crate::Problem).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Ready<'a> {
    /// Whether new work is welcome.
    pub ready: bool,
    /// `starting`, `serving`, `unavailable` (the store is elsewhere and cannot be used now), `draining`, `stopped` or
    /// `failed`.
    #[serde(borrow)]
    pub phase: Text<'a>,
    /// Of a store in PostgreSQL: whether commits wait for a standby, so that what is acknowledged outlives the primary:
    /// `synchronous` (they do, and it is there), `missing` (they do, and it is not), `none` (they do not) or `hidden` (they
    /// do; whether it is there, the server does not tell this role).
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub standby: Option<Text<'a>>,
    /// What an operator should know, in sentences.
    #[serde(borrow)]
    pub notes: Vec<Text<'a>>,
}

/// The body of a request that takes nothing; it may be absent.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Empty {}
