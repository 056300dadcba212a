//! Work for a server: adds by many clients at once, a worker that drains, single jobs now and then.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use onefold::{Context, HandlerError, Job, Onefold, RawPayload, Worker};
use onefold_core::Entropy;
use onefold_runtime::SystemEntropy;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use super::measure::{Latencies, Stopwatch};
use crate::client::Client;
use crate::failure::Failure;

/// Bytes of each payload.
pub(super) const PAYLOAD_BYTES: usize = 200;
/// Bytes of each key.
pub(super) const KEY_BYTES: usize = 16;
/// Between two jobs of the latency part.
const EVERY: Duration = Duration::from_millis(10);
/// How long a worker may take to finish what was added.
const PATIENCE: Duration = Duration::from_secs(600);

pub(super) struct Load {
    client: Client,
    onefold: Onefold,
    queue: String,
}

/// What adding came to.
pub(super) struct Added {
    pub(super) jobs: u64,
    pub(super) seconds: f64,
    pub(super) calls: Latencies,
}

impl Load {
    pub(super) fn new(client: Client, onefold: Onefold, queue: String) -> Load {
        Load { client, onefold, queue }
    }

    /// Adds keyed jobs for some time, with `in_flight` calls of `jobs` each.
    pub(super) async fn add(&self, in_flight: usize, jobs: usize, time: Duration) -> Result<Added, Failure> {
        let watch = Stopwatch::start();
        let mut producers = JoinSet::new();
        for _ in 0..in_flight {
            producers.spawn(produce(self.client.clone(), self.queue.clone(), jobs, watch, time));
        }
        let mut calls = Latencies::default();
        while let Some(done) = producers.join_next().await {
            calls.extend(done.map_err(Failure::failed)??);
        }
        Ok(Added { jobs: (calls.count() * jobs) as u64, seconds: watch.elapsed().as_secs_f64(), calls })
    }

    /// Runs one worker until it has done so many jobs; the seconds it took.
    pub(super) async fn drain(&self, jobs: u64, handlers: usize) -> Result<f64, Failure> {
        let (left, empty) = (Arc::new(AtomicU64::new(jobs)), Arc::new(Notify::new()));
        let told = Arc::clone(&empty);
        let watch = Stopwatch::start();
        self.work(
            handlers,
            move |_, _| {
                if left.fetch_sub(1, Ordering::Relaxed) == 1 {
                    told.notify_one();
                }
            },
            empty.notified(),
        )
        .await?;
        Ok(watch.elapsed().as_secs_f64())
    }

    /// Adds a job every 10 ms beside a worker: from before the add to its handler.
    pub(super) async fn latency(&self, time: Duration, handlers: usize) -> Result<Latencies, Failure> {
        let (sender, mut arrived) = mpsc::unbounded_channel();
        let watch = Stopwatch::start();
        let producer = async {
            let mut ticks = tokio::time::interval(EVERY);
            let path = format!("/v1/queues/{}/jobs", self.queue);
            let mut adds = JoinSet::new();
            let begun = Stopwatch::start();
            while begun.elapsed() < time {
                ticks.tick().await;
                let (client, path) = (self.client.clone(), path.clone());
                adds.spawn(async move {
                    let body = format!(r#"{{"payload":{}}}"#, watch.micros());
                    client.post_bytes(&path, body.into()).await.map(drop)
                });
            }
            let mut added = 0;
            while let Some(done) = adds.join_next().await {
                done.map_err(Failure::failed)??;
                added += 1;
            }
            let mut latencies = Latencies::default();
            while latencies.count() < added {
                let Some(micros) = arrived.recv().await else { break };
                latencies.record(micros);
            }
            Ok::<_, Failure>(latencies)
        };
        let mut outcome = Ok(Latencies::default());
        let handle = move |payload: &[u8], _: Context| {
            let sent: u64 = std::str::from_utf8(payload).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
            // Nobody listens any more once enough arrived.
            let _ = sender.send(watch.micros().saturating_sub(sent));
        };
        self.work(handlers, handle, async { outcome = producer.await }).await?;
        outcome
    }

    async fn work(
        &self,
        handlers: usize,
        handle: impl Fn(&[u8], Context) + Send + Sync + 'static,
        until: impl Future<Output = ()>,
    ) -> Result<(), Failure> {
        let handle = Arc::new(handle);
        let worker = Worker::new(&self.onefold)
            .queue(&self.queue)
            .concurrency(handlers)
            .prefetch(super::HELD)
            .name("bench")
            .handle(move |job: Job<RawPayload>, context| {
                let handle = Arc::clone(&handle);
                async move {
                    handle(job.payload.bytes(), context);
                    Ok::<(), HandlerError>(())
                }
            });
        match tokio::time::timeout(PATIENCE, worker.run_until(until)).await {
            Ok(report) => report.map(drop).map_err(Failure::failed),
            Err(_) => {
                Err(Failure::failed("the jobs were not done in 10 minutes; is another worker on the queue?"))
            }
        }
    }
}

async fn produce(
    client: Client,
    queue: String,
    jobs: usize,
    watch: Stopwatch,
    time: Duration,
) -> Result<Latencies, Failure> {
    let path = format!("/v1/queues/{queue}/jobs");
    let payload = "x".repeat(PAYLOAD_BYTES - 2);
    let job = || format!(r#"{{"payload":"{payload}","key":"{:016x}"}}"#, SystemEntropy.next_u64());
    let mut calls = Latencies::default();
    while watch.elapsed() < time {
        let body = match jobs {
            1 => job(),
            _ => format!("[{}]", (0..jobs).map(|_| job()).collect::<Vec<_>>().join(",")),
        };
        let call = Stopwatch::start();
        client.post_bytes(&path, Bytes::from(body)).await?;
        calls.record(call.micros());
    }
    Ok(calls)
}
