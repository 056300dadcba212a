//! Workers, killed, stopped and started again until nothing is left to do, and an operator between the rounds.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use onefold::{Backoff, DurationMs, JobId, NewJob, rusqlite};
use onefold_core::limits;
use onefold_e2e::{Gate, Process, Rng, Server, now};
use rustix::process::Signal;

use crate::judge::Ledger;
use crate::{Plan, QUEUE, Store, Verdict, Way, operate};

const PATIENCE: Duration = Duration::from_secs(60);
/// How often the processes are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// A worker is killed for no reason of its own after so many leases at the most.
const LIVES: u64 = 5;
/// More rounds than any schedule needs.
const ROUNDS_MAX: u32 = 40;

/// `env!("CARGO_BIN_EXE_…")`, which only tests know.
#[derive(Debug, Clone, Copy)]
pub struct Programs {
    /// `onefold-effects-ledger`
    pub ledger: &'static str,
    /// `onefold-effects-worker`
    pub worker: &'static str,
}

/// Many runs over one store.
pub struct Rounds {
    /// Where the jobs are.
    pub store: Store,
    /// The server they are reached by, if there is one.
    pub server: Option<Server>,
    /// What their handler does.
    pub way: Way,
    /// The seed of the first.
    pub seed: u64,
    /// How many.
    pub runs: u64,
    /// Who takes part.
    pub programs: Programs,
}

/// What the director did to the processes.
#[derive(Debug, Default, Clone, Copy)]
pub struct Struck {
    kills: u64,
    stops: u64,
    server_kills: u64,
    redriven: u64,
    resolved: u64,
    rounds: u32,
}

struct Crew {
    ledger: SocketAddr,
    random: Rng,
    gate: Gate,
    struck: Struck,
}

/// A worker, and what is to be done to it next.
struct Hand {
    process: Process,
    kill_at: Duration,
    goes_on_at: Option<Duration>,
}

impl Rounds {
    /// Runs all of them to their ends, and compares.
    pub fn run(mut self, dir: &Path) -> (Verdict, Struck) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let file = dir.join("ledger");
        let mut process = Process::start(Command::new(self.programs.ledger).arg(&file), "");
        let line = process.wait_line(PATIENCE, |line| line.starts_with("listens on ")).unwrap();
        let ledger = line.trim_start_matches("listens on ").parse().unwrap();
        let mut crew =
            Crew { ledger, random: Rng::new(self.seed, 2), gate: Gate::new(), struck: Struck::default() };
        self.let_go();
        let jobs = runtime.block_on(self.add());
        loop {
            crew.struck.rounds += 1;
            assert!(crew.struck.rounds <= ROUNDS_MAX, "no end after {:?}", crew.struck);
            self.serve();
            crew.round(&mut self);
            self.let_go();
            let operated = runtime.block_on(operate::operate(&self.store, &Ledger::read(&file)));
            crew.struck.redriven += operated.redriven;
            crew.struck.resolved += operated.resolved;
            if operated.redriven == 0 && runtime.block_on(operate::all_completed(&self.store)) {
                break;
            }
        }
        let seen = runtime.block_on(operate::look(&self.store, &jobs));
        let rows = runtime.block_on(rows(&self.store));
        (Verdict::of(&self.store, self.way, &seen, &Ledger::read(&file), &rows), crew.struck)
    }

    /// A job a seed.
    async fn add(&self) -> Vec<JobId> {
        let onefold = self.store.engine().await;
        let queue = onefold.queue::<u64>(QUEUE);
        let jobs = (self.seed..self.seed + self.runs).map(|seed| {
            let soon = Backoff::Fixed(DurationMs::from_ms(5));
            NewJob::new(seed).max_attempts(Plan::new(seed).max_attempts()).backoff(soon)
        });
        let jobs: Vec<_> = jobs.collect();
        let mut added = Vec::new();
        for some in jobs.chunks(limits::ADD_JOBS_MAX.min(1_000)) {
            added.extend(queue.add_many(some.to_vec()).await.unwrap().into_iter().map(|job| job.unwrap().id));
        }
        onefold.close().await.unwrap();
        if let Store::Postgres(address) = &self.store {
            let (client, connection) = tokio_postgres::connect(address, tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            client.batch_execute("CREATE TABLE public.charges (job text NOT NULL)").await.unwrap();
        }
        added
    }

    fn serve(&mut self) {
        if let (Some(server), Store::Server(address, _)) = (&mut self.server, &mut self.store) {
            server.restart();
            *address = server.address();
        }
    }

    /// The directory of a server is the operator's between the rounds.
    fn let_go(&mut self) {
        if let Some(server) = &mut self.server {
            server.kill();
        }
    }

    fn hire(&self, ledger: SocketAddr, now: Duration, random: &mut Rng) -> Hand {
        let mut command = Command::new(self.programs.worker);
        command.args(self.store.words()).arg(ledger.to_string()).arg(self.way.word());
        let lives = Duration::from_millis(random.within(100..LIVES * millis(self.store.lease())));
        Hand { process: Process::start(&mut command, ""), kill_at: now + lives, goes_on_at: None }
    }
}

impl Crew {
    /// Until a worker finds that nothing is unfinished.
    fn round(&mut self, rounds: &mut Rounds) {
        let start = now();
        let mut hands: Vec<Hand> =
            (0..rounds.store.workers()).map(|_| rounds.hire(self.ledger, start, &mut self.random)).collect();
        let (mut done, lease) = (false, millis(rounds.store.lease()));
        while !(done && hands.is_empty()) {
            assert!(now() - start < PATIENCE * 4, "no end of a round after {:?}", self.struck);
            self.gate.pause(LOOK_EVERY);
            hands.retain_mut(|hand| match self.look_after(hand, lease) {
                Some(finished) => {
                    done |= finished;
                    false
                }
                None => true,
            });
            while !done && hands.len() < rounds.store.workers() {
                hands.push(rounds.hire(self.ledger, now(), &mut self.random));
            }
            if !done
                && self.random.one_in(400)
                && let Some(server) = &mut rounds.server
            {
                server.restart();
                self.struck.server_kills += 1;
            }
        }
    }

    /// What has to be done to a worker now. Some once it is gone: whether it had finished.
    fn look_after(&mut self, hand: &mut Hand, lease: u64) -> Option<bool> {
        let now = now();
        match state_of(hand.process.pid()) {
            // A zombie until it is waited for.
            None | Some('Z') => {
                let (status, _, errors) = hand.process.finish(PATIENCE);
                let killed = std::os::unix::process::ExitStatusExt::signal(&status).is_some();
                assert!(killed || status.success(), "a worker failed: {errors}");
                self.struck.kills += u64::from(killed);
                Some(!killed)
            }
            Some('T') => {
                let stopped_for = Duration::from_millis(self.random.within(50..2 * lease));
                let goes_on_at = *hand.goes_on_at.get_or_insert_with(|| {
                    self.struck.stops += 1;
                    now + stopped_for
                });
                if now >= goes_on_at {
                    hand.goes_on_at = None;
                    hand.process.signal(Signal::CONT);
                }
                None
            }
            Some(_) => {
                if now >= hand.kill_at {
                    hand.process.signal(Signal::KILL);
                }
                None
            }
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).expect("a short time")
}

/// The letter of a process's state; `None` once it is gone.
fn state_of(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(PathBuf::from(format!("/proc/{pid}/stat"))).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// How often the user's rows of each job are there.
async fn rows(store: &Store) -> BTreeMap<JobId, u64> {
    let mut jobs: Vec<String> = Vec::new();
    match store {
        Store::Embedded(dir) => {
            let conn = rusqlite::Connection::open(dir.join("onefold.db")).unwrap();
            // Nobody may have come so far.
            if let Ok(mut statement) = conn.prepare("SELECT job FROM charges") {
                jobs.extend(
                    statement.query_map((), |row| row.get::<_, String>(0)).unwrap().map(Result::unwrap),
                );
            }
        }
        Store::Postgres(address) => {
            let (client, connection) = tokio_postgres::connect(address, tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            let found = client.query("SELECT job FROM public.charges", &[]).await.unwrap();
            jobs.extend(found.iter().map(|row| row.get::<_, String>(0)));
        }
        Store::Server(..) => {}
    }
    let mut rows = BTreeMap::new();
    for job in jobs {
        *rows.entry(job.parse().unwrap()).or_default() += 1;
    }
    rows
}
