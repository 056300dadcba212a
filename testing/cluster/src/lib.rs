//! Several `onefold serve --postgres` on a primary and its synchronous standby, with a network between them that can be cut.
//!
//! A [`Cluster`] is two PostgreSQL servers and a number of [`Node`]s. Each node reaches each server by a [`Proxy`] of
//! its own, which can lose what is sent ([`Proxy::cut`]), break connections ([`Proxy::reset`]), and wait for the one that
//! commits something ([`Proxy::trap`]).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a crate of tests a broken expectation is a failed test"
)]

mod cluster;
mod frames;
mod proxy;
mod steps;

pub use cluster::{Cluster, Node};
pub use proxy::{Fault, Proxy};
pub use steps::Steps;
