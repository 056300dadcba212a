//! The play: who enters, who is killed when, and when it is over.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use onefold_core::{JobId, State};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::books::{Books, JobTold, SoFar};
use super::crew::{Crew, Ears, Heard, Member};
use super::plan::Plan;
use super::receiver::Receiver;
use super::report::{Outcome, Report};
use super::stage::Stage;
use super::survey::Row;
use super::verdict::{Cast, Evidence, Kills, Restart, Seen, judge};
use super::{DemoArgs, server_at, survey, ticks};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{Output, note, watched};
use crate::progress::Bar;

const WORKERS: usize = 4;
/// How often it is looked whether it is over.
const BEAT: Duration = Duration::from_millis(100);
/// After this many beats something is wrong.
const BEATS_MAX: u32 = 1_800;
/// A stopped worker goes on after so many beats even if its jobs were not taken over.
const PAUSE_BEATS_MAX: u32 = 100;

pub(super) struct Director {
    cast: Cast,
    crew: Arc<Crew>,
    ears: Ears,
    stage: Stage,
    servers: Vec<Server>,
    receiver_url: String,
    receiver: Receiver,
    _receiver_process: Member,
    producers: HashMap<u32, Member>,
    workers: HashMap<u32, Member>,
    workers_started: usize,
    paused: Option<Paused>,
    plan: Plan,
    books: Books,
    kills: Kills,
    /// The server that was killed, on its way back.
    returning: JoinSet<Result<Returned, Failure>>,
    restarts: Vec<Restart>,
    bar: Bar,
}

/// A server, which keeps its port.
struct Server {
    process: Option<Member>,
    url: String,
    client: Client,
}

/// A server that was killed and serves again.
struct Returned {
    nth: usize,
    process: Member,
    restart: Restart,
}

/// A worker that was stopped.
struct Paused {
    pid: u32,
    /// What it held and nobody else has leased since.
    waits_for: HashSet<JobId>,
    beats: u32,
    /// It goes on, and is about to ack what is no longer its own.
    resumed: bool,
}

impl Director {
    /// Starts everybody.
    pub(super) async fn begin(
        args: &DemoArgs,
        seed: u64,
        dir: &Path,
        stage: Stage,
        output: Output,
    ) -> Result<Director, Failure> {
        if !watched() && !output.json {
            note(&format!("demo: {} orders, seed {seed}; takes some 15 seconds", args.orders));
        }
        if let Some(place) = stage.database().filter(|_| !output.json) {
            note(&format!("two nodes serve PostgreSQL {place}; they are killed, the database is not"));
        }
        let (crew, ears) = Crew::gather(dir)?;
        let mut servers = Vec::new();
        for _ in 0..stage.nodes() {
            let (process, url) = stage.start_server(&crew, "127.0.0.1:0").await?;
            let client = server_at(url.parse().map_err(Failure::failed)?)?;
            servers.push(Server { process: Some(process), url, client });
        }
        if let Some(server) = servers.first() {
            ticks::begin(&server.client).await?;
        }
        let (receiver_process, receiver_url) = crew.start_serving(&["receiver"], &[]).await?;
        let mut director = Director {
            cast: Cast { orders: args.orders, seed, naive_only: args.naive_only },
            crew: Arc::new(crew),
            ears,
            stage,
            servers,
            receiver: Receiver::at(&receiver_url),
            receiver_url,
            _receiver_process: receiver_process,
            producers: HashMap::new(),
            workers: HashMap::new(),
            workers_started: 0,
            paused: None,
            plan: Plan::draw(seed, args.orders),
            books: Books::default(),
            kills: Kills::default(),
            returning: JoinSet::new(),
            restarts: Vec::new(),
            bar: Bar::new(output),
        };
        for _ in 0..WORKERS {
            director.start_worker()?;
        }
        for arrays in [false, true] {
            director.start_producer(arrays)?;
        }
        Ok(director)
    }

    /// One server after the other.
    fn server(&self, nth: usize) -> Result<&Server, Failure> {
        let server = self.servers.get(nth % self.servers.len().max(1));
        server.ok_or_else(|| Failure::failed("there is no server"))
    }

    fn client(&self) -> Result<&Client, Failure> {
        Ok(&self.server(0)?.client)
    }

    fn start_worker(&mut self) -> Result<(), Failure> {
        let server = self.server(self.workers_started)?.url.clone();
        self.workers_started += 1;
        let mut arguments = vec!["worker", "--server", &server, "--receiver", &self.receiver_url];
        if self.cast.naive_only {
            arguments.push("--naive-only");
        }
        let worker = self.crew.start(&arguments)?;
        self.workers.insert(worker.pid(), worker);
        Ok(())
    }

    fn start_producer(&mut self, arrays: bool) -> Result<(), Failure> {
        let (orders, seed) =
            (self.cast.orders.to_string(), self.cast.seed.wrapping_add(u64::from(arrays)).to_string());
        let server = self.server(usize::from(arrays))?.url.clone();
        let mut arguments = vec!["producer", "--server", &server, "--orders", &orders, "--seed", &seed];
        if arrays {
            arguments.push("--arrays");
        }
        let producer = self.crew.start(&arguments)?;
        self.producers.insert(producer.pid(), producer);
        Ok(())
    }

    /// Directs the play to its end and judges it.
    pub(super) async fn direct(mut self) -> Result<Seen, Failure> {
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for _ in 0..BEATS_MAX {
            let until_beat = async {
                beat.tick().await;
            };
            tokio::pin!(until_beat);
            loop {
                tokio::select! {
                    () = &mut until_beat => break,
                    Some(returned) = self.returning.join_next() => {
                        self.returned(returned.map_err(Failure::failed)??);
                    }
                    Some(heard) = self.ears.next() => self.hear(heard)?,
                }
                self.strike_server();
            }
            self.end_long_pause()?;
            if self.is_over().await? {
                return self.finale().await;
            }
        }
        let counts = survey::counts(self.client()?).await?;
        Err(self.crew.explain(&format!("the demo does not come to its end: {counts:?}")))
    }

    fn hear(&mut self, Heard { pid, report }: Heard) -> Result<(), Failure> {
        match report {
            None if self.workers.contains_key(&pid) => {
                return Err(self.crew.explain("a worker ended by itself"));
            }
            None if self.producers.contains_key(&pid) => {
                return Err(self.crew.explain("a producer ended before it had sent everything"));
            }
            None => {}
            Some(Report::Added(added)) => self.books.added(&added),
            Some(Report::Sent) => drop(self.producers.remove(&pid)),
            Some(Report::Leased(leases)) => {
                self.taken_over(pid, leases.iter().map(|lease| lease.id))?;
                self.books.leased(pid, leases);
            }
            Some(Report::Charged { token, .. }) => {
                self.books.charged(pid, token);
                self.strike_worker(pid)?;
            }
            Some(Report::Settled { results, again }) => {
                self.books.settled(pid, &results, again);
                if self.paused.as_ref().is_some_and(|paused| paused.pid == pid && paused.resumed) {
                    self.paused = None;
                    // It had acked everything before it was stopped: that shows nothing.
                    if results.iter().all(|result| result.outcome != Outcome::LeaseLost) {
                        self.plan.pauses.again();
                    }
                }
            }
            Some(Report::Repeated { ends, differently }) => self.books.repeated(ends, differently),
        }
        let what = format!("{} SIGKILLs", self.kills.workers + self.kills.servers);
        self.bar.set(&what, self.books.acks.min(self.cast.orders.into()), self.cast.orders.into());
        Ok(())
    }

    /// Kills or stops the worker that has just charged, if it is time for that.
    fn strike_worker(&mut self, pid: u32) -> Result<(), Failure> {
        // Whoever said more since is doing something else by now.
        let is_news = !self.ears.has_more_of(pid);
        let is_paused = self.paused.as_ref().is_some_and(|paused| paused.pid == pid);
        if !is_news || is_paused || !self.workers.contains_key(&pid) || self.books.suffered_enough(pid) {
            return Ok(());
        }
        // Pauses first: there are fewer workers that one can be tried on.
        if self.paused.is_none()
            && self.books.uncharged(pid) > 0
            && self.plan.pauses.is_due(self.books.charges)
            && let Some(worker) = self.workers.get(&pid)
        {
            worker.stop()?;
            self.books.stopped(pid);
            self.paused = Some(Paused { pid, waits_for: self.books.held(pid), beats: 0, resumed: false });
            return Ok(());
        }
        if self.plan.worker_kills.is_due(self.books.charges) {
            if let Some(worker) = self.workers.remove(&pid) {
                worker.kill();
            }
            self.books.killed(pid);
            self.kills.workers += 1;
            return self.start_worker();
        }
        Ok(())
    }

    /// Somebody leased these jobs: once all of a stopped worker's are somebody else's, it goes on.
    fn taken_over(&mut self, by: u32, ids: impl Iterator<Item = JobId>) -> Result<(), Failure> {
        let Some(paused) = self.paused.as_mut().filter(|paused| paused.pid != by && !paused.resumed) else {
            return Ok(());
        };
        for id in ids {
            paused.waits_for.remove(&id);
        }
        if paused.waits_for.is_empty() {
            paused.resumed = true;
            return self.workers.get(&paused.pid).map_or(Ok(()), Member::resume);
        }
        Ok(())
    }

    fn end_long_pause(&mut self) -> Result<(), Failure> {
        let Some(paused) = self.paused.as_mut() else { return Ok(()) };
        paused.beats += 1;
        if paused.beats != PAUSE_BEATS_MAX || paused.resumed {
            return Ok(());
        }
        paused.resumed = true;
        self.workers.get(&paused.pid).map_or(Ok(()), Member::resume)
    }

    /// Kills a server if it is time for that, and has it start again on the same data and port. Meanwhile the others go on,
    /// and are struck as well.
    fn strike_server(&mut self) {
        if !self.returning.is_empty() || !self.plan.server_kills.is_due(self.books.adds + self.books.charges)
        {
            return;
        }
        let nth = usize::try_from(self.kills.servers).unwrap_or(0) % self.servers.len().max(1);
        let Some(server) = self.servers.get_mut(nth) else { return };
        if let Some(process) = server.process.take() {
            process.kill();
        }
        self.kills.servers += 1;
        let (client, listen) = (server.client.clone(), server.url.trim_start_matches("http://").to_owned());
        let (stage, crew, told) = (self.stage.clone(), Arc::clone(&self.crew), self.books.so_far());
        self.returning.spawn(async move {
            let process = stage.start_server(&crew, &listen).await?.0;
            Ok(Returned { nth, process, restart: look_back(&client, &told).await? })
        });
    }

    fn returned(&mut self, Returned { nth, process, restart }: Returned) {
        if let Some(server) = self.servers.get_mut(nth) {
            server.process = Some(process);
        }
        self.restarts.push(restart);
    }

    /// Everything was sent and ended, and nobody holds anything or is stopped.
    async fn is_over(&mut self) -> Result<bool, Failure> {
        let idle = |pid: &u32| self.books.held(*pid).is_empty();
        let quiet = self.producers.is_empty()
            && self.paused.is_none()
            && self.returning.is_empty()
            && self.ears.is_quiet()
            && self.workers.keys().all(idle);
        if !quiet {
            return Ok(false);
        }
        let counts = survey::counts(self.client()?).await?;
        // The schedule goes on to the end.
        let mut others = counts.iter().filter(|(queue, _)| *queue != ticks::QUEUE);
        Ok(others.all(|(_, counts)| survey::unfinished(counts) == 0))
    }

    /// What is better looked at in peace, and then the count.
    async fn finale(mut self) -> Result<Seen, Failure> {
        self.bar.set("counting", self.cast.orders.into(), self.cast.orders.into());
        let ticks = ticks::end(self.client()?).await?;
        let poison = survey::poison(self.client()?).await?;
        let reused = survey::reuse_key(self.client()?, 0).await?;
        while let Some(heard) = self.ears.next_now() {
            self.hear(heard)?;
        }
        self.workers.clear();
        let rows = survey::rows(self.client()?).await?;
        let told_of = self.books.refused.keys().map(|(id, _)| *id).collect::<HashSet<_>>();
        let with_a_story = |row: &&Row| row.attempts > 1 || row.group.is_some() || told_of.contains(&row.id);
        let ids = rows.iter().filter(with_a_story).map(|row| row.id);
        let histories = survey::histories(self.client()?, ids).await?;
        let evidence = Evidence {
            cast: self.cast,
            kills: self.kills,
            restarts: &self.restarts,
            books: &self.books,
            rows: &rows,
            histories: &histories,
            counts: &survey::counts(self.client()?).await?,
            ledgers: &self.receiver.ledgers().await?,
            poison: &poison,
            ticks: &ticks,
            reused: reused.as_ref(),
        };
        Ok(judge(&evidence))
    }
}

/// Looks whether everything is there that was told before a server was killed.
async fn look_back(client: &Client, told: &SoFar) -> Result<Restart, Failure> {
    let there: HashMap<JobId, Row> =
        survey::rows(client).await?.into_iter().map(|row| (row.id, row)).collect();
    let is_there = |(id, told): (&JobId, &JobTold)| {
        let leased = told.leases.iter().map(|(attempt, _)| *attempt).max().unwrap_or(0);
        there.get(id).is_some_and(|row| {
            row.attempts >= leased && (told.completed.is_none() || row.state == State::Completed.as_str())
        })
    };
    let missing = told.jobs.iter().filter(|told| !is_there(*told)).count();
    Ok(Restart {
        acknowledged: told.acknowledged,
        missing: missing as u64,
        highest_token_before: told.highest_token,
        token_after: survey::probe(client).await?,
    })
}
