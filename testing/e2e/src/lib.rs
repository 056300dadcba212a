//! The binary as a stranger meets it: real processes, real sockets, real files, SIGKILL.
//!
//! What the tests share: [`onefold`] finds or builds the binary, a [`Process`] is one that never outlives its
//! test, a [`Server`] is one that can be killed and started again on the same data and port, a [`Client`] speaks
//! HTTP over a connection it keeps, [`Load`] is clients that go on whatever happens, and [`Told`] remembers what clients
//! were told, to compare it with what is there in the end. Nothing here uses the server's own types: what is tested is what stands on the wire.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a crate of tests a broken expectation is a failed test"
)]

mod binary;
mod disk;
mod http;
mod jobs;
mod load;
mod page;
mod process;
mod receiver;
mod seed;
mod server;
mod time;
mod told;

pub use binary::{onefold, onefold_command, workspace};
pub use disk::SmallDisk;
pub use http::{Client, Reply};
pub use jobs::{all_jobs, counts, in_full, job, sum_of_states, unfinished};
pub use load::{Habit, Load};
pub use page::shell_blocks;
pub use process::Process;
pub use receiver::Receiver;
pub use seed::{Rng, long, seed};
pub use server::Server;
pub use time::{Gate, now, until};
pub use told::{Lease, Told};
