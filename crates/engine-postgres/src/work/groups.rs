//! Groups under their locks (I8).

use std::collections::{BTreeMap, BTreeSet};

use onefold_core::{GroupHead, OnDead};

use super::{Record, Work};
use crate::error::Outcome;
use crate::params;
use crate::pool::Params;
use crate::rows::QueueNumber;
use crate::sql;

/// A group, by its queue and name.
pub(crate) type GroupPlace = (QueueNumber, String);

/// Groups looked at before one claim.
const DIRTY_MAX: i64 = 1_000;

/// What this transaction knows of groups.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    /// Locked ones, with their first members: order, then phase. As many as can matter.
    locked: BTreeMap<GroupPlace, BTreeMap<u64, i16>>,
    /// For how many jobs of this transaction that is.
    covered: BTreeMap<GroupPlace, i64>,
    /// Those whose place in line has to be looked at.
    pub(super) publish: BTreeSet<GroupPlace>,
    /// Those that got new jobs without a lock.
    pub(super) dirty: BTreeSet<GroupPlace>,
}

pub(super) fn columns<'g>(groups: impl IntoIterator<Item = &'g GroupPlace>) -> Params {
    let (queues, names): (Vec<QueueNumber>, Vec<String>) = groups.into_iter().cloned().unzip();
    params![queues, names]
}

impl Work {
    /// Locks the groups of the loaded jobs, before anything is decided that depends on their mates.
    pub(crate) async fn lock_groups(&mut self) -> Outcome<()> {
        let mut wanted: BTreeMap<GroupPlace, i64> = BTreeMap::new();
        for record in self.records.values() {
            if let Some(group) = record.group() {
                *wanted.entry(group).or_insert(0) += 1;
            }
        }
        wanted.retain(|group, jobs| self.groups.covered.get(group).is_none_or(|covered| covered < jobs));
        // What was changed before is written, so that what is read of a group again is as it is.
        self.flush().await?;
        self.lock_these(wanted).await
    }

    async fn lock_these(&mut self, wanted: BTreeMap<GroupPlace, i64>) -> Outcome<()> {
        if wanted.is_empty() {
            return Ok(());
        }
        loop {
            let batch =
                vec![(sql::MAKE_GROUPS, columns(wanted.keys())), (sql::LOCK_GROUPS, columns(wanted.keys()))];
            let replies = self.tx.pipeline(batch).await?;
            // A group without jobs may have been swept away while we waited for it.
            if replies.get(1).is_some_and(|reply| reply.rows.len() == wanted.len()) {
                break;
            }
        }
        self.load_members(&wanted).await
    }

    /// Of these groups, locks those nobody else has. Gives them.
    pub(crate) async fn lock_free_groups(
        &mut self,
        wanted: BTreeSet<GroupPlace>,
    ) -> Outcome<BTreeSet<GroupPlace>> {
        let wanted: Vec<GroupPlace> = wanted.into_iter().collect();
        if wanted.is_empty() {
            return Ok(BTreeSet::new());
        }
        let batch =
            vec![(sql::MAKE_GROUPS, columns(wanted.iter())), (sql::LOCK_FREE_GROUPS, columns(wanted.iter()))];
        let mut replies = self.tx.pipeline(batch).await?;
        let rows = replies.pop().map(|reply| reply.rows).unwrap_or_default();
        let mut locked = BTreeMap::new();
        for row in &rows {
            let place: i64 = row.try_get(0)?;
            if let Some(group) = usize::try_from(place - 1).ok().and_then(|place| wanted.get(place)) {
                locked.insert(group.clone(), 1);
            }
            // The one before may have ended since this transaction began, and nobody is to read that they overlapped.
            if let Some(later) = self.tx.time_in(row, 1)? {
                self.now = self.now.max(later);
            }
        }
        self.load_members(&locked).await?;
        Ok(locked.into_keys().collect())
    }

    /// Loads the first members of locked groups: each job of this transaction can take one of them away, and then it
    /// still has to be told who leads and whether anybody follows.
    async fn load_members(&mut self, wanted: &BTreeMap<GroupPlace, i64>) -> Outcome<()> {
        if wanted.is_empty() {
            return Ok(());
        }
        let groups: Vec<&GroupPlace> = wanted.keys().collect();
        let mut all = columns(groups.iter().copied());
        all.extend(params![wanted.values().map(|jobs| jobs + 2).collect::<Vec<i64>>()]);
        for (group, jobs) in wanted {
            self.groups.locked.insert(group.clone(), BTreeMap::new());
            self.groups.covered.insert(group.clone(), *jobs);
        }
        for row in self.rows(sql::FIRST_MEMBERS, all).await? {
            let place: i64 = row.try_get(0)?;
            let group = usize::try_from(place - 1).ok().and_then(|place| groups.get(place));
            if let Some(members) = group.and_then(|group| self.groups.locked.get_mut(*group)) {
                members.insert(row.try_get::<_, i64>(1)?.cast_unsigned(), row.try_get(3)?);
            }
        }
        Ok(())
    }

    /// Which of these locked groups may lease whom.
    pub(crate) async fn leaders(
        &mut self,
        groups: &BTreeSet<GroupPlace>,
    ) -> Outcome<BTreeMap<GroupPlace, i64>> {
        let groups: Vec<&GroupPlace> = groups.iter().collect();
        if groups.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut all = columns(groups.iter().copied());
        all.extend(params![groups.iter().map(|(queue, _)| self.skips(*queue)).collect::<Vec<bool>>()]);
        let rows = self.rows(sql::LEADERS, all).await?;
        let mut leaders = BTreeMap::new();
        for row in &rows {
            let place: i64 = row.try_get(0)?;
            if let Some(group) = usize::try_from(place - 1).ok().and_then(|place| groups.get(place)) {
                leaders.insert((*group).clone(), row.try_get(1)?);
            }
        }
        Ok(leaders)
    }

    fn skips(&self, queue: QueueNumber) -> bool {
        self.queue(queue).is_ok_and(|queue| queue.settings.group_head == Some(GroupHead::Skip))
    }

    pub(crate) fn on_dead(&self, queue: QueueNumber) -> OnDead {
        self.queue(queue).ok().and_then(|queue| queue.settings.on_dead).unwrap_or(OnDead::Continue)
    }

    /// Whether a job that is about to go, or went, led a group that others wait in.
    pub(super) fn leads_others(&self, record: &Record) -> bool {
        let (Some(group), Some(order)) = (record.group(), record.job.group_order) else { return false };
        let Some(members) = self.groups.locked.get(&group) else { return false };
        let mut mates = members.keys().filter(|mate| **mate != order).peekable();
        mates.peek().is_some() && mates.all(|mate| *mate > order)
    }

    /// Notes where a job now stands in its group.
    pub(super) fn move_member(&mut self, seq: i64, before: Option<(u64, i16)>) {
        let Some(record) = self.records.get(&seq) else { return };
        let (Some(group), now) = (record.group(), record.places().member) else { return };
        // A job that this transaction added itself comes without its group's lock.
        let Some(members) = self.groups.locked.get_mut(&group) else {
            self.groups.dirty.insert(group);
            return;
        };
        if let Some((order, _)) = before {
            members.remove(&order);
        }
        if let Some((order, phase)) = now {
            members.insert(order, phase);
        }
        self.groups.publish.insert(group);
    }

    /// Looks at a group again when this transaction is written.
    pub(crate) fn publish_again(&mut self, group: GroupPlace) {
        self.groups.publish.insert(group);
    }

    /// Puts the heads of groups in line to which jobs were added since, a bounded number of them.
    pub(crate) async fn promote(&mut self, queues: Vec<QueueNumber>) -> Outcome<()> {
        if queues.is_empty() {
            return Ok(());
        }
        let rows = self.rows(sql::TAKE_DIRTY, params![queues, DIRTY_MAX]).await?;
        let mut wanted = BTreeMap::new();
        for row in &rows {
            wanted.insert((row.try_get(0)?, row.try_get(1)?), 0);
        }
        if wanted.is_empty() {
            return Ok(());
        }
        self.groups.publish.extend(wanted.keys().cloned());
        self.lock_these(wanted).await?;
        self.flush().await
    }

    /// What is to be written about the line: who stands in it for each group that was touched.
    pub(super) fn publish_statement(&mut self) -> Option<(sql::Sql, Params)> {
        let groups: Vec<GroupPlace> = std::mem::take(&mut self.groups.publish).into_iter().collect();
        if groups.is_empty() {
            return None;
        }
        for (queue, _) in &groups {
            // Who stands in line for the group is for the statement to say.
            self.effects.lines.published.insert(*queue);
            self.effects.deliveries = true;
            if let Some(queue) = self.queues.get(queue) {
                self.effects.leasable.insert(queue.name.clone());
            }
        }
        let mut all = columns(groups.iter());
        all.extend(params![groups.iter().map(|(queue, _)| self.skips(*queue)).collect::<Vec<bool>>()]);
        Some((sql::PUBLISH, all))
    }
}
