//! Whole lives of jobs through the embedded engine.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use onefold_core::{
    AddParams, Clock, DurationMs, End, Engine, Entropy, Fingerprint, FingerprintInput, JobSpec, Key,
    LeaseParams, NewJob, Payload, PayloadForm, QueueName, SeededEntropy, SettleAction, SettleOp, Timestamp,
    WorkerName,
};
use onefold_engine_sqlite::{Options, SqliteEngine};

use crate::floor;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Jobs a batch: one add, one lease and one settle each.
    #[arg(long, default_value_t = 256)]
    batch: usize,
    /// Jobs that wait in the queue all the time.
    #[arg(long, default_value_t = 1_000_000)]
    waiting: usize,
    /// Keys held before the measurement begins, those of the waiting jobs included.
    #[arg(long, default_value_t = 2_000_000)]
    keys: usize,
    /// Measured time.
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Stop after so many jobs instead: the same work every time, for counting instructions.
    #[arg(long)]
    jobs: Option<usize>,
    /// Data directory, emptied first.
    #[arg(long, default_value = "target/bench/engine")]
    dir: PathBuf,
    /// Finished jobs older than a week to purge during the measurement.
    #[arg(long, default_value_t = 1_000_000)]
    purge: usize,
}

/// The machine's clock, shifted: jobs can be made to look old.
struct ShiftedClock {
    back_ms: std::sync::atomic::AtomicU64,
    started: Instant,
}

impl Clock for ShiftedClock {
    #[allow(clippy::disallowed_methods, reason = "the clock of a measurement")]
    fn now(&self) -> Timestamp {
        let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let back = self.back_ms.load(std::sync::atomic::Ordering::Relaxed);
        Timestamp::from_unix_ms(unix.as_millis() as i64 - back as i64).unwrap_or(Timestamp::EPOCH)
    }
    fn monotonic(&self) -> DurationMs {
        DurationMs::from_ms(self.started.elapsed().as_millis() as u64)
    }
}

struct Load {
    engine: SqliteEngine,
    entropy: SeededEntropy,
    queue: QueueName,
    payload: Bytes,
}

impl Load {
    fn job(&self) -> Result<NewJob, Box<dyn std::error::Error>> {
        let key = Key::new(format!("{:016x}-{:016x}", self.entropy.next_u64(), self.entropy.next_u64()))?;
        let input =
            FingerprintInput { payload: PayloadForm::Json(&self.payload), ..FingerprintInput::default() };
        let fingerprint = Some(Fingerprint::compute(input)?);
        let spec = JobSpec {
            key: Some(key),
            fingerprint,
            payload: Payload::Json(self.payload.clone()),
            ..JobSpec::default()
        };
        Ok(NewJob { spec, ..NewJob::default() })
    }

    fn batch(&self, count: usize) -> Result<Vec<NewJob>, Box<dyn std::error::Error>> {
        (0..count).map(|_| self.job()).collect()
    }

    async fn add(&self, jobs: Vec<NewJob>) -> Result<(), Box<dyn std::error::Error>> {
        let params = AddParams { queue: self.queue.clone(), jobs, atomic: false };
        for added in self.engine.add(params).await? {
            added?;
        }
        Ok(())
    }

    async fn lease_and_complete(&self, batch: usize) -> Result<usize, Box<dyn std::error::Error>> {
        let params = LeaseParams {
            queues: vec![self.queue.clone()],
            max: batch as u32,
            lease: DurationMs::from_ms(30_000),
            worker: WorkerName::new("bench")?,
            fair: false,
            wait: DurationMs::ZERO,
            poll: None,
        };
        let leased = self.engine.lease(params).await?;
        let complete = |job: &onefold_core::LeasedJob| {
            let token = job.attempt()?.token;
            Some(SettleOp {
                id: job.job.id,
                token,
                action: SettleAction::End(End::Complete { result: None }),
            })
        };
        let ops: Vec<SettleOp> = leased.iter().filter_map(complete).collect();
        for settled in self.engine.settle(ops).await? {
            settled?;
        }
        Ok(leased.len())
    }
}

#[allow(clippy::disallowed_methods, reason = "a measurement")]
pub(crate) fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let _ = std::fs::remove_dir_all(&args.dir);
    std::fs::create_dir_all(&args.dir)?;
    let clock = Arc::new(ShiftedClock { back_ms: Default::default(), started: Instant::now() });
    let seed = clock.now().as_unix_ms() as u64;
    let week_and_a_day = 8 * 24 * 3_600_000;
    clock.back_ms.store(week_and_a_day, std::sync::atomic::Ordering::Relaxed);
    let options = Options::new(clock.clone(), Arc::new(SeededEntropy::new(seed)));
    let engine = SqliteEngine::open(&args.dir, options.clone())?;
    let payload = serde_json::to_vec(&serde_json::json!({ "text": "x".repeat(188) }))?;
    let load = Load {
        engine,
        entropy: SeededEntropy::new(seed),
        queue: QueueName::new("bench")?,
        payload: payload.into(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut old = 0;
        while old < args.purge {
            load.add(load.batch(1_000)?).await?;
            old += load.lease_and_complete(1_000).await?;
        }
        clock.back_ms.store(0, std::sync::atomic::Ordering::Relaxed);
        load.engine.tick().await?;
        let mut held = 0;
        while held < args.keys.saturating_sub(args.waiting) {
            load.add(load.batch(1_000)?).await?;
            held += load.lease_and_complete(1_000).await?;
        }
        let mut waiting = 0;
        while waiting < args.waiting {
            load.add(load.batch(1_000)?).await?;
            waiting += 1_000;
        }
        eprintln!("prepared: {old} old jobs, {held} finished jobs with keys, {waiting} waiting; rss {} MB", rss_mb());
        let floor = floor::measure(&args.dir, args.batch, Duration::from_secs(2))?;
        let mut jobs: std::collections::VecDeque<_> = std::collections::VecDeque::new();
        let (mut done, mut purged, mut worst) = (0_usize, 0, Duration::ZERO);
        let mut spent = Duration::ZERO;
        let mut adds = Vec::new();
        let cpu_before = writer_cpu_ms();
        let over = |done: usize, spent: Duration| match args.jobs {
            Some(jobs) => done >= jobs,
            None => spent >= Duration::from_secs(args.seconds),
        };
        while !over(done, spent) {
            jobs.push_back(load.batch(args.batch)?);
            let started = Instant::now();
            load.add(jobs.pop_front().unwrap_or_default()).await?;
            adds.push(started.elapsed());
            done += load.lease_and_complete(args.batch).await?;
            if (done / args.batch).is_multiple_of(8) {
                purged += load.engine.tick().await?.purged;
            }
            worst = worst.max(started.elapsed());
            spent += started.elapsed();
        }
        adds.sort();
        let rate = done as f64 / spent.as_secs_f64();
        let cpu = (writer_cpu_ms() - cpu_before) as f64 * 1000.0 / done as f64;
        let at = |q: f64| adds.get((adds.len() as f64 * q) as usize).copied().unwrap_or_default();
        println!("batch {}: {rate:.0} jobs/s, {:.1} % of the floor ({floor:.0}/s); purged {purged} meanwhile; writer thread {cpu:.1} µs CPU a job", args.batch, 100.0 * rate / floor);
        println!("add of a batch: p50 {:?} p99 {:?}; worst whole batch {worst:?}; rss {} MB", at(0.5), at(0.99), rss_mb());
        Ok::<_, Box<dyn std::error::Error>>(())
    })?;
    let started = Instant::now();
    runtime.block_on(load.engine.close())?;
    drop(load);
    println!("closed in {:?}", started.elapsed());
    let started = Instant::now();
    let again = SqliteEngine::open(&args.dir, options)?;
    println!("reopened in {:?}; rss {} MB", started.elapsed(), rss_mb());
    drop(again);
    Ok(())
}

/// Resident memory of this process.
fn rss_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kb = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next());
    kb.and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// Processor time of the writer thread, in milliseconds.
fn writer_cpu_ms() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let stats = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok());
    let ticks = |stat: &String| {
        let (name, rest) = stat.rsplit_once(')')?;
        let fields: Vec<u64> = rest.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
        name.ends_with("(onefold-writer").then(|| fields.get(11).unwrap_or(&0) + fields.get(12).unwrap_or(&0))
    };
    // Clock ticks of 10 ms, as Linux counts for user space.
    stats.filter_map(|stat| ticks(&stat)).sum::<u64>() * 10
}
