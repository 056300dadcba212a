//! The cases, one module for each part of the contract. Each case says the rule it guards and the
//! invariant it belongs to. What a case does not say is not asked of an engine.

pub mod add;
pub mod budget;
pub mod cancel;
pub mod clock;
pub mod dedup;
pub mod delivery;
pub mod edit;
pub mod effects;
pub mod events;
pub mod group;
pub mod lease;
pub mod list;
pub mod parked;
pub mod queue;
pub mod rate;
pub mod repeats;
pub mod replace;
pub mod request;
pub mod retention;
pub mod retry;
pub mod schedule;
pub mod schedules;
pub mod settings;
pub mod settle;
pub mod stale;
pub mod store;
