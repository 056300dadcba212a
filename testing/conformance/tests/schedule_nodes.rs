//! Schedules evaluated by several processes, which are killed, while clocks are changed, by law and by mistake (I9).
//!
//! Each node is a process of its own, started from this program. It lives by a clock that it is told: one line a step.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a test a broken expectation is a failed test"
)]

#[path = "postgres_support/server.rs"]
mod server;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use onefold_conformance::{asked, schedule_id, template};
use onefold_core::schedule::{Interval, Missed, NewSchedule, Pattern, Schedule, Tick, Timing};
use onefold_core::{
    Clock, DurationMs, Engine, Entropy, JobFilter, JobSpec, ListParams, ManualClock, NewJob, SeededEntropy,
    State, Timestamp,
};
use onefold_engine_postgres::{Options as PostgresOptions, PostgresConfig, PostgresEngine, Time};
use onefold_engine_sqlite::{OpenError, Options as SqliteOptions, SqliteEngine};

/// Tells a process that it is a node: where its store is.
const STORE: &str = "ONEFOLD_TEST_SCHEDULE_STORE";
/// So long that it never comes in a test: time is the clock's.
const NEVER: Duration = Duration::from_secs(86_400);
const SCHEDULES: usize = 1_000;
const HOUR: i64 = 3_600_000;

/// A day before clocks go back in Europe, and nine days on, when they have gone back in America too.
fn start() -> Timestamp {
    "2026-10-24T12:00:00Z".parse().unwrap()
}
const HOURS: i64 = 9 * 24;

/// Where a store is.
#[derive(Debug, Clone)]
enum Store {
    Directory(PathBuf),
    Schema { host: PathBuf, schema: String },
}

impl Store {
    fn shown(&self) -> String {
        match self {
            Store::Directory(path) => format!("dir\n{}", path.display()),
            Store::Schema { host, schema } => format!("schema\n{}\n{schema}", host.display()),
        }
    }

    fn read(text: &str) -> Store {
        let lines: Vec<&str> = text.lines().collect();
        match lines.as_slice() {
            ["dir", path] => Store::Directory(PathBuf::from(path)),
            ["schema", host, schema] => {
                Store::Schema { host: PathBuf::from(host), schema: (*schema).to_owned() }
            }
            _ => panic!("no store: {text}"),
        }
    }

    async fn open(&self, clock: &Arc<ManualClock>, seed: u64) -> Arc<dyn Engine> {
        let entropy = Arc::new(SeededEntropy::new(seed));
        match self {
            Store::Directory(path) => loop {
                match SqliteEngine::open(path, SqliteOptions::new(clock.clone(), entropy.clone())) {
                    Ok(engine) => return Arc::new(engine),
                    // Whoever was killed is not quite gone.
                    Err(OpenError::Locked(_)) => tokio::task::yield_now().await,
                    Err(error) => panic!("{error}"),
                }
            },
            Store::Schema { host, schema } => {
                let mut to = server::config_in(host);
                to.application_name("schedule node");
                let config =
                    PostgresConfig { schema: schema.clone(), connections: 6, ..PostgresConfig::new(to) };
                let options = PostgresOptions {
                    time: Time::Clock,
                    look_around: NEVER,
                    serve_gap: NEVER,
                    ..PostgresOptions::new(clock.clone(), entropy)
                };
                Arc::new(PostgresEngine::open(config, options).await.unwrap())
            }
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// What a node does: for each line it sets its clock, ticks until nothing is due, and says so. Not a test of its own.
#[test]
fn a_node_is_a_process() {
    let Ok(store) = std::env::var(STORE) else { return };
    let clock = Arc::new(ManualClock::at(start()));
    runtime().block_on(async {
        let mut lines = std::io::stdin().lines();
        let mut next = || lines.next().map(|line| line.unwrap().parse::<i64>().unwrap());
        let Some(first) = next() else { return };
        clock.step_to(Timestamp::from_unix_ms(first).unwrap());
        let engine = Store::read(&store).open(&clock, u64::from(std::process::id())).await;
        println!("\nready");
        while let Some(ms) = next() {
            let to = Timestamp::from_unix_ms(ms).unwrap();
            match to >= clock.now() {
                true => clock.advance(to.since(clock.now())),
                false => clock.step_to(to),
            }
            println!("\nbegun");
            while engine.tick().await.unwrap().next <= clock.now() {}
            println!("\nticked");
        }
    });
}

/// A node, from outside.
struct Node {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Node {
    fn start(store: &Store, now: Timestamp) -> Node {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["a_node_is_a_process", "--exact", "--nocapture"])
            .env(STORE, store.shown())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut node = Node { child, output };
        node.tell(now);
        node.hear("ready");
        node
    }

    /// Begins a tick at this time.
    fn tell(&mut self, now: Timestamp) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{}", now.as_unix_ms()).unwrap();
    }

    fn hear(&mut self, word: &str) {
        let mut line = String::new();
        while line.trim() != word {
            line.clear();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the node ended before it was {word}");
        }
    }

    /// SIGKILL, wherever it is.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Daily ones around the hours in which clocks are changed, rhythms across them, and intervals.
fn asked_for(number: usize) -> NewSchedule {
    const ZONES: [&str; 6] = [
        "Europe/Berlin",
        "America/New_York",
        "Europe/London",
        "America/Havana",
        "Atlantic/Azores",
        "Asia/Tokyo",
    ];
    let zone = Some(ZONES[number % ZONES.len()].parse().unwrap());
    let pattern = match number % 25 {
        0 => Pattern::cron("*/30 0-3 * * *", zone),
        1 => Ok(Pattern::Every(Interval::new(DurationMs::from_ms(5 * 3_600_000), start()).unwrap())),
        _ => Pattern::cron(&format!("{} {} * * *", number % 60, number % 4), zone),
    };
    let mut new = asked(Timing::new(pattern.unwrap(), None, None).unwrap());
    // However late a node comes, each tick wants its job.
    new.missed = Missed::All;
    new.job = template(NewJob { spec: JobSpec::default(), ..NewJob::default() });
    new
}

/// The jobs of each tick that there are, and whether the queue counts them all (I2).
async fn jobs_of_ticks(engine: &dyn Engine) -> BTreeMap<(String, String), u32> {
    let mut jobs = BTreeMap::new();
    let (mut before, mut seen) = (None, 0);
    loop {
        let params = ListParams { filter: JobFilter::default(), limit: 1_000, before };
        let page = engine.list(params).await.unwrap();
        for job in &page.jobs {
            let header = |wanted: &str| {
                let found = job.spec.headers.iter().find(|(name, _)| name == wanted);
                found.map(|(_, value)| value.clone()).expect("every job is of a tick")
            };
            *jobs.entry((header(Schedule::ID_HEADER), header(Schedule::TICK_HEADER))).or_default() += 1;
            assert_eq!(job.job.state, State::Available);
            seen += 1;
        }
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    let counts = engine.queue(onefold_conformance::queue("q")).await.unwrap().unwrap().counts;
    assert!(counts.conserved() && counts.accepted == seen, "{counts:?}, {seen} jobs");
    jobs
}

/// Makes the schedules, has `nodes` evaluate them over nine days, and compares what came of it with what had to.
fn play(store: &Store, nodes: usize) {
    let runtime = runtime();
    let clock = Arc::new(ManualClock::at(start()));
    runtime.block_on(async {
        let engine = store.open(&clock, 1).await;
        for number in 0..SCHEDULES {
            engine.put_schedule(schedule_id(&format!("s{number}")), asked_for(number)).await.unwrap();
        }
        engine.close().await.unwrap();
    });
    let dice = SeededEntropy::new(7);
    let mut now = start();
    let mut latest = now;
    let mut running: Vec<Node> = (0..nodes).map(|_| Node::start(store, now)).collect();
    let (mut kills, mut steps_back) = (0, 0);
    for hour in 1..=HOURS {
        now = start().saturating_add(DurationMs::from_ms((hour * HOUR) as u64));
        if hour % 30 == 17 {
            // The clock was three hours ahead until now, or falls back by as much.
            now = if hour % 60 == 17 {
                steps_back += 1;
                now.saturating_sub(DurationMs::from_ms(3 * HOUR as u64))
            } else {
                now.saturating_add(DurationMs::from_ms(3 * HOUR as u64))
            };
        }
        latest = latest.max(now);
        running.iter_mut().for_each(|node| node.tell(now));
        if dice.up_to(9) == 0 {
            // In the middle of it, as it comes.
            let mut victim = running.remove(dice.up_to(nodes as u64 - 1) as usize);
            victim.hear("begun");
            for _ in 0..dice.up_to(200_000) {
                std::hint::spin_loop();
            }
            victim.kill();
            kills += 1;
        }
        running.iter_mut().for_each(|node| node.hear("ticked"));
        while running.len() < nodes {
            running.push(Node::start(store, now));
        }
    }
    now = latest;
    running.iter_mut().for_each(|node| node.tell(now));
    running.iter_mut().for_each(|node| node.hear("ticked"));
    running.into_iter().for_each(Node::kill);
    assert!(kills >= 10 && steps_back >= 3, "{kills} kills, {steps_back} steps back");

    let jobs = runtime.block_on(async {
        let engine = store.open(&clock, 2).await;
        let jobs = jobs_of_ticks(engine.as_ref()).await;
        engine.close().await.unwrap();
        jobs
    });
    let mut expected = BTreeMap::new();
    for number in 0..SCHEDULES {
        let timing = asked_for(number).timing;
        for tick in timing.ticks_after(start()).map(Tick::at).take_while(|tick| *tick <= latest) {
            expected.insert((format!("s{number}"), tick.to_string()), 1);
        }
    }
    let twice: Vec<_> = jobs.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "I9: {} ticks have several jobs: {:?}", twice.len(), twice.first());
    let lost: Vec<_> = expected.keys().filter(|tick| !jobs.contains_key(tick)).collect();
    assert!(lost.is_empty(), "{} of {} ticks have no job: {:?}", lost.len(), expected.len(), lost.first());
    assert_eq!(jobs.len(), expected.len(), "jobs of ticks that never were");
    println!("{} ticks of {SCHEDULES} schedules, each one job; {nodes} nodes, {kills} kills", expected.len());
}

/// I9: two processes on one PostgreSQL, over changes of clocks, steps and kills: each tick has exactly one job.
#[test]
fn i9_two_nodes_on_one_postgresql() {
    let Some(host) = server::directory() else { return };
    let schema = format!("schedule nodes {}", std::process::id());
    play(&Store::Schema { host: Path::new(&host).to_owned(), schema }, 2);
}

/// I9: the same on SQLite, with one process at a time.
#[test]
fn i9_one_node_on_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    play(&Store::Directory(dir.path().to_owned()), 1);
}
