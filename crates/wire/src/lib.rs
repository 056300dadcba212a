//! The serde types and error codes of the HTTP API, shared by server and client.
//!
//! Ids, keys, times, durations and words such as states are plain texts and numbers here; the
//! server parses them into the core's types, a client as it likes. Requests refuse members they
//! do not know; answers do not, so that a client can read those of a newer server.
//!
//! Payloads, results and checkpoints are [`RawValue`]s: the bytes that were sent are the bytes
//! that are handed on. [`read`] reads a request without copying any text that needs no unescaping,
//! and says which member is wrong and how.

mod add;
mod effects;
mod error_code;
mod events;
mod health;
mod jobs;
mod leases;
mod problem;
mod queues;
mod read;
mod schedules;
mod targets;
mod text;

pub use add::*;
pub use effects::*;
pub use error_code::ErrorCode;
pub use events::*;
pub use health::*;
pub use jobs::*;
pub use leases::*;
pub use problem::Problem;
pub use queues::*;
pub use read::{Fault, ITEMS_MAX, ReadError, read};
pub use schedules::*;
pub use serde_json::value::RawValue;
pub use targets::*;
pub use text::{Headers, Span, Text, present};
