//! What an old transaction that somebody holds open costs: a million jobs wait, and jobs are added, leased and completed
//! as fast as that goes, first without it, then beside it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::Failure;
use super::node::Node;
use super::server::Server;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Jobs that wait all the time.
    #[arg(long, default_value_t = 1_000_000)]
    waiting: usize,
    /// How long each of the two measurements takes.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// How often it is looked.
    #[arg(long, default_value_t = 20)]
    samples: u32,
    /// Workers, each with a batch of its own.
    #[arg(long, default_value_t = 4)]
    workers: usize,
    /// Jobs of a batch.
    #[arg(long, default_value_t = 100)]
    batch: usize,
    /// Only beside the transaction held open.
    #[arg(long)]
    held_only: bool,
    /// Other settings of the server: name=value.
    #[arg(long = "set")]
    settings: Vec<String>,
}

/// What is aimed at.
const LOSS_MAX: f64 = 0.2;

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let server = Server::start(&args.settings)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mut rates = Vec::new();
        for held in [false, true].into_iter().skip(usize::from(args.held_only)) {
            server.database("horizon").await?;
            let node = Node::open(server.config("horizon"), 16, false).await?;
            for _ in 0..args.waiting.div_ceil(1_000) {
                node.add(1_000).await?;
            }
            server.settle("horizon").await?;
            let holder = server.client("horizon").await?;
            if held {
                holder
                    .batch_execute(
                        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM onefold.queues",
                    )
                    .await?;
            }
            println!("{}", if held { "beside a transaction held open:" } else { "without one:" });
            rates.push(measure(&server, &node, args).await?);
            drop(holder);
            node.close().await?;
        }
        let [without, beside] = rates.as_slice() else { return Ok(()) };
        let loss = 1.0 - beside / without;
        println!(
            "{without:.0} jobs/s without, {beside:.0} beside it: {:.1} % lost (aim: less than {:.0} %)",
            100.0 * loss,
            100.0 * LOSS_MAX
        );
        Ok(())
    })
}

/// Jobs a second over all, told as it goes.
#[allow(clippy::disallowed_methods, reason = "a measurement")]
async fn measure(server: &Server, node: &Node, args: &Args) -> Result<f64, Failure> {
    let figures = server.client("horizon").await?;
    let (over, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (started, added) = (Instant::now(), AtomicUsize::new(0));
    let every = Duration::from_secs_f64(args.minutes * 60.0 / f64::from(args.samples));
    // One comes for each that is done.
    let produce = async {
        while !over.load(Ordering::Relaxed) {
            if added.load(Ordering::Relaxed) > done.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(2)).await;
                continue;
            }
            node.add(500).await?;
            added.fetch_add(500, Ordering::Relaxed);
        }
        Ok::<(), Failure>(())
    };
    let sample = async {
        let mut before = 0;
        for _ in 0..args.samples {
            tokio::time::sleep(every).await;
            let now = done.load(Ordering::Relaxed);
            let rate = (now - before) as f64 / every.as_secs_f64();
            before = now;
            println!(
                "  {:>4.0} s: {rate:>7.0} jobs/s; dead rows: {}",
                started.elapsed().as_secs_f64(),
                dead(&figures).await?
            );
        }
        over.store(true, Ordering::Relaxed);
        Ok::<(), Failure>(())
    };
    let work =
        futures_util::future::try_join_all((0..args.workers).map(|_| node.work(args.batch, &over, &done)));
    let (produced, sampled, worked) = tokio::join!(produce, sample, work);
    produced?;
    sampled?;
    worked?;
    Ok(done.into_inner() as f64 / started.elapsed().as_secs_f64())
}

/// Dead rows of the tables claims and ends go through.
async fn dead(client: &Client) -> Result<String, Failure> {
    let rows = client
        .query(
            "SELECT relname::text, n_dead_tup FROM pg_stat_user_tables WHERE schemaname = 'onefold' \
             AND n_dead_tup > 1000 ORDER BY n_dead_tup DESC LIMIT 5",
            &[],
        )
        .await?;
    let words: Vec<String> =
        rows.iter().map(|row| format!("{} {}", row.get::<_, String>(0), row.get::<_, i64>(1))).collect();
    Ok(if words.is_empty() { "few".to_owned() } else { words.join(", ") })
}
