//! The embedded engine under power loss, failing disks and damaged files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod damage;
mod failing_disk;
mod power_loss;
mod scenario;
