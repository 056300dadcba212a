//! Random histories of an effect.

use proptest::prelude::*;

use super::*;

/// One step of a random history of a job's effect or a standalone one.
#[derive(Debug, Clone)]
enum Act {
    Begin(EffectPolicy, Option<u64>),
    /// By the `n`th of those that were ever told to execute.
    Commit(usize),
    Release(usize, ReleaseOutcome),
    Extend(usize),
    Resolve(ResolveOutcome),
    NextAttempt,
    Pass(u64),
    Tick,
}

fn act() -> impl Strategy<Value = Act> {
    let policy = || prop_oneof![Just(AtLeastOnce), Just(AtMostOnce)];
    let outcome = prop_oneof![Just(ReleaseOutcome::NotApplied), Just(ReleaseOutcome::Unknown)];
    let found = prop_oneof![Just(ResolveOutcome::Completed), Just(ResolveOutcome::Released)];
    prop_oneof![
        4 => (policy(), prop::option::weighted(0.3, 500_u64..5_000)).prop_map(|(p, k)| Act::Begin(p, k)),
        2 => (0_usize..6).prop_map(Act::Commit),
        2 => (0_usize..6, outcome).prop_map(|(n, outcome)| Act::Release(n, outcome)),
        1 => (0_usize..6).prop_map(Act::Extend),
        1 => found.prop_map(Act::Resolve),
        2 => Just(Act::NextAttempt),
        2 => (0_u64..3_000).prop_map(Act::Pass),
        1 => Just(Act::Tick),
    ]
}

proptest! {
    /// I5, I7, I11 over whatever happens: one commit is ever accepted between resolutions, and what it gave is what every
    /// begin gets; an execution in doubt is never executed again by `at_most_once` or with a forgotten key; tokens grow.
    #[test]
    fn i7_whatever_happens(of_job: bool, acts in prop::collection::vec(act(), 1..40)) {
        let mut world = if of_job { World::of_job() } else { World::standalone() };
        let mut executed: Vec<FencingToken> = Vec::new();
        let mut committed: Option<Option<Bytes>> = None;
        // Executions nobody accounted for since the last certain knowledge: policy, begun at, key valid until.
        let mut in_doubt: Vec<(EffectPolicy, Option<Timestamp>)> = Vec::new();
        for act in acts {
            if of_job && world.job.unwrap().token.is_none() && !matches!(act, Act::Resolve(_)) {
                world.next_attempt();
            }
            match act {
                Act::Begin(policy, key_valid_for) => {
                    let claim = of_job.then(|| world.job.unwrap().token.unwrap().get());
                    let params =
                        BeginEffect { key_valid_for: key_valid_for.map(ms), ..begin(policy, claim) };
                    match world.begin(params) {
                        Ok(EffectDone::Execute { token, .. }) => {
                            prop_assert!(committed.is_none(), "executed after a commit");
                            prop_assert!(executed.last().is_none_or(|last| *last <= token));
                            for (earlier, valid_until) in &in_doubt {
                                prop_assert!(*earlier == AtLeastOnce && policy == AtLeastOnce);
                                prop_assert!(valid_until.is_none_or(|until| world.now < until));
                            }
                            executed.push(token);
                            in_doubt.push((policy, world.record().key_valid_until));
                        }
                        Ok(EffectDone::Replay { result }) => prop_assert_eq!(Some(result), committed.clone()),
                        other => prop_assert!(other.is_err(), "{:?}", other),
                    }
                }
                Act::Commit(n) => {
                    let Some(token) = executed.get(n).copied() else { continue };
                    let result = bytes(&token.to_string());
                    let outcome = world.apply(EffectAction::Commit { token, result: result.clone() });
                    if outcome.is_ok() {
                        prop_assert!(committed.is_none() || committed == Some(result.clone()));
                        prop_assert_eq!(executed.last(), Some(&token));
                        committed = Some(result);
                        in_doubt.clear();
                    }
                }
                Act::Release(n, outcome) => {
                    let Some(token) = executed.get(n).copied() else { continue };
                    let before = world.record().state;
                    let said = world.apply(EffectAction::Release { token, outcome });
                    let now_known = before == EffectState::Executing && outcome == ReleaseOutcome::NotApplied;
                    if said.is_ok() && now_known {
                        in_doubt.pop();
                    }
                }
                Act::Extend(n) => {
                    let Some(token) = executed.get(n).copied() else { continue };
                    let _ = world.apply(EffectAction::Extend { token, lease: ms(2_000) });
                }
                Act::Resolve(outcome) => {
                    let before = world.record.as_ref().map(|record| record.state);
                    if world.resolve(outcome).is_ok() && before == Some(EffectState::Indeterminate) {
                        in_doubt.clear();
                        committed = (outcome == ResolveOutcome::Completed).then_some(None);
                    }
                }
                Act::NextAttempt if of_job => world.next_attempt(),
                Act::NextAttempt => {}
                Act::Pass(time) => world.now = world.now.saturating_add(ms(time)),
                Act::Tick => match world.record.as_ref().and_then(|record| come_due(record, world.now)) {
                    Some(Due::Indeterminate(record)) => world.record = Some(*record),
                    Some(Due::Remove) => {
                        let record = world.record.take().unwrap();
                        prop_assert!(record.state != EffectState::Indeterminate && !of_job);
                        committed = None;
                        in_doubt.clear();
                    }
                    None => {}
                },
            }
        }
    }
}
