//! The recorder and the sweep against plain SQLite: what SQLite promises is found to hold, what it
//! does not promise is found broken.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail like tests"
)]

mod faults;
mod recording;
mod survives;
mod teeth;
mod workload;
