//! The record of an effect, and what time does to it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{EffectName, EffectPolicy, EffectScope, EffectState, ReleaseOutcome, ResolveOutcome};
use crate::{DurationMs, FencingToken, Fingerprint, JobId, Key, LateWrites, Timestamp};

/// An effect and its outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// What its key is unique in.
    pub scope: EffectScope,
    /// Which of them.
    pub key: Key,
    /// The job whose step it is: it is kept as long as the job, and begun under the job's lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    /// Compared when it is begun again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
    /// What is done if nobody knows how the latest execution ended.
    pub policy: EffectPolicy,
    /// Where it stands.
    pub state: EffectState,
    /// The token of the latest execution.
    pub token: FencingToken,
    /// The attempt of its job that executed it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// The call it was begun with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<u64>,
    /// How long its lease is; 0 for a job's effect, which has none.
    pub lease: DurationMs,
    /// Until when its lease runs, or ran, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_until: Option<Timestamp>,
    /// How long it is kept after its end, if it is no job's.
    pub ttl: DurationMs,
    /// When the first execution began of which it is not certain that it had no effect, or the latest: what
    /// `key_valid_for` counts from.
    pub first_begun_at: Timestamp,
    /// When the latest execution began.
    pub begun_at: Timestamp,
    /// When it was committed, released or became indeterminate; not while it is executed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Until when its receiver knows the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_valid_until: Option<Timestamp>,
    /// An execution before the latest, or the latest if it ended, may have had its effect, and nobody knows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_doubt: bool,
    /// How the latest execution was released, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released: Option<ReleaseOutcome>,
    /// How often it was given out to be executed.
    pub executions: u32,
    /// How often a later attempt of its job was given the stored result.
    #[serde(default)]
    pub replays: u32,
    /// Writes that came with an old token.
    #[serde(default, skip_serializing_if = "LateWrites::is_empty")]
    pub late_writes: LateWrites,
    /// What somebody found out about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<Resolution>,
    /// What was returned. Stored apart, and left out where effects are listed.
    #[serde(skip)]
    pub result: Option<Bytes>,
}

/// What somebody found out about an indeterminate effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolution {
    /// What.
    pub outcome: ResolveOutcome,
    /// Who found out, and how.
    pub note: String,
    /// When.
    pub at: Timestamp,
}

/// What has to be done with an effect whose time has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// Its time to live is over.
    Remove,
    /// Its holder is gone, and it may not be executed again.
    Indeterminate(Box<Effect>),
}

impl Effect {
    /// Its name.
    pub fn name(&self) -> EffectName {
        EffectName { scope: self.scope.clone(), key: self.key.clone() }
    }

    /// Whether its receiver may have forgotten the key.
    pub(super) fn is_forgotten(&self, now: Timestamp) -> bool {
        self.key_valid_until.is_some_and(|until| now >= until)
    }

    pub(super) fn end(&mut self, state: EffectState, now: Timestamp) {
        self.state = state;
        self.ended_at = Some(now);
    }

    /// When time next does something to it: a function of the record alone. Nothing is ever due on a job's effect, and
    /// an indeterminate one waits for somebody.
    pub fn due_at(&self) -> Option<Timestamp> {
        if self.job.is_some() {
            return None;
        }
        let since = self.ended_at.or(self.lease_until).unwrap_or(self.begun_at);
        let unfinished = match self.state {
            EffectState::Indeterminate => return None,
            EffectState::Completed => false,
            EffectState::Executing => true,
            EffectState::Released => self.in_doubt,
        };
        match (unfinished, self.policy, self.key_valid_until) {
            (false, _, _) => Some(since.saturating_add(self.ttl)),
            (true, EffectPolicy::AtMostOnce, _) => Some(since),
            (true, EffectPolicy::AtLeastOnce, Some(forgotten)) => Some(since.max(forgotten)),
            // Executing it again later is what would be done with it in any case.
            (true, EffectPolicy::AtLeastOnce, None) => Some(since.saturating_add(self.ttl)),
        }
    }
}

/// What has to be done with an effect at `now`, if anything.
pub fn come_due(effect: &Effect, now: Timestamp) -> Option<Due> {
    effect.due_at().filter(|at| *at <= now)?;
    let unfinished = effect.state == EffectState::Executing || effect.in_doubt;
    let may_run_again = effect.policy == EffectPolicy::AtLeastOnce && !effect.is_forgotten(now);
    if effect.state == EffectState::Completed || !unfinished || may_run_again {
        return Some(Due::Remove);
    }
    let mut effect = effect.clone();
    effect.in_doubt = true;
    effect.end(EffectState::Indeterminate, now);
    Some(Due::Indeterminate(Box::new(effect)))
}

/// Gives the lease of an effect that is executed its full length again: after a time in which nobody served the store, or
/// a step of the clock. Whether there was one.
pub fn renew_lease(effect: &mut Effect, now: Timestamp) -> bool {
    let renews = effect.state == EffectState::Executing && effect.job.is_none();
    if renews {
        effect.lease_until = Some(now.saturating_add(effect.lease));
    }
    renews
}
