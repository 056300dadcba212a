//! The reference engine keeps the contract.

onefold_conformance::conformance_tests!(reference, onefold_conformance::ReferenceHarness);
