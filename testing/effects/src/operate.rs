//! The operator: looks into the ledger, settles doubts by what stands there, and redrives what died.

use std::collections::BTreeMap;

use onefold::{EffectState, JobId, JobView, State};
use onefold_core::{Effect, EffectAction, EffectName, EffectOp, Engine, Key, ListEffects, ResolveOutcome};

use crate::judge::Ledger;
use crate::{QUEUE, Store};

/// What an operator did.
#[derive(Debug, Default, Clone, Copy)]
pub struct Operated {
    /// Jobs that had died and run again.
    pub redriven: u64,
    /// Doubts that were settled.
    pub resolved: u64,
}

/// Every job and every effect that there is.
#[derive(Debug, Default)]
pub struct Seen {
    /// The jobs.
    pub jobs: Vec<JobView>,
    /// Their effects, with results.
    pub effects: BTreeMap<(JobId, String), Effect>,
}

/// Settles every doubt and redrives every dead job. Nobody may be working any more: who is stopped may still execute what
/// was begun.
pub async fn operate(store: &Store, ledger: &Ledger) -> Operated {
    let onefold = store.engine().await;
    let mut operated = Operated::default();
    {
        let engine = onefold.runtime().expect("it is opened with an engine").engine();
        for effect in effects(engine.as_ref()).await {
            if effect.state == EffectState::Indeterminate {
                settle(engine.as_ref(), ledger, &effect).await;
                operated.resolved += 1;
            }
        }
    }
    loop {
        let redriven = onefold.queue::<u64>(QUEUE).redrive().limit(1_000).await.unwrap();
        assert!(redriven.refused.is_empty(), "{redriven:?}");
        if redriven.redriven == 0 {
            break;
        }
        operated.redriven += redriven.redriven;
    }
    onefold.close().await.unwrap();
    operated
}

/// It happened if it stands in the ledger, and then with the receipt that stands there.
async fn settle(engine: &dyn Engine, ledger: &Ledger, effect: &Effect) {
    let job = effect.job.expect("every effect here is a job's");
    let receipt = ledger.did(job, effect.key.as_str()).last().map(|did| did.receipt);
    let outcome = if receipt.is_some() { ResolveOutcome::Completed } else { ResolveOutcome::Released };
    let result = receipt.map(|receipt| receipt.to_string().into());
    let action = EffectAction::Resolve { outcome, result, note: "looked into the ledger".to_owned() };
    let answers = engine.effects(vec![EffectOp { name: effect.name(), action }]).await.unwrap();
    assert!(answers.iter().all(Result::is_ok), "a doubt cannot be settled: {answers:?}");
}

async fn effects(engine: &dyn Engine) -> Vec<Effect> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let params = ListEffects { limit: 1_000, after, ..ListEffects::default() };
        let page = engine.list_effects(params).await.unwrap();
        all.extend(page.effects);
        match page.next {
            Some(next) => after = Some(next),
            None => return all,
        }
    }
}

/// Looks at everything, of these jobs.
pub async fn look(store: &Store, jobs: &[JobId]) -> Seen {
    let onefold = store.engine().await;
    let engine = std::sync::Arc::clone(onefold.runtime().expect("it is opened with an engine").engine());
    let mut seen = Seen::default();
    for id in jobs {
        seen.jobs.push(onefold.get(*id).await.unwrap().expect("no job is lost"));
    }
    for effect in effects(engine.as_ref()).await {
        let name = EffectName::of_step(effect.job.unwrap(), Key::new(effect.key.as_str()).unwrap());
        let effect = engine.effect(name).await.unwrap().expect("it was listed");
        seen.effects.insert((effect.job.unwrap(), effect.key.to_string()), effect);
    }
    onefold.close().await.unwrap();
    seen
}

/// Whether nothing is left to be done.
pub async fn all_completed(store: &Store) -> bool {
    let onefold = store.engine().await;
    let queue = onefold.queue::<u64>(QUEUE).info().await.unwrap().expect("the queue is there");
    onefold.close().await.unwrap();
    queue.counts.of(State::Completed) == queue.counts.accepted
}
