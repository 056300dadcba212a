//! Leasing jobs: one holder each, with a token never used before (I4).

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use onefold_core::{
    DeliveryParams, DurationMs, Event, JobSpec, Lane, LeaseParams, LeasedJob, State, WorkerName, limits,
    rules,
};
use rusqlite::OptionalExtension;

use super::memory::{Line, QueueId, SetName};
use super::queue::Queue;
use super::store::{Entry, Store};
use crate::error::StoreResult;

/// Fewer neighbours are read one by one.
const RUN_MIN: usize = 4;
/// Neighbours read together at the most.
const RUN_MAX: usize = 128;
/// Jobs that may expire while one to lease is looked for.
const EXPIRED_PER_LOOK: u32 = 1_000;

/// Who leases, and for how long.
struct Lessee<'a> {
    worker: &'a WorkerName,
    lease: DurationMs,
    poll: Option<u64>,
}

impl<'a> Lessee<'a> {
    fn of(params: &'a LeaseParams) -> Lessee<'a> {
        Lessee { worker: &params.worker, lease: params.lease, poll: params.poll }
    }
}

impl Store<'_> {
    /// Hands out up to `params.max` jobs. None at all is not an error.
    pub(crate) fn lease(&mut self, params: &LeaseParams) -> StoreResult<Vec<LeasedJob>> {
        let mut leased: Vec<LeasedJob> = Vec::new();
        let mut bytes = 0;
        let mut queues: Vec<_> = params.queues.iter().collect();
        if params.fair && !queues.is_empty() {
            // Tokens grow by one a lease: whoever takes one job a call gets to every queue too.
            let first = self.tokens.high_water() % queues.len() as u64;
            queues.rotate_left(first as usize);
        }
        let mut open: Vec<QueueId> = queues.into_iter().filter_map(|name| self.mem.queue_id(name)).collect();
        let mut turn = 0;
        while leased.len() < params.max as usize && !open.is_empty() {
            turn = if params.fair { turn % open.len() } else { 0 };
            let Some(queue) = open.get(turn).copied() else { break };
            let wanted = params.max as usize - leased.len();
            self.read_ahead(Line::pull(queue), if params.fair { wanted / open.len() } else { wanted })?;
            let Some(mut entry) = self.next_leasable(Line::pull(queue))? else {
                open.remove(turn);
                continue;
            };
            let spec = self.spec(&mut entry)?;
            let size = spec.payload.len() + self.checkpoint_bytes(&entry)?;
            if !leased.is_empty() && bytes + size > limits::LEASE_REPLY_BYTES_MAX {
                self.put(entry);
                break;
            }
            bytes += size;
            let job = self.lease_one(&mut entry, spec, &Lessee::of(params))?;
            let out_of_tokens = job.is_none();
            leased.extend(job);
            self.put(entry);
            self.turn_over();
            if out_of_tokens {
                break;
            }
            turn += 1;
        }
        self.turn_over();
        Ok(leased)
    }

    /// Hands out jobs to deliver, some of each line in turn.
    pub(crate) fn lease_deliveries(&mut self, params: &DeliveryParams) -> StoreResult<Vec<LeasedJob>> {
        let max = params.max as usize;
        let mem = &self.mem;
        let now = self.now;
        let starts = |queue: &Queue| queue.is_open() && queue.full_until(now).is_none();
        let wanted = |line: Line| params.room_of(line.lane) > 0 && mem.queue(line.queue).is_some_and(starts);
        let mut open: VecDeque<Line> = mem.delivery_lines(self.last_delivery_line, max, wanted).into();
        let lessee = Lessee { worker: &params.worker, lease: params.lease, poll: None };
        let mut given: HashMap<Lane, u32> = HashMap::new();
        let (mut leased, mut bytes) = (Vec::new(), 0);
        while let Some(line) = open.pop_front().filter(|_| leased.len() < max) {
            let left = params.room_of(line.lane).saturating_sub(given.get(&line.lane).copied().unwrap_or(0));
            // Its share of what is left: neighbours are read together.
            let share = (max - leased.len()).div_ceil(open.len() + 1).min(left as usize);
            self.last_delivery_line = Some(line);
            let mut took = 0;
            self.read_ahead(line, share)?;
            while took < share {
                let Some(mut entry) = self.next_leasable(line)? else { break };
                let spec = self.spec(&mut entry)?;
                let size = spec.payload.len() + self.checkpoint_bytes(&entry)?;
                if !leased.is_empty() && bytes + size > limits::LEASE_REPLY_BYTES_MAX {
                    self.put(entry);
                    self.turn_over();
                    return Ok(leased);
                }
                bytes += size;
                let job = self.lease_one(&mut entry, spec, &lessee)?;
                self.put(entry);
                self.turn_over();
                let Some(job) = job else { return Ok(leased) };
                leased.push(job);
                took += 1;
            }
            self.turn_over();
            *given.entry(line.lane).or_default() += took as u32;
            if share > 0 && took == share {
                open.push_back(line);
            }
        }
        Ok(leased)
    }

    /// Reads the next jobs of a line together where they are neighbours: one search instead of
    /// two for each.
    fn read_ahead(&mut self, line: Line, wanted: usize) -> StoreResult<()> {
        let Some(first) = self.mem.first_ready(line) else { return Ok(()) };
        if wanted < RUN_MIN || self.cache.contains_key(&first) {
            return Ok(());
        }
        let run = self.mem.ready_run(line, wanted.min(RUN_MAX));
        let Some(last) = run.checked_sub(1).map(|more| first + more).filter(|_| run >= RUN_MIN as u64) else {
            return Ok(());
        };
        match self.read_run(first, last) {
            // Whose rows they are is told once it is their turn.
            Err(error) if error.is_damage() => Ok(()),
            read => read,
        }
    }

    /// The next job of a line that may be leased; those whose last moment to start has passed
    /// die on the way, a bounded number: the next tick has the others.
    fn next_leasable(&mut self, line: Line) -> StoreResult<Option<Box<Entry>>> {
        for _ in 0..=EXPIRED_PER_LOOK {
            let Some(found) = self.mem.queue(line.queue) else { return Ok(None) };
            if !found.is_open() {
                return Ok(None);
            }
            if found.settings.rate.is_some_and(|rate| found.starts.room(rate, self.now) == 0) {
                return Ok(None);
            }
            let Some(seq) = self.mem.first_ready(line) else { return Ok(None) };
            let mut entry = self.take_in_turn(seq)?;
            if !rules::is_expired(&entry.job, self.now) {
                return Ok(Some(entry));
            }
            self.expire(&mut entry)?;
            self.put(entry);
            self.turn_over();
        }
        Ok(None)
    }

    pub(crate) fn expire(&mut self, entry: &mut Entry) -> StoreResult<()> {
        // Only a job that is not running gets here, and every such unfinished job can expire.
        let _ = self.change(entry, Some(Event::Died), |job, _, _, now| rules::expire(job, now))?;
        Ok(())
    }

    /// What a lease has to hand over of earlier attempts.
    fn checkpoint_bytes(&mut self, entry: &Entry) -> StoreResult<usize> {
        if entry.job.attempt.is_none() {
            return Ok(0);
        }
        let seq = entry.job.id.seq().get().cast_signed();
        let bytes: Option<i64> = self.stmts.checkpoint_bytes.query_row([seq], |row| row.get(0)).optional()?;
        Ok(bytes.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0))
    }

    fn lease_one(
        &mut self,
        entry: &mut Entry,
        spec: JobSpec,
        lessee: &Lessee<'_>,
    ) -> StoreResult<Option<LeasedJob>> {
        let Some(token) = self.tokens.take() else { return Ok(None) };
        let seq = entry.job.id.seq();
        let again = entry.job.attempt.is_some();
        if let Some(last) = &entry.job.attempt {
            crate::rows::write_attempt(&mut self.stmts.attempt_insert, seq, last)?;
        }
        let changed = self.change(entry, Some(Event::Leased), |job, policy, _, now| {
            rules::lease(job, policy, token, lessee.worker.clone(), lessee.lease, lessee.poll, now)
        })?;
        if changed.is_err() {
            return Ok(None);
        }
        if let Some(rate) = self.mem.queue(entry.queue).and_then(|queue| queue.settings.rate) {
            let now = self.now;
            if let Some(starts) = self.mem.starts(entry.queue) {
                starts.add(rate, now, 1);
            }
        }
        let checkpoint: Option<Bytes> =
            if again { crate::reader::read_optional(&mut self.stmts.checkpoint_select, seq)? } else { None };
        Ok(Some(LeasedJob { job: entry.job.clone(), spec, checkpoint }))
    }

    /// The jobs an earlier call with the same poll id was given and still holds.
    pub(crate) fn held_by_poll(&mut self, poll: u64) -> StoreResult<Vec<LeasedJob>> {
        let running: Vec<u64> =
            self.mem.set(SetName::Running).map(|set| set.iter().collect()).unwrap_or_default();
        let mut held = Vec::new();
        for seq in running {
            if self.mem.is_set_aside(seq) {
                continue;
            }
            let mut entry = self.take_in_turn(seq)?;
            let same = entry.job.attempt.as_ref().is_some_and(|attempt| attempt.poll == Some(poll));
            if same && entry.job.state == State::Running {
                let spec = self.spec(&mut entry)?;
                let checkpoint =
                    crate::reader::read_optional(&mut self.stmts.checkpoint_select, entry.job.id.seq())?;
                held.push(LeasedJob { job: entry.job.clone(), spec, checkpoint });
            }
            self.put(entry);
            self.turn_over();
        }
        Ok(held)
    }
}
