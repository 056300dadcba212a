//! The heart of Onefold, without I/O, runtime or clock: jobs, the [transition table](TRANSITIONS)
//! and the pure [rules] over it, fencing tokens, retry and dedup rules, limits, the [`Engine`]
//! contract, and the in-memory [reference engine](mod@reference).
//!
//! Invariants I1 to I11 are those of `docs/guide/invariants.md`.

mod allowed;
mod callback;
pub mod canonical;
mod clock;
mod dedup;
mod duration;
pub mod effect;
mod engine;
pub mod expression;
mod fingerprint;
mod ids;
mod job;
pub mod limits;
mod names;
pub mod promise;
mod rate;
pub mod reference;
mod retry;
pub mod rules;
pub mod schedule;
mod state;
mod target;
mod timestamp;

pub use allowed::*;
pub use callback::callback;
pub use clock::*;
pub use dedup::*;
pub use duration::*;
pub use effect::{
    BeginEffect, Effect, EffectAction, EffectDone, EffectName, EffectOp, EffectPage, EffectPolicy,
    EffectRefusal, EffectResult, EffectState, ForgottenEarly, JobClaim, ListEffects, ReleaseOutcome,
    Resolution, ResolveOutcome,
};
pub use engine::*;
pub use fingerprint::*;
pub use ids::*;
pub use job::*;
pub use names::*;
pub use rate::*;
pub use retry::*;
pub use rules::{End, LateEvidence, RetryPolicy, RetryRefusal};
pub use state::*;
pub use target::*;
pub use timestamp::*;
