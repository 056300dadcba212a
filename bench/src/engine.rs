//! Whole lives of jobs through the embedded engine.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::try_join_all;
use onefold_core::{
    AddParams, Clock, DurationMs, End, Engine, Entropy, Fingerprint, FingerprintInput, JobSpec, Key,
    LeaseParams, LeasedJob, NewJob, Payload, PayloadForm, QueueName, SeededEntropy, SettleAction, SettleOp,
    Timestamp, WorkerName,
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
    /// Producers, and as many workers, that go on side by side.
    #[arg(long, default_value_t = 2)]
    callers: usize,
    /// Stop after so many jobs instead, one call after the other: the same work every time, for
    /// counting instructions.
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
    clock: Arc<ShiftedClock>,
    entropy: SeededEntropy,
    queue: QueueName,
    payload: Bytes,
}

impl Load {
    fn job(&self) -> Result<NewJob, Problem> {
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

    fn batch(&self, count: usize) -> Result<Vec<NewJob>, Problem> {
        (0..count).map(|_| self.job()).collect()
    }

    async fn add(&self, jobs: Vec<NewJob>) -> Result<(), Problem> {
        let params = AddParams { queue: self.queue.clone(), jobs, atomic: false };
        for added in self.engine.add(params).await? {
            added?;
        }
        Ok(())
    }

    async fn lease(&self, batch: usize, wait: DurationMs) -> Result<Vec<LeasedJob>, Problem> {
        let params = LeaseParams {
            queues: vec![self.queue.clone()],
            max: batch as u32,
            lease: DurationMs::from_ms(30_000),
            worker: WorkerName::new("bench")?,
            fair: false,
            wait,
            poll: None,
        };
        Ok(self.engine.lease(params).await?)
    }

    async fn complete(&self, leased: &[LeasedJob]) -> Result<(), Problem> {
        let complete = |job: &LeasedJob| {
            let token = job.attempt()?.token;
            let action = SettleAction::End(End::Complete { result: None });
            Some(SettleOp { id: job.job.id, token, action })
        };
        for settled in self.engine.settle(leased.iter().filter_map(complete).collect()).await? {
            settled?;
        }
        Ok(())
    }

    async fn lease_and_complete(&self, batch: usize) -> Result<usize, Problem> {
        let leased = self.lease(batch, DurationMs::ZERO).await?;
        self.complete(&leased).await?;
        Ok(leased.len())
    }

    /// Ticks as whoever drives the engine does.
    #[allow(clippy::disallowed_methods, reason = "a measurement")]
    async fn tick(&self, course: &Course) -> Problem {
        loop {
            let ticked = match self.engine.tick().await {
                Ok(ticked) => ticked,
                Err(error) => return error.into(),
            };
            course.purged.set(course.purged.get() + ticked.purged);
            // As in a store that has been running for weeks: one job goes for each that is done.
            let purged_enough = course.purged.get() > course.done.get() as u64;
            if ticked.next > self.clock.now() || purged_enough {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    /// Adds batch after batch, at a pace.
    #[allow(clippy::disallowed_methods, reason = "a measurement")]
    async fn produce(&self, course: &Course, batch: usize, pace: Pace) -> Result<(), Problem> {
        let mut due = Instant::now();
        while !course.over.get() {
            let jobs = self.batch(batch)?;
            match pace {
                Pace::Window => course.window.acquire().await?.forget(),
                Pace::Every(every) => {
                    due += every;
                    tokio::time::sleep_until(due.into()).await;
                }
            }
            // From when it was due: an add that waits for the one before counts in full.
            let asked = if matches!(pace, Pace::Window) { Instant::now() } else { due };
            self.add(jobs).await?;
            if let Pace::Every(_) = pace {
                course.window.add_permits(1);
            }
            course.adds.borrow_mut().push(asked.elapsed());
        }
        Ok(())
    }

    /// Leases a batch while the one before is completed.
    async fn work(&self, course: &Course, batch: usize, pace: Pace) -> Result<(), Problem> {
        let mut held = Vec::new();
        while !course.over.get() || !held.is_empty() {
            if let (Pace::Every(_), false) = (pace, course.over.get()) {
                course.window.acquire().await?.forget();
            }
            let max = if course.over.get() { 0 } else { batch };
            let lease = async {
                if max == 0 { Ok(Vec::new()) } else { self.lease(max, DurationMs::from_ms(100)).await }
            };
            let (leased, completed) = tokio::join!(lease, self.complete(&held));
            completed?;
            course.done.set(course.done.get() + held.len());
            if let (Pace::Window, false) = (pace, held.is_empty()) {
                course.window.add_permits(1);
            }
            held = leased?;
        }
        Ok(())
    }
}

/// What the roles of a measured phase share.
struct Course {
    over: Cell<bool>,
    /// Of producers: batches that may be added. Paced, of workers: batches that may be leased.
    window: tokio::sync::Semaphore,
    done: Cell<usize>,
    purged: Cell<u64>,
    adds: RefCell<Vec<Duration>>,
}

#[derive(Clone, Copy)]
enum Pace {
    /// As fast as jobs are done.
    Window,
    /// A batch each.
    Every(Duration),
}

type Problem = Box<dyn std::error::Error>;

/// Producers and workers side by side for a while: jobs a second.
#[allow(clippy::disallowed_methods, reason = "a measurement")]
async fn phase(load: &Load, args: &Args, pace: Pace, name: &str) -> Result<f64, Problem> {
    let course = Course {
        over: Cell::new(false),
        window: tokio::sync::Semaphore::new(if matches!(pace, Pace::Window) { 2 * args.callers } else { 0 }),
        done: Cell::new(0),
        purged: Cell::new(0),
        adds: RefCell::default(),
    };
    let (cpu_before, before) = (writer_cpu_ms(), load.engine.stats().await?);
    let started = Instant::now();
    let stop = async {
        tokio::time::sleep(Duration::from_secs(args.seconds)).await;
        course.over.set(true);
        course.window.add_permits(args.callers);
        Ok::<f64, Problem>(course.done.get() as f64 / started.elapsed().as_secs_f64())
    };
    let producers = match pace {
        Pace::Window => args.callers,
        Pace::Every(_) => 1,
    };
    let produce = try_join_all((0..producers).map(|_| load.produce(&course, args.batch, pace)));
    let work = try_join_all((0..args.callers).map(|_| load.work(&course, args.batch, pace)));
    // Parked calls are ended by ticks, so those go on until the last.
    let roles = async { tokio::join!(stop, produce, work) };
    let (rate, produced, worked) = tokio::select! {
        done = roles => done,
        error = load.tick(&course) => return Err(error),
    };
    produced?;
    worked?;
    let rate = rate?;
    let done = course.done.get() as f64;
    let cpu = (writer_cpu_ms() - cpu_before) as f64 * 1000.0 / done;
    let after = load.engine.stats().await?;
    let commits = (after.commits - before.commits) as f64 * args.batch as f64 / done;
    let slow: Vec<String> = after
        .commit_micros
        .iter()
        .zip(&before.commit_micros)
        .map(|((bound, after), (_, before))| (bound, after - before))
        .filter(|(bound, count)| **bound >= 5_000 && *count > 0)
        .map(|(bound, count)| format!("{count} up to {} ms", bound / 1000))
        .collect();
    let mut adds = course.adds.into_inner();
    adds.sort();
    let at = |q: f64| adds.get((adds.len() as f64 * q) as usize).copied().unwrap_or_default();
    println!(
        "{name}: {rate:.0} jobs/s in batches of {}, {commits:.1} commits a batch, writer thread {cpu:.1} µs CPU a job; \
         purged {} meanwhile; add of a batch p50 {:?} p99 {:?} max {:?}; of {} commits slow: {}; rss {} MB",
        args.batch,
        course.purged.get(),
        at(0.5),
        at(0.99),
        adds.last().copied().unwrap_or_default(),
        after.commits - before.commits,
        slow.join(", "),
        rss_mb()
    );
    Ok(rate)
}

#[allow(clippy::disallowed_methods, reason = "a measurement")]
pub(crate) fn run(args: &Args) -> Result<(), Problem> {
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
        clock: Arc::clone(&clock),
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
        eprintln!(
            "prepared: {old} old jobs, {held} finished jobs with keys, {waiting} waiting; rss {} MB",
            rss_mb()
        );
        let floor = floor::measure(&args.dir, args.batch, Duration::from_secs(2))?;
        if let Some(jobs) = args.jobs {
            let (mut done, mut purged) = (0, 0);
            while done < jobs {
                load.add(load.batch(args.batch)?).await?;
                done += load.lease_and_complete(args.batch).await?;
                while purged < done.min(args.purge * 9 / 10) as u64 {
                    purged += load.engine.tick().await?.purged;
                }
            }
        } else {
            let peak = phase(&load, args, Pace::Window, "peak").await?;
            println!(
                "floor, one sync a batch: {floor:.0} jobs/s; peak is {:.1} % of it",
                100.0 * peak / floor
            );
            let every = Duration::from_secs_f64(args.batch as f64 / (peak / 2.0));
            phase(&load, args, Pace::Every(every), "half of it").await?;
        }
        Ok::<_, Problem>(())
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
