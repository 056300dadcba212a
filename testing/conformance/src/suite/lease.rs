//! Handing out jobs.

use std::collections::BTreeSet;

use bytes::Bytes;
use onefold_core::{
    End, FencingToken, LeaseParams, NewJob, Payload, Refusal, SettleAction, State, WorkerName, limits,
};

use crate::{Build, Harness, Lease, call, complete, days, fail_for, job, ms, queue, secs};

fn heavy(bytes: usize) -> NewJob {
    let mut new = job();
    let (bytes, content_type) = (Bytes::from(vec![7; bytes]), "application/octet-stream".into());
    new.spec.payload = Payload::Raw { bytes, content_type };
    new
}

/// Lease: a leased job is running under an attempt that says all about the lease (words; I11).
pub async fn a_lease_says_all_about_itself(h: &mut dyn Harness) {
    let id = h.add("q", job().content("x")).await;
    h.wait(secs(1));
    let worker = WorkerName::new("worker-7").unwrap();
    let params = LeaseParams { lease: secs(12), worker: worker.clone(), ..call("q") };
    let leased = h.lease_by(params).await.pop().unwrap();
    let now = h.now();
    assert_eq!(
        (leased.job.id, leased.job.state, &leased.spec),
        (id, State::Running, &job().content("x").spec)
    );
    assert_eq!(leased.checkpoint, None);
    assert_eq!(leased.job.retry_until, Some(now.saturating_add(days(7))));
    let attempt = leased.attempt().unwrap();
    assert_eq!((attempt.number, &attempt.worker, attempt.lease), (1, &worker, secs(12)));
    assert_eq!((attempt.started_at, attempt.lease_until), (now, now.saturating_add(secs(12))));
    assert_eq!(attempt.deadline, now.saturating_add(secs(15 * 60)));
    assert_eq!(attempt.end, None);
    let view = h.view(id).await;
    assert_eq!(view.job, leased.job);
    assert_eq!(view.attempts, std::slice::from_ref(attempt));
    let counts = h.counts("q").await;
    assert_eq!((counts.available, counts.running), (0, 1));
}

/// Defaults: lower priority first, then order of acceptance.
pub async fn lower_priority_first_then_order_of_acceptance(h: &mut dyn Harness) {
    let mut ids = Vec::new();
    for priority in [0, 5, -5, 0, i16::MIN, i16::MAX, -5] {
        h.wait(ms(1));
        ids.push(h.add("q", job().priority(priority)).await);
    }
    let expected = [4, 2, 6, 0, 3, 1, 5].map(|n: usize| ids[n]);
    assert_eq!(h.lease_ids("q", 3).await, expected[..3]);
    assert_eq!(h.lease_ids("q", 100).await, expected[3..]);
}

/// Defaults: a job whose delay is over stands in line by priority and acceptance like the others.
pub async fn a_job_that_came_due_stands_in_line_like_the_others(h: &mut dyn Harness) {
    let delayed = h.add("q", job().after(secs(1))).await;
    let low = h.add("q", job().priority(1)).await;
    let urgent = h.add("q", job().after(secs(1)).priority(-1)).await;
    let later = h.add("q", job()).await;
    h.pass(secs(1)).await;
    assert_eq!(h.lease_ids("q", 9).await, [urgent, delayed, later, low]);
}

/// API: queues are taken in the order listed; under `fair`, each in turn.
pub async fn queues_in_the_order_listed_or_in_turn(h: &mut dyn Harness) {
    for name in ["a", "b", "c"] {
        h.add_all(name, vec![job(), job(), job()]).await;
    }
    let from = |queues: &[&str], fair, max| LeaseParams {
        queues: queues.iter().map(|name| queue(name)).collect(),
        max,
        fair,
        ..call("a")
    };
    let names = async |params| -> Vec<String> {
        h.lease_by(params).await.iter().map(|leased| leased.job.queue.to_string()).collect()
    };
    assert_eq!(names(from(&["b", "unknown", "a"], false, 4)).await, ["b", "b", "b", "a"]);
    let fair = names(from(&["c", "unknown", "a", "b"], true, 3)).await;
    assert!([["c", "a", "c"], ["a", "c", "a"]].iter().any(|turns| fair == *turns), "b is empty: {fair:?}");
    let mut rest = names(from(&["a", "c"], true, 9)).await;
    rest.sort();
    assert_eq!(rest, ["a", "c"]);
}

/// API: under `fair` a caller that takes one job at a time gets to every queue too, however long
/// the first is.
pub async fn fair_calls_for_one_job_get_to_every_queue(h: &mut dyn Harness) {
    let queues = ["a", "b", "c"];
    for name in queues {
        h.add_all(name, vec![job(); 9]).await;
    }
    let params = LeaseParams { queues: queues.map(queue).to_vec(), fair: true, ..call("a") };
    let mut served = std::collections::BTreeMap::new();
    for _ in 0..9 {
        let leased = h.lease_by(params.clone()).await;
        *served.entry(leased[0].job.queue.to_string()).or_insert(0) += 1;
    }
    assert_eq!(served.len(), 3, "{served:?}");
}

/// Lease: at most `max` jobs.
pub async fn no_more_than_asked_for(h: &mut dyn Harness) {
    h.add_all("q", vec![job(); 5]).await;
    for (max, given) in [(1, 1), (3, 3), (1000, 1)] {
        assert_eq!(h.lease_ids("q", max).await.len(), given);
    }
}

/// Defaults: a reply stops before 16 MiB of payload, but never before its first job.
pub async fn a_reply_stops_before_16_mib_but_not_before_its_first_job(h: &mut dyn Harness) {
    const MIB: usize = 1024 * 1024;
    let mut ids = Vec::new();
    for size in [17 * MIB, 1, 6 * MIB, 6 * MIB, 6 * MIB] {
        ids.push(h.add("q", heavy(size)).await);
    }
    assert_eq!(h.lease_ids("q", 9).await, ids[..1]);
    assert_eq!(h.lease_ids("q", 9).await, ids[1..4]);
    assert_eq!(h.lease_ids("q", 9).await, ids[4..]);
}

/// Defaults: so do the checkpoints that go with it. 17 of 1 MiB are one too many.
pub async fn checkpoints_count_for_the_size_of_a_reply(h: &mut dyn Harness) {
    h.add_all("q", vec![job(); 17]).await;
    let leases: Vec<Lease> =
        h.lease_by(LeaseParams { max: 17, ..call("q") }).await.iter().map(Lease::from).collect();
    let value = Bytes::from(format!("\"{}\"", "x".repeat(limits::CHECKPOINT_BYTES_MAX - 2)));
    for lease in leases {
        h.settle(lease, SettleAction::Checkpoint(value.clone())).await.unwrap();
        h.end(lease, End::Release).await;
    }
    let again = h.lease_by(LeaseParams { max: 17, ..call("q") }).await;
    assert_eq!(again.len(), 16);
    assert!(again.iter().all(|leased| leased.checkpoint.as_ref() == Some(&value)));
    assert_eq!(h.lease_ids("q", 17).await.len(), 1);
}

/// I4: a job is leased to one holder at a time, however many ask at once.
pub async fn i4_one_holder_at_a_time(h: &mut dyn Harness) {
    h.add_all("q", vec![job(); 20]).await;
    let calls: Vec<_> = (0..16)
        .map(|_| {
            let engine = h.engine();
            tokio::spawn(async move { engine.lease(LeaseParams { max: 3, ..call("q") }).await.unwrap() })
        })
        .collect();
    let (mut ids, mut tokens) = (Vec::new(), BTreeSet::new());
    for call in calls {
        for leased in call.await.unwrap() {
            ids.push(leased.job.id);
            tokens.insert(Lease::from(&leased).token);
        }
    }
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), tokens.len()), (20, 20));
}

/// I4: every lease has a larger token than all before it, over jobs, queues, attempts and calls;
/// all are below 2^53.
pub async fn i4_tokens_grow_with_every_lease(h: &mut dyn Harness) {
    h.add_all("a", vec![job(); 3]).await;
    h.add_all("b", vec![job(); 3]).await;
    let mut last = 0;
    for round in 0..4 {
        for name in ["b", "a"] {
            for leased in h.lease_by(LeaseParams { max: 2, ..call(name) }).await {
                let lease = Lease::from(&leased);
                assert!(lease.token.get() > last && lease.token.get() < FencingToken::LIMIT);
                last = lease.token.get();
                if round < 3 {
                    h.end(lease, End::Release).await;
                }
            }
        }
    }
}

/// Words: attempts count up over the whole life of a job, and each stays in its history.
pub async fn attempts_count_up_and_stay_in_the_history(h: &mut dyn Harness) {
    let id = h.add("q", job()).await;
    let ends = [End::Release, fail_for(secs(0)), End::Snooze { delay: secs(1) }];
    for (n, end) in (1..).zip(ends) {
        let leased = h.take_full("q").await;
        assert_eq!((leased.job.id, leased.job.attempts()), (id, n));
        h.end((&leased).into(), end).await;
        h.pass(secs(1)).await;
    }
    h.work("q", complete()).await;
    let view = h.view(id).await;
    let outcomes: Vec<_> =
        view.attempts.iter().map(|a| (a.number, a.end.as_ref().unwrap().outcome)).collect();
    use onefold_core::Outcome::{Completed, Failed, Released, Snoozed};
    assert_eq!(outcomes, [(1, Released), (2, Failed), (3, Snoozed), (4, Completed)]);
    assert_eq!(view.attempts.last(), view.job.attempt.as_ref());
}

/// Defaults: a lease is never longer than the job's hard attempt limit.
pub async fn a_lease_ends_with_the_hard_limit(h: &mut dyn Harness) {
    h.add("q", job().timeout(secs(10))).await;
    let leased = h.take_full("q").await;
    let attempt = leased.attempt().unwrap();
    assert_eq!(attempt.deadline, h.now().saturating_add(secs(10)));
    assert_eq!(attempt.lease_until, attempt.deadline);
}

/// I1: a lease is durable before it is handed out: after a crash the job still runs under it.
pub async fn i1_a_lease_survives_a_crash(h: &mut dyn Harness) {
    let id = h.add("q", job()).await;
    let leased = h.take_full("q").await;
    h.reopen_after_crash().await;
    assert!(h.nothing_to_lease("q").await);
    let view = h.view(id).await;
    let attempt = view.job.attempt.unwrap();
    let before = leased.attempt().unwrap();
    assert_eq!((view.job.state, attempt.number, attempt.token), (State::Running, 1, before.token));
    assert_eq!((attempt.started_at, &attempt.worker), (before.started_at, &before.worker));
    assert_eq!(h.end((&leased).into(), complete()).await, State::Completed);
}

/// API: a repeat of a poll gets the jobs of that poll that are still held, unchanged; when none
/// is, it is a new call; another poll id is another call.
pub async fn a_repeated_poll_gets_what_it_still_holds(h: &mut dyn Harness) {
    h.add_all("q", vec![job(); 5]).await;
    let poll = |id| LeaseParams { max: 2, poll: Some(id), ..call("q") };
    let first = h.lease_by(poll(1)).await;
    assert_eq!(first.len(), 2);
    h.wait(secs(1));
    assert_eq!(h.lease_by(poll(1)).await, first);
    assert_eq!(h.lease_by(poll(2)).await.len(), 2);
    h.end((&first[0]).into(), complete()).await;
    assert_eq!(h.lease_by(poll(1)).await, first[1..]);
    h.reopen_after_crash().await;
    let again = h.lease_by(poll(1)).await;
    assert_eq!(Lease::from(&again[0]), Lease::from(&first[1]), "kept with the leases");
    h.end((&first[1]).into(), complete()).await;
    let fresh = h.lease_by(poll(1)).await;
    assert_eq!(fresh.len(), 1);
    assert!(first.iter().all(|leased| leased.job.id != fresh[0].job.id));
}

/// API: a job that was lost and leased by another call is not handed to the repeat of the first.
pub async fn a_repeated_poll_does_not_get_what_it_lost(h: &mut dyn Harness) {
    h.add("q", job()).await;
    let poll = |id| LeaseParams { poll: Some(id), ..call("q") };
    let lost = Lease::from(&h.lease_by(poll(1)).await[0]);
    h.pass(limits::LEASE_DEFAULT).await;
    let now_held = Lease::from(&h.lease_by(poll(2)).await[0]);
    assert!(now_held.token > lost.token);
    assert!(h.lease_by(poll(1)).await.is_empty());
    assert_eq!(Lease::from(&h.lease_by(poll(2)).await[0]), now_held);
}

/// I5: tokens decide safety, clocks only liveness: while the engine has not expired a lease, its
/// holder's writes are accepted past the deadline, and no other call gets the job.
pub async fn i5_a_write_past_the_deadline_is_accepted_until_expiry(h: &mut dyn Harness) {
    let id = h.add("q", job()).await;
    let lease = h.take("q").await;
    h.wait(secs(600));
    assert!(h.nothing_to_lease("q").await, "only a tick moves time on");
    h.settle(lease, SettleAction::Checkpoint(Bytes::from_static(b"1"))).await.unwrap();
    assert_eq!(h.end(lease, complete()).await, State::Completed);
    h.tick().await;
    assert_eq!(h.view(id).await.job.lost_leases, 0);
}

/// Lease: a lease that ran out is lost at the next tick, and the job goes to whoever asks next.
pub async fn a_lease_that_ran_out_is_lost(h: &mut dyn Harness) {
    let id = h.add("q", job()).await;
    let first = h.take("q").await;
    assert_eq!(h.pass(ms(29_999)).await.expired, 0);
    assert_eq!(h.pass(ms(1)).await.expired, 1);
    assert_eq!(h.state(id).await, State::Available);
    let second = h.take("q").await;
    assert!(second.token > first.token);
    let refused = h.try_end(first, complete()).await;
    assert_eq!(refused, Err(Refusal::LeaseLost { state: State::Running }));
    assert_eq!(h.end(second, complete()).await, State::Completed);
}
