//! Nodes, servers and the ways between them in trouble, one trouble at a time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

mod commit;
mod rolling;
mod silence;
