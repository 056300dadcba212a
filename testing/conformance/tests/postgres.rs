//! The scale-out engine keeps the contract, and answers like the reference engine.

mod postgres_support;

use onefold_conformance::model;
use postgres_support::{PooledHarness, PostgresHarness};

onefold_conformance::conformance_tests!(postgres, crate::postgres_support::PostgresHarness);

/// Every engine answers like the reference engine, whatever is asked of it.
#[test]
fn model_postgres() {
    model::check::<PostgresHarness>("model_postgres", model::CASES_OF_A_SERVER);
}

/// The same when nothing may be kept in sessions, as behind a transaction pooler.
#[test]
fn model_postgres_pooled() {
    model::check::<PooledHarness>("model_postgres_pooled", model::CASES_OF_A_SERVER);
}
