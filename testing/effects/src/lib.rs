//! The effects checker: what is promised of effects (I7, I11), seen from outside.
//!
//! A run is one seed's schedule of faults over one job of three steps: a mail (`at_least_once`), a payment
//! (`at_most_once`), and rows in the store's own database. Real worker processes work off many runs at once. They are killed
//! with SIGKILL and stopped beyond their leases at any moment of a step, and steps fail in every way a step may.
//! What a step does, it does in a [`ledger`]: a process of its own that appends to a file and answers after fsync. An
//! [operator](operate) settles doubts by that file and redrives what died, until every job is completed. Then
//! [`Verdict`] compares what happened with what is promised. Handlers written naively are caught by the same comparison.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a crate of tests a broken expectation is a failed test"
)]

mod judge;
pub mod ledger;
pub mod operate;
mod plan;
mod rounds;
mod store;
pub mod worker;

pub use judge::{Kept, Verdict};
pub use plan::{Fault, Moment, Plan};
pub use rounds::{Programs, Rounds};
pub use store::{Store, Way};

/// Where the jobs are.
pub const QUEUE: &str = "runs";
/// The step that is executed at least once.
pub const MAIL: &str = "mail";
/// The step that is executed at most once.
pub const PAYMENT: &str = "payment";
/// The step whose rows are in the store's database.
pub const ROWS: &str = "rows";
