//! The one writer: a thread that owns the only writing connection. It takes what waits, does all
//! of it in one transaction, commits with one fsync, and only then answers (I1).

mod add;
mod command;
mod effects;
mod figures;
mod flush;
mod groups;
mod jobs;
mod lease;
pub(crate) mod ledger;
pub(crate) mod line;
mod local;
mod manage;
pub(crate) mod memory;
mod parked;
pub(crate) mod queue;
mod ready;
mod schedules;
pub(crate) mod seal;
mod settle;
pub(crate) mod store;
mod tick;
mod timers;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use onefold_core::promise::Resolver;
use onefold_core::{
    Clock, EngineError, LeaseParams, LeasedJob, QueueName, SettleOp, StepDetector, Ticked, Timestamp,
};
use rusqlite::Connection;

use crate::disk::Disk;
use crate::error::{StoreError, StoreResult};
use crate::shared::{QueueSeen, Shared};
use crate::stats::Stats;
use command::Outcome;
pub(crate) use command::{Answer, Command, release_ops};
use memory::Line;
use parked::Parked;
use store::Store;
use tick::Work;

/// Things done in one transaction at the most.
const GROUP_MAX: usize = 4_096;

/// Damaged jobs one transaction passes over at the most before somebody is told: it may be what all
/// of them share that is damaged.
const SET_ASIDE_MAX: u32 = 100;

/// Parked polls, by number, and what each was given in a transaction.
type Served = Vec<(u64, Vec<LeasedJob>)>;

/// See the [module](self).
pub(crate) struct Writer<'c> {
    pub(crate) conn: &'c Connection,
    pub(crate) store: Store<'c>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) disk: Disk,
    pub(crate) stats: Stats,
    pub(crate) retention_slack_ms: u64,
    steps: StepDetector,
    parked: BTreeMap<u64, Parked>,
    parked_by_queue: HashMap<QueueName, BTreeSet<u64>>,
    parked_by_poll: HashMap<u64, u64>,
    next_parked: u64,
    tick_waiters: Vec<Resolver<()>>,
    announced: Timestamp,
    draining: bool,
    /// The wall clock was set, and no durable tick has acted on it yet.
    clock_stepped: bool,
    poisoned: Option<EngineError>,
    /// Leases to give back in the next transaction, since nobody was there to take them.
    unclaimed: Vec<SettleOp>,
}

impl<'c> Writer<'c> {
    #[allow(clippy::too_many_arguments, reason = "the parts of one thread, put together once")]
    pub(crate) fn new(
        conn: &'c Connection,
        store: Store<'c>,
        clock: Arc<dyn Clock>,
        shared: Arc<Shared>,
        disk: Disk,
        retention_slack_ms: u64,
    ) -> Writer<'c> {
        let steps = StepDetector::new(clock.as_ref());
        Writer {
            conn,
            store,
            clock,
            shared,
            disk,
            stats: Stats::default(),
            retention_slack_ms,
            steps,
            parked: BTreeMap::new(),
            parked_by_queue: HashMap::new(),
            parked_by_poll: HashMap::new(),
            next_parked: 1,
            tick_waiters: Vec::new(),
            announced: Timestamp::EPOCH,
            draining: false,
            clock_stepped: false,
            poisoned: None,
            unclaimed: Vec::new(),
        }
    }

    /// Serves until the store is closed or nobody is left to ask. Who closed it is told once
    /// nothing of it is in use any more.
    pub(crate) fn run(mut self, commands: &Receiver<Command>) -> Option<Answer<()>> {
        let mut closing = None;
        while closing.is_none() {
            let Ok(first) = commands.recv() else { break };
            let group = take_group(first, commands, &mut closing);
            self.serve(group);
            while !self.unclaimed.is_empty() {
                let give_back = Command::Unclaimed(std::mem::take(&mut self.unclaimed));
                self.serve(vec![give_back]);
            }
        }
        self.shared.close();
        self.parked.clear();
        self.disk.close(self.conn);
        closing
    }

    /// Does a group of commands in one transaction and answers them.
    fn serve(&mut self, group: Vec<Command>) {
        if let Some(error) = self.poisoned.clone() {
            return group.into_iter().for_each(|command| command.fail(error.clone()));
        }
        self.disk.look();
        let full = self.disk.is_full();
        let (refused, group): (Vec<_>, Vec<_>) =
            group.into_iter().partition(|command| full && command.needs_space());
        refused.into_iter().for_each(|command| command.fail(EngineError::DiskFull));
        if group.is_empty() {
            return;
        }
        match self.transact(&group) {
            Ok((outcomes, served)) => self.answer(group, outcomes, served),
            Err(error) => self.recover(group, &error),
        }
    }

    /// Runs commands and parked polls in one transaction, without the jobs nobody named whose rows
    /// turn out to be damaged. On return it is durable or never was.
    fn transact(&mut self, group: &[Command]) -> StoreResult<(Vec<Outcome>, Served)> {
        let mut tries = 0;
        loop {
            let error = match self.transact_once(group) {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            tries += 1;
            let aside = if error.is_damage() { self.store.set_turn_aside() } else { None };
            let Some(seq) = aside else { return Err(error) };
            tracing::error!(
                %error, seq,
                "a job's rows are damaged: it is passed over until the store is opened again; \
                 `onefold doctor` tells more"
            );
            if tries == SET_ASIDE_MAX {
                return Err(error);
            }
        }
    }

    fn transact_once(&mut self, group: &[Command]) -> StoreResult<(Vec<Outcome>, Served)> {
        self.store.begin(self.clock.now());
        let done = self.transact_inner(group);
        if done.is_err() {
            // The statement that failed may have ended the transaction already.
            if !self.conn.is_autocommit() {
                let _ = self.conn.execute_batch("ROLLBACK");
            }
            self.store.rolled_back();
        }
        done
    }

    fn transact_inner(&mut self, group: &[Command]) -> StoreResult<(Vec<Outcome>, Served)> {
        self.conn.execute_batch("BEGIN IMMEDIATE")?;
        let mut outcomes = Vec::with_capacity(group.len());
        let mut served = Vec::new();
        for command in group {
            outcomes.push(self.execute(command)?);
            self.store.tell_ends()?;
            self.serve_parked(&mut served)?;
        }
        // A poll may stand before the job it wants in one group: it is not parked yet, so nobody
        // woke it.
        for (command, outcome) in group.iter().zip(&mut outcomes) {
            if let (Command::Lease(params, _), Outcome::Parked, false) = (command, &*outcome, self.draining) {
                // Another call of the same poll may have been given something by now.
                *outcome = self.lease(params)?;
            }
        }
        // Of those that expired while others were leased.
        self.store.tell_ends()?;
        if !self.disk.is_full() {
            self.store.seal_some()?;
        }
        self.store.flush()?;
        let started = Stats::start();
        self.conn.execute_batch("COMMIT")?;
        self.stats.committed(started, group.iter().map(Command::weight).sum());
        Ok((outcomes, served))
    }

    fn execute(&mut self, command: &Command) -> StoreResult<Outcome> {
        let store = &mut self.store;
        Ok(match command {
            Command::Add(params, _) => Outcome::Add(store.add(params)?),
            Command::Lease(params, _) => self.lease(params)?,
            Command::LeaseDeliveries(_, _) if self.draining => Outcome::Lease(Vec::new()),
            Command::LeaseDeliveries(params, _) => {
                if store.tokens.is_exhausted() {
                    return Err(StoreError::TokensExhausted);
                }
                Outcome::Lease(store.lease_deliveries(params)?)
            }
            Command::Settle(ops, _) => Outcome::Settle(store.settle(ops)?),
            Command::Unclaimed(ops) => {
                store.settle(ops)?;
                Outcome::Done
            }
            Command::Cancel(id, force, _) => Outcome::View(store.cancel(*id, *force)?),
            Command::Retry(id, accept_duplicates, _) => Outcome::View(store.retry(*id, *accept_duplicates)?),
            Command::Redrive(params, _) => Outcome::Redrive(store.redrive(params)?),
            Command::Edit(id, edit, _) => Outcome::View(store.edit(*id, edit)?),
            Command::Delete(id, _) => Outcome::View(store.delete(*id)?),
            Command::Queues(_) => Outcome::Queues(store.queue_views()?),
            Command::Queue(name, _) => Outcome::Queue(match store.mem.queue_id(name) {
                Some(id) => store.queue_view(id)?,
                None => None,
            }),
            Command::SetQueue(name, patch, _) => match store.set_queue(name, patch)? {
                Some(view) => Outcome::SetQueue(view),
                None => return Err(StoreError::corrupt(format!("queue {name} vanished"))),
            },
            Command::DeleteQueue(name, force, _) => Outcome::DeleteQueue(store.delete_queue(name, *force)?),
            Command::Key(queue, key, _) => Outcome::Key(store.key(queue, key)?),
            Command::ReleaseKey(queue, key, _) => Outcome::Key(store.release_key(queue, key)?),
            Command::SetSetting(name, value, expected, _) => {
                Outcome::SetSetting(store.set_setting(name, value, *expected)?)
            }
            Command::Effects(ops, _) => Outcome::Effects(store.effects(ops)?),
            Command::PutSchedule(id, new, _) => Outcome::PutSchedule(Box::new(store.put_schedule(id, new)?)),
            Command::PauseSchedule(id, paused, _) => Outcome::Schedule(store.pause_schedule(id, *paused)?),
            Command::RunSchedule(id, _) => Outcome::RunSchedule(store.run_schedule(id)?),
            Command::DeleteSchedule(id, _) => Outcome::Schedule(store.delete_schedule(id)?),
            Command::Tick(_) => Outcome::Tick(self.tick()?),
            Command::Local(step, work, _) => Outcome::Local(self.local(step, work)?),
            Command::Stats(_) => Outcome::Stats(self.store_stats()),
            Command::Drain(_) => {
                // Polls behind it in this group get nothing any more, nor do those that are parked.
                self.draining = true;
                Outcome::Done
            }
            Command::TickSooner(_) | Command::Close(_) => Outcome::Done,
        })
    }

    fn lease(&mut self, params: &LeaseParams) -> StoreResult<Outcome> {
        if let Some(poll) = params.poll {
            let held = self.store.held_by_poll(poll)?;
            if !held.is_empty() {
                return Ok(Outcome::Lease(held));
            }
        }
        if self.draining {
            return Ok(Outcome::Lease(Vec::new()));
        }
        if self.store.tokens.is_exhausted() {
            return Err(StoreError::TokensExhausted);
        }
        let leased = self.store.lease(params)?;
        if leased.is_empty() && !params.wait.is_zero() {
            Ok(Outcome::Parked)
        } else {
            Ok(Outcome::Lease(leased))
        }
    }

    /// Lets parked polls have what became leasable, in the transaction that made it so.
    fn serve_parked(&mut self, served: &mut Served) -> StoreResult<()> {
        if self.draining || !self.store.mem.has_woken() {
            return Ok(());
        }
        for queue in self.store.mem.take_woken() {
            let Some(name) = self.store.mem.queue(queue).map(|queue| queue.name.clone()) else { continue };
            let polls: Vec<u64> = match self.parked_by_queue.get(&name) {
                Some(polls) => polls.iter().copied().collect(),
                None => continue,
            };
            for number in polls {
                let Some(parked) = self.parked.get(&number) else { continue };
                let already = served.iter().any(|(other, _)| *other == number);
                if already || parked.answer.is_abandoned() {
                    continue;
                }
                let leased = self.store.lease(&parked.params)?;
                if leased.is_empty() && self.store.mem.first_ready(Line::pull(queue)).is_none() {
                    break;
                }
                if !leased.is_empty() {
                    served.push((number, leased));
                }
            }
        }
        // Leasing wakes nobody but for jobs that expired on the way, which helps no poll.
        self.store.mem.take_woken();
        Ok(())
    }

    fn tick(&mut self) -> StoreResult<Ticked> {
        // Until a tick that saw it is durable, it is still to be acted on.
        self.clock_stepped |= self.steps.stepped(self.clock.as_ref());
        let clock_stepped = self.clock_stepped;
        if clock_stepped {
            tracing::warn!("the wall clock was stepped; every live lease gets its full length again");
            self.store.renew_running_leases()?;
        }
        let work = self.store.tick(self.retention_slack_ms, !self.disk.is_full())?;
        let next = if work.more { self.store.now } else { self.next_due() };
        let Work { due, ticks, expired, purged, .. } = work;
        Ok(Ticked { next, due, ticks, expired, purged, clock_stepped })
    }

    fn next_due(&mut self) -> Timestamp {
        let due = self.store.next_due(self.retention_slack_ms, !self.disk.is_full());
        let monotonic = self.clock.monotonic();
        let over = self.parked.values().map(|parked| parked.until).min();
        over.map_or(due, |over| due.min(self.store.now.saturating_add(over.saturating_sub(monotonic))))
    }

    /// The transaction is durable: shows it to readers and answers.
    fn answer(&mut self, group: Vec<Command>, outcomes: Vec<Outcome>, served: Served) {
        self.stats.attempts_ended(&self.store.ended);
        let finished = std::mem::take(&mut self.store.finished);
        let shown: Vec<i64> = self.store.take_shown();
        for id in shown {
            let seen = self.store.mem.queue(id).map(QueueSeen::of);
            self.shared.show_queue(id, seen);
        }
        let deliveries = self.store.mem.take_deliveries_woken();
        self.store.committed();
        if deliveries {
            self.shared.tell_deliveries();
        }
        let now = self.store.now;
        for (number, leased) in served {
            if let Some(parked) = self.unpark(number)
                && let Err(Ok(unwanted)) = parked.answer.resolve(Ok(leased))
            {
                self.give_back(unwanted);
            }
        }
        let mut ticked = Vec::new();
        for (command, outcome) in group.into_iter().zip(outcomes) {
            match (command, outcome) {
                (Command::Lease(params, answer), Outcome::Parked) if !self.draining => {
                    self.park(params, answer)
                }
                (Command::Lease(params, answer), Outcome::Parked) => {
                    self.end_poll(params.poll);
                    let _ = answer.resolve(Ok(Vec::new()));
                }
                (Command::Lease(params, answer), outcome) => {
                    self.end_poll(params.poll);
                    if let Some(unwanted) = Command::Lease(params, answer).answer(outcome) {
                        self.give_back(unwanted);
                    }
                }
                (command @ Command::LeaseDeliveries(..), outcome) => {
                    if let Some(unwanted) = command.answer(outcome) {
                        self.give_back(unwanted);
                    }
                }
                (Command::TickSooner(waiter), _) => self.tick_waiters.push(waiter),
                (Command::Drain(answer), _) => {
                    self.end_all_polls();
                    let _ = answer.resolve(Ok(()));
                }
                (Command::Tick(answer), Outcome::Tick(mut tick)) => {
                    self.clock_stepped = false;
                    self.end_polls_due();
                    if tick.next > now {
                        tick.next = self.next_due();
                    }
                    self.announced = tick.next;
                    ticked.push((answer, tick));
                }
                (command, outcome) => {
                    command.answer(outcome);
                }
            }
        }
        self.shared.tell_finished(&finished);
        self.shared.tell_last_event(self.store.mem.counters.next_event - 1);
        if ticked.is_empty() {
            self.announce_earlier_tick();
        }
        for (answer, tick) in ticked {
            let _ = answer.resolve(Ok(tick));
        }
        self.disk.after_commit(self.conn);
    }

    /// Whoever drives the ticks is told if the next has to come earlier than the last one said.
    fn announce_earlier_tick(&mut self) {
        if self.tick_waiters.is_empty() {
            return;
        }
        if self.next_due() < self.announced {
            for waiter in self.tick_waiters.drain(..) {
                let _ = waiter.resolve(());
            }
        }
    }

    /// The transaction failed and never happened. What can be done without the culprit is done.
    fn recover(&mut self, group: Vec<Command>, error: &StoreError) {
        let verdict = error.verdict();
        tracing::error!(%error, commands = group.len(), "a transaction failed and was rolled back");
        match &verdict {
            EngineError::DiskFull => {
                self.disk.filled_up();
                let (adds, others): (Vec<_>, Vec<_>) = group.into_iter().partition(Command::needs_space);
                adds.into_iter().for_each(|command| command.fail(EngineError::DiskFull));
                if !others.is_empty() {
                    self.finish_in_head_room(others);
                }
            }
            EngineError::Corrupt(_) | EngineError::TokensExhausted | EngineError::Io(_)
                if group.len() > 1 =>
            {
                // What one asks for must not stop the work of others.
                group.into_iter().for_each(|command| self.serve(vec![command]));
            }
            EngineError::Corrupt(_) | EngineError::TokensExhausted | EngineError::Io(_) => {
                group.into_iter().for_each(|command| command.fail(verdict.clone()))
            }
            _ => {
                tracing::error!("the engine stops here; restart it once the cause is fixed");
                self.poisoned = Some(verdict.clone());
                group.into_iter().for_each(|command| command.fail(verdict.clone()));
                for (_, parked) in std::mem::take(&mut self.parked) {
                    let _ = parked.answer.resolve(Err(verdict.clone()));
                }
                for waiter in self.tick_waiters.drain(..) {
                    let _ = waiter.resolve(());
                }
            }
        }
    }

    /// Does what needs little space once more, with the head-room given up.
    fn finish_in_head_room(&mut self, group: Vec<Command>) {
        match self.transact(&group) {
            Ok((outcomes, served)) => self.answer(group, outcomes, served),
            Err(error) if error.verdict() == EngineError::DiskFull => {
                group.into_iter().for_each(|command| command.fail(EngineError::DiskFull));
            }
            Err(error) => self.recover(group, &error),
        }
    }

    fn give_back(&mut self, unwanted: Vec<LeasedJob>) {
        self.unclaimed.extend(release_ops(&unwanted));
    }
}

/// What waits, up to what one transaction may hold. A close ends the group.
fn take_group(
    first: Command,
    commands: &Receiver<Command>,
    closing: &mut Option<Answer<()>>,
) -> Vec<Command> {
    let mut group = Vec::new();
    let mut weight = 0;
    let mut next = Some(first);
    while let Some(command) = next {
        if let Command::Close(answer) = command {
            *closing = Some(answer);
            break;
        }
        weight += command.weight();
        group.push(command);
        if weight >= GROUP_MAX {
            break;
        }
        next = commands.try_recv().ok();
    }
    group
}
