//! The invariants of a store, recomputed from its rows.

use std::collections::{BTreeMap, HashMap, HashSet};

use onefold_core::{EngineResult, EvidenceKind, JobId, QueueCounts, QueueName, State, Timestamp};
use rusqlite::{Connection, OptionalExtension};

use super::{Inspector, StoredQueue, answer};
use crate::error::{StoreError, StoreResult};
use crate::key_index::{Filter, KeyHash, Place};
use crate::ledger_id::LedgerId;
use crate::rows::{self, LedgerRow};
use crate::sets::SeqSet;
use crate::writer::memory::SetName;
use crate::writer::seal::Sealing;

/// Findings of one check that are told one by one.
const TOLD: usize = 5;
/// Rows between two reports of progress.
const ROWS_PER_REPORT: u64 = 4_096;

/// What is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    /// The pages of the database file fit together.
    Pages,
    /// Every row can be read and is what was written.
    Rows,
    /// Each queue has exactly the jobs it counts, and none left by another way out (I2).
    Conservation,
    /// No two jobs hold a key, and every unfinished job holds its own (I3).
    Keys,
    /// Every running job has a fencing token of its own, smaller than the next one (I4).
    Tokens,
    /// The sets of leasable and running jobs are those of the rows.
    Sets,
}

impl Check {
    /// All, in order.
    pub const ALL: [Check; 6] =
        [Check::Pages, Check::Rows, Check::Conservation, Check::Keys, Check::Tokens, Check::Sets];
}

/// What is wrong, of one [`Check`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Finding {
    /// How many things.
    pub count: u64,
    /// The first of them, in sentences.
    pub told: Vec<String>,
}

/// What the checks saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// Queues looked at.
    pub queues: u64,
    /// Jobs looked at.
    pub jobs: u64,
    /// Entries of the dedup ledger looked at.
    pub keys: u64,
    /// What is wrong; empty in a healthy store.
    pub findings: BTreeMap<Check, Finding>,
}

impl Checked {
    pub(super) fn tell(&mut self, check: Check, what: impl FnOnce() -> String) {
        let finding = self.findings.entry(check).or_default();
        finding.count += 1;
        if finding.told.len() < TOLD {
            finding.told.push(what());
        }
    }
}

/// How far the checks are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being read.
    pub reading: &'static str,
    /// How much of it, in no particular unit.
    pub done: u64,
    /// Of how much.
    pub of: u64,
}

impl Inspector {
    /// Reads the whole store and checks everything that can be checked, all at one moment. Takes
    /// seconds for each million jobs; does not hold up a running server.
    ///
    /// # Errors
    /// If the store cannot be read at all; damage is a finding.
    pub fn check(&self, now: Timestamp, progress: &mut dyn FnMut(Progress)) -> EngineResult<Checked> {
        answer(self.run_checks(now, progress))
    }

    fn run_checks(&self, now: Timestamp, progress: &mut dyn FnMut(Progress)) -> StoreResult<Checked> {
        let moment = self.conn.unchecked_transaction()?;
        let mut checked = Checked::default();
        progress(Progress { reading: "pages", done: 0, of: 1 });
        pages(&moment, &mut checked)?;
        let queues = self.show_queues()?;
        checked.queues = queues.len() as u64;
        let mut survey = Survey { now, progress, checked, jobs: Jobs::default() };
        survey.jobs(&moment, &|id| self.shared.queue_name(id))?;
        let templates = survey.schedules(&moment)?;
        survey.specs(&moment, &templates)?;
        survey.conservation(&queues);
        survey.sets(&moment)?;
        survey.ledger(&moment)?;
        super::effects::check(&moment, &mut survey.checked)?;
        Ok(survey.checked)
    }
}

fn pages(conn: &Connection, checked: &mut Checked) -> StoreResult<()> {
    let mut stmt = conn.prepare("PRAGMA quick_check(20)")?;
    let mut found = stmt.query([])?;
    while let Some(row) = found.next()? {
        let line: String = row.get(0)?;
        if line != "ok" {
            checked.tell(Check::Pages, || line);
        }
    }
    Ok(())
}

/// What the later checks need of the jobs.
#[derive(Default)]
struct Jobs {
    /// Jobs of each queue by state, counted.
    counts: HashMap<i64, QueueCounts>,
    /// Available jobs that belong to no group, by queue.
    ungrouped: HashMap<i64, u64>,
    running: HashSet<u64>,
    /// Jobs that are not finished; those with a key only, once the specs are read.
    unfinished: HashMap<u64, JobId>,
    span: (u64, u64),
}

struct Survey<'p> {
    now: Timestamp,
    progress: &'p mut dyn FnMut(Progress),
    checked: Checked,
    jobs: Jobs,
}

impl Survey<'_> {
    fn report(&mut self, reading: &'static str, rows: u64, seq: u64) {
        if rows.is_multiple_of(ROWS_PER_REPORT) {
            let (first, last) = self.jobs.span;
            let (done, of) = (seq.saturating_sub(first), last.saturating_sub(first).max(1));
            (self.progress)(Progress { reading, done, of });
        }
    }

    fn jobs(&mut self, conn: &Connection, name: &dyn Fn(i64) -> Option<QueueName>) -> StoreResult<()> {
        let span = conn.query_row(include_str!("../../sql/job_span.sql"), [], |row| {
            Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?))
        })?;
        self.jobs.span = (span.0.unwrap_or(0) as u64, span.1.unwrap_or(0) as u64);
        let (next_token, next_seq): (i64, i64) =
            conn.query_row(include_str!("../../sql/meta_facts.sql"), [], |row| {
                Ok((row.get(1)?, row.get(2)?))
            })?;
        let mut tokens = HashSet::new();
        let mut stmt = conn.prepare(include_str!("../../sql/job_scan.sql"))?;
        let mut found = stmt.query([])?;
        while let Some(row) = found.next()? {
            self.checked.jobs += 1;
            let seq = row.get::<_, i64>(0)? as u64;
            self.report("jobs", self.checked.jobs, seq);
            let row = match readable(rows::read_job(row, name))? {
                Ok(row) => row,
                Err(damage) => {
                    self.checked.tell(Check::Rows, || damage);
                    continue;
                }
            };
            let (job, queue) = (row.job, row.queue);
            self.jobs.counts.entry(queue).or_default().shift(None, Some(job.state));
            if seq >= next_seq as u64 {
                self.checked.tell(Check::Rows, || {
                    format!("{} was accepted after the store's last sequence, {next_seq}", job.id)
                });
            }
            if job.state == State::Available && job.group_order.is_none() {
                *self.jobs.ungrouped.entry(queue).or_default() += 1;
            }
            if !job.state.is_finished() {
                self.jobs.unfinished.insert(seq, job.id);
            }
            let token = job.attempt.as_ref().map(|attempt| attempt.token.get());
            if token.is_some_and(|token| token >= next_token as u64) {
                self.checked.tell(Check::Tokens, || {
                    format!("{} was leased with a token that is still to be handed out", job.id)
                });
            }
            if job.state == State::Running {
                self.jobs.running.insert(seq);
                let own = token.is_some_and(|token| tokens.insert(token));
                if !own {
                    self.checked
                        .tell(Check::Tokens, || format!("{} runs without a token of its own", job.id));
                }
            }
        }
        Ok(())
    }

    /// Reads every schedule. Gives where the specs of their jobs stand.
    fn schedules(&mut self, conn: &Connection) -> StoreResult<HashSet<u64>> {
        let mut stmt = conn.prepare(include_str!("../../sql/schedule_page.sql"))?;
        let mut found = stmt.query(("", -1))?;
        let mut templates = HashSet::new();
        while let Some(row) = found.next()? {
            templates.insert(row.get::<_, i64>(1)? as u64);
            if let Err(damage) = readable(rows::read_schedule(row))? {
                self.checked.tell(Check::Rows, || damage);
            }
        }
        Ok(templates)
    }

    /// Reads every spec; keeps of the unfinished jobs those with a key.
    fn specs(&mut self, conn: &Connection, templates: &HashSet<u64>) -> StoreResult<()> {
        let mut stmt = conn.prepare(include_str!("../../sql/spec_scan.sql"))?;
        let mut found = stmt.query([])?;
        let (mut specs, mut of_schedules, mut keyed) = (0, 0, HashMap::new());
        while let Some(row) = found.next()? {
            specs += 1;
            let seq = row.get::<_, i64>(0)? as u64;
            of_schedules += u64::from(templates.contains(&seq));
            self.report("payloads", specs, seq);
            match readable(rows::read_spec(row))? {
                Err(damage) => self.checked.tell(Check::Rows, || damage),
                Ok(spec) if spec.key.is_some() => {
                    keyed.extend(self.jobs.unfinished.get(&seq).map(|id| (seq, *id)));
                }
                Ok(_) => {}
            }
        }
        if specs - of_schedules != self.checked.jobs {
            let (jobs, specs) = (self.checked.jobs, specs - of_schedules);
            self.checked.tell(Check::Rows, || format!("there are {jobs} jobs but {specs} payloads"));
        }
        let (there, wanted) = (of_schedules, templates.len());
        if there != wanted as u64 {
            self.checked.tell(Check::Rows, || format!("there are {wanted} schedules but jobs of {there}"));
        }
        self.jobs.unfinished = keyed;
        Ok(())
    }

    fn conservation(&mut self, queues: &[StoredQueue]) {
        for StoredQueue { id, name, counts, .. } in queues {
            let seen = self.jobs.counts.remove(id).unwrap_or_default();
            for state in State::ALL {
                let (counted, there) = (counts.of(*state), seen.of(*state));
                if counted != there {
                    self.checked.tell(Check::Conservation, || {
                        format!("queue {name} counts {counted} {state} jobs but has {there}")
                    });
                }
            }
            if !counts.conserved() {
                self.checked.tell(Check::Conservation, || {
                    format!(
                        "queue {name} accepted {} jobs, which is not what it has and purged",
                        counts.accepted
                    )
                });
            }
        }
        for (id, seen) in std::mem::take(&mut self.jobs.counts) {
            let jobs = seen.unfinished() + seen.completed + seen.dead + seen.cancelled;
            self.checked
                .tell(Check::Conservation, || format!("{jobs} jobs are in queue number {id}, which is gone"));
        }
    }

    fn sets(&mut self, conn: &Connection) -> StoreResult<()> {
        let mut stmt = conn.prepare(include_str!("../../sql/set_scan.sql"))?;
        let mut found = stmt.query([])?;
        let mut ready: HashMap<i64, u64> = HashMap::new();
        let mut running = 0;
        while let Some(row) = found.next()? {
            let name = SetName::from_columns(row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
            let mut set = SeqSet::default();
            let loaded = set.load(row.get::<_, i64>(4)? as u64, row.get_ref(5)?.as_blob()?);
            let (Some(name), Some(())) = (name, loaded) else {
                self.checked.tell(Check::Sets, || "a set of jobs cannot be read".to_owned());
                continue;
            };
            match name {
                SetName::Ready(line, _) => *ready.entry(line.queue).or_default() += set.len(),
                SetName::Running => {
                    running += set.iter().filter(|seq| self.jobs.running.contains(seq)).count();
                    let others = set.iter().filter(|seq| !self.jobs.running.contains(seq));
                    for seq in others.collect::<Vec<_>>() {
                        self.checked
                            .tell(Check::Sets, || format!("sequence {seq} stands as running but is not"));
                    }
                }
            }
        }
        if running < self.jobs.running.len() {
            let missing = self.jobs.running.len() - running;
            self.checked.tell(Check::Sets, || format!("{missing} running jobs are not watched"));
        }
        for (queue, ungrouped) in std::mem::take(&mut self.jobs.ungrouped) {
            let leasable = ready.get(&queue).copied().unwrap_or(0);
            if leasable < ungrouped {
                let lost = ungrouped - leasable;
                self.checked.tell(Check::Sets, || {
                    format!("{lost} available jobs of queue number {queue} would never be leased")
                });
            }
        }
        Ok(())
    }

    fn ledger(&mut self, conn: &Connection) -> StoreResult<()> {
        let (mut hashes, mut holders) = (Vec::new(), HashSet::new());
        let sealed = SealedKeys::read(conn)?;
        self.each_key(conn, |survey, row| {
            survey.checked.keys += 1;
            if !sealed.would_find(&row)? {
                survey.checked.tell(Check::Keys, || format!("the index of keys has lost {:?}", row.key));
            }
            hashes.push(KeyHash::from_stored(row.hash).place());
            if survey.jobs.unfinished.get(&row.hold.job.seq().get()) == Some(&row.hold.job) {
                holders.insert(row.hold.job);
            }
            Ok(())
        })?;
        for id in std::mem::take(&mut self.jobs.unfinished).into_values() {
            if !holders.contains(&id) && !key_was_freed(conn, id)? {
                self.checked.tell(Check::Keys, || format!("{id} does not hold its key"));
            }
        }
        hashes.sort_unstable();
        let twice: HashSet<Place> =
            hashes.windows(2).filter(|pair| pair.first() == pair.last()).flatten().copied().collect();
        if twice.is_empty() {
            return Ok(());
        }
        drop(hashes);
        let mut held: HashMap<(u8, i64, String), JobId> = HashMap::new();
        self.each_key(conn, |survey, row| {
            if twice.contains(&KeyHash::from_stored(row.hash).place()) && is_held(conn, &row, survey.now)? {
                let name = (row.space, row.queue, row.key.as_str().to_owned());
                if let Some(other) = held.insert(name, row.hold.job) {
                    survey.checked.tell(Check::Keys, || {
                        format!("{other} and {} hold the same key, {:?}", row.hold.job, row.key)
                    });
                }
            }
            Ok(())
        })
    }

    fn each_key(
        &mut self,
        conn: &Connection,
        mut look: impl FnMut(&mut Self, LedgerRow) -> StoreResult<()>,
    ) -> StoreResult<()> {
        let mut stmt = conn.prepare(include_str!("../../sql/ledger_rows.sql"))?;
        let mut found = stmt.query([])?;
        let mut rows = 0;
        while let Some(row) = found.next()? {
            rows += 1;
            self.report("keys", rows, row.get::<_, i64>(4)? as u64);
            match readable(LedgerRow::read(row))? {
                Ok(row) => look(self, row)?,
                Err(damage) => self.checked.tell(Check::Rows, || damage),
            }
        }
        Ok(())
    }
}

/// What an engine that opened the store would know of the keys it does not keep in memory.
struct SealedKeys<'c> {
    conn: &'c Connection,
    sealing: Sealing,
    filters: HashMap<u32, Filter>,
}

impl SealedKeys<'_> {
    fn read(conn: &Connection) -> StoreResult<SealedKeys<'_>> {
        let (sealing, filters) = crate::open::read_sealing(conn)?;
        Ok(SealedKeys { conn, sealing, filters: filters.into_iter().collect() })
    }

    fn would_find(&self, row: &LedgerRow) -> StoreResult<bool> {
        let hash = KeyHash::from_stored(row.hash);
        if !self.sealing.is_sealed(row.lid, hash) {
            return Ok(true);
        }
        if !self.filters.get(&hash.place().shard()).is_some_and(|filter| filter.may_hold(hash.place())) {
            return Ok(false);
        }
        let mut stmt = self.conn.prepare_cached(include_str!("../../sql/sealed_select.sql"))?;
        let mut found = stmt.query([hash.place().stored()])?;
        while let Some(stored) = found.next()? {
            if LedgerId::from_stored(stored.get(0)?) == row.lid {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn is_held(conn: &Connection, row: &LedgerRow, now: Timestamp) -> StoreResult<bool> {
    let state: Option<i64> = conn
        .prepare_cached(include_str!("../../sql/job_state.sql"))?
        .query_row((row.hold.job.seq().get() as i64, row.hold.job.accepted_unix_ms()), |row| row.get(0))
        .optional()?;
    let state = if row.space == crate::writer::ledger::SPACE_JOB { state } else { None };
    Ok(row.hold.is_held(state.map(rows::state_of).transpose()?, now))
}

fn key_was_freed(conn: &Connection, id: JobId) -> StoreResult<bool> {
    let freed: i64 = conn
        .prepare_cached(include_str!("../../sql/evidence_count.sql"))?
        .query_row((id.seq().get() as i64, rows::evidence_code(EvidenceKind::KeyReleased)), |row| {
            row.get(0)
        })?;
    Ok(freed > 0)
}

/// Damage of one row is a finding; that nothing can be read any more is an error.
pub(super) fn readable<T>(read: StoreResult<T>) -> StoreResult<Result<T, String>> {
    match read {
        Ok(value) => Ok(Ok(value)),
        Err(StoreError::Corrupt(damage)) => Ok(Err(damage)),
        Err(error @ (StoreError::Sql(_) | StoreError::TokensExhausted | StoreError::Abandoned)) => Err(error),
    }
}

#[cfg(test)]
mod tests;
