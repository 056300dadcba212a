//! What cases say, shortly: building jobs, and the operations with everything a case does not
//! care about filled in. An engine error is a failed case.

mod effects;
mod jobs;
mod ops;
mod polls;
mod schedules;

pub use effects::*;
pub use jobs::*;
pub use ops::*;
pub use polls::*;
pub use schedules::*;

use onefold_core::{DurationMs, QueueName};

/// A duration in milliseconds.
pub const fn ms(n: u64) -> DurationMs {
    DurationMs::from_ms(n)
}

/// A duration in seconds.
pub const fn secs(n: u64) -> DurationMs {
    DurationMs::from_ms(n * 1000)
}

/// A duration in hours.
pub const fn hours(n: u64) -> DurationMs {
    secs(n * 3600)
}

/// A duration in days.
pub const fn days(n: u64) -> DurationMs {
    hours(n * 24)
}

/// A queue's name.
///
/// # Panics
/// If it is not one.
pub fn queue(name: &str) -> QueueName {
    QueueName::new(name).expect("a queue name")
}
