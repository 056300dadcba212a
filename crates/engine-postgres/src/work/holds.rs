//! Keys under their locks (I3).

use std::collections::{BTreeMap, BTreeSet};

use onefold_core::{Fingerprint, FreeOn, Hold, Key};

use super::Work;
use crate::error::{Fault, Outcome, corrupt};
use crate::params;
use crate::pool::Params;
use crate::rows::{QueueNumber, job_id, seq_code, time};
use crate::sql::{self, Sql};

/// The spaces of the ledger: keys of jobs, identities of requests, and ticks of schedules, which belong to no queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Space {
    Job = 0,
    Request = 1,
    Tick = 2,
}

/// The queue of keys that belong to none.
pub(crate) const NO_QUEUE: QueueNumber = 0;

pub(crate) type KeyPlace = (QueueNumber, Space, Key);

/// What this transaction knows of keys.
#[derive(Debug, Default)]
pub(crate) struct Holds(BTreeMap<KeyPlace, Slot>);

#[derive(Debug)]
struct Slot {
    /// There is a row, and it is locked.
    stored: bool,
    hold: Option<Hold>,
    changed: bool,
}

fn place_columns(places: &[KeyPlace]) -> Params {
    params![
        places.iter().map(|(queue, _, _)| *queue).collect::<Vec<_>>(),
        places.iter().map(|(_, space, _)| *space as i16).collect::<Vec<_>>(),
        places.iter().map(|(_, _, key)| key.as_str().to_owned()).collect::<Vec<_>>(),
    ]
}

impl Work {
    /// Reads keys as they are, without locks.
    async fn read_keys(&mut self, sql: Sql, places: &[KeyPlace]) -> Outcome<BTreeMap<usize, Hold>> {
        let rows = self.rows(sql, place_columns(places)).await?;
        rows.iter()
            .map(|row| {
                let place: i64 = row.try_get(0)?;
                let fingerprint = Fingerprint::from_bytes(row.try_get(3)?);
                let hold = Hold {
                    job: job_id(row.try_get(2)?, row.try_get(1)?)?,
                    fingerprint: fingerprint.map_err(|_| corrupt("a fingerprint that is none"))?,
                    until: time(row.try_get(4)?)?,
                    free_on: FreeOn::from_bits(row.try_get::<_, i16>(5)? as u8),
                };
                let place = usize::try_from(place - 1).map_err(|_| corrupt("a place below 1"))?;
                Ok((place, hold))
            })
            .collect()
    }

    /// Loads keys with the jobs that hold them, all locked: jobs before keys, as everybody does. A key that has no row
    /// is not locked; whoever writes it first wins, and the other begins again.
    pub(crate) async fn load_holds(&mut self, places: Vec<KeyPlace>) -> Outcome<()> {
        let mut places: Vec<KeyPlace> =
            places.into_iter().filter(|place| !self.holds.0.contains_key(place)).collect();
        places.sort();
        places.dedup();
        if places.is_empty() {
            return Ok(());
        }
        let found = self.read_keys(sql::FIND_KEYS, &places).await?;
        let taken: Vec<KeyPlace> = found.keys().filter_map(|place| places.get(*place).cloned()).collect();
        if !taken.is_empty() {
            self.load(found.values().map(|hold| seq_code(hold.job)).collect()).await?;
            let locked = self.read_keys(sql::LOCK_KEYS, &taken).await?;
            let same = locked.len() == taken.len()
                && locked.values().zip(found.values()).all(|(now, before)| now.job == before.job);
            if !same {
                return Err(Fault::Again("a key changed hands".to_owned()));
            }
            for (place, hold) in taken.into_iter().zip(locked.into_values()) {
                self.holds.0.insert(place, Slot { stored: true, hold: Some(hold), changed: false });
            }
        }
        for place in places {
            self.holds.0.entry(place).or_insert(Slot { stored: false, hold: None, changed: false });
        }
        Ok(())
    }

    /// Reads a key and, if the row is there, the job that holds it, for a look.
    pub(crate) async fn peek_key(&mut self, place: KeyPlace) -> Outcome<Option<Hold>> {
        Ok(self.read_keys(sql::FIND_KEYS, &[place]).await?.into_values().next())
    }

    /// Which of these keys are held, by their places in the list, without waiting for who is writing one. Not for keys of
    /// jobs.
    pub(crate) async fn look_at_holds(&mut self, places: &[KeyPlace]) -> Outcome<BTreeSet<usize>> {
        if places.is_empty() {
            return Ok(BTreeSet::new());
        }
        let found = self.read_keys(sql::FIND_KEYS, places).await?;
        let mut held = BTreeSet::new();
        for (number, hold) in found {
            if hold.is_held(None, self.now) {
                held.insert(number);
            } else if let Some(place) = places.get(number) {
                // Its row is still there, to be taken over.
                self.holds.0.insert(place.clone(), Slot { stored: true, hold: Some(hold), changed: false });
            }
        }
        Ok(held)
    }

    /// Who holds a key that was loaded.
    pub(crate) fn held(&self, place: &KeyPlace) -> Option<Hold> {
        let hold = self.holds.0.get(place)?.hold.as_ref()?;
        let state = self.find(hold.job).map(|record| record.job.state).filter(|_| place.1 == Space::Job);
        hold.is_held(state, self.now).then(|| hold.clone())
    }

    /// Gives a key that was loaded to a job, or frees it.
    pub(crate) fn hold(&mut self, place: KeyPlace, hold: Option<Hold>) {
        let slot = self.holds.0.entry(place).or_insert(Slot { stored: false, hold: None, changed: false });
        (slot.hold, slot.changed) = (hold, true);
    }

    /// Frees the key of a job that ends so.
    pub(super) fn free_key(&mut self, queue: QueueNumber, key: &Key, seq: i64) {
        let place = (queue, Space::Job, key.clone());
        match self.holds.0.get_mut(&place) {
            Some(slot) if slot.hold.as_ref().is_some_and(|hold| seq_code(hold.job) == seq) => {
                (slot.hold, slot.changed) = (None, true);
            }
            Some(_) => {}
            None => self.free_keys.push((queue, key.as_str().to_owned(), seq)),
        }
    }

    /// What is to be written of keys: rows to insert and how many, and the rest.
    pub(super) fn key_statements(&mut self) -> (usize, Vec<(Sql, Params)>) {
        let (mut new, mut moved) = (Vec::new(), Vec::new());
        for (place, slot) in self.holds.0.iter_mut().filter(|(_, slot)| slot.changed) {
            slot.changed = false;
            match (&slot.hold, slot.stored) {
                (Some(hold), true) => moved.push((place.clone(), hold.clone())),
                (Some(hold), false) => {
                    new.push((place.clone(), hold.clone()));
                    slot.stored = true;
                }
                (None, true) => {
                    slot.stored = false;
                    self.dropped_keys.push(place.clone());
                }
                (None, false) => {}
            }
        }
        let mut statements = Vec::new();
        let inserted = new.len();
        if !new.is_empty() {
            statements.push((sql::INSERT_KEYS, hold_columns(&new)));
        }
        if !moved.is_empty() {
            statements.push((sql::UPDATE_KEYS, hold_columns(&moved)));
        }
        if !self.dropped_keys.is_empty() {
            let places = std::mem::take(&mut self.dropped_keys);
            statements.push((sql::DELETE_KEYS, place_columns(&places)));
        }
        if !self.free_keys.is_empty() {
            let mut free = std::mem::take(&mut self.free_keys);
            free.sort();
            let queues: Vec<_> = free.iter().map(|(queue, _, _)| *queue).collect();
            let keys: Vec<_> = free.iter().map(|(_, key, _)| key.clone()).collect();
            let seqs: Vec<_> = free.iter().map(|(_, _, seq)| *seq).collect();
            statements.push((sql::FREE_KEYS, params![queues, keys, seqs]));
        }
        (inserted, statements)
    }
}

fn hold_columns(holds: &[(KeyPlace, Hold)]) -> Params {
    let places: Vec<KeyPlace> = holds.iter().map(|(place, _)| place.clone()).collect();
    let mut all = place_columns(&places);
    all.extend(params![
        holds.iter().map(|(_, hold)| seq_code(hold.job)).collect::<Vec<_>>(),
        holds.iter().map(|(_, hold)| hold.job.accepted_unix_ms()).collect::<Vec<_>>(),
        holds.iter().map(|(_, hold)| hold.fingerprint.as_bytes().to_vec()).collect::<Vec<_>>(),
        holds.iter().map(|(_, hold)| hold.until.as_unix_ms()).collect::<Vec<_>>(),
        holds.iter().map(|(_, hold)| i16::from(hold.free_on.bits())).collect::<Vec<_>>(),
    ]);
    all
}
