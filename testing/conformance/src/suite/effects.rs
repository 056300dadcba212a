//! Effects: recorded once, replayed afterwards (I7, I11).

use bytes::Bytes;
use onefold_core::{
    BeginEffect, DeadReason, EffectAction, EffectDone, EffectPolicy, EffectRefusal, EffectState, EventKind,
    EvidenceKind, FencingToken, ForgottenEarly, JobClaim, JobId, ListEffects, Outcome, ReleaseOutcome,
    ResolveOutcome, Seq, State, limits,
};

use crate::{
    Build, Harness, Lease, begin, begin_under, complete, days, effect, fail_for, fingerprint, is_lost, job,
    key, ms, queue, replayed, secs, stands, step, to_execute,
};
use EffectPolicy::{AtLeastOnce, AtMostOnce};

/// What a job's history says of a kind, in words.
async fn noted(h: &dyn Harness, id: JobId, kind: EvidenceKind) -> Vec<String> {
    let evidence = h.view(id).await.evidence.into_iter();
    evidence.filter(|e| e.kind == kind).filter_map(|e| e.note).collect()
}

async fn told(h: &dyn Harness, id: JobId, kind: EventKind) -> usize {
    h.events_since(0).await.iter().filter(|event| event.kind == kind && event.job == Some(id)).count()
}

async fn leased(h: &dyn Harness) -> Lease {
    h.add("q", job().max_attempts(100)).await;
    h.take("q").await
}

/// I7: what was committed is what every later begin gets, byte for byte, over attempts and crashes.
pub async fn i7_a_committed_result_is_replayed_byte_for_byte(h: &mut dyn Harness) {
    let lease = leased(h).await;
    let charge = step(lease, "charge");
    assert_eq!(h.execute(&charge, begin_under(lease, AtLeastOnce)).await, lease.token);
    assert_eq!(
        h.commit(&charge, lease.token, r#"{ "b": 1.0,"a":"ä" }"#).await,
        stands(EffectState::Completed)
    );
    assert_eq!(h.begin(&charge, begin_under(lease, AtLeastOnce)).await, replayed(r#"{ "b": 1.0,"a":"ä" }"#));
    h.pass(limits::LEASE_DEFAULT).await;
    let again = h.take("q").await;
    if h.flags().reopen {
        h.reopen_after_crash().await;
    }
    assert_eq!(h.begin(&charge, begin_under(again, AtMostOnce)).await, replayed(r#"{ "b": 1.0,"a":"ä" }"#));
    let record = h.find_effect(&charge).await.unwrap();
    assert_eq!((record.executions, record.replays, record.attempt), (1, 1, Some(1)));
    assert_eq!(noted(h, lease.id, EvidenceKind::EffectReplayed).await.len(), 1);
    assert_eq!(told(h, lease.id, EventKind::EffectReplayed).await, 1);
}

/// Limits: a result of 1 MiB is stored and replayed.
pub async fn a_large_result_is_replayed(h: &mut dyn Harness) {
    let lease = leased(h).await;
    let (report, token) = (step(lease, "report"), lease.token);
    let result = Some(Bytes::from(vec![b'1'; limits::RESULT_BYTES_MAX]));
    h.execute(&report, begin_under(lease, AtLeastOnce)).await;
    let done = EffectAction::Commit { token, result: result.clone() };
    assert_eq!(h.effect(&report, done).await, stands(EffectState::Completed));
    assert_eq!(h.begin(&report, begin_under(lease, AtLeastOnce)).await, Ok(EffectDone::Replay { result }));
}

/// Effects: the first thing that is tested is whether the same is meant, in whatever state the effect is.
pub async fn a_mismatch_is_told_first(h: &mut dyn Harness) {
    let lease = leased(h).await;
    let charge = step(lease, "charge");
    let with =
        |text: &str| BeginEffect { fingerprint: Some(fingerprint(text)), ..begin_under(lease, AtLeastOnce) };
    h.execute(&charge, with("10 euro")).await;
    let other_job = leased(h).await;
    let others = [
        with("20 euro"),
        begin_under(lease, AtLeastOnce),
        BeginEffect { fingerprint: Some(fingerprint("10 euro")), ..begin_under(other_job, AtLeastOnce) },
        BeginEffect { fingerprint: Some(fingerprint("10 euro")), ..begin(AtLeastOnce) },
    ];
    for committed in [false, true] {
        if committed {
            h.commit(&charge, lease.token, "1").await.unwrap();
        }
        let before = h.find_effect(&charge).await;
        for other in &others {
            let said = h.begin(&charge, other.clone()).await;
            assert_eq!(said, Err(EffectRefusal::KeyReused { job: Some(lease.id) }), "{other:?}");
        }
        assert_eq!(h.find_effect(&charge).await, before);
    }
    assert_eq!(h.begin(&charge, with("10 euro")).await, replayed("1"));
}

/// I7: a job's effect has no lease of its own: the next holder of the job takes it over at once, and the history says so.
pub async fn i7_the_next_holder_takes_over_at_once(h: &mut dyn Harness) {
    let lease = leased(h).await;
    let charge = step(lease, "charge");
    h.execute(&charge, begin_under(lease, AtLeastOnce)).await;
    h.pass(limits::LEASE_DEFAULT).await;
    let next = h.take("q").await;
    assert_eq!(h.execute(&charge, begin_under(next, AtLeastOnce)).await, next.token);
    assert_eq!(h.commit(&charge, next.token, "2").await, stands(EffectState::Completed));
    let said = noted(h, lease.id, EvidenceKind::EffectTakenOver).await;
    assert!(said[0].contains("charge") && said[0].contains("attempt 2"), "{said:?}");
    assert_eq!(told(h, lease.id, EventKind::EffectTakenOver).await, 1);
    let shown = h.view(lease.id).await.effects;
    assert_eq!(shown.len(), 1);
    assert_eq!((shown[0].state, shown[0].executions, &shown[0].result), (EffectState::Completed, 2, &None));
}

/// I7: under `at_most_once` a doubt is never executed again: it is indeterminate, and the job dies of it, again and again
/// until somebody says what happened.
pub async fn i7_at_most_once_a_doubt_ends_the_job(h: &mut dyn Harness) {
    let lease = leased(h).await;
    let charge = step(lease, "charge");
    h.execute(&charge, begin_under(lease, AtMostOnce)).await;
    h.pass(limits::LEASE_DEFAULT).await;
    let next = h.take("q").await;
    assert_eq!(h.begin(&charge, begin_under(next, AtMostOnce)).await, Err(EffectRefusal::Indeterminate));
    let view = h.view(lease.id).await;
    assert_eq!((view.job.state, view.job.reason), (State::Dead, Some(DeadReason::Indeterminate)));
    let end = view.attempts[1].end.as_ref().unwrap();
    assert_eq!((end.outcome, end.state), (Outcome::Failed, State::Dead));
    assert_eq!(end.error.as_ref().unwrap().kind.as_deref(), Some("indeterminate"));
    assert_eq!(h.effect_state(&charge).await, EffectState::Indeterminate);
    assert_eq!(told(h, lease.id, EventKind::EffectIndeterminate).await, 1);
    assert_eq!(told(h, lease.id, EventKind::Dead).await, 1);
    assert_eq!(h.counts("q").await.dead, 1);
    assert!(h.try_end(next, complete()).await.is_err(), "the attempt is over");

    h.retry(lease.id).await.unwrap();
    let third = h.take("q").await;
    assert_eq!(h.begin(&charge, begin_under(third, AtLeastOnce)).await, Err(EffectRefusal::Indeterminate));
    assert_eq!(h.state(lease.id).await, State::Dead);
}

/// Effects: a cancel that was asked for wins over a death by doubt, as over every other end.
pub async fn a_cancel_wins_over_a_doubt(h: &mut dyn Harness) {
    let lease = leased(h).await;
    let charge = step(lease, "charge");
    h.execute(&charge, begin_under(lease, AtMostOnce)).await;
    h.cancel(lease.id).await.unwrap();
    let said = h.give_back(&charge, lease.token, ReleaseOutcome::Unknown).await;
    assert_eq!(said, stands(EffectState::Indeterminate));
    assert_eq!(h.state(lease.id).await, State::Cancelled);
    assert_eq!(h.effect_state(&charge).await, EffectState::Indeterminate);
}

/// I7: what somebody found out is what counts: the redriven job replays it, or executes.
pub async fn i7_a_resolved_doubt_is_replayed_or_executed(h: &mut dyn Harness) {
    for outcome in [ResolveOutcome::Completed, ResolveOutcome::Released] {
        let lease = leased(h).await;
        let charge = step(lease, "charge");
        let early = h.resolve(&charge, outcome).await;
        assert_eq!(early, Err(EffectRefusal::NotFound));
        h.execute(&charge, begin_under(lease, AtMostOnce)).await;
        let early = h.resolve(&charge, outcome).await;
        assert_eq!(early, Err(EffectRefusal::NotIndeterminate { state: EffectState::Executing }));
        h.give_back(&charge, lease.token, ReleaseOutcome::Unknown).await.unwrap();
        assert_eq!(h.state(lease.id).await, State::Dead);
        let resolved = h.resolve(&charge, outcome).await;
        assert!(resolved.is_ok());
        assert_eq!(h.resolve(&charge, outcome).await, resolved, "the same again gets its first answer");
        assert!(is_lost(&h.commit(&charge, lease.token, "1").await));
        let said = noted(h, lease.id, EvidenceKind::EffectResolved).await;
        assert!(said[0].contains("asked the bank"), "{said:?}");
        assert_eq!(told(h, lease.id, EventKind::EffectResolved).await, 1);

        h.retry(lease.id).await.unwrap();
        let next = h.take("q").await;
        let then = h.begin(&charge, begin_under(next, AtMostOnce)).await;
        match outcome {
            ResolveOutcome::Completed => assert_eq!(then, Ok(EffectDone::Replay { result: None })),
            ResolveOutcome::Released => assert_eq!(to_execute(&then), next.token),
        }
        h.end(next, complete()).await;
    }
}

/// I5: every write of a holder whose lease is gone is refused, changes nothing, and leaves evidence.
pub async fn i5_old_tokens_are_refused_with_evidence(h: &mut dyn Harness) {
    let lease = leased(h).await;
    let charge = step(lease, "charge");
    h.execute(&charge, begin_under(lease, AtLeastOnce)).await;
    h.pass(limits::LEASE_DEFAULT).await;
    // Nobody has it yet, and it is lost all the same.
    assert!(is_lost(&h.commit(&charge, lease.token, "late").await));
    let next = h.take("q").await;
    h.execute(&charge, begin_under(next, AtLeastOnce)).await;
    let before = h.find_effect(&charge).await.unwrap();
    let stale = [
        EffectAction::Begin(begin_under(lease, AtLeastOnce)),
        EffectAction::Commit { token: lease.token, result: None },
        EffectAction::Extend { token: lease.token, lease: secs(60) },
        EffectAction::Release { token: lease.token, outcome: ReleaseOutcome::NotApplied },
    ];
    for action in stale {
        assert!(is_lost(&h.effect(&charge, action.clone()).await), "{action:?}");
    }
    let after = h.find_effect(&charge).await.unwrap();
    assert_eq!(after.late_writes.count, 5);
    assert_eq!((after.state, after.token, after.result), (before.state, before.token, None));
    let said = noted(h, lease.id, EvidenceKind::LateEffect).await;
    assert_eq!(said.len(), 5);
    assert!(said[0].contains("commit of charge"), "{said:?}");
    assert_eq!(told(h, lease.id, EventKind::LateWrite).await, 5);
    assert_eq!(h.counts("q").await.late_writes, 5);
    assert_eq!(h.commit(&charge, next.token, "2").await, stands(EffectState::Completed));
}

/// Effects: a repeated commit gets its first answer, whatever happened to the job since; another result is refused.
pub async fn a_repeated_commit_gets_its_first_answer(h: &mut dyn Harness) {
    let lease = leased(h).await;
    let charge = step(lease, "charge");
    h.execute(&charge, begin_under(lease, AtLeastOnce)).await;
    h.commit(&charge, lease.token, "1").await.unwrap();
    h.end(lease, complete()).await;
    assert_eq!(h.commit(&charge, lease.token, "1").await, stands(EffectState::Completed));
    assert!(is_lost(&h.commit(&charge, lease.token, "2").await));
    assert_eq!(h.find_effect(&charge).await.unwrap().result, Some(Bytes::from_static(b"1")));
}

/// Effects: whoever gives an effect back says whether it may have happened; what follows depends on the policy.
pub async fn how_a_release_is_meant_decides_what_follows(h: &mut dyn Harness) {
    for (policy, outcome, state) in [
        (AtLeastOnce, ReleaseOutcome::NotApplied, EffectState::Released),
        (AtLeastOnce, ReleaseOutcome::Unknown, EffectState::Released),
        (AtMostOnce, ReleaseOutcome::NotApplied, EffectState::Released),
        (AtMostOnce, ReleaseOutcome::Unknown, EffectState::Indeterminate),
    ] {
        let lease = leased(h).await;
        let charge = step(lease, "charge");
        h.execute(&charge, begin_under(lease, policy)).await;
        assert_eq!(h.give_back(&charge, lease.token, outcome).await, stands(state), "{policy} {outcome}");
        assert_eq!(h.give_back(&charge, lease.token, outcome).await, stands(state), "the same again");
        let dies = state == EffectState::Indeterminate;
        assert_eq!(h.state(lease.id).await, if dies { State::Dead } else { State::Running });
        if !dies {
            assert_eq!(h.execute(&charge, begin_under(lease, policy)).await, lease.token);
            h.end(lease, complete()).await;
        }
    }
}

/// Effects: within an attempt a step is executed by one at a time; a repeat of the same call is answered as it was.
pub async fn an_attempt_executes_a_step_once_at_a_time(h: &mut dyn Harness) {
    let lease = leased(h).await;
    let charge = step(lease, "charge");
    let call = BeginEffect { call: Some(u64::MAX), ..begin_under(lease, AtMostOnce) };
    h.execute(&charge, call.clone()).await;
    assert_eq!(h.execute(&charge, call).await, lease.token);
    let busy = h.begin(&charge, begin_under(lease, AtMostOnce)).await;
    assert!(matches!(busy, Err(EffectRefusal::InProgress { .. })), "{busy:?}");
    assert_eq!(h.state(lease.id).await, State::Running);
}

/// I11: once the receiver may have forgotten the key, counted from the first begin, a doubt is never executed again.
pub async fn i11_a_forgotten_key_is_never_used_again(h: &mut dyn Harness) {
    let lease = leased(h).await;
    let charge = step(lease, "charge");
    let valid = |lease| BeginEffect { key_valid_for: Some(secs(40)), ..begin_under(lease, AtLeastOnce) };
    h.execute(&charge, valid(lease)).await;
    h.pass(secs(30)).await;
    let next = h.take("q").await;
    h.execute(&charge, valid(next)).await;
    h.end(next, fail_for(secs(10))).await;
    h.pass(secs(10)).await;
    let third = h.take("q").await;
    assert_eq!(h.begin(&charge, valid(third)).await, Err(EffectRefusal::Indeterminate));
    let view = h.view(lease.id).await;
    assert_eq!((view.job.state, view.job.reason), (State::Dead, Some(DeadReason::Indeterminate)));
}

/// I11: a key that is forgotten while the job may still be tried is warned about.
pub async fn i11_a_key_forgotten_early_is_warned_about(h: &mut dyn Harness) {
    let lease = leased(h).await;
    let retry_until = h.view(lease.id).await.job.retry_until.unwrap();
    let key_valid_until = h.now().saturating_add(days(1));
    let short = BeginEffect { key_valid_for: Some(days(1)), ..begin_under(lease, AtLeastOnce) };
    let forgotten_early = Some(ForgottenEarly { key_valid_until, retry_until });
    let said = h.begin(&step(lease, "short"), short).await;
    assert_eq!(said, Ok(EffectDone::Execute { token: lease.token, forgotten_early }));
    let long = BeginEffect { key_valid_for: Some(days(3_650)), ..begin_under(lease, AtLeastOnce) };
    let said = h.begin(&step(lease, "long"), long).await;
    assert_eq!(said, Ok(EffectDone::Execute { token: lease.token, forgotten_early: None }));
}

/// Effects: a standalone effect is held for its lease, which may be extended; past it its holder is believed until somebody takes
/// over, with a larger token (I4).
pub async fn a_standalone_effect_has_its_own_lease(h: &mut dyn Harness) {
    let pay = effect("payments", "order 7");
    let params = BeginEffect { lease: secs(2), ..begin(AtLeastOnce) };
    let first = h.execute(&pay, params.clone()).await;
    h.pass(ms(500)).await;
    let busy = Err(EffectRefusal::InProgress { retry_after: ms(1_500) });
    assert_eq!(h.begin(&pay, params.clone()).await, busy);
    let until = Some(h.now().saturating_add(secs(5)));
    let extended = h.effect(&pay, EffectAction::Extend { token: first, lease: secs(5) }).await;
    assert_eq!(extended, Ok(EffectDone::Standing { state: EffectState::Executing, lease_until: until }));
    h.pass(secs(5)).await;
    assert_eq!(h.commit(&pay, first, "1").await, stands(EffectState::Completed));
    assert_eq!(h.begin(&pay, params.clone()).await, replayed("1"));

    let refund = effect("payments", "refund 7");
    let first = h.execute(&refund, params.clone()).await;
    h.pass(secs(2)).await;
    let second = h.execute(&refund, params.clone()).await;
    assert!(second > first, "I4: {first} then {second}");
    assert!(is_lost(&h.commit(&refund, first, "1").await));
    assert_eq!(h.find_effect(&refund).await.unwrap().late_writes.count, 1);
    let lease = leased(h).await;
    assert!(lease.token > second, "I4: one sequence for jobs and effects");
}

/// I10: a standalone effect whose holder is gone and which may not be executed again becomes indeterminate by itself.
pub async fn i10_a_lapsed_at_most_once_effect_is_indeterminate(h: &mut dyn Harness) {
    let once = effect("payments", "once");
    let short = effect("payments", "short");
    h.execute(&once, begin(AtMostOnce)).await;
    h.execute(&short, BeginEffect { key_valid_for: Some(secs(60)), ..begin(AtLeastOnce) }).await;
    h.pass(limits::LEASE_DEFAULT).await;
    assert_eq!(h.effect_state(&once).await, EffectState::Indeterminate);
    assert_eq!(h.effect_state(&short).await, EffectState::Executing);
    h.pass(secs(30)).await;
    assert_eq!(h.effect_state(&short).await, EffectState::Indeterminate);
    // It waits for somebody, however long.
    h.pass(days(365)).await;
    assert_eq!(h.begin(&once, begin(AtMostOnce)).await, Err(EffectRefusal::Indeterminate));
    h.resolve(&once, ResolveOutcome::Completed).await.unwrap();
    assert_eq!(h.begin(&once, begin(AtMostOnce)).await, Ok(EffectDone::Replay { result: None }));
}

/// Effects: a standalone effect is kept for its time to live after its end; whoever begins it afterwards gets a larger token.
pub async fn a_standalone_effect_is_kept_for_its_time_to_live(h: &mut dyn Harness) {
    let pay = effect("payments", "order 7");
    let params = BeginEffect { ttl: secs(100), ..begin(AtLeastOnce) };
    let first = h.execute(&pay, params.clone()).await;
    h.commit(&pay, first, "1").await.unwrap();
    h.pass(secs(99)).await;
    assert_eq!(h.begin(&pay, params.clone()).await, replayed("1"));
    h.pass(secs(1)).await;
    assert_eq!(h.find_effect(&pay).await, None);
    assert_eq!(h.commit(&pay, first, "1").await, Err(EffectRefusal::NotFound));
    assert!(h.execute(&pay, params).await > first);
}

/// Effects: however many are over at once, ticks remove them all, each a bounded number.
pub async fn many_effects_are_removed_in_steps(h: &mut dyn Harness) {
    const MANY: usize = 1_100;
    let begin = BeginEffect { ttl: secs(10), ..begin(AtLeastOnce) };
    let name = |n: usize| effect("many", &format!("{n:05}"));
    let action =
        |n: usize| onefold_core::EffectOp { name: name(n), action: EffectAction::Begin(begin.clone()) };
    let said = h.engine().effects((0..MANY).map(action).collect()).await.unwrap();
    let end = |(n, said)| onefold_core::EffectOp {
        name: name(n),
        action: EffectAction::Commit { token: to_execute(said), result: None },
    };
    let ended = h.engine().effects(said.iter().enumerate().map(end).collect()).await.unwrap();
    assert!(ended.iter().all(Result::is_ok));
    h.pass(secs(10)).await;
    assert_eq!(h.listed_effects(ListEffects { limit: 1_000, ..ListEffects::default() }).await, [""; 0]);
}

/// I1: whatever was answered survives a crash.
pub async fn i1_effects_survive_a_crash(h: &mut dyn Harness) {
    if !h.flags().reopen {
        return;
    }
    let lease = leased(h).await;
    let charge = step(lease, "charge");
    h.execute(&charge, begin_under(lease, AtLeastOnce)).await;
    h.reopen_after_crash().await;
    assert_eq!(h.effect_state(&charge).await, EffectState::Executing);
    assert_eq!(h.commit(&charge, lease.token, "1").await, stands(EffectState::Completed));
    h.reopen_after_crash().await;
    assert_eq!(h.begin(&charge, begin_under(lease, AtLeastOnce)).await, replayed("1"));
    let mail = step(lease, "mail");
    h.execute(&mail, begin_under(lease, AtMostOnce)).await;
    h.give_back(&mail, lease.token, ReleaseOutcome::Unknown).await.unwrap();
    h.reopen_after_crash().await;
    assert_eq!(h.effect_state(&mail).await, EffectState::Indeterminate);
    assert_eq!(h.state(lease.id).await, State::Dead);
    h.resolve(&mail, ResolveOutcome::Released).await.unwrap();
    h.reopen_after_crash().await;
    assert_eq!(h.effect_state(&mail).await, EffectState::Released);
}

/// Effects: after a time in which nobody served the store the leases of standalone effects have their full length again.
pub async fn a_reopened_store_gives_effect_leases_their_full_length(h: &mut dyn Harness) {
    if !h.flags().reopen {
        return;
    }
    let pay = effect("payments", "order 7");
    let token = h.execute(&pay, begin(AtMostOnce)).await;
    h.wait(secs(3_600));
    h.reopen_after_crash().await;
    h.tick().await;
    let busy = Err(EffectRefusal::InProgress { retry_after: limits::LEASE_DEFAULT });
    assert_eq!(h.begin(&pay, begin(AtMostOnce)).await, busy);
    assert_eq!(h.commit(&pay, token, "1").await, stands(EffectState::Completed));
}

/// A job's effects live as long as its row: over every redrive, and not longer.
pub async fn effects_live_as_long_as_their_job(h: &mut dyn Harness) {
    let mut names = Vec::new();
    for _ in 0..3 {
        let lease = leased(h).await;
        // Whatever the scope is called.
        let own = effect("anything", &lease.id.to_string());
        h.execute(&own, begin_under(lease, AtLeastOnce)).await;
        h.commit(&own, lease.token, "1").await.unwrap();
        h.end(lease, crate::fail_for_good()).await;
        names.push((lease.id, own));
    }
    h.pass(days(89)).await;
    let (deleted, own) = names[0].clone();
    assert_eq!(h.effect_state(&own).await, EffectState::Completed);
    h.delete(deleted).await.unwrap();
    assert_eq!(h.find_effect(&own).await, None);

    let (redriven, own) = names[1].clone();
    h.engine().retry(redriven, true).await.unwrap().unwrap();
    let lease = h.take("q").await;
    assert_eq!(h.begin(&own, begin_under(lease, AtLeastOnce)).await, replayed("1"));
    h.end(lease, crate::fail_for_good()).await;
    h.pass(days(1)).await;
    assert_eq!(h.find_effect(&names[2].1).await, None, "purged with its job");
    assert_eq!(h.effect_state(&own).await, EffectState::Completed);
    h.engine().delete_queue(queue("q"), true).await.unwrap().unwrap();
    assert_eq!(h.find_effect(&own).await, None);
}

/// Effects: what is not there is not found, and begins nothing.
pub async fn an_unknown_effect_or_job_is_not_found(h: &mut dyn Harness) {
    let token = FencingToken::new(7).unwrap();
    let nothing = effect("payments", "order 7");
    assert_eq!(h.commit(&nothing, token, "1").await, Err(EffectRefusal::NotFound));
    let id = JobId::new(h.now(), Seq::new(999).unwrap());
    let claim = BeginEffect { job: Some(JobClaim { id, token }), ..begin(AtLeastOnce) };
    assert_eq!(h.begin(&nothing, claim).await, Err(EffectRefusal::JobNotFound));
    assert_eq!(h.find_effect(&nothing).await, None);
}

/// I7: of a hundred that begin at once, one executes.
pub async fn i7_a_race_of_a_hundred_executes_once(h: &mut dyn Harness) {
    let pay = effect("payments", "order 7");
    let engine = h.engine();
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let action = EffectAction::Begin(begin(AtMostOnce));
            engine.effects(vec![onefold_core::EffectOp { name: pay.clone(), action }])
        })
        .collect();
    let mut executed = 0;
    for call in calls {
        match call.await.unwrap().remove(0) {
            Ok(EffectDone::Execute { .. }) => executed += 1,
            Err(EffectRefusal::InProgress { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(executed, 1);
}

/// Effects: the operations of a call are done in order and answered each.
pub async fn a_batch_of_effects_answers_each_item(h: &mut dyn Harness) {
    let lease = leased(h).await;
    let (charge, mail) = (step(lease, "charge"), step(lease, "mail"));
    let op = |name: &onefold_core::EffectName, action| onefold_core::EffectOp { name: name.clone(), action };
    let ops = vec![
        op(&charge, EffectAction::Begin(begin_under(lease, AtLeastOnce))),
        op(&mail, EffectAction::Commit { token: lease.token, result: None }),
        op(&charge, EffectAction::Commit { token: lease.token, result: None }),
        op(&mail, EffectAction::Begin(begin_under(lease, AtMostOnce))),
        op(&mail, EffectAction::Release { token: lease.token, outcome: ReleaseOutcome::Unknown }),
        op(&charge, EffectAction::Begin(begin_under(lease, AtLeastOnce))),
    ];
    let said = h.engine().effects(ops).await.unwrap();
    assert_eq!(to_execute(&said[0]), lease.token);
    assert_eq!(said[1], Err(EffectRefusal::NotFound));
    assert_eq!(said[2], stands(EffectState::Completed));
    assert_eq!(to_execute(&said[3]), lease.token);
    assert_eq!(said[4], stands(EffectState::Indeterminate));
    assert!(is_lost(&said[5]), "the job died in between: {:?}", said[5]);
}

/// Effects: effects are listed by scope and key, in pages, by scope and state.
pub async fn effects_are_listed(h: &mut dyn Harness) {
    for (scope, name) in [("b", "2"), ("a", "2"), ("a", "1"), ("b", "1"), ("c", "1")] {
        let token = h.execute(&effect(scope, name), begin(AtMostOnce)).await;
        if name == "2" {
            h.give_back(&effect(scope, name), token, ReleaseOutcome::Unknown).await.unwrap();
        }
    }
    let all = ListEffects { limit: 2, ..ListEffects::default() };
    assert_eq!(h.listed_effects(all.clone()).await, ["1", "2", "1", "2", "1"]);
    let of_b = ListEffects { scope: Some(effect("b", "1").scope), ..all.clone() };
    assert_eq!(h.listed_effects(of_b.clone()).await, ["1", "2"]);
    let unclear = ListEffects { states: vec![EffectState::Indeterminate], limit: 1, ..all };
    assert_eq!(h.listed_effects(unclear.clone()).await, ["2", "2"]);
    assert_eq!(h.listed_effects(ListEffects { scope: of_b.scope, ..unclear }).await, ["2"]);
    let first = h.engine().list_effects(ListEffects { limit: 1, ..ListEffects::default() }).await.unwrap();
    assert_eq!(first.effects[0].key, key("1"));
    assert_eq!(first.next, Some(effect("a", "1")));
}
