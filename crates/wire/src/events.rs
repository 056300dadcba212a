//! Server-sent events: `GET /v1/events`.

use serde::{Deserialize, Serialize};

use crate::{DroppedTicks, Text};

/// The data of an event. Its SSE `id` is `cursor`, its SSE `event` is `type`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Event<'a> {
    /// Its place; resume after it with `Last-Event-ID`.
    pub cursor: u64,
    /// What happened, such as `job.dead`.
    #[serde(borrow, rename = "type")]
    pub kind: Text<'a>,
    /// When.
    #[serde(borrow)]
    pub at: Text<'a>,
    /// In which queue.
    #[serde(borrow)]
    pub queue: Text<'a>,
    /// To which job.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub job: Option<Text<'a>>,
    /// Why, for a dead job.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Text<'a>>,
    /// In which attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Of which schedule, for an event of one.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Text<'a>>,
    /// Ticks of the schedule that got no job.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub dropped: Option<DroppedTicks<'a>>,
}

/// The data of the event `events.missed`, the first one if events after the given `Last-Event-ID`
/// are no longer kept: read the state of what you follow anew.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EventsMissed {
    /// The cursor that was given.
    pub after: u64,
    /// The first event that follows now.
    pub oldest: u64,
}
