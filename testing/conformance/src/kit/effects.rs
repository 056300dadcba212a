//! Effects, with everything a case does not care about filled in.

use bytes::Bytes;
use onefold_core::{
    BeginEffect, Effect, EffectAction, EffectDone, EffectName, EffectOp, EffectPolicy, EffectRefusal,
    EffectResult, EffectScope, EffectState, FencingToken, JobClaim, ListEffects, ReleaseOutcome,
    ResolveOutcome, limits,
};

use crate::{Harness, Lease, days, key};

/// The name of an effect that is no job's.
pub fn effect(scope: &str, name: &str) -> EffectName {
    EffectName { scope: EffectScope::new(scope).expect("a scope"), key: key(name) }
}

/// The name of a step of a leased job.
pub fn step(lease: Lease, name: &str) -> EffectName {
    EffectName::of_step(lease.id, key(name))
}

/// A begin of an effect that is no job's.
pub fn begin(policy: EffectPolicy) -> BeginEffect {
    BeginEffect {
        fingerprint: None,
        policy,
        lease: limits::LEASE_DEFAULT,
        ttl: days(7),
        key_valid_for: None,
        job: None,
        call: None,
    }
}

/// A begin of a step under a job's lease.
pub fn begin_under(lease: Lease, policy: EffectPolicy) -> BeginEffect {
    BeginEffect { job: Some(JobClaim { id: lease.id, token: lease.token }), ..begin(policy) }
}

/// The token an effect is to be executed under.
///
/// # Panics
/// If it is not to be executed.
pub fn to_execute(said: &EffectResult) -> FencingToken {
    match said {
        Ok(EffectDone::Execute { token, .. }) => *token,
        other => panic!("not to be executed: {other:?}"),
    }
}

/// What is said once an effect stands so.
pub fn stands(state: EffectState) -> EffectResult {
    Ok(EffectDone::Standing { state, lease_until: None })
}

/// What is said when a result is replayed.
pub fn replayed(result: &'static str) -> EffectResult {
    Ok(EffectDone::Replay { result: Some(Bytes::from_static(result.as_bytes())) })
}

/// Whether an operation was refused because its token is old.
pub fn is_lost(said: &EffectResult) -> bool {
    matches!(said, Err(EffectRefusal::LeaseLost { .. }))
}

impl<'a> dyn Harness + 'a {
    /// Does one thing with an effect.
    pub async fn effect(&self, name: &EffectName, action: EffectAction) -> EffectResult {
        let outcomes = self.engine().effects(vec![EffectOp { name: name.clone(), action }]).await.unwrap();
        let [outcome] = <[_; 1]>::try_from(outcomes).expect("one outcome");
        outcome
    }

    /// Begins an effect.
    pub async fn begin(&self, name: &EffectName, params: BeginEffect) -> EffectResult {
        self.effect(name, EffectAction::Begin(params)).await
    }

    /// Begins an effect, which must be given out.
    pub async fn execute(&self, name: &EffectName, params: BeginEffect) -> FencingToken {
        to_execute(&self.begin(name, params).await)
    }

    /// Commits an effect.
    pub async fn commit(&self, name: &EffectName, token: FencingToken, result: &'static str) -> EffectResult {
        let result = Some(Bytes::from_static(result.as_bytes()));
        self.effect(name, EffectAction::Commit { token, result }).await
    }

    /// Releases an effect.
    pub async fn give_back(
        &self,
        name: &EffectName,
        token: FencingToken,
        outcome: ReleaseOutcome,
    ) -> EffectResult {
        self.effect(name, EffectAction::Release { token, outcome }).await
    }

    /// Resolves an effect.
    pub async fn resolve(&self, name: &EffectName, outcome: ResolveOutcome) -> EffectResult {
        let note = "asked the bank".to_owned();
        self.effect(name, EffectAction::Resolve { outcome, result: None, note }).await
    }

    /// The record of an effect, if there is one.
    pub async fn find_effect(&self, name: &EffectName) -> Option<Effect> {
        self.engine().effect(name.clone()).await.unwrap()
    }

    /// The state of an effect, which must be there.
    pub async fn effect_state(&self, name: &EffectName) -> EffectState {
        self.find_effect(name).await.expect("the effect is there").state
    }

    /// The keys of the effects that are listed, over all pages.
    pub async fn listed_effects(&self, params: ListEffects) -> Vec<String> {
        let (mut keys, mut after) = (Vec::new(), params.after.clone());
        loop {
            let page = ListEffects { after: after.clone(), ..params.clone() };
            let page = self.engine().list_effects(page).await.unwrap();
            keys.extend(page.effects.iter().map(|effect| effect.key.to_string()));
            match page.next {
                Some(next) => after = Some(next),
                None => return keys,
            }
        }
    }
}
