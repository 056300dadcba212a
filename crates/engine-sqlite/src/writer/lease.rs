//! Leasing jobs: one holder each, with a token never used before (I4).

use bytes::Bytes;
use onefold_core::{Event, JobSpec, LeaseParams, LeasedJob, State, limits, rules};

use super::memory::{QueueId, SetName};
use super::store::{Entry, Store};
use crate::error::StoreResult;

/// Fewer neighbours are read one by one.
const RUN_MIN: usize = 4;
/// Neighbours read together at the most.
const RUN_MAX: usize = 128;
/// Jobs that may expire while one to lease is looked for.
const EXPIRED_PER_LOOK: u32 = 1_000;

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
            self.read_ahead(queue, if params.fair { wanted / open.len() } else { wanted })?;
            let Some(mut entry) = self.next_leasable(queue)? else {
                open.remove(turn);
                continue;
            };
            let spec = self.spec(&mut entry)?;
            let size = spec.payload.len();
            if !leased.is_empty() && bytes + size > limits::LEASE_REPLY_BYTES_MAX {
                self.put(entry);
                break;
            }
            bytes += size;
            let job = self.lease_one(&mut entry, spec, params)?;
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

    /// Reads the next jobs of a queue together where they are neighbours: one search instead of
    /// two for each.
    fn read_ahead(&mut self, queue: QueueId, wanted: usize) -> StoreResult<()> {
        let Some(first) = self.mem.first_ready(queue) else { return Ok(()) };
        if wanted < RUN_MIN || self.cache.contains_key(&first) {
            return Ok(());
        }
        let run = self.mem.ready_run(queue, wanted.min(RUN_MAX));
        let Some(last) = run.checked_sub(1).map(|more| first + more).filter(|_| run >= RUN_MIN as u64) else {
            return Ok(());
        };
        match self.read_run(first, last) {
            // Whose rows they are is told once it is their turn.
            Err(error) if error.is_damage() => Ok(()),
            read => read,
        }
    }

    /// The next job of a queue that may be leased; those whose last moment to start has passed
    /// die on the way, a bounded number: the next tick has the others.
    fn next_leasable(&mut self, queue: QueueId) -> StoreResult<Option<Box<Entry>>> {
        for _ in 0..=EXPIRED_PER_LOOK {
            let Some(found) = self.mem.queue(queue) else { return Ok(None) };
            let full =
                found.settings.concurrency.is_some_and(|limit| found.counts.running >= u64::from(limit));
            if found.settings.paused || full {
                return Ok(None);
            }
            if found.settings.rate.is_some_and(|rate| found.starts.room(rate, self.now) == 0) {
                return Ok(None);
            }
            let Some(seq) = self.mem.first_ready(queue) else { return Ok(None) };
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

    fn lease_one(
        &mut self,
        entry: &mut Entry,
        spec: JobSpec,
        params: &LeaseParams,
    ) -> StoreResult<Option<LeasedJob>> {
        let Some(token) = self.tokens.take() else { return Ok(None) };
        let seq = entry.job.id.seq();
        let again = entry.job.attempt.is_some();
        if let Some(last) = &entry.job.attempt {
            crate::rows::write_attempt(&mut self.stmts.attempt_insert, seq, last)?;
        }
        let changed = self.change(entry, Some(Event::Leased), |job, policy, _, now| {
            rules::lease(job, policy, token, params.worker.clone(), params.lease, params.poll, now)
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
