//! Adding jobs, looking at them and changing what becomes of them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use onefold::{
    Backoff, DeadReason, Dedup, DurationMs, Error, EvidenceKind, HandlerError, Invalid, Job, JobId, NewJob,
    Onefold, QueuePatch, RawPayload, Refusal, State, Waiting, Worker,
};
use onefold_core::{EngineError, JobStatus, When};
use serde::{Deserialize, Serialize};
use support::watched::Call;
use support::{Stopwatch, watched, when};

const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Email {
    to: String,
    urgent: bool,
}

fn email(to: &str) -> Email {
    Email { to: to.to_owned(), urgent: false }
}

/// Runs every job of `q` as `handler` says until `id` is in `state`.
async fn work(onefold: &Onefold, id: JobId, state: State, outcome: fn() -> Result<(), HandlerError>) {
    let worker =
        Worker::new(onefold).queue("q").handle(move |_: Job<RawPayload>, _| async move { outcome() });
    let done = async {
        when(onefold, id, state).await;
    };
    worker.run_until(done).await.unwrap();
}

/// Every option reaches the store as it was given.
#[tokio::test(start_paused = true)]
async fn options_arrive() {
    let seen = Arc::new(std::sync::Mutex::new(None));
    let see = Arc::clone(&seen);
    let onefold = watched(move |call| {
        if let Call::Add(params) = call {
            *see.lock().unwrap() = Some(params.jobs[0].clone());
        }
        Ok(())
    });
    let queue = onefold.queue::<Email>("q");
    let added = queue
        .add(email("ada@example.com"))
        .key("welcome-7")
        .dedup(Dedup::new().window(SECOND * 60).until_done())
        .kind("welcome")
        .delay(SECOND * 5)
        .priority(-3)
        .group("ada")
        .label("a")
        .label("b")
        .header("Lang", "en")
        .max_attempts(3)
        .backoff(Backoff::Fixed(DurationMs::from_ms(50)))
        .timeout(SECOND * 9)
        .retain(SECOND * 99)
        .traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        .await
        .unwrap();
    assert_eq!((added.status, added.duplicate), (JobStatus::Known(State::Scheduled), false));
    let job = seen.lock().unwrap().take().unwrap();
    assert_eq!(job.when, When::After(DurationMs::from_ms(5_000)));
    assert_eq!((job.priority, job.max_attempts, job.window_given), (-3, Some(3), true));
    let spec = &job.spec;
    assert_eq!(spec.payload.bytes(), br#"{"to":"ada@example.com","urgent":false}"#);
    assert_eq!(spec.dedup.window, DurationMs::from_ms(60_000));
    assert!(spec.dedup.free_on.completed && spec.dedup.free_on.dead && spec.dedup.free_on.cancelled);
    assert_eq!(spec.backoff, Some(Backoff::Fixed(DurationMs::from_ms(50))));
    assert_eq!(
        (spec.timeout, spec.retain),
        (Some(DurationMs::from_ms(9_000)), Some(DurationMs::from_ms(99_000)))
    );
    assert!(spec.traceparent.is_some() && spec.fingerprint.is_some());

    let view = onefold.get(added.id).await.unwrap().unwrap();
    assert_eq!(
        (view.queue.as_str(), view.kind.as_deref(), view.group.as_deref()),
        ("q", Some("welcome"), Some("ada"))
    );
    assert_eq!((view.key.as_deref(), view.priority, view.max_attempts), (Some("welcome-7"), -3, 3));
    assert_eq!(view.labels, ["a", "b"]);
    assert_eq!(view.headers, [("Lang".to_owned(), "en".to_owned())]);
}

/// One job per key (I3): a repeat gets the first, another content is refused.
#[tokio::test(start_paused = true)]
async fn i3_a_key_has_one_job() {
    let onefold = Onefold::in_memory();
    let queue = onefold.queue::<Email>("q");
    let first = queue.add_unique("k", email("ada@example.com")).await.unwrap();
    let again = queue.add_unique("k", email("ada@example.com")).await.unwrap();
    assert_eq!((again.id, again.duplicate), (first.id, true));
    let other = queue.add_unique("k", email("eve@example.com")).await;
    assert_eq!(other, Err(Error::Refused(Refusal::KeyReused { existing: first.id })));
    assert_eq!(other.unwrap_err().code(), "key-reused");
    let tolerated =
        queue.add(email("eve@example.com")).key("k").dedup(Dedup::new().accept_other_content()).await;
    assert_eq!(tolerated.unwrap().id, first.id);
    let rejected = queue.add(email("ada@example.com")).key("k").dedup(Dedup::new().reject()).await;
    assert_eq!(rejected.unwrap_err().code(), "duplicate-key");
    let replaced = queue.add(email("bob@example.com")).key("k").dedup(Dedup::new().replace()).await.unwrap();
    assert_eq!((replaced.id, replaced.replaced), (first.id, Some(true)));
    let held = queue.key("k").await.unwrap().unwrap();
    assert_eq!((held.job, held.state), (first.id, Some(State::Available)));
    assert_eq!(queue.release_key("k").await.unwrap().unwrap().job, first.id);
    assert_eq!(queue.key("k").await.unwrap(), None);
    assert!(!queue.add_unique("k", email("eve@example.com")).await.unwrap().duplicate);
}

/// Many jobs are one call; each has its own outcome, in order, and one mistake stops none.
#[tokio::test(start_paused = true)]
async fn many_jobs_have_an_outcome_each() {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let onefold = watched(move |call| {
        if matches!(call, Call::Add(_)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    });
    let queue = onefold.queue::<u64>("q");
    let added = queue
        .add_many([
            NewJob::new(1).key("a"),
            NewJob::new(2).key(""),
            NewJob::new(1).key("a"),
            NewJob::new(3).key("a"),
            NewJob::new(4).priority(1),
        ])
        .await
        .unwrap();
    let codes: Vec<_> = added.iter().map(|added| added.as_ref().map_err(Error::code)).collect();
    let first = codes[0].unwrap().id;
    assert_eq!(codes[1].unwrap_err(), "invalid-key");
    assert_eq!((codes[2].unwrap().id, codes[2].unwrap().duplicate), (first, true));
    assert_eq!(codes[3].unwrap_err(), "key-reused");
    assert!(codes[4].is_ok());
    assert_eq!(calls.load(Ordering::Relaxed), 1);

    let many = queue.add_many(0..10_001).await.unwrap();
    assert_eq!(many.len(), 10_001);
    assert_eq!(calls.load(Ordering::Relaxed), 3, "10,000 a call");
}

/// All or none: a refused job takes the others with it, a mistake the whole call.
#[tokio::test(start_paused = true)]
async fn an_atomic_add_is_all_or_none() {
    let onefold = Onefold::in_memory();
    let queue = onefold.queue::<u64>("q");
    let first = queue.add_unique("a", 1).await.unwrap();
    let refused = queue.add_many([NewJob::new(5), NewJob::new(2).key("a")]).atomic().await.unwrap();
    let expected = [Refusal::AtomicBatch { item: 1 }, Refusal::KeyReused { existing: first.id }];
    assert_eq!(refused, expected.map(|refusal| Err(Error::Refused(refusal))));
    assert!(queue.add_many([NewJob::new(5), NewJob::new(2).key("")]).atomic().await.is_err());
    assert_eq!(queue.info().await.unwrap().unwrap().counts.accepted, 1);
    assert_eq!(queue.add_many(0..3).atomic().await.unwrap().len(), 3);
}

/// A mistake is told before anything is sent, the first one if there are several.
#[tokio::test(start_paused = true)]
async fn mistakes_are_told_with_their_codes() {
    let onefold = watched(|_| Err(EngineError::Poisoned("nothing may be sent".to_owned())));
    let queue = onefold.queue::<RawPayload>("q");
    let job = || queue.add(RawPayload::none());
    let year_14645 = UNIX_EPOCH + Duration::from_secs(400_000_000_000);
    let wrong = [
        (onefold.queue::<RawPayload>("no queue").add(RawPayload::none()), "invalid-queue-name"),
        (job().key(" ").kind(""), "invalid-key"),
        (job().key("k".repeat(256)), "invalid-key"),
        (job().kind("").key(" "), "invalid-field"),
        (job().label("x".repeat(65)), "invalid-field"),
        (job().max_attempts(0), "invalid-field"),
        (job().max_attempts(1_001), "invalid-field"),
        (job().delay(Duration::MAX), "invalid-duration"),
        (job().run_at(year_14645), "invalid-time"),
        (job().timeout(Duration::ZERO), "invalid-duration"),
        (job().dedup(Dedup::new().window(Duration::MAX)), "invalid-duration"),
        (job().backoff(Backoff::List(vec![])), "invalid-backoff"),
        (job().fingerprint(""), "invalid-fingerprint"),
        (job().fingerprint("f".repeat(256)), "invalid-fingerprint"),
        (job().dedup(Dedup::new().version(7)), "conflicting-fields"),
        (job().dedup(Dedup::new().reject().max_delay(SECOND)), "conflicting-fields"),
        (job().header("a b", ""), "invalid-header"),
        ((0..17).fold(job(), |job, _| job.label("l")), "invalid-field"),
        (job().traceparent("00-1-2"), "invalid-field"),
        (queue.add(RawPayload::json("{")), "invalid-json"),
        (queue.add(RawPayload::json(r#"{"a":1,"a":1}"#)), "duplicate-member"),
        (queue.add(RawPayload::binary(vec![0; 1024 * 1024 + 1], "a/b")), "payload-too-large"),
    ];
    for (add, code) in wrong {
        let described = format!("{add:?}");
        let refused = add.await.unwrap_err();
        assert!(matches!(refused, Error::Invalid(_)), "{described}");
        assert_eq!(refused.code(), code, "{refused}");
    }
    assert_eq!(job().await.unwrap_err().code(), "store-stopped");
    let unserializable = onefold.queue::<std::collections::BTreeMap<Vec<u8>, u8>>("q");
    let refused = unserializable.add([(vec![1], 1)].into()).await;
    assert!(matches!(refused, Err(Error::Invalid(Invalid::Unserializable(_)))));
}

/// A fingerprint of the caller's own stands for the content; none is needed, and a key without one keeps the content's.
#[tokio::test(start_paused = true)]
async fn an_own_fingerprint_stands_for_the_content() {
    let onefold = Onefold::in_memory();
    let queue = onefold.queue::<Email>("q");
    let add = |to: &str, version: &str| queue.add(email(to)).key("k").fingerprint(version);
    let first = add("ada@example.com", "v1").await.unwrap();
    assert_eq!(add("eve@example.com", "v1").await.unwrap().id, first.id);
    let reused = Err(Error::Refused(Refusal::KeyReused { existing: first.id }));
    assert_eq!(add("ada@example.com", "v2").await, reused);
    assert_eq!(queue.add(email("ada@example.com")).key("k").await, reused, "computed is never given");
    assert_eq!(onefold.get(first.id).await.unwrap().unwrap().duplicates, 1);
    let many =
        queue.add_many([NewJob::new(email("bob@example.com")).key("k").fingerprint("v1")]).await.unwrap();
    assert_eq!(many[0].as_ref().unwrap().id, first.id);
}

/// What is given changes, the rest stays; a job that has started stays as it is.
#[tokio::test(start_paused = true)]
async fn jobs_that_have_not_started_are_edited() {
    let onefold = Onefold::in_memory();
    let added = onefold.queue::<u64>("q").add(1).delay(SECOND * 60).priority(3).label("a").await.unwrap();
    let edit = || onefold.edit(added.id);
    let job = edit().priority(-7).await.unwrap();
    assert_eq!((job.priority, &*job.labels, job.run_at), (-7, &["a".to_owned()][..], added.run_at.unwrap()));
    let job = edit().labels(["b", "c"]).run_at(UNIX_EPOCH).await.unwrap();
    assert_eq!(
        (job.state, job.priority, &*job.labels),
        (State::Available, -7, &["b".to_owned(), "c".to_owned()][..])
    );
    assert_eq!(edit().labels([""; 0]).await.unwrap().labels, [""; 0]);
    assert_eq!(edit().labels([""]).await.unwrap_err().code(), "invalid-field");
    assert_eq!(edit().labels(["l"; 17]).await.unwrap_err().code(), "invalid-field");
    work(&onefold, added.id, State::Completed, || Ok(())).await;
    assert_eq!(
        edit().priority(0).await,
        Err(Error::Refused(Refusal::JobStarted { state: State::Completed }))
    );
    assert_eq!(onefold.get(added.id).await.unwrap().unwrap().priority, -7);
    let unknown: JobId = "job_01a1fe047dc070008000000000000009".parse().unwrap();
    assert_eq!(onefold.edit(unknown).priority(0).await, Err(Error::Refused(Refusal::JobNotFound)));
}

/// A queue goes with its jobs and keys; with unfinished ones by force only.
#[tokio::test(start_paused = true)]
async fn queues_are_deleted() {
    let onefold = Onefold::in_memory();
    let queue = onefold.queue::<u64>("q");
    assert_eq!(queue.delete().await, Err(Error::Refused(Refusal::QueueNotFound)));
    let first = queue.add_unique("k", 1).await.unwrap();
    queue.add(2).await.unwrap();
    onefold.cancel(first.id).await.unwrap();
    assert_eq!(queue.delete().await, Err(Error::Refused(Refusal::QueueNotEmpty { unfinished: 1 })));
    assert_eq!(queue.delete_by_force().await, Ok(2));
    assert_eq!((queue.info().await, onefold.get(first.id).await), (Ok(None), Ok(None)));
    assert!(!queue.add_unique("k", 1).await.unwrap().duplicate, "the key went with the queue");
    assert_eq!(onefold.queue::<u64>("").delete().await.unwrap_err().code(), "invalid-queue-name");
}

/// A time that has passed means now; one to come is waited for.
#[tokio::test(start_paused = true)]
async fn a_time_to_come_is_waited_for() {
    let onefold = Onefold::in_memory();
    let queue = onefold.queue::<u64>("q");
    let now = queue.add(1).run_at(SystemTime::UNIX_EPOCH + SECOND).await.unwrap();
    assert_eq!(now.status, JobStatus::Known(State::Available));
    let later = queue.add(1).delay(SECOND * 1_800).await.unwrap();
    let start = Stopwatch::start();
    when(&onefold, later.id, State::Available).await;
    assert_eq!(start.elapsed().as_secs(), 1_800);
}

/// A result is waited for and read as what it is; jobs that never will have one say so.
#[tokio::test(start_paused = true)]
async fn results_are_waited_for() {
    let onefold = Onefold::in_memory();
    let queue = onefold.queue::<u64>("q");
    let id = queue.add(7).delay(SECOND * 20).await.unwrap().id;
    let start = Stopwatch::start();
    assert_eq!(onefold.result::<u64>(id, SECOND * 5).await, Ok(None));
    assert_eq!(start.elapsed().as_secs(), 5);
    let worker = Worker::new(&onefold).queue("q").handle(|job: Job<u64>, _| async move {
        if job.payload == 0 { Err(HandlerError::permanent("no")) } else { Ok(job.payload * 2) }
    });
    let results = async {
        assert_eq!(onefold.result(id, SECOND * 60).await, Ok(Some(14)));
        let mistyped = onefold.result::<String>(id, SECOND).await.unwrap_err();
        assert_eq!(mistyped.code(), "mistyped");
        let dead = queue.add(0).await.unwrap().id;
        let error = onefold.result::<u64>(dead, SECOND * 60).await.unwrap_err();
        assert_eq!(error, Error::JobDead { id: dead, reason: DeadReason::Permanent });
        assert_eq!(error.code(), "job-dead");
        let cancelled = queue.add(1).delay(SECOND * 60).await.unwrap().id;
        onefold.cancel(cancelled).await.unwrap();
        let error = onefold.result::<u64>(cancelled, SECOND).await.unwrap_err();
        assert_eq!(error, Error::JobCancelled { id: cancelled });
        assert_eq!(error.code(), "job-cancelled");
        let unknown = "job_01a1fe047dc070008000000000000009".parse().unwrap();
        assert_eq!(onefold.result::<u64>(unknown, SECOND).await.unwrap_err().code(), "job-not-found");
    };
    worker.run_until(results).await.unwrap();
}

/// Dead jobs are made to run again one by one or together; what cannot be done says why.
#[tokio::test(start_paused = true)]
async fn jobs_are_retried_redriven_cancelled_and_deleted() {
    let onefold = Onefold::in_memory();
    let queue = onefold.queue::<u64>("q");
    let id = queue.add(1).await.unwrap().id;
    work(&onefold, id, State::Dead, || Err(HandlerError::permanent("no"))).await;
    assert_eq!(onefold.retry(id).await.unwrap().state, State::Available);
    assert_eq!(onefold.retry(id).await.unwrap_err().code(), "job-not-retryable");
    assert_eq!(onefold.delete(id).await.unwrap_err().code(), "job-not-finished");
    work(&onefold, id, State::Dead, || Err(HandlerError::permanent("no"))).await;
    let redriven = queue.redrive().limit(10).await.unwrap();
    assert_eq!((redriven.redriven, redriven.refused.len()), (1, 0));
    assert_eq!(onefold.cancel(id).await.unwrap().state, State::Cancelled);
    assert_eq!(queue.redrive().await.unwrap().redriven, 0, "only dead ones unless asked");
    let cancelled = || queue.redrive().states([State::Cancelled]);
    assert_eq!(cancelled().kind("other").await.unwrap().redriven, 0);
    assert_eq!(cancelled().label("").await.unwrap_err().code(), "invalid-field");
    assert_eq!(cancelled().await.unwrap().redriven, 1);
    let history = onefold.get(id).await.unwrap().unwrap().history;
    assert!(history.iter().any(|evidence| evidence.kind == EvidenceKind::Retried));
    work(&onefold, id, State::Completed, || Ok(())).await;
    assert_eq!(onefold.cancel(id).await.unwrap_err().code(), "job-finished");
    assert_eq!(onefold.delete(id).await.unwrap().state, State::Completed);
    assert_eq!(onefold.get(id).await, Ok(None));
    assert_eq!(onefold.delete(id).await.unwrap_err().code(), "job-not-found");
    assert_eq!(onefold.queue::<()>("other").redrive().await.unwrap_err().code(), "queue-not-found");
    assert_eq!(queue.redrive().limit(0).await.unwrap_err().code(), "invalid-field");
}

/// Lists are filtered and come in pages.
#[tokio::test(start_paused = true)]
async fn jobs_are_listed() {
    let onefold = Onefold::in_memory();
    let queue = onefold.queue::<u64>("q");
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(queue.add(n).label(if n % 2 == 0 { "even" } else { "odd" }).await.unwrap().id);
    }
    onefold.queue::<u64>("other").add(9).await.unwrap();
    onefold.cancel(ids[4]).await.unwrap();
    let listed = |list: onefold::List| async move {
        let page = list.await.unwrap();
        page.jobs.into_iter().map(|job| job.id).collect::<Vec<_>>()
    };
    assert_eq!(listed(onefold.list()).await.len(), 6);
    assert_eq!(
        listed(onefold.list().queue("q").label("even").state(State::Available)).await,
        [ids[2], ids[0]]
    );
    let first = onefold.list().queue("q").limit(3).await.unwrap();
    assert_eq!(first.jobs.iter().map(|job| job.id).collect::<Vec<_>>(), [ids[4], ids[3], ids[2]]);
    assert_eq!(listed(onefold.list().queue("q").cursor(first.cursor.unwrap())).await, [ids[1], ids[0]]);
    assert_eq!(onefold.list().limit(1_001).await.unwrap_err().code(), "invalid-field");
    assert_eq!(onefold.list().cursor("x").await.unwrap_err().code(), "invalid-cursor");
    assert_eq!(onefold.list().queue("").await.unwrap_err().code(), "invalid-queue-name");
}

/// A paused queue hands out nothing and says so; settings stay.
#[tokio::test(start_paused = true)]
async fn queues_are_paused_and_configured() {
    let onefold = Onefold::in_memory();
    let queue = onefold.queue::<u64>("q");
    assert_eq!(queue.info().await, Ok(None));
    assert!(queue.pause().await.unwrap().settings.paused);
    let id = queue.add(1).await.unwrap().id;
    assert_eq!(onefold.get(id).await.unwrap().unwrap().waiting, Some(Waiting::Paused));
    let patch = QueuePatch { max_attempts: Some(Some(2)), ..QueuePatch::default() };
    assert_eq!(queue.configure(patch).await.unwrap().settings.max_attempts, Some(2));
    let wrong = QueuePatch { concurrency: Some(Some(0)), ..QueuePatch::default() };
    assert_eq!(queue.configure(wrong).await.unwrap_err().code(), "invalid-field");
    assert!(!queue.resume().await.unwrap().settings.paused);
    work(&onefold, id, State::Completed, || Ok(())).await;
    let queues = onefold.queues().await.unwrap();
    assert_eq!((queues.len(), queues[0].name.as_str(), queues[0].counts.completed), (1, "q", 1));
}
