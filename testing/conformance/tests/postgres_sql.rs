//! The SQL functions for users' own transactions keep the contract, and answer like the reference engine.

mod sql_support;

use onefold_conformance::model;
use sql_support::SqlHarness;

onefold_conformance::conformance_tests!(postgres_sql, crate::sql_support::SqlHarness);

/// Adds, ends and cancels by SQL functions, all else by the engine: like the reference engine in every answer, every field,
/// every count and every event.
#[test]
fn model_postgres_sql() {
    model::check::<SqlHarness>("model_postgres_sql", model::CASES_OF_A_SERVER);
}
