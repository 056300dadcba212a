//! What the processes of the demo tell it, a line of JSON each on their standard output.

use onefold_core::{JobId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::output::Output;

/// Something that happened.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Report {
    /// An add was answered.
    Added(Added),
    /// A producer has sent everything.
    Sent,
    /// Jobs were leased.
    Leased(Vec<Leased>),
    /// The receiver was called for a job, and has answered.
    Charged { id: JobId, attempt: u32, token: u64 },
    /// Leases were ended.
    Settled {
        results: Vec<Settled>,
        /// It was asked again, because the first answer was lost.
        again: bool,
    },
    /// Ends were said a second time.
    Repeated { ends: u64, differently: u64 },
}

/// The answer to an add.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Added {
    pub(super) order: u32,
    pub(super) id: JobId,
    pub(super) duplicate: bool,
    /// It was sent again, because the first answer was lost.
    pub(super) again: bool,
    /// When it was sent first. The processes of the demo share a machine and its clock.
    pub(super) sent: Timestamp,
    pub(super) answered: Timestamp,
}

/// A lease as its worker was told of it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Leased {
    pub(super) id: JobId,
    pub(super) attempt: u32,
    pub(super) token: u64,
    pub(super) retry_until: Option<String>,
}

/// The answer to an end.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Settled {
    pub(super) id: JobId,
    pub(super) token: u64,
    pub(super) outcome: Outcome,
}

/// What became of an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    Completed,
    Failed,
    LeaseLost,
}

/// Where a process listens, as `serve --json` says it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Serving {
    pub(super) url: String,
}

impl Report {
    /// Prints it.
    pub(super) fn tell(&self) -> Result<(), Failure> {
        Output { json: true }.json(self)
    }
}
