//! The line of a queue: rows of `ready`, one job each, and segments, some dozens each, in one order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use onefold_core::State;

use crate::error::Outcome;
use crate::floors::{Claimed, LinePlace, Part, START};
use crate::params;
use crate::rows::{Coded, LineNumber};
use crate::sql;
use crate::work::{GroupPlace, SEGMENT, Work};

/// A segment that is locked.
struct Segment {
    priority: i16,
    first: i64,
    seqs: Vec<i64>,
    /// How many of those were looked at.
    looked: usize,
}

/// A line of a queue, as far as a call has looked into it.
pub(super) struct Line {
    from: LinePlace,
    segments_from: LinePlace,
    /// There are no more rows, no more segments.
    rows_ended: bool,
    segments_ended: bool,
    /// Both were looked into from their start, and not from a floor, unless that was done lately and takes long.
    whole: bool,
    rows_were_looked_at: bool,
    segments_were_looked_at: bool,
    /// No segment is in the hands of others.
    waited: bool,
    segments: Vec<Segment>,
    /// Entries of segments that stand for nobody.
    stale: BTreeSet<i64>,
    /// Jobs that may be leased, in order.
    pub(super) found: VecDeque<i64>,
}

/// Somebody in line: the place, whether it is in a segment, whether it stands for its group.
type Entry = (LinePlace, bool, bool);

impl Line {
    /// A line that nothing was taken of yet.
    pub(super) fn open(work: &mut Work, line: LineNumber) -> Line {
        let mut rows = work.floors.of(line, Part::Rows);
        // The heads of groups were just put in line, anywhere in it.
        if work.effects.lines.published.contains(&line.0) {
            (rows.at, rows.was_looked_at) = (START, false);
        }
        let segments = work.floors.of(line, Part::Segments);
        for (part, from) in [(Part::Rows, rows), (Part::Segments, segments)] {
            let claimed = Claimed { from, to: from.at, ended: false };
            work.effects.lines.claimed.insert((line, part), claimed);
        }
        Line {
            from: rows.at,
            segments_from: segments.at,
            rows_ended: false,
            segments_ended: false,
            whole: rows.at == START && segments.at == START,
            rows_were_looked_at: rows.was_looked_at,
            segments_were_looked_at: segments.was_looked_at,
            waited: false,
            segments: Vec::new(),
            stale: BTreeSet::new(),
            found: VecDeque::new(),
        }
    }

    /// Whether there is nobody left to be found.
    pub(super) fn is_over(&self) -> bool {
        self.whole && self.has_ended()
    }

    /// As far as it was looked into from where it began.
    pub(super) fn has_ended(&self) -> bool {
        self.rows_ended && self.segments_ended && self.pending() == 0
    }

    fn pending(&self) -> usize {
        self.segments.iter().map(|segment| segment.seqs.len() - segment.looked).sum()
    }

    /// Looks at it from its start again: others may have put somebody below a floor.
    pub(super) fn look_at_all(&mut self) {
        if !self.rows_were_looked_at {
            (self.from, self.rows_ended) = (START, false);
        }
        if !self.segments_were_looked_at {
            (self.segments_from, self.segments_ended) = (START, false);
        }
        self.whole = true;
    }

    /// Waits for a segment that others are claiming from, who may leave the rest of it: whether there is one. Only for
    /// whoever would go away empty-handed, and holds no segment that those others might wait for.
    pub(super) async fn wait_for_others(
        &mut self,
        work: &mut Work,
        (queue, lane): LineNumber,
    ) -> Outcome<bool> {
        if self.waited {
            return Ok(false);
        }
        let known: Vec<i64> = self.segments.iter().map(|segment| segment.first).collect();
        let rows = work.rows(sql::AWAIT_SEGMENT, params![queue, lane, known]).await?;
        self.waited = rows.is_empty();
        for row in &rows {
            let (priority, first) = (row.try_get(0)?, row.try_get(1)?);
            self.segments.push(Segment { priority, first, seqs: row.try_get(2)?, looked: 0 });
        }
        Ok(!rows.is_empty())
    }

    /// Looks again at those that were found, too: somebody may stand before them now.
    pub(super) fn begin_again(&mut self) {
        (self.rows_were_looked_at, self.segments_were_looked_at) = (false, false);
        self.look_at_all();
        self.found.clear();
        self.segments.iter_mut().for_each(|segment| segment.looked = 0);
    }

    /// Finds up to `want` more jobs and locks them.
    pub(super) async fn look(&mut self, work: &mut Work, line: LineNumber, want: usize) -> Outcome<()> {
        let entries = self.next_entries(work, line, want).await?;
        let seqs: Vec<i64> = entries.iter().map(|((_, seq), _, _)| *seq).collect();
        work.load_for_claim(seqs.clone()).await?;
        work.weigh_checkpoints(seqs).await?;
        let is_available =
            |work: &Work, seq| work.record(seq).is_some_and(|r| r.job.state == State::Available);
        let groups: BTreeMap<i64, GroupPlace> = entries
            .iter()
            .filter(|((_, seq), _, grouped)| *grouped && is_available(work, *seq))
            .filter_map(|((_, seq), _, _)| {
                Some((*seq, (line.0, work.record(*seq)?.spec.group.clone()?.as_str().to_owned())))
            })
            .collect();
        let locked = work.lock_free_groups(groups.values().cloned().collect()).await?;
        let leaders = work.leaders(&locked).await?;
        let mut held = Vec::new();
        for ((priority, seq), in_segment, grouped) in entries {
            if in_segment {
                match work.record(seq) {
                    Some(record) if record.places().ready == Some((line.1, priority)) => {
                        work.in_segments.insert(seq);
                        self.found.push_back(seq);
                    }
                    Some(_) => {
                        self.stale.insert(seq);
                    }
                    None => held.push(seq),
                }
                continue;
            }
            match groups.get(&seq) {
                Some(group) if leaders.get(group) == Some(&seq) => self.found.push_back(seq),
                // In line by mistake, which the group puts right when this is written.
                Some(group) if locked.contains(group) => work.publish_again(group.clone()),
                None if is_available(work, seq) && !grouped => self.found.push_back(seq),
                None if work.record(seq).is_some() && !grouped => work.drop_ready(line, priority, seq),
                // Somebody is at it, who may leave it where it stands.
                Some(_) | None => work.effects.lines.put((line, Part::Rows), (priority, seq)),
            }
        }
        if !held.is_empty() {
            self.drop_gone(work, held).await?;
        }
        Ok(())
    }

    /// Of entries whose jobs are not to be had: those are stale that stand for no available job.
    async fn drop_gone(&mut self, work: &mut Work, held: Vec<i64>) -> Outcome<()> {
        let mut available = BTreeSet::new();
        for row in work.rows(sql::STATES, params![held.clone()]).await? {
            if State::of(row.try_get(2)?)? == State::Available {
                available.insert(row.try_get::<_, i64>(0)?);
            }
        }
        self.stale.extend(held.into_iter().filter(|seq| !available.contains(seq)));
        Ok(())
    }

    /// The next of rows and segments together.
    async fn next_entries(
        &mut self,
        work: &mut Work,
        (queue, lane): LineNumber,
        want: usize,
    ) -> Outcome<Vec<Entry>> {
        let limit = i64::try_from(want).unwrap_or(i64::MAX);
        let mut batch = Vec::new();
        let wants_rows = !self.rows_ended;
        if wants_rows {
            batch.push((sql::CLAIM, params![queue, lane, self.from.0, self.from.1, limit]));
        }
        let (wants_segments, segments) =
            (!self.segments_ended && self.pending() < want, limit / SEGMENT as i64 + 2);
        if wants_segments {
            let (priority, first) = self.segments_from;
            batch.push((sql::CLAIM_SEGMENTS, params![queue, lane, priority, first, segments]));
        }
        let began = tokio::time::Instant::now();
        let mut replies = work.tx.pipeline(batch).await?.into_iter().map(|reply| reply.rows);
        let took = began.elapsed();
        if wants_rows && self.from == START {
            work.floors.walked((queue, lane), Part::Rows, took);
        }
        if wants_segments && self.segments_from == START {
            work.floors.walked((queue, lane), Part::Segments, took);
        }
        let rows = if wants_rows { replies.next().unwrap_or_default() } else { Vec::new() };
        let found = if wants_segments { replies.next().unwrap_or_default() } else { Vec::new() };
        self.segments_ended |= wants_segments && (found.len() as i64) < segments;
        for row in &found {
            let at = (row.try_get(0)?, row.try_get(1)?);
            self.segments_from = at;
            if !self.segments.iter().any(|segment| (segment.priority, segment.first) == at) {
                let seqs: Vec<i64> = row.try_get(2)?;
                self.segments.push(Segment { priority: at.0, first: at.1, seqs, looked: 0 });
            }
        }
        let mut entries: Vec<Entry> = Vec::new();
        for row in &rows {
            entries.push(((row.try_get(0)?, row.try_get(1)?), false, row.try_get(2)?));
        }
        for segment in &self.segments {
            let rest = segment.seqs.get(segment.looked..).unwrap_or_default();
            entries.extend(rest.iter().map(|seq| ((segment.priority, *seq), true, false)));
        }
        entries.sort_unstable();
        // Behind the last segment that is known, others may come first.
        let last = self.segments.iter().flat_map(|s| s.seqs.last().map(|seq| (s.priority, *seq))).max();
        if let Some(last) = last.filter(|_| !self.segments_ended) {
            entries.retain(|(at, _, _)| *at <= last);
        }
        entries.truncate(want);
        self.rows_ended |= wants_rows && rows.len() < want;
        if let Some((last, _, _)) = entries.last().copied() {
            for segment in &mut self.segments {
                segment.looked =
                    segment.looked.max(segment.seqs.partition_point(|seq| (segment.priority, *seq) <= last));
            }
        }
        let taken = entries.iter().filter(|(_, in_segment, _)| !in_segment).map(|(at, _, _)| *at);
        let (count, last_row) = taken.fold((0, self.from), |(count, _), at| (count + 1, at));
        if wants_rows {
            self.from = last_row;
            // What was not taken is looked at again.
            self.rows_ended &= count == rows.len();
        }
        // Who stands in both stands in line as a row.
        let doubles: Vec<i64> = entries
            .windows(2)
            .filter_map(|pair| match pair {
                [(one, false, _), (other, true, _)] if one == other => Some(one.1),
                _ => None,
            })
            .collect();
        entries.retain(|((_, seq), in_segment, _)| !in_segment || !doubles.contains(seq));
        self.stale.extend(doubles);
        Ok(entries)
    }

    /// Writes down how far it is claimed, if this is kept: whoever was found and not taken still stands there.
    pub(super) fn close(&mut self, work: &mut Work, line: LineNumber, taken: &BTreeSet<i64>) {
        let parts = [
            (Part::Rows, self.from, self.rows_ended),
            (Part::Segments, self.segments_from, self.segments_ended),
        ];
        for (part, to, ended) in parts {
            if let Some(claimed) = work.effects.lines.claimed.get_mut(&(line, part)) {
                (claimed.to, claimed.ended) = (to, ended);
            }
        }
        for seq in self.found.drain(..) {
            if let Some(record) = work.record(seq) {
                let at = (record.job.priority, seq);
                work.effects.lines.put((line, Part::Rows), at);
            }
        }
        for segment in self.segments.drain(..) {
            let at = (segment.priority, segment.first);
            let count = segment.seqs.len();
            let stays = |seq: &i64| {
                let is_other =
                    |record: &crate::work::Record| record.places().ready != Some((line.1, segment.priority));
                !taken.contains(seq) && !self.stale.contains(seq) && !work.record(*seq).is_some_and(is_other)
            };
            let left: Vec<i64> = segment.seqs.into_iter().filter(stays).collect();
            if !left.is_empty() {
                work.effects.lines.put((line, Part::Segments), at);
            }
            if left.len() < count {
                work.leave_segment(line, at, left);
            }
        }
    }
}
