//! What the writer knows without asking the disk: which jobs could be leased, which run, what is
//! due when, who holds which key. All of it can be rebuilt from the file; all changes of a
//! transaction are undone if it is rolled back.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::{HashMap, HashSet};
use onefold_core::{Group, QueueCounts, QueueName, Starts, Timestamp};

pub(crate) use super::line::{Line, QueueId, SetName};
use super::queue::Queue;
use super::seal::Sealing;
use crate::key_index::{Filter, KeyHash, KeyIndex, Place};
use crate::ledger_id::LedgerId;
use crate::sets::{SeqSet, bucket_of};

/// A change that can be taken back.
#[derive(Debug)]
enum Undo {
    SetInserted(SetName, u64),
    SetRemoved(SetName, u64),
    TimerInserted(Timestamp, u64),
    TimerRemoved(Timestamp, u64),
    DeadlineInserted(Timestamp, u64),
    DeadlineRemoved(Timestamp, u64),
    KeyInserted(Place, LedgerId),
    KeyRemoved(Place, LedgerId),
    Sealing(Box<Sealing>),
    Queue(QueueId, Option<Box<Queue>>),
    Retention(u64, Option<Timestamp>),
    GroupRuns(QueueId, Group, bool),
}

/// The numbers that only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) next_seq: u64,
    pub(crate) next_event: u64,
    pub(crate) next_queue: QueueId,
}

/// See the [module](self).
pub(crate) struct Memory {
    pub(super) sets: BTreeMap<SetName, SeqSet>,
    timers: BTreeSet<(Timestamp, u64)>,
    deadlines: BTreeSet<(Timestamp, u64)>,
    keys: KeyIndex,
    sealing: Sealing,
    queues: HashMap<QueueId, Queue>,
    queue_ids: HashMap<QueueName, QueueId>,
    /// Queues that have a rate.
    rated: BTreeSet<QueueId>,
    retention: BTreeMap<u64, Timestamp>,
    running_groups: HashSet<(QueueId, Group)>,
    /// The next counter of each expiry class of the ledger.
    pub(crate) ledger_tails: BTreeMap<u16, u64>,
    pub(crate) counters: Counters,

    undo: Vec<Undo>,
    dirty_sets: HashSet<(SetName, u64)>,
    /// The container marked last: neighbours mostly come one after the other.
    last_dirty: Option<(SetName, u64)>,
    dirty_queues: HashSet<QueueId>,
    dirty_retention: HashSet<u64>,
    dirty_sealing: bool,
    /// Jobs whose stored rows cannot be read: passed over until the store is opened again, in
    /// case only the reading went wrong.
    pub(super) set_aside: HashSet<u64>,
    /// A delivery became leasable in this transaction.
    deliveries_woken: bool,
    /// Queues in which a job became leasable in this transaction.
    woken: BTreeSet<QueueId>,
    last_woken: Option<QueueId>,
}

impl Memory {
    pub(crate) fn new() -> Memory {
        Memory {
            sets: BTreeMap::new(),
            timers: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            keys: KeyIndex::new(),
            sealing: Sealing::default(),
            queues: HashMap::new(),
            queue_ids: HashMap::new(),
            rated: BTreeSet::new(),
            retention: BTreeMap::new(),
            running_groups: HashSet::new(),
            ledger_tails: BTreeMap::new(),
            counters: Counters { next_seq: 1, next_event: 1, next_queue: 1 },
            undo: Vec::new(),
            dirty_sets: HashSet::new(),
            last_dirty: None,
            dirty_queues: HashSet::new(),
            dirty_retention: HashSet::new(),
            dirty_sealing: false,
            set_aside: HashSet::new(),
            deliveries_woken: false,
            woken: BTreeSet::new(),
            last_woken: None,
        }
    }

    // Sets.

    pub(crate) fn load_set(&mut self, name: SetName, bucket: u64, stored: &[u8]) -> Option<()> {
        self.sets.entry(name).or_default().load(bucket, stored)
    }

    pub(crate) fn set(&self, name: SetName) -> Option<&SeqSet> {
        self.sets.get(&name)
    }

    pub(crate) fn insert(&mut self, name: SetName, seq: u64) {
        if self.sets.entry(name).or_default().insert(seq) {
            self.undo.push(Undo::SetInserted(name, seq));
            self.mark_dirty(name, seq);
            match name {
                SetName::Ready(line, _) if line.lane.is_http() => self.deliveries_woken = true,
                SetName::Ready(line, _) if self.last_woken != Some(line.queue) => {
                    self.last_woken = Some(line.queue);
                    self.woken.insert(line.queue);
                }
                SetName::Ready(..) | SetName::Running => {}
            }
        }
    }

    pub(crate) fn remove(&mut self, name: SetName, seq: u64) {
        let Some(set) = self.sets.get_mut(&name) else { return };
        if set.remove(seq) {
            if set.is_empty() {
                self.sets.remove(&name);
            }
            self.undo.push(Undo::SetRemoved(name, seq));
            self.mark_dirty(name, seq);
        }
    }

    fn mark_dirty(&mut self, name: SetName, seq: u64) {
        let place = (name, bucket_of(seq));
        if self.last_dirty != Some(place) {
            self.last_dirty = Some(place);
            self.dirty_sets.insert(place);
        }
    }

    // Timers and deadlines.

    pub(crate) fn insert_timer(&mut self, at: Timestamp, seq: u64) {
        if self.timers.insert((at, seq)) {
            self.undo.push(Undo::TimerInserted(at, seq));
        }
    }

    pub(crate) fn remove_timer(&mut self, at: Timestamp, seq: u64) {
        if self.timers.remove(&(at, seq)) {
            self.undo.push(Undo::TimerRemoved(at, seq));
        }
    }

    pub(crate) fn first_timer(&self) -> Option<(Timestamp, u64)> {
        self.timers.first().copied()
    }

    pub(crate) fn insert_deadline(&mut self, at: Timestamp, seq: u64) {
        if self.deadlines.insert((at, seq)) {
            self.undo.push(Undo::DeadlineInserted(at, seq));
        }
    }

    pub(crate) fn remove_deadline(&mut self, at: Timestamp, seq: u64) {
        if self.deadlines.remove(&(at, seq)) {
            self.undo.push(Undo::DeadlineRemoved(at, seq));
        }
    }

    pub(crate) fn first_deadline(&self) -> Option<(Timestamp, u64)> {
        self.deadlines.first().copied()
    }

    /// Takes a job out of whatever it may stand in, when its row does not say where.
    pub(crate) fn remove_everywhere(&mut self, queue: QueueId, seq: u64) {
        let ready: Vec<SetName> = self.sets.range(Line::sets_of(queue)).map(|(name, _)| *name).collect();
        ready.into_iter().chain([SetName::Running]).for_each(|name| self.remove(name, seq));
        let timer = self.timers.iter().find(|(_, other)| *other == seq).copied();
        let deadline = self.deadlines.iter().find(|(_, other)| *other == seq).copied();
        timer.into_iter().for_each(|(at, seq)| self.remove_timer(at, seq));
        deadline.into_iter().for_each(|(at, seq)| self.remove_deadline(at, seq));
    }

    // Keys.

    pub(crate) fn load_key(&mut self, hash: KeyHash, lid: LedgerId) {
        let tail = self.ledger_tails.entry(lid.class()).or_insert(0);
        *tail = (*tail).max(lid.counter() + 1);
        self.keys.insert(hash.place(), lid);
    }

    pub(crate) fn insert_key(&mut self, hash: KeyHash, lid: LedgerId) {
        self.keys.insert(hash.place(), lid);
        self.undo.push(Undo::KeyInserted(hash.place(), lid));
    }

    /// Whether the key was in memory.
    pub(crate) fn remove_key(&mut self, place: Place, lid: LedgerId) -> bool {
        let removed = self.keys.remove(place, lid);
        if removed {
            self.undo.push(Undo::KeyRemoved(place, lid));
        }
        removed
    }

    pub(crate) fn shrink_keys(&mut self, shard: u32) {
        self.keys.shrink(shard);
    }

    /// Needs no undoing: it still holds what is on disk if the transaction is rolled back.
    pub(crate) fn put_filter(&mut self, shard: u32, filter: Filter) {
        self.keys.put_filter(shard, filter);
    }

    pub(crate) fn load_sealing(&mut self, sealing: Sealing) {
        for (class, tail) in &sealing.tails {
            self.ledger_tails.insert(*class, *tail);
        }
        self.sealing = sealing;
    }

    pub(crate) fn sealing(&self) -> &Sealing {
        &self.sealing
    }

    pub(crate) fn sealing_mut(&mut self) -> &mut Sealing {
        if !self.dirty_sealing {
            self.dirty_sealing = true;
            self.undo.push(Undo::Sealing(Box::new(self.sealing.clone())));
        }
        &mut self.sealing
    }

    pub(crate) fn keys(&self) -> &KeyIndex {
        &self.keys
    }

    /// Where the next ledger entry with this window goes.
    pub(crate) fn next_lid(&mut self, class: u16) -> LedgerId {
        let tail = self.ledger_tails.entry(class).or_insert(0);
        let lid = LedgerId::new(class, *tail);
        // Not undone: a number left out does no harm.
        *tail += 1;
        lid
    }

    // Queues.

    pub(crate) fn queue_id(&self, name: &QueueName) -> Option<QueueId> {
        self.queue_ids.get(name).copied()
    }

    pub(crate) fn queue(&self, id: QueueId) -> Option<&Queue> {
        self.queues.get(&id)
    }

    pub(crate) fn queue_ids(&self) -> impl Iterator<Item = QueueId> + '_ {
        self.queues.keys().copied()
    }

    pub(crate) fn load_queue(&mut self, id: QueueId, queue: Queue) {
        self.counters.next_queue = self.counters.next_queue.max(id + 1);
        self.replace_queue(id, Some(queue));
    }

    /// Makes, changes (`Some`) or forgets (`None`) a queue.
    pub(crate) fn put_queue(&mut self, id: QueueId, queue: Option<Queue>) {
        let before = self.replace_queue(id, queue);
        self.undo.push(Undo::Queue(id, before.map(Box::new)));
        self.dirty_queues.insert(id);
    }

    fn replace_queue(&mut self, id: QueueId, queue: Option<Queue>) -> Option<Queue> {
        self.rated.remove(&id);
        match queue {
            Some(queue) => {
                if queue.settings.rate.is_some() {
                    self.rated.insert(id);
                }
                self.queue_ids.insert(queue.name.clone(), id);
                self.queues.insert(id, queue)
            }
            None => {
                let gone = self.queues.remove(&id);
                if let Some(gone) = &gone {
                    self.queue_ids.remove(&gone.name);
                }
                gone
            }
        }
    }

    /// The counts of a queue, to be changed.
    pub(crate) fn counts(&mut self, id: QueueId) -> Option<&mut QueueCounts> {
        self.queue_changing(id).map(|queue| &mut queue.counts)
    }

    /// What counts for the rate of a queue, to be changed.
    pub(crate) fn starts(&mut self, id: QueueId) -> Option<&mut Starts> {
        self.queue_changing(id).map(|queue| &mut queue.starts)
    }

    fn queue_changing(&mut self, id: QueueId) -> Option<&mut Queue> {
        let queue = self.queues.get_mut(&id)?;
        if self.dirty_queues.insert(id) {
            self.undo.push(Undo::Queue(id, Some(Box::new(queue.clone()))));
        }
        Some(queue)
    }

    /// Queues that have a rate.
    pub(crate) fn rated(&self) -> impl Iterator<Item = (QueueId, &Queue)> + '_ {
        self.rated.iter().filter_map(|id| Some((*id, self.queues.get(id)?)))
    }

    // Groups.

    /// Whether a job of the group runs.
    pub(crate) fn group_runs(&self, queue: QueueId, group: &Group) -> bool {
        !self.running_groups.is_empty() && self.running_groups.contains(&(queue, group.clone()))
    }

    pub(crate) fn set_group_runs(&mut self, queue: QueueId, group: &Group, runs: bool) {
        let place = (queue, group.clone());
        let changed =
            if runs { self.running_groups.insert(place) } else { self.running_groups.remove(&place) };
        if changed {
            self.undo.push(Undo::GroupRuns(queue, group.clone(), !runs));
        }
    }

    // Retention.

    pub(crate) fn load_retention(&mut self, bucket: u64, at: Timestamp) {
        self.retention.insert(bucket, at);
    }

    /// Notes when the jobs of a bucket have to be looked at, `None` for never.
    pub(crate) fn set_retention(&mut self, bucket: u64, at: Option<Timestamp>) {
        let before = match at {
            Some(at) => self.retention.insert(bucket, at),
            None => self.retention.remove(&bucket),
        };
        self.undo.push(Undo::Retention(bucket, before));
        self.dirty_retention.insert(bucket);
    }

    pub(crate) fn retention(&self, bucket: u64) -> Option<Timestamp> {
        self.retention.get(&bucket).copied()
    }

    pub(crate) fn retention_buckets(&self) -> impl Iterator<Item = (u64, Timestamp)> + '_ {
        self.retention.iter().map(|(bucket, at)| (*bucket, *at))
    }

    // Transactions.

    /// What a transaction touched and has to be written with it.
    pub(crate) fn take_dirty(&mut self) -> Dirty {
        self.last_dirty = None;
        Dirty {
            sets: self.dirty_sets.drain().collect(),
            queues: self.dirty_queues.drain().collect(),
            retention: self.dirty_retention.drain().collect(),
            sealing: std::mem::take(&mut self.dirty_sealing),
        }
    }

    /// Queues in which jobs became leasable since the last call.
    pub(crate) fn take_woken(&mut self) -> BTreeSet<QueueId> {
        self.last_woken = None;
        std::mem::take(&mut self.woken)
    }

    /// Whether a delivery became leasable since the last call.
    pub(crate) fn take_deliveries_woken(&mut self) -> bool {
        std::mem::take(&mut self.deliveries_woken)
    }

    /// Lets the parked polls of a queue be looked at again, and deliveries.
    pub(crate) fn wake(&mut self, queue: QueueId) {
        self.deliveries_woken = true;
        self.woken.insert(queue);
    }

    pub(crate) fn has_woken(&self) -> bool {
        !self.woken.is_empty()
    }

    /// The transaction is durable.
    pub(crate) fn commit(&mut self) {
        self.undo.clear();
        self.forget_marks();
    }

    /// The transaction never happened.
    pub(crate) fn roll_back(&mut self, counters: Counters) {
        for undo in std::mem::take(&mut self.undo).into_iter().rev() {
            match undo {
                Undo::SetInserted(name, seq) => {
                    if let Some(set) = self.sets.get_mut(&name) {
                        set.remove(seq);
                    }
                }
                Undo::SetRemoved(name, seq) => {
                    self.sets.entry(name).or_default().insert(seq);
                }
                Undo::TimerInserted(at, seq) => {
                    self.timers.remove(&(at, seq));
                }
                Undo::TimerRemoved(at, seq) => {
                    self.timers.insert((at, seq));
                }
                Undo::DeadlineInserted(at, seq) => {
                    self.deadlines.remove(&(at, seq));
                }
                Undo::DeadlineRemoved(at, seq) => {
                    self.deadlines.insert((at, seq));
                }
                Undo::KeyInserted(place, lid) => {
                    self.keys.remove(place, lid);
                }
                Undo::KeyRemoved(place, lid) => self.keys.insert(place, lid),
                Undo::Sealing(before) => self.sealing = *before,
                Undo::Queue(id, before) => {
                    self.replace_queue(id, None);
                    self.replace_queue(id, before.map(|queue| *queue));
                }
                Undo::GroupRuns(queue, group, true) => {
                    self.running_groups.insert((queue, group));
                }
                Undo::GroupRuns(queue, group, false) => {
                    self.running_groups.remove(&(queue, group));
                }
                Undo::Retention(bucket, before) => {
                    match before {
                        Some(at) => self.retention.insert(bucket, at),
                        None => self.retention.remove(&bucket),
                    };
                }
            }
        }
        self.counters = counters;
        self.forget_marks();
    }

    fn forget_marks(&mut self) {
        self.dirty_sets.clear();
        self.last_dirty = None;
        self.last_woken = None;
        self.dirty_queues.clear();
        self.dirty_retention.clear();
        self.dirty_sealing = false;
        self.woken.clear();
        self.deliveries_woken = false;
    }
}

/// See [`Memory::take_dirty`].
pub(crate) struct Dirty {
    pub(crate) sets: Vec<(SetName, u64)>,
    pub(crate) queues: Vec<QueueId>,
    pub(crate) retention: Vec<u64>,
    pub(crate) sealing: bool,
}
