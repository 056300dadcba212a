//! The routes, one noun a file. Each takes a request apart, calls the engine and writes the answer.

pub(crate) mod add;
pub(crate) mod health;
pub(crate) mod jobs;
pub(crate) mod keys;
pub(crate) mod leases;
pub(crate) mod queues;
pub(crate) mod redrive;
