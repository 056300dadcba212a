//! The operations, each on a unit of work.

pub(crate) mod add;
pub(crate) mod effects;
pub(crate) mod events;
pub(crate) mod lease;
mod line;
pub(crate) mod look;
pub(crate) mod manage;
pub(crate) mod queues;
mod rates;
pub(crate) mod renew;
pub(crate) mod schedules;
pub(crate) mod settle;
pub(crate) mod tick;
