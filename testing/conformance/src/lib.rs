//! One suite, written against the Engine contract, run on every engine.
//!
//! - [`suite`] has a case for every rule. [`conformance_tests!`] makes a `#[test]` of each, for one
//!   engine behind a [`Harness`].
//! - [`model`] drives random operations, crashes and clock steps through an engine and the
//!   reference engine side by side.
//!
//! Cases use only the public contract. Time and randomness are the harness's [`World`]; nothing
//! sleeps. A case that hangs fails after [`PATIENCE`].

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a crate of tests a broken expectation is a failed test"
)]

mod cases;
mod harness;
mod kit;
pub mod model;
pub mod suite;

pub use harness::*;
pub use kit::*;
