//! Several nodes on one store, without a leader.

#![allow(clippy::unwrap_used, clippy::panic, reason = "in a test a broken expectation is a failed test")]

mod kit;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kit::*;
use onefold_core::{
    DurationMs, End, Engine, EventsParams, Group, LeaseParams, NewJob, QueuePatch, Refusal, SettleAction,
    SettleOp, State, When,
};
use onefold_engine_postgres::PostgresConfig;

/// I3: however many nodes are given the same keys at once, each key gets one job, and all answers name it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_racing_nodes_add_each_key_once() {
    let config = PostgresConfig { lock_wait: Duration::from_secs(60), ..config() };
    let nodes = [node(&config).await, node(&config).await, node(&config).await];
    let calls: Vec<_> = (0..12)
        .map(|number: usize| {
            let node = Arc::clone(&nodes[number % 3]);
            tokio::spawn(async move {
                // In an order of its own, so that the nodes meet in the middle of their batches.
                let mut keys: Vec<usize> = (0..50).collect();
                keys.rotate_left(number * 7 % 50);
                let jobs = keys.iter().map(|key| keyed(&format!("k{key}"))).collect();
                let added = add(&node, "q", jobs).await;
                keys.into_iter().zip(added).map(|(key, added)| (key, added.unwrap())).collect::<Vec<_>>()
            })
        })
        .collect();
    let (mut first, mut all) = (BTreeMap::new(), BTreeMap::new());
    for call in calls {
        for (key, added) in call.await.unwrap() {
            assert_eq!(*all.entry(key).or_insert(added.id), added.id, "key {key} has two jobs");
            if !added.duplicate {
                assert_eq!(first.insert(key, added.id), None, "key {key} was new twice");
            }
        }
    }
    assert_eq!(first.len(), 50);
    let counts = nodes[0].queue(queue("q")).await.unwrap().unwrap().counts;
    assert_eq!((counts.accepted, counts.available, counts.duplicates), (50, 50, 550));
}

/// I4: whatever nodes ask at once, a job has one holder, and no token is given twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_racing_nodes_lease_each_job_once() {
    let config = config();
    let nodes = [node(&config).await, node(&config).await, node(&config).await];
    add(&nodes[0], "q", vec![NewJob::default(); 300]).await;
    let calls: Vec<_> = (0..24)
        .map(|number: usize| {
            let node = Arc::clone(&nodes[number % 3]);
            tokio::spawn(async move {
                let mut mine = Vec::new();
                loop {
                    let leased = lease(&node, "q", 5).await;
                    if leased.is_empty() {
                        return mine;
                    }
                    for job in leased {
                        mine.push((job.job.id, token_of(&job)));
                        assert_eq!(settle(&node, complete(&job)).await.unwrap().state, State::Completed);
                    }
                }
            })
        })
        .collect();
    let (mut ids, mut tokens) = (BTreeSet::new(), BTreeSet::new());
    for call in calls {
        for (id, token) in call.await.unwrap() {
            assert!(ids.insert(id), "{id} was leased twice");
            assert!(tokens.insert(token), "token {token} was given twice");
        }
    }
    // An empty answer may mean that the last ones were being leased by others just then.
    while let Some(job) = lease(&nodes[0], "q", 1).await.pop() {
        assert!(ids.insert(job.job.id));
        settle(&nodes[0], complete(&job)).await.unwrap();
    }
    let counts = nodes[1].queue(queue("q")).await.unwrap().unwrap().counts;
    assert_eq!((ids.len(), counts.completed, counts.unfinished()), (300, 300, 0));
}

/// Contract: a poll that is repeated while the first is still under way, at any node, is given the same jobs, and the
/// first cannot give them back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_repeated_at_other_nodes_is_given_the_same_jobs() {
    let config = config();
    let nodes = [node(&config).await, node(&config).await, node(&config).await];
    for poll in 1..=20 {
        add(&nodes[0], "q", vec![NewJob::default(); 10]).await;
        let polls: Vec<_> = (0..6)
            .map(|number: usize| {
                let node = Arc::clone(&nodes[number % 3]);
                let params = LeaseParams { poll: Some(poll), ..call("q", 5) };
                tokio::spawn(async move { node.lease(params).await.unwrap() })
            })
            .collect();
        let mut given = BTreeSet::new();
        for one in polls {
            let tokens: Vec<u64> = one.await.unwrap().iter().map(token_of).collect();
            assert_eq!(tokens.len(), 5);
            given.insert(tokens);
        }
        assert_eq!(given.len(), 1, "all get the same");
    }
    // A parked poll that was repeated elsewhere is not served besides, whichever of them was first.
    let params = |wait| LeaseParams { poll: Some(99), wait: DurationMs::from_ms(wait), ..call("r", 5) };
    let mut parked = nodes[0].lease(params(300));
    add_one(&nodes[1], "r", NewJob::default()).await;
    let mut given = nodes[1].lease(params(0)).await.unwrap();
    add_one(&nodes[0], "r", NewJob::default()).await;
    let first = loop {
        tokio::select! {
            first = &mut parked => break first.unwrap(),
            ticked = nodes[0].tick() => drop(ticked.unwrap()),
        }
    };
    given.extend(first);
    assert_eq!(given.iter().map(token_of).collect::<BTreeSet<u64>>().len(), 1);
}

/// Contract: a queue's limit holds over all nodes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_holds_over_all_nodes() {
    let config = config();
    let nodes = [node(&config).await, node(&config).await, node(&config).await];
    let patch = QueuePatch { concurrency: Some(Some(7)), ..QueuePatch::default() };
    nodes[0].set_queue(queue("q"), patch).await.unwrap();
    add(&nodes[0], "q", vec![NewJob::default(); 40]).await;
    let calls: Vec<_> = (0..9)
        .map(|number: usize| {
            let node = Arc::clone(&nodes[number % 3]);
            tokio::spawn(async move { lease(&node, "q", 2).await.len() })
        })
        .collect();
    let mut leased = 0;
    for call in calls {
        leased += call.await.unwrap();
    }
    assert!(leased <= 7, "{leased} run at once");
    leased += lease(&nodes[1], "q", 9).await.len();
    assert_eq!(leased, 7);
}

/// I8: over all nodes, a group runs one at a time and in order, while others are added to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i8_a_group_keeps_its_order_over_all_nodes() {
    const JOBS: usize = 40;
    let config = config();
    let nodes = [node(&config).await, node(&config).await];
    let grouped = || {
        let mut job = NewJob::default();
        job.spec.group = Some(Group::new("g").unwrap());
        job
    };
    let adding = tokio::spawn({
        let node = Arc::clone(&nodes[0]);
        async move {
            for _ in 0..JOBS {
                add_one(&node, "q", grouped()).await;
            }
        }
    });
    let done = Arc::new(std::sync::Mutex::new(Vec::new()));
    let workers: Vec<_> = (0..4)
        .map(|number: usize| {
            let (node, done) = (Arc::clone(&nodes[number % 2]), Arc::clone(&done));
            tokio::spawn(async move {
                while done.lock().unwrap().len() < JOBS {
                    for job in lease(&node, "q", 3).await {
                        // Written down before the end: the next may start at once after it.
                        done.lock().unwrap().push(job.job.id);
                        settle(&node, complete(&job)).await.unwrap();
                    }
                }
            })
        })
        .collect();
    adding.await.unwrap();
    for worker in workers {
        worker.await.unwrap();
    }
    let done = done.lock().unwrap().clone();
    let mut sorted = done.clone();
    sorted.sort();
    assert_eq!(done, sorted, "not in order of acceptance");
}

/// Tick: all nodes may tick at once; what is due is done once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ticks_of_all_nodes_do_everything_once() {
    let config = config();
    let nodes = [node(&config).await, node(&config).await, node(&config).await];
    let soon = NewJob { when: When::After(DurationMs::from_ms(1)), ..NewJob::default() };
    add(&nodes[0], "q", vec![soon; 1_200]).await;
    let ticking: Vec<_> = nodes
        .iter()
        .map(|node| {
            let node = Arc::clone(node);
            tokio::spawn(async move {
                let mut due = 0;
                for _ in 0..6 {
                    due += node.tick().await.unwrap().due;
                }
                due
            })
        })
        .collect();
    let mut due = 0;
    for node in ticking {
        due += node.await.unwrap();
    }
    assert_eq!(due, 1_200);
    let counts = nodes[2].queue(queue("q")).await.unwrap().unwrap().counts;
    assert_eq!((counts.scheduled, counts.available), (0, 1_200));
}

/// Budgets: a node that joins others changes no lease; one that comes after a time without any gives them their full
/// length again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_time_without_nodes_renews_leases() {
    let config = config();
    let first = node(&config).await;
    add_one(&first, "q", NewJob::default()).await;
    let leased = lease(&first, "q", 1).await.pop().unwrap();
    let until = leased.attempt().unwrap().lease_until;
    let lease_until = async |node: &onefold_engine_postgres::PostgresEngine| {
        node.get(leased.job.id).await.unwrap().unwrap().job.attempt.unwrap().lease_until
    };
    let second = node(&config).await;
    second.tick().await.unwrap();
    assert_eq!(lease_until(&second).await, until, "a node joined, and a lease changed");
    first.abort();
    second.abort();
    let other = other(&config).await;
    other.batch_execute("UPDATE nodes SET seen_at = seen_at - interval '6 seconds'").await.unwrap();
    let third = node(&config).await;
    assert!(lease_until(&third).await > until, "nobody served for six seconds, and a lease did not change");
    let until = lease_until(&third).await;
    other.batch_execute("UPDATE nodes SET seen_at = seen_at - interval '6 seconds'").await.unwrap();
    third.tick().await.unwrap();
    assert!(lease_until(&third).await > until, "no node ticked for six seconds, and a lease did not change");
}

/// I4: when the server is another, or another life of it, tokens are above the clock's before the next lease.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_tokens_are_raised_for_another_server() {
    let config = config();
    let node = node(&config).await;
    add(&node, "q", vec![NewJob::default(); 2]).await;
    let before = token_of(&lease(&node, "q", 1).await[0]);
    let other = other(&config).await;
    // A standby that was promoted without having heard of the last tokens.
    other
        .batch_execute("SELECT setval('token_seq', 17); UPDATE store SET server = 'the one before'")
        .await
        .unwrap();
    let seconds: i64 = other
        .query_one("SELECT floor(extract(epoch FROM clock_timestamp()))::bigint", &[])
        .await
        .unwrap()
        .get(0);
    let after = token_of(&lease(&node, "q", 1).await[0]);
    assert!(after > before, "{after} is not above {before}");
    assert!(after >= (seconds as u64) << 20, "{after} is below the clock");
    let known: String = other.query_one("SELECT server FROM store", &[]).await.unwrap().get(0);
    assert_ne!(known, "the one before");
}

/// Events: a transaction that commits late is not passed by.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_never_passes_a_late_commit() {
    let config = config();
    let node = node(&config).await;
    add_one(&node, "q", NewJob::default()).await;
    let mut other = other(&config).await;
    let late = other.transaction().await.unwrap();
    late.batch_execute(
        "INSERT INTO event_inbox (at_ms, kinds, queues, seqs, created, reasons, attempts) \
         SELECT 1, '{19}', ARRAY[queue], '{0}', '{0}', '{-1}', '{0}' FROM queues",
    )
    .await
    .unwrap();
    add_one(&node, "q", NewJob::default()).await;
    let page = node.events(EventsParams { after: 0, limit: 9 }).await.unwrap();
    assert_eq!(page.events.len(), 2);
    late.commit().await.unwrap();
    let rest = node.events(EventsParams { after: page.next, limit: 9 }).await.unwrap();
    let kinds: Vec<_> = rest.events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["queue.changed"]);
}

/// Waits: what one node does is heard by the others within the time they look around.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_hear_of_each_other() {
    let config = config();
    let (here, there) = (node(&config).await, node(&config).await);
    let wait = DurationMs::from_ms(60_000);
    let parked = here.lease(LeaseParams { wait, ..call("q", 1) });
    let told = here.events_after(0);
    let added = add_one(&there, "q", NewJob::default()).await;
    let ended = here.finished(added.id);
    let leased = parked.await.unwrap().pop().unwrap();
    assert_eq!(leased.job.id, added.id);
    told.await.unwrap();
    settle(&there, complete(&leased)).await.unwrap();
    ended.await.unwrap();
    // What becomes due earlier than this node knows calls for its tick, too.
    here.tick_sooner().await;
}

/// I5, I6: ends are compared with the job's current token, whichever node they come to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_a_stale_end_is_refused_by_every_node() {
    let config = config();
    let (here, there) = (node(&config).await, node(&config).await);
    add_one(&here, "q", NewJob::default()).await;
    let first = lease(&here, "q", 1).await.pop().unwrap();
    let release = SettleOp { action: SettleAction::End(End::Release), ..complete(&first) };
    settle(&here, release.clone()).await.unwrap();
    let second = lease(&there, "q", 1).await.pop().unwrap();
    assert_eq!(settle(&there, release).await.unwrap().state, State::Available, "the first answer");
    let refused = settle(&here, complete(&first)).await;
    assert_eq!(refused, Err(Refusal::LeaseLost { state: State::Running }));
    assert_eq!(settle(&here, complete(&second)).await.unwrap().state, State::Completed);
}
