//! The routes, one noun a file. Each takes a request apart, calls the engine and writes the answer.

pub(crate) mod add;
pub(crate) mod backup;
pub(crate) mod docs;
pub(crate) mod effects;
pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod jobs;
pub(crate) mod keys;
pub(crate) mod leases;
pub(crate) mod metrics;
pub(crate) mod pages;
pub(crate) mod queues;
pub(crate) mod redrive;
pub(crate) mod schedules;
pub(crate) mod targets;
