//! Nodes, producers and workers while connections are cut at random: nothing is lost, nothing is done twice.

#![allow(clippy::unwrap_used, clippy::panic, reason = "in a test a broken expectation is a failed test")]

mod kit;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use kit::*;
use onefold_core::{
    Added, Engine, EngineError, Entropy, JobId, LeaseParams, LeasedJob, Refusal, SeededEntropy, SettleOp,
    State,
};
use onefold_engine_postgres::PostgresEngine;

const KEYS: usize = 600;

/// Adds a key until the answer is known: the repeat of an add whose commit got no answer resolves it.
async fn add_surely(node: &PostgresEngine, key: &str) -> Added {
    loop {
        match node.add(add_params("q", vec![keyed(key)])).await {
            Ok(mut added) => return added.pop().unwrap().unwrap(),
            Err(EngineError::OutcomeUnknown | EngineError::Busy | EngineError::Unavailable(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Completes a job until the answer is known.
async fn complete_surely(node: &PostgresEngine, leased: &LeasedJob) -> bool {
    let op: SettleOp = complete(leased);
    loop {
        match node.settle(vec![op.clone()]).await {
            Ok(mut done) => match done.pop().unwrap() {
                Ok(settled) => {
                    assert_eq!(settled.state, State::Completed);
                    return true;
                }
                Err(Refusal::LeaseLost { .. }) => return false,
                Err(refusal) => panic!("{refusal}"),
            },
            Err(EngineError::OutcomeUnknown | EngineError::Busy | EngineError::Unavailable(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// I2, I3, I4, I6: with connections cut at any moment, every key becomes one job, every job is completed once, and
/// the counts add up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_done_twice_while_connections_are_cut() {
    let mut config = config();
    let name = format!("storm {}", std::process::id());
    config.server.application_name(&name);
    let nodes = [node(&config).await, node(&config).await];
    let over = Arc::new(AtomicBool::new(false));
    config.server.application_name("somebody else");
    let cutter = other(&config).await;
    let progress = Arc::new(AtomicUsize::new(0));
    let cutting = tokio::spawn({
        let (over, progress) = (Arc::clone(&over), Arc::clone(&progress));
        async move {
            let dice = SeededEntropy::new(7);
            let mut cut = 0;
            while !over.load(Ordering::Relaxed) {
                let cuts = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                            WHERE application_name = $1 AND state <> 'idle' ORDER BY md5(pid::text || $2) LIMIT 1";
                cut += cutter.query(cuts, &[&name, &dice.next_u64().to_string()]).await.unwrap().len();
                // The next cut comes after some more was done, however long that takes.
                let target = progress.load(Ordering::Relaxed) + dice.up_to(20) as usize;
                while progress.load(Ordering::Relaxed) < target && !over.load(Ordering::Relaxed) {
                    cutter.query("SELECT 1", &[]).await.unwrap();
                }
            }
            cut
        }
    });
    let jobs: Arc<Mutex<BTreeMap<String, BTreeSet<JobId>>>> = Arc::default();
    let producers: Vec<_> = (0..4)
        .map(|number: usize| {
            let (node, jobs) = (Arc::clone(&nodes[number % 2]), Arc::clone(&jobs));
            let progress = Arc::clone(&progress);
            tokio::spawn(async move {
                // Each key by two producers.
                for key in (number / 2..KEYS).step_by(2) {
                    let key = format!("k{key}");
                    let added = add_surely(&node, &key).await;
                    jobs.lock().unwrap().entry(key).or_default().insert(added.id);
                    progress.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let completed: Arc<Mutex<BTreeMap<JobId, usize>>> = Arc::default();
    let workers: Vec<_> = (0..4)
        .map(|number: usize| {
            let (node, completed) = (Arc::clone(&nodes[number % 2]), Arc::clone(&completed));
            let progress = Arc::clone(&progress);
            tokio::spawn(async move {
                while completed.lock().unwrap().len() < KEYS {
                    // The repeat of a poll whose commit got no answer is given what that holds.
                    let params = LeaseParams { poll: Some(number as u64), ..call("q", 5) };
                    match node.lease(params).await {
                        Ok(leased) => {
                            for job in leased {
                                if complete_surely(&node, &job).await {
                                    *completed.lock().unwrap().entry(job.job.id).or_default() += 1;
                                    progress.fetch_add(1, Ordering::Relaxed);
                                }
                            }
                        }
                        Err(
                            EngineError::OutcomeUnknown | EngineError::Busy | EngineError::Unavailable(_),
                        ) => {}
                        Err(error) => panic!("{error}"),
                    }
                    match node.tick().await {
                        Ok(_)
                        | Err(
                            EngineError::OutcomeUnknown | EngineError::Busy | EngineError::Unavailable(_),
                        ) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        })
        .collect();
    for task in producers.into_iter().chain(workers) {
        task.await.unwrap();
    }
    over.store(true, Ordering::Relaxed);
    let cut = cutting.await.unwrap();
    assert!(cut > 10, "only {cut} connections were cut");
    let jobs = jobs.lock().unwrap().clone();
    assert_eq!(jobs.len(), KEYS);
    assert!(jobs.values().all(|ids| ids.len() == 1), "a key has two jobs");
    let completed = completed.lock().unwrap().clone();
    assert!(completed.values().all(|times| *times == 1), "a job was completed twice");
    let counts = nodes[0].queue(queue("q")).await.unwrap().unwrap().counts;
    assert!(counts.conserved(), "{counts:?}");
    assert_eq!(
        (counts.accepted, counts.completed, counts.unfinished()),
        (KEYS as u64, KEYS as u64, 0),
        "{cut} cuts"
    );
}
