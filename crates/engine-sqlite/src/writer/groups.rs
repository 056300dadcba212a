//! Groups: which one job of a group could be leased now (I8). Only that one stands in the ready set.

use std::sync::Arc;

use onefold_core::{EventKind, Group, GroupHead, Lane, OnDead, QueueSettings, State};

use super::memory::{Line, QueueId, SetName};
use super::store::{Entry, Places, Store};
use crate::error::{StoreError, StoreResult};

/// The one job of a group that could be leased now, and where it stands.
pub(super) type Head = (u64, Line, i16);

impl Store<'_> {
    pub(super) fn group_settings(&self, queue: QueueId) -> (GroupHead, OnDead) {
        let settings = self.mem.queue(queue).map(|queue| &queue.settings);
        let head = settings.and_then(|s| s.group_head).unwrap_or(GroupHead::Hold);
        (head, settings.and_then(|s| s.on_dead).unwrap_or(OnDead::Continue))
    }

    /// The one job of a group that could be leased now, with its line and priority (I8). `entry` is a job
    /// of the group that is taken out at the moment.
    pub(super) fn group_head(&mut self, entry: &Entry, group: &Group) -> StoreResult<Option<Head>> {
        let queue = entry.queue;
        if self.mem.group_runs(queue, group) {
            return Ok(None);
        }
        let (head, _) = self.group_settings(queue);
        let mut after = -1_i64;
        loop {
            let Some((order, seq)) = self.group_member(queue, group, after)? else { return Ok(None) };
            after = order;
            let of = |entry: &Entry| (entry.job.state, entry.terms.lane, entry.job.priority);
            let (state, lane, priority) = if seq == entry.seq() {
                of(entry)
            } else {
                match self.cache.get(&seq) {
                    Some(entry) => of(entry),
                    None => match self.read_member(seq)? {
                        Some(place) => place,
                        None => return Ok(None),
                    },
                }
            };
            match (state, head) {
                (State::Available, _) => return Ok(Some((seq, Line { queue, lane }, priority))),
                (State::Scheduled | State::Retrying, GroupHead::Skip) => {}
                _ => return Ok(None),
            }
        }
    }

    /// State, lane and priority of a job of a group; the lane only if it is available. `None`: it cannot be read. Then nobody can tell that
    /// it is over, so it holds its group, but not the end of those who ran before it.
    fn read_member(&mut self, seq: u64) -> StoreResult<Option<(State, Lane, i16)>> {
        let lane = |store: &mut Self, state| match state {
            State::Available => store.read_spec(seq).map(|spec| spec.target.lane()),
            _ => Ok(Lane::PULL),
        };
        let read = self.read_job(seq);
        let read = read.and_then(|row| row.map(|row| Ok((lane(self, row.job.state)?, row.job))).transpose());
        let error = match read {
            Ok(Some((lane, job))) => return Ok(Some((job.state, lane, job.priority))),
            Ok(None) => StoreError::corrupt(format!("job {seq} of a group has no row")),
            Err(error) if error.is_damage() => error,
            Err(error) => return Err(error),
        };
        if self.mem.set_aside(seq) {
            tracing::error!(%error, seq, "a job's rows are damaged: its group waits; `onefold doctor` tells more");
        }
        Ok(None)
    }

    pub(super) fn group_member(
        &mut self,
        queue: QueueId,
        group: &Group,
        after: i64,
    ) -> StoreResult<Option<(i64, u64)>> {
        let mut found = self.stmts.group_select.query((queue, group.as_str(), after))?;
        Ok(match found.next()? {
            Some(row) => Some((row.get(0)?, row.get::<_, i64>(1)? as u64)),
            None => None,
        })
    }

    /// Lets the right job of a group stand in the ready set, given the one that stood there.
    pub(super) fn regroup(&mut self, entry: &Entry, group: &Group, before: Option<Head>) -> StoreResult<()> {
        let after = self.group_head(entry, group)?;
        if before != after
            && let Some((seq, line, priority)) = before
        {
            self.mem.remove(SetName::Ready(line, priority), seq);
        }
        if let Some((seq, line, priority)) = after {
            self.mem.insert(SetName::Ready(line, priority), seq);
        }
        Ok(())
    }

    pub(super) fn move_group(
        &mut self,
        entry: &mut Entry,
        group: &Group,
        before: &Places,
        after: &Places,
        head_before: Option<Head>,
    ) -> StoreResult<()> {
        let queue = entry.queue;
        if before.state == State::Running || after.state == State::Running {
            self.mem.set_group_runs(queue, group, after.state == State::Running);
        }
        let (_, on_dead) = self.group_settings(queue);
        if let (true, Some(order)) = (before.state != after.state, entry.job.group_order) {
            let blocks = on_dead == OnDead::Block && matches!(after.state, State::Dead | State::Cancelled);
            if after.state.is_finished() && !blocks {
                self.stmts.group_delete.execute((queue, group.as_str(), order as i64))?;
            }
        }
        self.regroup(entry, group, head_before)
    }

    /// Moves a finished job that will run again to the back of its group.
    pub(crate) fn requeue_in_group(&mut self, entry: &mut Entry) -> StoreResult<()> {
        let (Some(group), Some(order)) = (entry.terms.group.clone(), entry.job.group_order) else {
            return Ok(());
        };
        let head_before = self.group_head(entry, &group)?;
        self.stmts.group_delete.execute((entry.queue, group.as_str(), order as i64))?;
        let order = self.take_seq();
        entry.job.group_order = Some(order);
        self.stmts.group_put.execute((entry.queue, group.as_str(), order as i64, entry.seq() as i64))?;
        self.regroup(entry, &group, head_before)
    }

    /// Takes a finished job that still blocks its group out of it.
    pub(crate) fn unblock_group(&mut self, entry: &Entry) -> StoreResult<()> {
        let (Some(group), Some(order)) = (&entry.terms.group, entry.job.group_order) else { return Ok(()) };
        let head_before = self.group_head(entry, group)?;
        self.stmts.group_delete.execute((entry.queue, group.as_str(), order as i64))?;
        self.regroup(entry, group, head_before)
    }

    pub(super) fn tell_group_passed(
        &mut self,
        entry: &Entry,
        group: &Group,
        state: State,
    ) -> StoreResult<()> {
        let (_, on_dead) = self.group_settings(entry.queue);
        if state == State::Completed || on_dead == OnDead::Block {
            return Ok(());
        }
        let first = self.group_member(entry.queue, group, -1)?;
        if first.is_some_and(|(order, _)| entry.job.group_order.is_some_and(|own| order as u64 > own)) {
            self.emit(EventKind::GroupPassed, entry.queue, Some(&entry.job));
        }
        Ok(())
    }

    /// Tells that a group goes on because its finished head, which blocked it, is about to go.
    pub(crate) fn tell_group_unblocked(&mut self, entry: &Entry) -> StoreResult<()> {
        let (Some(group), Some(own)) = (&entry.terms.group, entry.job.group_order) else { return Ok(()) };
        let first = self.group_member(entry.queue, group, -1)?;
        let is_head = first.is_some_and(|(order, _)| order as u64 == own);
        if is_head && self.group_member(entry.queue, group, own as i64)?.is_some() {
            self.emit(EventKind::GroupPassed, entry.queue, Some(&entry.job));
        }
        Ok(())
    }

    /// Brings every group of a queue in line with changed settings.
    pub(crate) fn regroup_queue(&mut self, queue: QueueId, old: &QueueSettings) -> StoreResult<()> {
        let new = self.mem.queue(queue).map(|queue| Arc::clone(&queue.settings));
        let Some(new) = new else { return Ok(()) };
        let unblocks = old.on_dead == Some(OnDead::Block) && new.on_dead != Some(OnDead::Block);
        if old.group_head == new.group_head && !unblocks {
            return Ok(());
        }
        let mut names = Vec::new();
        let mut found = self.stmts.group_names.query([queue])?;
        while let Some(row) = found.next()? {
            names.push(row.get::<_, String>(0)?);
        }
        drop(found);
        let mut passed = Vec::new();
        for name in names {
            let group = Group::new(&name)
                .map_err(|_| StoreError::corrupt("a stored group cannot be read".to_owned()))?;
            self.regroup_one(queue, &group, unblocks, &mut passed)?;
        }
        passed.sort_unstable();
        for seq in passed {
            if let Some(entry) = self.take(seq)? {
                self.emit(EventKind::GroupPassed, queue, Some(&entry.job));
                self.put(entry);
            }
        }
        Ok(())
    }

    /// `passed` takes the heads that blocked the group until now and let it go on.
    fn regroup_one(
        &mut self,
        queue: QueueId,
        group: &Group,
        unblocks: bool,
        passed: &mut Vec<u64>,
    ) -> StoreResult<()> {
        let mut after = -1_i64;
        let mut some_member = None;
        let mut heads = Vec::new();
        while let Some((order, seq)) = self.group_member(queue, group, after)? {
            after = order;
            if self.mem.is_set_aside(seq) {
                continue;
            }
            let entry = self.take_in_turn(seq)?;
            self.turn_over();
            if unblocks && entry.job.state.is_finished() {
                self.stmts.group_delete.execute((queue, group.as_str(), order))?;
                if some_member.is_none() {
                    heads.push(seq);
                }
            } else {
                self.mem.remove(SetName::Ready(entry.line(), entry.job.priority), seq);
                some_member = Some(seq);
            }
            self.put(entry);
        }
        if some_member.is_some() {
            passed.append(&mut heads);
        }
        if let Some(entry) = some_member.map(|seq| self.take(seq)).transpose()?.flatten() {
            self.regroup(&entry, group, None)?;
            self.put(entry);
        }
        Ok(())
    }
}
