//! Writing what a unit of work changed: one statement for each table that is touched, all sent together.

use std::collections::BTreeMap;

use onefold_core::schedule::ScheduleEvent;
use onefold_core::{Attempt, JobId, JobSpec, Timestamp, limits};

use super::groups::columns as group_columns;
use super::moves::{
    Batch, Change, Moves, Pieces, change_of, column, completed_statement, lease_update, leased_statement,
    write_leases, write_lots, write_moves, write_watches,
};
use super::{COUNTS, Record, SEGMENT, Stored, Work, WriteSpec};
use crate::error::{Fault, Outcome};
use crate::floors::Part;
use crate::params;
use crate::place::{FinishedRow, LeaseRow, Places};
use crate::rows::{
    Coded, JobToWrite, LineNumber, QueueNumber, attempt_row_columns, count_code, duration_code,
    is_as_accepted, is_plain, is_plain_for_ends, job_columns, labels_json, more_json, new_job_columns,
    plain_spec_columns, seq_code, spec_columns,
};
use crate::sql;

/// New jobs that are worth a segment.
const SEGMENT_MIN: usize = 4;

impl Work {
    /// Writes everything that is not written yet. The transaction stays open.
    pub(crate) async fn flush(&mut self) -> Outcome<()> {
        crate::ops::add::tell_ends(self).await?;
        let (new_keys, mut batch) = self.key_statements();
        self.write_jobs(&mut batch);
        self.write_places(&mut batch);
        self.write_beside(&mut batch);
        self.write_counts(&mut batch);
        self.write_events(&mut batch);
        if batch.is_empty() {
            return Ok(());
        }
        let inserts_keys = batch.first().is_some_and(|(sql, _)| *sql == sql::INSERT_KEYS);
        let replies = self.tx.pipeline(batch).await?;
        let inserted = replies.first().filter(|_| inserts_keys).map_or(0, |reply| reply.affected);
        if inserted != new_keys as u64 {
            return Err(Fault::Again("a key was taken meanwhile".to_owned()));
        }
        for record in self.records.values_mut() {
            let places = record.places();
            record.plain = record.plain_when_stored();
            record.is_extended = record.is_extended_when_stored(&places);
            record.stored = Some(Stored { job: record.job.clone(), blocks: record.blocks, places });
            record.write_spec = WriteSpec::Nothing;
            record.place = None;
            record.earlier.clear();
        }
        Ok(())
    }

    fn write_jobs(&mut self, batch: &mut Batch) {
        let (mut new, mut changed) = (Vec::new(), Vec::new());
        let (mut leased, mut completed, mut unplain) = (Vec::new(), Vec::new(), Vec::new());
        let (mut leased_at, mut completed_at) = (Vec::new(), Vec::new());
        let mut attempts: Vec<(i64, &Attempt)> = Vec::new();
        let (mut new_specs, mut specs, mut labels) = (Vec::new(), Vec::new(), Vec::new());
        for (seq, record) in &self.records {
            let spec: (i64, &JobSpec) = (*seq, &record.spec);
            match &record.stored {
                None => {
                    new.push(record.to_write());
                    new_specs.push(spec);
                    continue;
                }
                Some(stored) if differs(stored, record) => match change_of(stored, record, self.now) {
                    Change::Leased(until, attempt) => {
                        leased.push((*seq, until, attempt));
                        leased_at.extend(record.place);
                    }
                    Change::Completed(content) => {
                        completed.push((*seq, content));
                        completed_at.extend(record.place);
                    }
                    Change::Other => changed.push(record.to_write()),
                },
                Some(_) => {}
            }
            if record.plain && record.write_spec == WriteSpec::All {
                unplain.push(*seq);
            }
            match record.write_spec {
                WriteSpec::Nothing => {}
                WriteSpec::Labels => labels.push(spec),
                WriteSpec::All => specs.push(spec),
            }
            attempts.extend(record.earlier.iter().map(|attempt| (*seq, attempt)));
        }
        let (fresh, new): (Vec<_>, Vec<_>) = new.into_iter().partition(is_as_accepted);
        if !fresh.is_empty() {
            batch.push((sql::INSERT_NEW_JOBS, new_job_columns(self.now, &fresh)));
        }
        if !new.is_empty() {
            batch.push((sql::INSERT_JOBS, job_columns(&new, true)));
        }
        let (plain, new_specs): (Vec<_>, Vec<_>) =
            new_specs.into_iter().partition(|(_, spec)| is_plain(spec));
        if !plain.is_empty() {
            batch.push((sql::INSERT_PLAIN_SPECS, plain_spec_columns(&plain)));
        }
        if !new_specs.is_empty() {
            batch.push((sql::INSERT_SPECS, spec_columns(&new_specs, true)));
        }
        if !leased.is_empty() {
            batch.push(leased_statement(self.now, &leased, leased_at));
        }
        if !completed.is_empty() {
            batch.push(completed_statement(self.now, completed, completed_at));
        }
        if !unplain.is_empty() {
            batch.push((sql::UPDATE_PLAIN, params![unplain]));
        }
        if !changed.is_empty() {
            batch.push((sql::UPDATE_JOBS, job_columns(&changed, false)));
        }
        if !specs.is_empty() {
            batch.push((sql::UPDATE_SPECS, spec_columns(&specs, false)));
        }
        if !labels.is_empty() {
            let texts = column(&labels, |(_, spec)| labels_json(&spec.labels));
            batch.push((sql::UPDATE_LABELS, params![column(&labels, |(seq, _)| *seq), texts]));
        }
        if !attempts.is_empty() {
            batch.push((sql::INSERT_ATTEMPTS, attempt_row_columns(&attempts)));
        }
        let late = std::mem::take(&mut self.late_attempts);
        let late: Vec<(i64, &Attempt)> = late
            .iter()
            .filter_map(|(seq, number)| {
                let attempt = self.history.get(seq)?.iter().find(|attempt| attempt.number == *number)?;
                Some((*seq, attempt))
            })
            .collect();
        if !late.is_empty() {
            let numbers = column(&late, |(_, attempt)| count_code(attempt.number));
            let texts = column(&late, |(_, attempt)| more_json(attempt));
            batch.push((sql::UPDATE_ATTEMPTS, params![column(&late, |(seq, _)| *seq), numbers, texts]));
        }
    }

    fn write_places(&mut self, batch: &mut Batch) {
        let mut ready: Moves<(LineNumber, i16, i64)> = Moves::none();
        ready.gone.append(&mut self.stale_ready);
        let mut segments: BTreeMap<(LineNumber, i16), Vec<i64>> = BTreeMap::new();
        let mut timers: Moves<(i64, i64, i16)> = Moves::none();
        let mut finished: Moves<(QueueNumber, FinishedRow, i64)> = Moves::none();
        let (mut closed, mut extended, mut moved) = (Vec::new(), Vec::new(), Vec::new());
        let mut opened: BTreeMap<(i64, Option<i64>), Vec<i64>> = BTreeMap::new();
        let mut lots: BTreeMap<(QueueNumber, i64), Vec<i64>> = BTreeMap::new();
        let (mut joined, mut left) = (Vec::new(), Vec::new());
        let mut due = i64::MAX;
        for (seq, record) in &self.records {
            let (seq, queue) = (*seq, record.queue);
            let before = record.stored.as_ref().map(|stored| stored.places).unwrap_or_default();
            let after = record.places();
            match (&record.stored, after.ready) {
                (None, Some(at)) => segments.entry(((queue, at.0), at.1)).or_default().push(seq),
                // It goes with the segment.
                (Some(_), None) if self.in_segments.contains(&seq) => {}
                _ => {
                    let [was, is] =
                        [before, after].map(|at| at.ready.map(|(lane, p)| ((queue, lane), p, seq)));
                    ready.note(was, is);
                }
            }
            timers.note(
                before.timer.map(|(at, kind)| (at, seq, kind)),
                after.timer.map(|(at, kind)| (at, seq, kind)),
            );
            match (before.finished, after.finished) {
                (None, Some(row)) if row.is_in_lot() => lots.entry((queue, row.at)).or_default().push(seq),
                (before, after) => {
                    finished.note(before.map(|f| (queue, f, seq)), after.map(|f| (queue, f, seq)))
                }
            }
            match (before.lease, after.lease) {
                (None, Some(lease)) => opened.entry((lease.check(), lease.poll)).or_default().push(seq),
                (Some(_), None) if record.is_extended => closed.push(seq),
                (Some(_), None) => {}
                (Some(before), Some(after)) if before != after && record.is_extended => {
                    moved.push((queue, seq, after));
                }
                (Some(before), Some(after)) if before != after => extended.push((queue, seq, after)),
                (Some(_), Some(_)) | (None, None) => {}
            }
            if before.lease != after.lease {
                due = due.min(after.lease.map_or(i64::MAX, LeaseRow::check));
            }
            if before.timer != after.timer {
                due = due.min(after.timer.map_or(i64::MAX, |(at, _)| at));
            }
            if let Some(group) = record.group().filter(|_| before.member != after.member) {
                if let Some((order, _)) = before.member
                    && after.member.is_none_or(|(now, _)| now != order)
                {
                    left.push((group.clone(), order));
                }
                joined.extend(after.member.map(|(order, phase)| (group, order, seq, phase)));
            }
        }
        self.write_segments(batch, segments, &mut ready);
        for (line, priority, seq) in &ready.new {
            self.effects.lines.put((*line, Part::Rows), (*priority, *seq));
        }
        if let Some(due) = Timestamp::from_unix_ms(due).filter(|_| due < i64::MAX) {
            self.effects.due = Some(self.effects.due.map_or(due, |earlier| earlier.min(due)));
        }
        write_moves(batch, &ready, &timers, &finished);
        write_lots(batch, lots);
        write_watches(batch, opened);
        write_leases(batch, closed, &moved, &extended);
        if !left.is_empty() {
            let mut all = group_columns(left.iter().map(|(group, _)| group));
            all.extend(params![column(&left, |(_, order)| order.cast_signed())]);
            batch.push((sql::DELETE_MEMBERS, all));
        }
        if !joined.is_empty() {
            let mut all = group_columns(joined.iter().map(|(group, _, _, _)| group));
            all.extend(params![
                column(&joined, |(_, order, _, _)| order.cast_signed()),
                column(&joined, |(_, _, seq, _)| *seq),
                column(&joined, |(_, _, _, phase)| *phase),
            ]);
            batch.push((sql::INSERT_MEMBERS, all));
        }
        let dirty = std::mem::take(&mut self.groups.dirty);
        if !dirty.is_empty() {
            batch.push((sql::INSERT_DIRTY, group_columns(dirty.iter())));
        }
        batch.extend(self.publish_statement());
    }

    /// New jobs in line: in segments where they are some, else as rows. And what is left of claimed segments.
    fn write_segments(
        &mut self,
        batch: &mut Batch,
        new: BTreeMap<(LineNumber, i16), Vec<i64>>,
        ready: &mut Moves<(LineNumber, i16, i64)>,
    ) {
        let mut pieces = Pieces::default();
        for ((line, priority), seqs) in new {
            if seqs.len() < SEGMENT_MIN {
                ready.new.extend(seqs.into_iter().map(|seq| (line, priority, seq)));
                continue;
            }
            let size = seqs.len().div_ceil(seqs.len().div_ceil(SEGMENT));
            for piece in seqs.chunks(size) {
                let Some(first) = piece.first() else { continue };
                self.effects.lines.put((line, Part::Segments), (priority, *first));
                pieces.push(line, (priority, *first), piece);
            }
        }
        if !pieces.queues.is_empty() {
            let Pieces { queues, lanes, priorities, lists, .. } = pieces;
            let all = params![queues, lanes, priorities, lists.from, lists.to, lists.seqs];
            batch.push((sql::INSERT_SEGMENTS, all));
        }
        let (mut left, mut gone) = (Pieces::default(), Pieces::default());
        for (line, at, seqs) in self.segments_left.drain(..) {
            let pieces = if seqs.is_empty() { &mut gone } else { &mut left };
            pieces.push(line, at, &seqs);
        }
        if !gone.queues.is_empty() {
            let Pieces { queues, lanes, priorities, firsts, .. } = gone;
            batch.push((sql::DELETE_SEGMENTS, params![queues, lanes, priorities, firsts]));
        }
        if !left.queues.is_empty() {
            let Pieces { queues, lanes, priorities, firsts, lists } = left;
            let all = params![queues, lanes, priorities, firsts, lists.from, lists.to, lists.seqs];
            batch.push((sql::UPDATE_SEGMENTS, all));
        }
    }

    fn write_beside(&mut self, batch: &mut Batch) {
        let results = std::mem::take(&mut self.results);
        let (put, dropped): (Vec<_>, Vec<_>) = results.into_iter().partition(|(_, result)| result.is_some());
        if !put.is_empty() {
            let values = column(&put, |(_, result)| result.as_ref().map(|bytes| bytes.to_vec()));
            batch.push((sql::PUT_RESULTS, params![column(&put, |(seq, _)| *seq), values]));
        }
        if !dropped.is_empty() {
            batch.push((sql::DROP_RESULTS, params![column(&dropped, |(seq, _)| *seq)]));
        }
        let checkpoints: Vec<_> = std::mem::take(&mut self.checkpoints).into_iter().collect();
        if !checkpoints.is_empty() {
            let values = column(&checkpoints, |(_, value)| value.to_vec());
            batch.push((sql::PUT_CHECKPOINTS, params![column(&checkpoints, |(seq, _)| *seq), values]));
        }
        let evidence = std::mem::take(&mut self.evidence);
        if evidence.is_empty() {
            return;
        }
        batch.push((
            sql::INSERT_EVIDENCE,
            params![
                column(&evidence, |e| e.seq),
                column(&evidence, |e| e.kind.code()),
                column(&evidence, |e| e.number.map(count_code)),
                vec![self.now.as_unix_ms(); evidence.len()],
                column(&evidence, |e| e.note.clone()),
            ],
        ));
        let mut long: Vec<(i64, i16)> = evidence
            .iter()
            .filter(|e| e.number.is_none_or(|number| number > limits::EVIDENCE_KEPT))
            .map(|e| (e.seq, e.kind.code()))
            .collect();
        long.sort_unstable();
        long.dedup();
        if !long.is_empty() {
            let kept = count_code(limits::EVIDENCE_KEPT);
            batch.push((sql::TRIM_EVIDENCE, params![column(&long, |l| l.0), column(&long, |l| l.1), kept]));
        }
    }

    fn write_counts(&mut self, batch: &mut Batch) {
        let mut counts: Vec<(QueueNumber, [i64; COUNTS])> =
            std::mem::take(&mut self.counts).into_iter().collect();
        counts.retain(|(_, counts)| counts.iter().any(|count| *count != 0));
        if counts.is_empty() {
            return;
        }
        let mut all = params![column(&counts, |(queue, _)| *queue)];
        for place in 0..COUNTS {
            all.extend(params![column(&counts, |(_, counts)| counts.get(place).copied().unwrap_or(0))]);
        }
        batch.push((sql::INSERT_COUNTS, all));
    }

    fn write_events(&mut self, batch: &mut Batch) {
        let events = std::mem::take(&mut self.events);
        if events.is_empty() {
            return;
        }
        self.effects.told = true;
        let about: BTreeMap<usize, &ScheduleEvent> = events
            .iter()
            .enumerate()
            .filter_map(|(place, event)| Some((place, event.schedule.as_ref()?)))
            .collect();
        let about = if about.is_empty() { None } else { serde_json::to_string(&about).ok() };
        // An event without a job has the sequence 0, which none has.
        batch.push((
            sql::INSERT_EVENTS,
            params![
                self.now.as_unix_ms(),
                column(&events, |e| e.kind.code()),
                column(&events, |e| e.queue),
                column(&events, |e| e.job.map_or(0, seq_code)),
                column(&events, |e| e.job.map_or(0, JobId::accepted_unix_ms)),
                column(&events, |e| e.reason.unwrap_or(-1)),
                column(&events, |e| count_code(e.attempt)),
                about,
            ],
        ));
    }

    /// Deletes loaded jobs and all that belongs to them, their first answers aside.
    pub(crate) async fn purge(&mut self, seqs: Vec<i64>, counted_as: usize) -> Outcome<()> {
        if seqs.is_empty() {
            return Ok(());
        }
        // What was to be written about them stays true: events, counts.
        self.flush().await?;
        let mut timers: Moves<(i64, i64, i16)> = Moves::none();
        let mut finished: Moves<(QueueNumber, FinishedRow, i64)> = Moves::none();
        let mut left: BTreeMap<super::GroupPlace, Vec<u64>> = BTreeMap::new();
        for seq in &seqs {
            let Some(record) = self.records.remove(seq) else { continue };
            let places: Places = record.places();
            timers.note(places.timer.map(|(at, kind)| (at, *seq, kind)), None);
            finished.note(places.finished.map(|f| (record.queue, f, *seq)), None);
            if let (Some(group), Some((order, _))) = (record.group(), places.member) {
                left.entry(group).or_default().push(order);
            }
            self.shift(record.queue, Some(record.job.state), None);
            self.count(record.queue, counted_as, 1);
            self.effects.finished.push(record.job.id);
        }
        let now = self.now.as_unix_ms();
        let mut batch =
            vec![(sql::RECEIPTS, params![seqs.clone(), now, duration_code(limits::FINISH_REPLAY)])];
        write_moves(&mut batch, &Moves::none(), &timers, &finished);
        if !left.is_empty() {
            let pairs: Vec<_> =
                left.iter().flat_map(|(g, orders)| orders.iter().map(move |o| (g, *o))).collect();
            let mut all = group_columns(pairs.iter().map(|(group, _)| *group));
            all.extend(params![column(&pairs, |(_, order)| order.cast_signed())]);
            batch.push((sql::DELETE_MEMBERS, all));
            for group in left.into_keys() {
                self.publish_again(group);
            }
        }
        let tables = [
            sql::PURGE_SPECS,
            sql::PURGE_ATTEMPTS,
            sql::PURGE_EVIDENCE,
            sql::PURGE_RESULTS,
            sql::PURGE_CHECKPOINTS,
            sql::PURGE_EFFECTS,
            sql::PURGE_JOBS,
        ];
        batch.extend(tables.map(|table| (table, params![seqs.clone()])));
        self.tx.pipeline(batch).await?;
        Ok(())
    }

    /// Moves on when to look at leases again that were extended.
    pub(crate) async fn look_later(&mut self, seqs: &[i64]) -> Outcome<()> {
        let leases: Vec<_> = seqs
            .iter()
            .filter_map(|seq| {
                let record = self.records.get(seq)?;
                record.places().lease.map(|lease| (record.queue, *seq, lease))
            })
            .collect();
        if leases.is_empty() {
            return Ok(());
        }
        self.rows(sql::UPDATE_LEASES, lease_update(&leases, true)).await?;
        Ok(())
    }
}

impl Record {
    fn plain_when_stored(&self) -> bool {
        match (&self.stored, self.write_spec) {
            (None, _) => is_as_accepted(&self.to_write()) && is_plain_for_ends(&self.spec),
            (Some(_), WriteSpec::All) => false,
            (Some(_), WriteSpec::Nothing | WriteSpec::Labels) => self.plain,
        }
    }

    fn is_extended_when_stored(&self, after: &Places) -> bool {
        let before = self.stored.as_ref().and_then(|stored| stored.places.lease);
        match (before, after.lease) {
            (Some(before), Some(after)) => self.is_extended || before != after,
            (None, _) | (_, None) => false,
        }
    }

    fn to_write(&self) -> JobToWrite<'_> {
        let plain = is_plain_for_ends(&self.spec);
        JobToWrite { plain, queue: self.queue, job: &self.job, blocks: self.blocks }
    }
}

/// Whether the job's own row has to be written: not for what only its lease's row holds.
fn differs(stored: &Stored, record: &Record) -> bool {
    if stored.blocks != record.blocks {
        return true;
    }
    let both_open = stored.places.lease.is_some() && record.places().lease.is_some();
    let (Some(before), Some(after)) = (&stored.job.attempt, &record.job.attempt) else {
        return stored.job != record.job;
    };
    if !both_open || before.token != after.token {
        return stored.job != record.job;
    }
    let mut like_stored = record.job.clone();
    if let Some(attempt) = &mut like_stored.attempt {
        (attempt.lease, attempt.lease_until, attempt.deadline) =
            (before.lease, before.lease_until, before.deadline);
    }
    stored.job != like_stored
}
