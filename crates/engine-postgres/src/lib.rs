//! The scale-out engine: PostgreSQL 14 and newer, any number of identical nodes, no leader.
//!
//! Jobs are changed in transactions that lock their rows, by the rules of the core; a reply is sent
//! after the commit. How it is laid out and why: `docs/internals/engine-postgres.md`.

mod address;
mod apart;
mod clock;
mod connect;
mod engine;
mod error;
mod floors;
pub mod inspect;
mod lanes;
mod local;
mod migrate;
mod node;
mod notify;
mod open;
mod ops;
mod place;
#[cfg(test)]
mod plans;
mod pool;
mod rows;
mod schedules;
mod serving;
mod sql;
mod tls;
pub mod user_tx;
mod work;

pub use engine::PostgresEngine;
pub use migrate::{Migrated, Migrating, SCHEMA_VERSION, drop_schema, migrate, migrate_told};
pub use notify::Listener;
pub use open::{OpenError, Options, PostgresConfig, Time};
pub use tls::Tls;
