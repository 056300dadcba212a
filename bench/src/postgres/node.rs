//! A node of ours in a process of its own, by the protocol of `bench/peers/node.mjs`: it says "ready", waits for
//! "go", works, and tells.

use std::io::{BufRead, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::try_join_all;
use onefold_core::{
    AddParams, DurationMs, End, Engine, Entropy, Fingerprint, FingerprintInput, JobSpec, Key, LeaseParams,
    LeasedJob, NewJob, Payload, PayloadForm, QueueName, SettleAction, SettleOp, WorkerName,
};
use onefold_engine_postgres::{Options, PostgresConfig, PostgresEngine};
use onefold_runtime::{Runtime, SystemClock, SystemEntropy};

use super::Failure;

/// What a node is to do.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Plan {
    pub(super) what: What,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) database: String,
    pub(super) connections: usize,
    pub(super) seconds: f64,
    pub(super) in_flight: usize,
    /// Jobs of one call.
    pub(super) array: usize,
    /// Jobs in all.
    pub(super) jobs: usize,
    pub(super) workers: usize,
    /// Jobs a worker takes at a time.
    pub(super) batch: usize,
    pub(super) keyed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum What {
    Prepare,
    Single,
    Array,
    Fill,
    Drain,
}

/// A store that is served by this process.
pub(super) struct Node {
    engine: Arc<PostgresEngine>,
    runtime: Runtime,
    queue: QueueName,
    payload: Bytes,
    keyed: bool,
    prefix: u64,
    next_key: AtomicU64,
}

impl Node {
    pub(super) async fn open(
        server: tokio_postgres::Config,
        connections: usize,
        keyed: bool,
    ) -> Result<Node, Failure> {
        let (clock, entropy) = (Arc::new(SystemClock::new()), Arc::new(SystemEntropy));
        let config = PostgresConfig { connections, ..PostgresConfig::new(server) };
        let prefix = entropy.next_u64();
        let engine = Arc::new(PostgresEngine::open(config, Options::new(clock.clone(), entropy)).await?);
        let runtime = Runtime::start(engine.clone(), clock);
        // 200 bytes of JSON.
        let payload = serde_json::to_vec(&serde_json::json!({ "text": "x".repeat(189) }))?;
        let queue = QueueName::new("bench")?;
        let next_key = AtomicU64::new(0);
        Ok(Node { engine, runtime, queue, payload: payload.into(), keyed, prefix, next_key })
    }

    fn job(&self) -> Result<NewJob, Failure> {
        let mut spec = JobSpec { payload: Payload::Json(self.payload.clone()), ..JobSpec::default() };
        if self.keyed {
            // Like an order number: a prefix, and what counts.
            let number = self.next_key.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let input =
                FingerprintInput { payload: PayloadForm::Json(&self.payload), ..FingerprintInput::default() };
            spec.key = Some(Key::new(format!("{:016x}-{number:016x}", self.prefix))?);
            spec.fingerprint = Some(Fingerprint::compute(input)?);
        }
        Ok(NewJob { spec, ..NewJob::default() })
    }

    pub(super) async fn add(&self, count: usize) -> Result<(), Failure> {
        let jobs = (0..count).map(|_| self.job()).collect::<Result<Vec<NewJob>, Failure>>()?;
        let params = AddParams { queue: self.queue.clone(), jobs, atomic: false };
        for added in self.engine.add(params).await? {
            added?;
        }
        Ok(())
    }

    async fn lease(&self, max: usize) -> Result<Vec<LeasedJob>, Failure> {
        let params = LeaseParams {
            queues: vec![self.queue.clone()],
            max: u32::try_from(max)?,
            lease: DurationMs::from_ms(30_000),
            worker: WorkerName::new("bench")?,
            fair: false,
            wait: DurationMs::ZERO,
            poll: None,
        };
        Ok(self.engine.lease(params).await?)
    }

    async fn complete(&self, leased: &[LeasedJob]) -> Result<(), Failure> {
        let op = |job: &LeasedJob| {
            let token = job.attempt()?.token;
            let action = SettleAction::End(End::Complete { result: None });
            Some(SettleOp { id: job.job.id, token, action })
        };
        for settled in self.engine.settle(leased.iter().filter_map(op).collect()).await? {
            settled?;
        }
        Ok(())
    }

    /// A worker that leases the next batch while the one before is completed. Counts what was completed.
    #[allow(clippy::disallowed_methods, reason = "a measurement")]
    pub(super) async fn work(
        &self,
        batch: usize,
        over: &AtomicBool,
        done: &AtomicUsize,
    ) -> Result<(), Failure> {
        let mut held = Vec::new();
        loop {
            let wanted = !over.load(Ordering::Relaxed);
            let lease = async { if wanted { self.lease(batch).await } else { Ok(Vec::new()) } };
            let complete = async { if held.is_empty() { Ok(()) } else { self.complete(&held).await } };
            let (leased, completed) = tokio::join!(lease, complete);
            completed?;
            done.fetch_add(held.len(), Ordering::Relaxed);
            let leased = leased?;
            if leased.is_empty() && held.is_empty() {
                if !wanted {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            held = leased;
        }
    }

    pub(super) async fn close(self) -> Result<(), Failure> {
        Ok(self.runtime.stop().await?)
    }
}

fn tell(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

fn hear() -> Result<(), Failure> {
    std::io::stdin().lock().read_line(&mut String::new())?;
    Ok(())
}

/// The process.
pub(crate) fn run(plan: &str) -> Result<(), Failure> {
    let plan: Plan = serde_json::from_str(plan)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mut server = tokio_postgres::Config::new();
        server.host_path(&plan.host).port(plan.port).user(&plan.user).dbname(&plan.database);
        let node = Node::open(server, plan.connections, plan.keyed).await?;
        match plan.what {
            What::Prepare => {}
            What::Single => add(&node, &plan, 1).await?,
            What::Array => add(&node, &plan, plan.array).await?,
            What::Fill => fill(&node, &plan).await?,
            What::Drain => drain(&node, &plan).await?,
        }
        node.close().await
    })
}

#[allow(clippy::disallowed_methods, reason = "a measurement")]
async fn add(node: &Node, plan: &Plan, array: usize) -> Result<(), Failure> {
    tell("ready")?;
    hear()?;
    let (started, added) = (Instant::now(), AtomicUsize::new(0));
    let one = || async {
        while started.elapsed().as_secs_f64() < plan.seconds {
            node.add(array).await?;
            added.fetch_add(array, Ordering::Relaxed);
        }
        Ok::<(), Failure>(())
    };
    try_join_all((0..plan.in_flight).map(|_| one())).await?;
    tell(&format!("added {} {}", added.into_inner(), started.elapsed().as_secs_f64() * 1000.0))
}

async fn fill(node: &Node, plan: &Plan) -> Result<(), Failure> {
    tell("ready")?;
    hear()?;
    let mut left = plan.jobs;
    while left > 0 {
        let now = left.min(1_000);
        node.add(now).await?;
        left -= now;
    }
    tell(&format!("added {} 0", plan.jobs))
}

#[allow(clippy::disallowed_methods, reason = "a measurement")]
async fn drain(node: &Node, plan: &Plan) -> Result<(), Failure> {
    tell("ready")?;
    hear()?;
    let (over, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let report = async {
        let stopped = tokio::task::spawn_blocking(|| hear().map_err(|error| error.to_string()));
        while !stopped.is_finished() {
            tokio::time::sleep(Duration::from_millis(20)).await;
            tell(&format!("handled {}", done.load(Ordering::Relaxed)))?;
        }
        over.store(true, Ordering::Relaxed);
        Ok::<(), Failure>(())
    };
    let work = try_join_all((0..plan.workers).map(|_| node.work(plan.batch, &over, &done)));
    let (reported, worked) = tokio::join!(report, work);
    reported?;
    worked?;
    Ok(())
}
