//! One contestant through one measurement.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::node::{Plan, What};
use super::server::{Server, Spent, Stat};
use super::{Args, Failure, Phase};

/// No process is silent for longer.
const PATIENCE: Duration = Duration::from_secs(300);

/// Who is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Contestant {
    Onefold,
    /// Every job with a key of its own; the peers have none.
    OnefoldKeyed,
    PgBoss,
    GraphileWorker,
    /// Another build of ours.
    Baseline(PathBuf),
}

/// What came of a measurement.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Figures {
    /// Jobs a second.
    pub(super) rate: f64,
    /// What each job cost.
    pub(super) server_us: f64,
    pub(super) node_us: f64,
    pub(super) wal_bytes: f64,
    pub(super) commits: f64,
}

/// What all measurements share.
pub(super) struct Course<'a> {
    pub(super) server: &'a Server,
    pub(super) peers: Option<&'a Path>,
    pub(super) nodes: usize,
    pub(super) args: &'a Args,
}

impl Contestant {
    pub(super) const ALL: [Contestant; 4] =
        [Contestant::Onefold, Contestant::OnefoldKeyed, Contestant::PgBoss, Contestant::GraphileWorker];

    pub(super) fn name(&self) -> &'static str {
        match self {
            Contestant::Onefold => "onefold",
            Contestant::OnefoldKeyed => "onefold-keyed",
            Contestant::PgBoss => "pg-boss",
            Contestant::GraphileWorker => "graphile-worker",
            Contestant::Baseline(_) => "baseline",
        }
    }

    pub(super) fn is_peer(&self) -> bool {
        matches!(self, Contestant::PgBoss | Contestant::GraphileWorker)
    }

    /// Each at its fastest: for pg-boss and graphile-worker what their documentation says about throughput, with the
    /// number of connections, workers and jobs a batch that was fastest of those tried.
    fn settings(&self, what: What) -> Settings {
        let settings = |connections, workers, batch| Settings { connections, workers, batch };
        match (self, what) {
            (Contestant::Onefold | Contestant::OnefoldKeyed | Contestant::Baseline(_), _) => {
                settings(16, 4, 250)
            }
            (Contestant::PgBoss, What::Drain) => settings(10, 4, 500),
            (Contestant::PgBoss, What::Single) => settings(16, 1, 1),
            (Contestant::PgBoss, _) => settings(10, 1, 1),
            (Contestant::GraphileWorker, What::Drain) => settings(25, 24, 500),
            (Contestant::GraphileWorker, What::Single) => settings(16, 1, 1),
            (Contestant::GraphileWorker, _) => settings(4, 1, 1),
        }
    }

    fn command(&self, plan: &Plan, peers: Option<&Path>) -> Result<Command, Failure> {
        let plan = serde_json::to_string(plan)?;
        let ours = |program: PathBuf| {
            let mut command = Command::new(program);
            command.args(["postgres-node", &plan]);
            command
        };
        Ok(match self {
            Contestant::Onefold | Contestant::OnefoldKeyed => ours(std::env::current_exe()?),
            Contestant::Baseline(program) => ours(program.clone()),
            Contestant::PgBoss | Contestant::GraphileWorker => {
                let peers = peers.ok_or("the peers are not installed")?;
                let mut command = Command::new(node_program(peers));
                command.current_dir(peers).arg(format!("{}.mjs", self.name())).arg(&plan);
                command
            }
        })
    }

    /// How many jobs are not done, by their own tables.
    fn left_sql(&self) -> &'static str {
        match self {
            Contestant::Onefold | Contestant::OnefoldKeyed | Contestant::Baseline(_) => {
                "SELECT count(*) FROM onefold.jobs WHERE finished_ms IS NULL"
            }
            Contestant::PgBoss => {
                "SELECT count(*) FROM pgboss.job WHERE name = 'bench' AND state <> 'completed'"
            }
            Contestant::GraphileWorker => "SELECT count(*) FROM graphile_worker.jobs",
        }
    }
}

struct Settings {
    connections: usize,
    workers: usize,
    batch: usize,
}

/// Puts the peers where they can be started.
pub(super) fn install(dir: &Path) -> Result<PathBuf, Failure> {
    std::fs::create_dir_all(dir)?;
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    for entry in std::fs::read_dir(&from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            std::fs::copy(entry.path(), dir.join(entry.file_name()))?;
        }
    }
    let done = Command::new("npm")
        .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"])
        .current_dir(dir)
        .stdout(Stdio::null())
        .status();
    if !done.is_ok_and(|status| status.success()) {
        return Err("npm could not install pg-boss and graphile-worker (bench/peers/package.json)".into());
    }
    Ok(dir.canonicalize()?)
}

/// The peers want a newer Node.js than some systems have, so one comes with them.
fn node_program(peers: &Path) -> PathBuf {
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
    let packaged = peers.join(format!("node_modules/node-linux-{arch}/bin/node"));
    if packaged.is_file() { packaged } else { PathBuf::from("node") }
}

impl Course<'_> {
    /// A new database, what the phase needs in it, and the measurement.
    pub(super) async fn run(&self, contestant: &Contestant, phase: Phase) -> Result<Figures, Failure> {
        let database = "contest";
        self.server.database(database).await?;
        let jobs = self.args.jobs;
        self.nodes(contestant, database, What::Prepare, 1, 0)?.join()?;
        if phase.what == What::Drain {
            let mut fill = self.nodes(contestant, database, What::Fill, 1, jobs)?;
            fill.go()?;
            fill.wait_added()?;
            fill.join()?;
        }
        self.server.settle(database).await?;
        let mut nodes = self.nodes(contestant, database, phase.what, self.nodes, jobs)?;
        nodes.wait_ready()?;
        let (spent, own) = (self.server.spent(database).await?, nodes.cpu_us());
        nodes.go()?;
        let (done, seconds) = match phase.what {
            What::Drain => (jobs, nodes.wait_handled(jobs)?),
            _ => nodes.wait_added()?,
        };
        let (spent, own): (Spent, f64) = (self.server.spent(database).await? - spent, nodes.cpu_us() - own);
        nodes.stop()?;
        nodes.join()?;
        if phase.what == What::Drain {
            let client = self.server.client(database).await?;
            let left: i64 = client.query_one(contestant.left_sql(), &[]).await?.try_get(0)?;
            if left != 0 {
                return Err(format!("{}: {left} jobs are left", contestant.name()).into());
            }
        }
        self.server.drop_database(database).await?;
        let jobs = done as f64;
        Ok(Figures {
            rate: jobs / seconds,
            server_us: spent.cpu_us / jobs,
            node_us: own / jobs,
            wal_bytes: spent.wal_bytes / jobs,
            commits: spent.commits / jobs,
        })
    }

    fn nodes(
        &self,
        contestant: &Contestant,
        database: &str,
        what: What,
        count: usize,
        jobs: usize,
    ) -> Result<Nodes, Failure> {
        let settings = contestant.settings(what);
        let in_flight: usize = if what == What::Single { 64 } else { 16 };
        let mut nodes = Nodes(Vec::new());
        for _ in 0..count {
            let plan = Plan {
                what,
                host: self.server.host.clone(),
                port: 5432,
                user: "onefold".to_owned(),
                database: database.to_owned(),
                connections: settings.connections,
                seconds: self.args.seconds,
                in_flight: in_flight.div_ceil(count),
                array: 50,
                jobs,
                workers: settings.workers,
                batch: settings.batch,
                keyed: *contestant == Contestant::OnefoldKeyed,
            };
            nodes.0.push(Process::start(contestant.command(&plan, self.peers)?)?);
        }
        Ok(nodes)
    }
}

/// A node and what it says.
struct Process {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Process {
    fn start(mut command: Command) -> Result<Process, Failure> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let output = BufReader::new(child.stdout.take().ok_or("no output")?);
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Process { input: child.stdin.take(), child, lines })
    }

    fn say(&mut self, word: &str) -> Result<(), Failure> {
        let input = self.input.as_mut().ok_or("no input")?;
        writeln!(input, "{word}")?;
        Ok(input.flush()?)
    }

    fn hear(&self) -> Result<String, Failure> {
        self.lines.recv_timeout(PATIENCE).map_err(|_| "a node ended or is silent".into())
    }

    /// How many jobs it says it handled so far.
    fn handled(&self, so_far: usize) -> usize {
        let said = self.lines.try_iter().last();
        said.and_then(|line| line.strip_prefix("handled ")?.parse().ok()).unwrap_or(so_far)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Nodes(Vec<Process>);

impl Nodes {
    fn wait_ready(&self) -> Result<(), Failure> {
        for node in &self.0 {
            while node.hear()? != "ready" {}
        }
        Ok(())
    }

    fn go(&mut self) -> Result<(), Failure> {
        self.0.iter_mut().try_for_each(|node| node.say("go"))
    }

    fn stop(&mut self) -> Result<(), Failure> {
        // Those that added are gone already.
        for node in &mut self.0 {
            let _ = node.say("stop");
        }
        Ok(())
    }

    /// Jobs added, and in how many seconds.
    fn wait_added(&self) -> Result<(usize, f64), Failure> {
        let (mut jobs, mut longest) = (0, 0.0_f64);
        for node in &self.0 {
            loop {
                let line = node.hear()?;
                let mut words = line.split_whitespace();
                if words.next() == Some("added") {
                    jobs += words.next().ok_or("no count")?.parse::<usize>()?;
                    longest = longest.max(words.next().ok_or("no time")?.parse::<f64>()? / 1000.0);
                    break;
                }
            }
        }
        Ok((jobs, longest))
    }

    /// Seconds until so many jobs were handled by all together.
    #[allow(clippy::disallowed_methods, reason = "a measurement")]
    fn wait_handled(&mut self, jobs: usize) -> Result<f64, Failure> {
        let started = Instant::now();
        let mut handled = vec![0; self.0.len()];
        while handled.iter().sum::<usize>() < jobs {
            for (node, handled) in self.0.iter_mut().zip(&mut handled) {
                *handled = node.handled(*handled);
                if node.child.try_wait()?.is_some() {
                    return Err("a node ended before its jobs were done".into());
                }
            }
            if started.elapsed() > PATIENCE {
                return Err(format!("only {handled:?} jobs were handled").into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(started.elapsed().as_secs_f64())
    }

    fn cpu_us(&self) -> f64 {
        self.0.iter().filter_map(|node| Stat::of(node.child.id())).map(|stat| stat.own_us).sum()
    }

    fn join(mut self) -> Result<(), Failure> {
        for node in &mut self.0 {
            let input = node.input.take();
            if !node.child.wait()?.success() {
                return Err("a node failed".into());
            }
            drop(input);
        }
        Ok(())
    }
}
