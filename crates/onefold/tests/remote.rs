//! The library against a real server on a loopback port: the same calls as on an embedded store,
//! and what a network adds to them.

#![cfg(feature = "remote")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use onefold::{
    Backoff, DeadReason, Dedup, DurationMs, Error, GroupHead, HandlerError, Job, JobId, NewJob, Onefold,
    QueuePatch, RawPayload, Refusal, State, Target, Worker,
};
use onefold_core::reference::ReferenceEngine;
use onefold_core::{Clock, Engine, JobStatus};
use onefold_runtime::{Runtime, SystemEntropy, TokioClock};
use onefold_server::{Config, Token};
use support::watched::{Call, Watched};
use support::{Running, SECOND};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// A server in this process.
struct Server {
    address: SocketAddr,
    engine: Arc<dyn Engine>,
    clock: Arc<dyn Clock>,
    serving: AbortHandle,
}

impl Server {
    async fn start(wrap: impl FnOnce(Arc<dyn Engine>) -> Arc<dyn Engine>, token: Option<&str>) -> Server {
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::new());
        let reference = ReferenceEngine::new(Arc::clone(&clock), Arc::new(SystemEntropy));
        let engine = wrap(Arc::new(reference));
        let runtime = Runtime::start(Arc::clone(&engine), Arc::clone(&clock));
        let token = token.map(|token| Token::new(token).unwrap());
        // Nothing is delivered: what is taken here is looked at, not sent.
        let config = Config { token, delivers: true, ..Config::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving_clock = Arc::clone(&clock);
        let serving = tokio::spawn(async move {
            onefold_server::serve(&runtime, serving_clock, config, listener, std::future::pending()).await
        });
        Server { address, engine, clock, serving: serving.abort_handle() }
    }

    async fn plain() -> (Server, Onefold) {
        let server = Server::start(|engine| engine, None).await;
        let onefold = connect(server.address);
        (server, onefold)
    }

    /// The same store without the network.
    fn inside(&self) -> Onefold {
        Onefold::with_engine(Arc::clone(&self.engine), Arc::clone(&self.clock))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn connect(address: SocketAddr) -> Onefold {
    Onefold::connect(&format!("http://{address}"), None).unwrap()
}

fn code<T: std::fmt::Debug>(outcome: Result<T, Error>) -> String {
    outcome.unwrap_err().code().to_owned()
}

/// Everything one can ask a queue is answered over the network as it is by an embedded store.
#[tokio::test]
async fn a_remote_store_answers_as_an_embedded_one() {
    let (server, remote) = Server::plain().await;
    let inside = server.inside();
    let queue = remote.queue::<u64>("q");
    assert_eq!(queue.info().await, Ok(None));
    let unknown: JobId = "job_01a1fe047dc070008000000000000009".parse().unwrap();
    assert_eq!(remote.get(unknown).await, Ok(None));
    assert_eq!(code(remote.cancel(unknown).await), "job-not-found");

    let first = queue
        .add(1)
        .key("ключ/1?&")
        .dedup(Dedup::new().window(SECOND * 60).until_done())
        .kind("k")
        .delay(SECOND * 500)
        .priority(-3)
        .group("g")
        .label("a")
        .header("Lang", "en")
        .max_attempts(3)
        .backoff(Backoff::List(vec![DurationMs::from_ms(50), DurationMs::from_ms(60)]))
        .timeout(SECOND * 9)
        .retain(SECOND * 99)
        .traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        .await
        .unwrap();
    assert_eq!((first.status, first.duplicate), (JobStatus::Known(State::Scheduled), false));
    assert!(first.run_at.is_some());
    let engine_view = server.engine.get(first.id).await.unwrap().unwrap();
    assert_eq!(engine_view.spec.dedup.window, DurationMs::from_ms(60_000));
    assert!(engine_view.spec.dedup.free_on.dead);
    assert_eq!(
        (engine_view.spec.timeout, engine_view.spec.retain),
        (Some(DurationMs::from_ms(9_000)), Some(DurationMs::from_ms(99_000)))
    );
    assert_eq!(engine_view.spec.backoff, Some(Backoff::List([50, 60].map(DurationMs::from_ms).to_vec())));
    assert!(engine_view.spec.traceparent.is_some());
    // Fingerprints computed there and here agree.
    assert!(inside.queue::<u64>("q").add(1).key("ключ/1?&").kind("k").await.unwrap().duplicate);

    let again = queue.add(1).key("ключ/1?&").kind("k").await.unwrap();
    assert_eq!((again.id, again.duplicate), (first.id, true));
    let reused = queue.add(2).key("ключ/1?&").await;
    assert_eq!(reused, Err(Error::Refused(Refusal::KeyReused { existing: first.id })));
    let held = queue.key("ключ/1?&").await.unwrap().unwrap();
    assert_eq!((held.job, held.state), (first.id, Some(State::Scheduled)));
    assert_eq!(queue.key("other").await, Ok(None));

    let image = remote.queue("q").add(RawPayload::binary(&b"\x89PNG\0"[..], "image/png")).await.unwrap().id;
    let none = remote.queue("q").add(RawPayload::none()).await.unwrap().id;
    for id in [first.id, image, none] {
        assert_eq!(remote.get(id).await.unwrap(), inside.get(id).await.unwrap());
    }
    let cancelled = remote.cancel(none).await.unwrap();
    assert_eq!(Some(&cancelled), inside.get(none).await.unwrap().as_ref());
    assert_eq!(cancelled.state, State::Cancelled);
    assert_eq!(code(remote.result::<u64>(none, SECOND).await), "job-cancelled");
    assert_eq!(remote.result::<u64>(image, Duration::from_millis(50)).await, Ok(None));
    let redrive = || queue.redrive().states([State::Cancelled]);
    assert_eq!(redrive().label("none").since(SystemTime::UNIX_EPOCH).await.unwrap().redriven, 0);
    assert_eq!(redrive().await.unwrap().redriven, 1);
    assert_eq!(remote.get(none).await.unwrap(), inside.get(none).await.unwrap());
    assert_eq!(code(remote.retry(image).await), "job-not-retryable");
    remote.cancel(none).await.unwrap();
    assert_eq!(remote.delete(none).await.unwrap().id, none);
    assert_eq!(code(remote.delete(image).await), "job-not-finished");

    let patch = QueuePatch {
        concurrency: Some(Some(7)),
        group_head: Some(Some(GroupHead::Skip)),
        max_attempts: Some(Some(9)),
        backoff: Some(Some(Backoff::Fixed(DurationMs::from_ms(5)))),
        dedup_window: Some(Some(DurationMs::from_ms(5_000))),
        retain_dead: Some(Some(DurationMs::from_ms(6_000))),
        ..QueuePatch::default()
    };
    queue.configure(patch).await.unwrap();
    let paused = queue.pause().await.unwrap();
    let seen_inside = inside.queue::<u64>("q").info().await.unwrap().unwrap();
    assert_eq!((&paused.settings, paused.counts), (&seen_inside.settings, seen_inside.counts));
    assert!(!queue.resume().await.unwrap().settings.paused);
    let reset = QueuePatch { concurrency: Some(None), max_attempts: Some(None), ..QueuePatch::default() };
    assert_eq!(queue.configure(reset).await.unwrap().settings.concurrency, None);
    assert_eq!(remote.queues().await.unwrap().len(), 1);

    for _ in 0..3 {
        queue.add(5).label("b").await.unwrap();
    }
    let now =
        SystemTime::UNIX_EPOCH + Duration::from_millis(server.clock.now().as_unix_ms().unsigned_abs() + 1);
    let list = || remote.list().queue("q").label("b").state(State::Available).state(State::Dead).until(now);
    let page = list().limit(2).await.unwrap();
    let rest = list().limit(2).cursor(page.cursor.clone().unwrap()).await.unwrap();
    assert_eq!((page.jobs.len(), rest.jobs.len(), rest.cursor), (2, 1, None));
    assert_eq!(page.jobs, inside.list().queue("q").label("b").limit(2).await.unwrap().jobs);
    assert_eq!(code(remote.list().cursor("x").await), "invalid-cursor");
    assert_eq!(queue.release_key("ключ/1?&").await.unwrap().unwrap().job, first.id);
}

/// Own fingerprints, edits and the end of a queue are the same over the network as in this process.
#[tokio::test]
async fn a_remote_store_is_changed_as_an_embedded_one() {
    let (server, remote) = Server::plain().await;
    let inside = server.inside();
    let (queue, same) = (remote.queue::<u64>("q"), inside.queue::<u64>("q"));
    let first = queue.add(1).key("k").fingerprint("v1").delay(SECOND * 500).await.unwrap();
    for store in [&queue, &same] {
        assert_eq!(store.add(2).key("k").fingerprint("v1").await.unwrap().id, first.id);
        let other = store.add(1).key("k").fingerprint("v2").await;
        assert_eq!(other, Err(Error::Refused(Refusal::KeyReused { existing: first.id })));
    }
    let many = queue.add_many([NewJob::new(3).key("k").fingerprint("v1")]).await.unwrap();
    assert_eq!(many[0].as_ref().unwrap().id, first.id);

    let later = SystemTime::UNIX_EPOCH + SECOND * 4_000_000_000;
    let edited = remote.edit(first.id).run_at(later).priority(-7).labels(["ä", "b"]).await.unwrap();
    assert_eq!(Some(&edited), inside.get(first.id).await.unwrap().as_ref());
    assert_eq!((edited.priority, edited.run_at.as_unix_ms()), (-7, 4_000_000_000_000));
    assert_eq!(edited.labels, ["ä", "b"]);
    assert_eq!(remote.edit(first.id).labels([""; 0]).await.unwrap().labels, [""; 0]);
    remote.cancel(first.id).await.unwrap();
    let started = remote.edit(first.id).priority(0).await;
    assert_eq!(started, Err(Error::Refused(Refusal::JobStarted { state: State::Cancelled })));

    let second = queue.add(1).await.unwrap();
    assert_eq!(queue.delete().await, Err(Error::Refused(Refusal::QueueNotEmpty { unfinished: 1 })));
    assert_eq!(queue.delete_by_force().await, Ok(2));
    assert_eq!(inside.get(second.id).await, Ok(None));
    assert_eq!(queue.delete().await, Err(Error::Refused(Refusal::QueueNotFound)));
}

/// Many jobs go in few requests, each with its own outcome; atomic ones all or none.
/// A target arrives as it was given, a mistake in one is told before anything is sent, and a store that nobody delivers
/// from refuses it: the job would wait for ever.
#[tokio::test]
async fn targets_are_taken_where_somebody_delivers() {
    let (server, remote) = Server::plain().await;
    let queue = remote.queue::<u64>("q");
    let target =
        Target::new("https://example.com/a?b=c").method("PUT").header("X-Shop", "7").timeout(SECOND * 5);
    let tell = "https://example.com/done";
    let id = queue.add(1).target(target).on_success(tell).on_failure(tell).await.unwrap().id;
    let spec = server.engine.get(id).await.unwrap().unwrap().spec;
    let given = spec.target.http().unwrap();
    assert_eq!((given.url.as_str(), given.method.as_str()), ("https://example.com/a?b=c", "PUT"));
    assert_eq!(given.headers.iter().collect::<Vec<_>>(), [("x-shop", "7".into())]);
    assert_eq!(given.timeout, Some(DurationMs::from_ms(5_000)));
    for told in [&spec.on_success, &spec.on_failure] {
        assert_eq!(told.as_ref().unwrap().url.as_str(), tell);
    }
    assert_eq!(code(queue.add(1).target("ftp://example.com/").await), "invalid-target");
    assert_eq!(code(queue.add(1).target(Target::new(tell).method("LOOK")).await), "invalid-target");
    assert_eq!(code(queue.add(1).target(Target::new(tell).header("Host", "x")).await), "invalid-header");
    assert_eq!(code(queue.add(1).target(Target::new(tell).timeout(SECOND * 3601)).await), "invalid-duration");
    assert!(!format!("{:?}", Target::new(tell).header("authorization", "s3cret")).contains("s3cret"));

    let alone = Onefold::in_memory();
    let queue = alone.queue::<u64>("q");
    assert_eq!(code(queue.add(1).target(tell).await), "no-deliverer");
    assert_eq!(code(queue.add(1).on_failure(tell).await), "no-deliverer");
}

#[tokio::test]
async fn many_jobs_have_an_outcome_each() {
    let (_server, remote) = Server::plain().await;
    let queue = remote.queue::<u64>("q");
    let jobs = [NewJob::new(1).key("a"), NewJob::new(2).key(""), NewJob::new(2).key("a"), NewJob::new(3)];
    let added = queue.add_many(jobs).await.unwrap();
    let codes: Vec<_> =
        added.iter().map(|added| added.as_ref().map_or_else(Error::code, |_| "added")).collect();
    assert_eq!(codes, ["added", "invalid-key", "key-reused", "added"]);
    let first = added[0].as_ref().unwrap().id;
    let refused = queue.add_many([NewJob::new(5), NewJob::new(2).key("a")]).atomic().await.unwrap();
    let expected = [Refusal::AtomicBatch { item: 1 }, Refusal::KeyReused { existing: first }];
    assert_eq!(refused, expected.map(|refusal| Err(Error::Refused(refusal))));
    assert_eq!(queue.add_many(0..10_500).await.unwrap().len(), 10_500);
    assert_eq!(queue.info().await.unwrap().unwrap().counts.accepted, 10_502);
}

/// Adds made while a request is on its way go together in the next, in the order they were made.
#[tokio::test]
async fn concurrent_adds_share_requests() {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let watch = move |call: &Call<'_>| {
        if matches!(call, Call::Add(_)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    };
    let server = Server::start(|engine| Arc::new(Watched::new(engine, watch)), None).await;
    let remote = connect(server.address);
    let queue = remote.queue::<u64>("q");
    let adds = (0..1_000).map(|n| queue.add(n).into_future());
    let added = futures_util::future::join_all(adds).await;
    let ids: Vec<JobId> = added.into_iter().map(|added| added.unwrap().id).collect();
    assert!(ids.is_sorted(), "accepted in another order than made");
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 1_000);
    let calls = calls.load(Ordering::Relaxed);
    assert!(calls <= 10, "1,000 adds took {calls} requests");
    // An error of one is not an error of those it travels with.
    let mixed = [queue.add(1).key("k"), queue.add(2).key("k"), queue.add(3)];
    let mixed = futures_util::future::join_all(mixed.map(IntoFuture::into_future)).await;
    assert!(mixed[0].is_ok() && mixed[1].is_err() && mixed[2].is_ok());
}

/// A whole life over the network: payloads, results, failures, checkpoints, cancels.
#[tokio::test]
async fn a_worker_works_over_the_network() {
    let (_server, remote) = Server::plain().await;
    let queue = remote.queue::<u64>("q");
    let ids: Vec<JobId> =
        queue.add_many(0..200).await.unwrap().into_iter().map(|added| added.unwrap().id).collect();
    let twice = queue.add(1_000).backoff(Backoff::Fixed(DurationMs::ZERO)).await.unwrap().id;
    let dead = queue.add(1_001).await.unwrap().id;
    let cancelled = queue.add(1_002).await.unwrap().id;
    let (started, mut starts) = mpsc::unbounded_channel();
    let worker = Worker::new(&remote).queue("q").concurrency(20).lease(SECOND).name("remote").handle(
        move |job: Job<u64>, ctx| {
            let started = started.clone();
            async move {
                match (job.payload, ctx.last_checkpoint::<String>()?) {
                    (1_000, None) => {
                        ctx.progress_with(50, "half")?;
                        ctx.log("a line")?;
                        ctx.checkpoint(&"half way").await?;
                        Err(HandlerError::retry("once more"))
                    }
                    (1_001, _) => Err(HandlerError::permanent("no").kind("never")),
                    (1_002, _) => {
                        let _ = started.send(());
                        ctx.cancelled().await;
                        Err(HandlerError::retry("cancelled"))
                    }
                    (n, _) => Ok(n * 2),
                }
            }
        },
    );
    let running = Running::start(worker);
    starts.recv().await.unwrap();
    assert!(remote.cancel(cancelled).await.unwrap().cancel_requested);
    for (n, id) in (0..).zip(&ids) {
        assert_eq!(remote.result::<u64>(*id, SECOND * 10).await, Ok(Some(n * 2)));
    }
    assert_eq!(remote.result::<u64>(twice, SECOND * 10).await, Ok(Some(2_000)));
    let job = remote.get(twice).await.unwrap().unwrap();
    assert_eq!((job.failures, job.attempts.len(), job.attempts[0].worker.as_str()), (1, 2, "remote"));
    assert_eq!(job.attempts[0].progress.as_ref().unwrap().percent, Some(50));
    assert_eq!(
        (job.attempts[0].log.as_slice(), job.last_error().unwrap().message.as_str()),
        (&["a line".to_owned()][..], "once more")
    );
    let error = remote.result::<u64>(dead, SECOND * 10).await.unwrap_err();
    assert_eq!(error, Error::JobDead { id: dead, reason: DeadReason::Permanent });
    assert_eq!(code(remote.result::<u64>(cancelled, SECOND * 10).await), "job-cancelled");
    let report = running.stop().await;
    assert_eq!((report.leased, report.completed, report.failed, report.lost), (204, 201, 3, 0));
}

/// A worker that stops ends its parked poll first: a job added a moment later is not handed to
/// nobody.
#[tokio::test]
async fn a_worker_that_stops_leaves_no_poll_behind() {
    let (called, mut calls) = mpsc::unbounded_channel();
    let watch = move |call: &Call<'_>| {
        if let Call::Lease(params) = call {
            let _ = called.send((params.poll, params.wait.is_zero()));
        }
        Ok(())
    };
    let server = Server::start(|engine| Arc::new(Watched::new(engine, watch)), None).await;
    let remote = connect(server.address);
    let running = Running::start(Worker::new(&remote).queue("q").handle(|_: Job<u64>, _| async { Ok(()) }));
    let (poll, at_once) = calls.recv().await.unwrap();
    assert!(poll.is_some() && !at_once);
    assert_eq!(running.stop().await.leased, 0);
    assert_eq!(calls.recv().await, Some((poll, true)), "the repeat that ends the parked poll");
    let id = remote.queue::<u64>("q").add(1).await.unwrap().id;
    let job = remote.get(id).await.unwrap().unwrap();
    assert_eq!((job.state, job.attempt), (State::Available, 0));
}

/// Passes on what it gets, but cuts the connection instead of passing on some answers: the
/// server has done what was asked, and the client does not know. `cut` is told the path of the
/// request and how many answers to that path there were before.
async fn cutting_proxy(
    to: SocketAddr,
    cut: impl Fn(&str, usize) -> bool + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (answers, cut) = (Arc::new(Mutex::new(BTreeMap::<String, usize>::new())), Arc::new(cut));
    let cut_next = move |path: &str| {
        let mut answers = answers.lock().unwrap();
        let count = answers.entry(path.to_owned()).or_default();
        *count += 1;
        cut(path, *count - 1)
    };
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let cut_next = cut_next.clone();
            tokio::spawn(async move {
                let server = TcpStream::connect(to).await.unwrap();
                let (mut client, mut server) = (client, server);
                let (mut request, mut answer) = (vec![0; 1 << 16], vec![0; 1 << 16]);
                let mut path = String::new();
                loop {
                    tokio::select! {
                        read = client.read(&mut request) => {
                            let Ok(length @ 1..) = read else { return };
                            let head = String::from_utf8_lossy(&request[..length.min(200)]).into_owned();
                            if head.starts_with("POST ") {
                                path = head.split(' ').nth(1).unwrap().to_owned();
                            }
                            server.write_all(&request[..length]).await.unwrap();
                        }
                        read = server.read(&mut answer) => {
                            let Ok(length @ 1..) = read else { return };
                            let is_head = answer[..length].starts_with(b"HTTP/");
                            if is_head && cut_next(&path) || client.write_all(&answer[..length]).await.is_err() {
                                return;
                            }
                        }
                    }
                }
            });
        }
    });
    address
}

/// Lost answers cost no attempt and no run: a lost lease answer is asked for again by its poll
/// id, a lost settle is repeated (I6).
#[tokio::test]
async fn lost_answers_cost_nothing() {
    let server = Server::start(|engine| engine, None).await;
    let inside = server.inside();
    inside.queue::<u64>("q").add_many(0..300).await.unwrap();
    let shaky = connect(cutting_proxy(server.address, |_, n| n % 2 == 0).await);
    let runs = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&runs);
    let (done, mut dones) = mpsc::unbounded_channel();
    let worker =
        Worker::new(&shaky).queue("q").concurrency(10).prefetch(30).handle(move |job: Job<u64>, _| {
            seen.lock().unwrap().push(job.payload);
            let _ = done.send(());
            async { Ok(()) }
        });
    let running = Running::start(worker);
    for _ in 0..300 {
        dones.recv().await.unwrap();
    }
    let report = running.stop().await;
    assert_eq!((report.leased, report.completed, report.lost), (300, 300, 0));
    let mut runs = runs.lock().unwrap().clone();
    runs.sort_unstable();
    assert_eq!(runs, (0..300).collect::<Vec<_>>());
    let counts = inside.queue::<u64>("q").info().await.unwrap().unwrap().counts;
    assert_eq!((counts.completed, counts.late_writes), (300, 0));
    assert!(inside.list().queue("q").limit(1_000).await.unwrap().jobs.iter().all(|job| job.attempt == 1));
}

/// An add whose answer is lost is not repeated behind the caller's back; the key tells.
#[tokio::test]
async fn an_unknown_outcome_is_told_and_the_key_resolves_it() {
    let server = Server::start(|engine| engine, None).await;
    let shaky = connect(cutting_proxy(server.address, |_, n| n == 0).await);
    let queue = shaky.queue::<u64>("q");
    assert_eq!(code(queue.add_unique("k", 1).await), "outcome-unknown");
    assert!(queue.add_unique("k", 1).await.unwrap().duplicate);
    assert_eq!(queue.info().await.unwrap().unwrap().counts.accepted, 1);
}

/// What is wrong with the address or the token is said as such; a worker does not go on with a
/// token that is not accepted.
#[tokio::test]
async fn wrong_addresses_and_tokens_are_told() {
    for url in ["127.0.0.1:7717", "ftp://a", "http://", "http://a?b", "not a url"] {
        assert_eq!(code(Onefold::connect(url, None)), "invalid-field", "{url}");
    }
    if cfg!(not(feature = "tls")) {
        assert!(Onefold::connect("https://a", None).unwrap_err().to_string().contains("tls"));
    }
    assert_eq!(code(Onefold::connect("http://a", "line\nbreak")), "invalid-field");

    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert_eq!(code(connect(closed).queue::<u64>("q").add(1).await), "unreachable");

    let server = Server::start(|engine| engine, Some("secret")).await;
    let url = format!("http://{}/", server.address);
    assert!(Onefold::connect(&url, "secret").unwrap().queue::<u64>("q").add(1).await.is_ok());
    for token in [None, Some("wrong")] {
        let stranger = Onefold::connect(&url, token).unwrap();
        assert_eq!(code(stranger.queue::<u64>("q").add(1).await), "unauthorized");
        let worker = Worker::new(&stranger).queue("q").handle(|_: Job<u64>, _| async { Ok(()) });
        assert_eq!(code(worker.run().await), "unauthorized");
    }
}

/// A server that is away for a while is waited for.
#[tokio::test]
async fn a_worker_waits_for_its_server() {
    let server = Server::start(|engine| engine, None).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let front = listener.local_addr().unwrap();
    drop(listener);
    let remote = connect(front);
    let (ran, mut runs) = mpsc::unbounded_channel();
    let running = Running::start(Worker::new(&remote).queue("q").handle(move |job: Job<u64>, _| {
        let _ = ran.send(job.payload);
        async { Ok(()) }
    }));
    assert_eq!(code(remote.queue::<u64>("q").add(7).await), "unreachable");
    let listener = TcpListener::bind(front).await.unwrap();
    let to = server.address;
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut server = TcpStream::connect(to).await.unwrap();
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    let id = remote.queue::<u64>("q").add(7).await.unwrap().id;
    assert_eq!(runs.recv().await, Some(7));
    assert_eq!(remote.result::<()>(id, SECOND * 10).await, Ok(Some(())));
    running.stop().await;
}

/// I7: a step is executed once over a server, too, and its result replayed; a doubt at most once ends the job.
#[tokio::test(flavor = "multi_thread")]
async fn i7_a_step_is_executed_once_over_a_server() {
    let (server, onefold) = Server::plain().await;
    let id = onefold.queue::<u64>("q").add(7).await.unwrap().id;
    let count = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&count);
    let worker = Worker::new(&onefold).queue("q").handle(move |_: Job<u64>, ctx| {
        let count = Arc::clone(&seen);
        async move {
            let step = ctx.once("charge").policy(onefold::EffectPolicy::AtMostOnce);
            let n: usize = step.run(|| async { Ok(count.fetch_add(1, Ordering::SeqCst) + 1) }).await?;
            if ctx.attempt() == 1 {
                return Err(HandlerError::retry_in(Duration::from_millis(1), "after the charge"));
            }
            let doubt = ctx.once("mail").policy(onefold::EffectPolicy::AtMostOnce);
            doubt
                .run(|| async { Err::<(), _>(onefold::EffectError::unknown(format!("no answer, {n}"))) })
                .await
        }
    });
    let running = Running::start(worker);
    let job = support::when(&server.inside(), id, State::Dead).await;
    running.stop().await;
    assert_eq!((job.reason, count.load(Ordering::SeqCst)), (Some(DeadReason::Indeterminate), 1));
    assert_eq!(job.late_writes, 0);
}
