//! Schedules, by an embedded store and by a server.

#![cfg(feature = "remote")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use onefold::{Error, Missed, NewJob, Onefold, Overlap};
use onefold_core::reference::ReferenceEngine;
use onefold_core::{Clock, Engine};
use onefold_runtime::{Runtime, SystemEntropy, TokioClock};
use onefold_server::Config;
use tokio::net::TcpListener;

const HOUR: Duration = Duration::from_secs(3_600);
/// In the year 2100.
const LATER: Duration = Duration::from_secs(4_102_444_800);

fn code<T: std::fmt::Debug>(outcome: Result<T, Error>) -> String {
    outcome.unwrap_err().code().to_owned()
}

/// A store in this process, and a server in front of it.
async fn both() -> [Onefold; 2] {
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::new());
    let engine: Arc<dyn Engine> = Arc::new(ReferenceEngine::new(Arc::clone(&clock), Arc::new(SystemEntropy)));
    let runtime = Runtime::start(Arc::clone(&engine), Arc::clone(&clock));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = Arc::clone(&clock);
    tokio::spawn(async move {
        onefold_server::serve(&runtime, serving, Config::default(), listener, std::future::pending()).await
    });
    [Onefold::with_engine(engine, clock), Onefold::connect(&url, None).unwrap()]
}

/// Everything one can ask of a schedule is answered over the network as it is by an embedded store.
#[tokio::test]
async fn a_schedule_is_the_same_here_and_there() {
    let [inside, remote] = both().await;
    for (onefold, other) in [(&inside, &remote), (&remote, &inside)] {
        let queue = onefold.queue::<u64>("q");
        let set = || {
            let job = NewJob::new(7).kind("report").priority(-1);
            let set = queue.schedule("nightly", job).cron("30 2 * * *", "Europe/Berlin");
            set.missed(Missed::All).overlap(Overlap::Skip).end(SystemTime::UNIX_EPOCH + LATER)
        };
        let made = set().await.unwrap();
        assert!(made.next_tick.is_some() && made.queue == "q" && made.overlap == Overlap::Skip);
        let schedule = onefold.schedule("nightly");
        assert_eq!(schedule.get().await.unwrap(), other.schedule("nightly").get().await.unwrap());
        let every = queue.schedule("every", 1).every(HOUR).await.unwrap();
        assert_eq!(other.schedule("every").get().await.unwrap(), Some(every.clone()));
        assert_eq!(onefold.schedules().await.unwrap(), [every, made]);
        assert!(schedule.pause().await.unwrap().next_tick.is_none());
        let job = schedule.run().await.unwrap();
        let view = onefold.get(job).await.unwrap().unwrap();
        assert_eq!((view.kind.as_deref(), view.priority), (Some("report"), -1));
        assert_eq!(code(schedule.run().await), "schedule-job-unfinished");
        assert!(!schedule.resume().await.unwrap().paused);
        assert_eq!(schedule.delete().await.unwrap().last_job, Some(job));
        onefold.schedule("every").delete().await.unwrap();
        assert_eq!(schedule.get().await.unwrap(), None);
        assert_eq!(code(schedule.pause().await), "schedule-not-found");
    }
}

/// Mistakes are told before anything is sent, with the code a server has for them.
#[tokio::test]
async fn what_cannot_be_a_schedule_is_refused() {
    let onefold = Onefold::in_memory();
    let queue = onefold.queue::<u64>("q");
    let with = |job: NewJob<u64>| queue.schedule("s", job).every(HOUR);
    assert_eq!(code(queue.schedule("s", 1).await), "missing-field");
    assert_eq!(code(queue.schedule("a b", 1).every(HOUR).await), "invalid-schedule-id");
    assert_eq!(code(queue.schedule("s", 1).cron("0 0 30 2 *", "UTC").await), "invalid-cron");
    assert_eq!(code(queue.schedule("s", 1).cron("@daily", "CET+1").await), "invalid-time-zone");
    assert_eq!(code(queue.schedule("s", 1).every(Duration::from_millis(1)).await), "invalid-duration");
    assert_eq!(
        code(
            queue
                .schedule("s", 1)
                .every(HOUR)
                .end(SystemTime::UNIX_EPOCH)
                .start(SystemTime::UNIX_EPOCH + LATER)
                .await
        ),
        "invalid-schedule"
    );
    assert_eq!(code(with(NewJob::new(1).key("k")).await), "invalid-schedule");
    assert_eq!(code(with(NewJob::new(1).delay(HOUR)).await), "invalid-schedule");
    assert_eq!(code(with(NewJob::new(1).header("Schedule-Tick", "x")).await), "invalid-header");
    assert_eq!(onefold.schedules().await.unwrap(), []);
}
