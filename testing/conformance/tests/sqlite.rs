//! The embedded engine keeps the contract.

mod support;

onefold_conformance::conformance_tests!(sqlite, crate::support::SqliteHarness);

// The same contract with every key looked up on disk.
onefold_conformance::conformance_tests!(sqlite_sealing, crate::support::Sqlite<0>);
