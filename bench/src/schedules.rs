//! What idle schedules cost, and how soon many jobs that fall due at once are all leased.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use onefold_core::schedule::{Missed, NewSchedule, Overlap, Pattern, Template, Timing};
use onefold_core::{
    AddParams, Clock, DurationMs, Engine, LeaseParams, NewJob, QueueName, SeededEntropy, When, WorkerName,
};
use onefold_engine_sqlite::{Options, SqliteEngine};
use onefold_runtime::{Runtime, SystemClock};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Schedules that have nothing to do.
    #[arg(long, default_value_t = 10_000)]
    schedules: usize,
    /// For how many seconds their cost is measured.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Jobs that fall due at the same moment.
    #[arg(long, default_value_t = 100_000)]
    due: usize,
    /// Callers that lease them.
    #[arg(long, default_value_t = 4)]
    workers: usize,
    /// Data directory, emptied first.
    #[arg(long, default_value = "target/bench/schedules")]
    dir: PathBuf,
}

type Problem = Box<dyn std::error::Error + Send + Sync>;

/// Clock ticks of the processor this process has used, all threads together; 100 a second on Linux.
fn processor_ticks() -> Result<u64, Problem> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The name, which may hold anything, ends with the last parenthesis.
    let numbers = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<&str> = numbers.split_whitespace().collect();
    let field = |place: usize| fields.get(place).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    Ok(field(11) + field(12))
}

pub(crate) fn run(args: &Args) -> Result<(), Problem> {
    let _ = std::fs::remove_dir_all(&args.dir);
    std::fs::create_dir_all(&args.dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(args))
}

#[allow(clippy::disallowed_methods, reason = "a measurement")]
async fn measure(args: &Args) -> Result<(), Problem> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let options = Options::new(Arc::clone(&clock), Arc::new(SeededEntropy::new(1)));
    let engine: Arc<dyn Engine> = Arc::new(SqliteEngine::open(&args.dir, options)?);
    let queue = QueueName::new("bench")?;
    for number in 0..args.schedules {
        // On New Year's Eve, each at a minute of its own.
        let cron = format!("{} {} 31 12 *", number % 60, number / 60 % 24);
        let new = NewSchedule {
            timing: Timing::new(Pattern::cron(&cron, Some("Europe/Berlin".parse()?))?, None, None)?,
            queue: queue.clone(),
            missed: Missed::default(),
            overlap: Overlap::default(),
            job: Template::default(),
        };
        engine.put_schedule(format!("s{number}").parse()?, new).await?;
    }
    let runtime = Runtime::start(Arc::clone(&engine), Arc::clone(&clock));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = processor_ticks()?;
    tokio::time::sleep(Duration::from_secs(args.seconds)).await;
    let share = (processor_ticks()? - before) as f64 / args.seconds as f64;
    println!("{} idle schedules: {share:.2} % of one processor", args.schedules);

    let moment = clock.now().saturating_add(DurationMs::from_ms(5_000 + args.due as u64 / 20));
    let job = NewJob { when: When::At(moment), ..NewJob::default() };
    let mut left = args.due;
    while left > 0 {
        let count = left.min(10_000);
        let params = AddParams { queue: queue.clone(), jobs: vec![job.clone(); count], atomic: false };
        engine.add(params).await?;
        left -= count;
    }
    let early = moment.as_unix_ms() - clock.now().as_unix_ms();
    if early < 0 {
        return Err("adding took longer than until they were due: give fewer".into());
    }
    let leased = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let mut workers = tokio::task::JoinSet::new();
    let started = Instant::now();
    for number in 0..args.workers {
        let (engine, leased, due) = (Arc::clone(&engine), Arc::clone(&leased), args.due);
        let params = LeaseParams {
            queues: vec![queue.clone()],
            max: 1_000,
            lease: DurationMs::from_ms(600_000),
            worker: WorkerName::new(format!("w{number}"))?,
            fair: false,
            wait: DurationMs::from_ms(1_000),
            poll: None,
        };
        workers.spawn(async move {
            while leased.load(std::sync::atomic::Ordering::Relaxed) < due {
                let jobs = engine.lease(params.clone()).await?;
                leased.fetch_add(jobs.len(), std::sync::atomic::Ordering::Relaxed);
                if leased.load(std::sync::atomic::Ordering::Relaxed) >= due {
                    break;
                }
            }
            Ok::<Instant, Problem>(Instant::now())
        });
    }
    let mut last = None;
    while let Some(done) = workers.join_next().await {
        // The first to see that all are leased.
        let done = done??;
        last = Some(last.map_or(done, |last: Instant| last.min(done)));
    }
    let took = last.map_or(Duration::ZERO, |last| last.duration_since(started));
    let took = took.saturating_sub(Duration::from_millis(early.unsigned_abs()));
    println!("{} jobs due at one moment: all leased {:.2} s after it", args.due, took.as_secs_f64());
    runtime.drain().await?;
    runtime.stop().await?;
    Ok(())
}
