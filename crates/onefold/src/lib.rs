//! Onefold: a durable job queue. Many deliveries, one effect.
//!
//! Every accepted job is delivered at least once, and everything needed to make its effect happen
//! once comes with it: one job per key, fencing tokens, idempotent settles, and idempotency keys
//! to hand on.

mod add;
mod backend;
mod check;
mod client;
mod dedup;
#[cfg(feature = "engine-sqlite")]
mod embedded;
mod error;
#[cfg(feature = "engine-postgres")]
mod in_tx;
pub mod inbox;
mod local_code;
mod payload;
mod queue;
mod schedule;
mod target;
#[cfg(feature = "testkit")]
pub mod testkit;
mod time;
mod view;
mod worker;

pub use add::{Add, AddMany, Bound, BoxFuture, JobBuilder, NewJob};
pub use client::{Edit, List, Onefold};
pub use dedup::Dedup;
#[cfg(feature = "engine-sqlite")]
pub use embedded::{Embedded, LocalTx};
pub use error::{Error, ErrorCode, Invalid};
#[cfg(feature = "engine-postgres")]
pub use in_tx::{InTxError, Postgres};
pub use onefold_core::schedule::{Missed, Overlap, Pattern, TickCounts, Timing};
pub use onefold_core::{
    Added, Backoff, DeadReason, DurationMs, EffectPolicy, EffectRefusal, EffectState, EngineError, Evidence,
    EvidenceKind, FencingToken, FreeOn, GroupHead, JobError, JobId, JobStatus, OnDead, Outcome, Progress,
    QueueCounts, QueuePatch, QueueSettings, Rate, Refusal, State, Timestamp, Waiting,
};
#[cfg(feature = "engine-postgres")]
pub use onefold_engine_postgres::{OpenError as PostgresOpenError, PostgresConfig};
#[cfg(feature = "engine-sqlite")]
pub use onefold_engine_sqlite::{OpenError, rusqlite};
pub use payload::{FromPayload, IntoPayload, RawPayload};
pub use queue::{Queue, Redrive};
pub use schedule::{Schedule, ScheduleView, SetSchedule};
pub use target::Target;
pub use view::{AttemptView, JobList, JobView, KeyView, QueueView, Redriven};
pub use worker::{
    BoxError, CancelReason, Context, EffectError, HandlerError, Job, Once, ReadyWorker, Worker, WorkerReport,
};

use onefold_core::QueueName;
