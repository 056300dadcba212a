//! The embedded engine keeps the contract.

mod support;

onefold_conformance::conformance_tests!(sqlite, crate::support::SqliteHarness);
