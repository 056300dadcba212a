//! Sealing: when the key index takes more memory than it may, its older keys go to a sorted table
//! on disk, shard by shard in one pass, a bounded number with each commit. Memory keeps a filter
//! of them. Nothing is forgotten on the way: a key is in memory or in the table, never in neither.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::store::Store;
use crate::error::{StoreError, StoreResult};
use crate::key_index::{Filter, KeyHash, Place, SHARDS};
use crate::ledger_id::LedgerId;

/// Keys one commit seals, the last shard aside.
const SEALED_PER_COMMIT: usize = 512;

/// How far sealing is, as stored with every step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sealing {
    /// Shards the latest pass has done.
    pub(crate) shards_done: u32,
    /// By expiry class: entries below this counter are sealed by the latest pass, in the shards it
    /// has done.
    pub(crate) tails: BTreeMap<u16, u64>,
    /// By expiry class: entries below this counter were sealed by passes before it, in all shards.
    pub(crate) before: BTreeMap<u16, u64>,
    /// Keys in the table.
    pub(crate) keys: u64,
}

impl Default for Sealing {
    fn default() -> Sealing {
        let nothing = BTreeMap::new();
        Sealing { shards_done: SHARDS, tails: nothing.clone(), before: nothing, keys: 0 }
    }
}

impl Sealing {
    fn is_under_way(&self) -> bool {
        self.shards_done < SHARDS
    }

    fn begin(&mut self, tails: BTreeMap<u16, u64>) {
        self.before = std::mem::replace(&mut self.tails, tails);
        self.shards_done = 0;
    }

    /// The first counter of a class whose entry may still be in memory.
    pub(crate) fn first_in_memory(&self, class: u16) -> u64 {
        let tails = if self.is_under_way() { &self.before } else { &self.tails };
        tails.get(&class).copied().unwrap_or(0)
    }

    /// Whether a ledger entry is in the table instead of in memory.
    pub(crate) fn is_sealed(&self, lid: LedgerId, hash: KeyHash) -> bool {
        let shard_is_done = hash.place().shard() < self.shards_done;
        is_below(lid, &self.before) || is_below(lid, &self.tails) && shard_is_done
    }

    pub(crate) fn read(stored: &str) -> StoreResult<Sealing> {
        serde_json::from_str(stored)
            .map_err(|_| StoreError::corrupt("what is known about sealed keys is damaged".to_owned()))
    }

    pub(super) fn stored(&self) -> StoreResult<String> {
        serde_json::to_string(self)
            .map_err(|_| StoreError::corrupt("what is known about sealed keys cannot be written".to_owned()))
    }
}

fn is_below(lid: LedgerId, tails: &BTreeMap<u16, u64>) -> bool {
    tails.get(&lid.class()).is_some_and(|tail| lid.counter() < *tail)
}

impl Store<'_> {
    /// The ledger ids a key may have.
    pub(super) fn candidates(&mut self, hash: KeyHash) -> StoreResult<Vec<LedgerId>> {
        let mut lids: Vec<LedgerId> = self.mem.keys().find(hash).collect();
        if self.mem.keys().may_be_sealed(hash.place()) {
            let mut found = self.stmts.sealed_select.query([hash.place().stored()])?;
            while let Some(row) = found.next()? {
                lids.push(LedgerId::from_stored(row.get(0)?));
            }
        }
        Ok(lids)
    }

    /// Takes an entry that was dropped from the ledger out of the index.
    pub(super) fn forget_key(&mut self, hash: KeyHash, lid: LedgerId) -> StoreResult<()> {
        if !self.mem.remove_key(hash.place(), lid) {
            let deleted = self.stmts.sealed_delete.execute((hash.place().stored(), lid.stored()))?;
            let sealing = self.mem.sealing_mut();
            sealing.keys = sealing.keys.saturating_sub(deleted as u64);
        }
        Ok(())
    }

    /// Seals a bounded number of keys if the index takes more memory than it may.
    pub(crate) fn seal_some(&mut self) -> StoreResult<()> {
        if !self.mem.sealing().is_under_way() {
            if self.mem.keys().slot_bytes() <= self.slots_may_take() {
                return Ok(());
            }
            let tails = self.mem.ledger_tails.clone();
            self.mem.sealing_mut().begin(tails);
            tracing::info!(
                keys = self.mem.keys().len(),
                "the key index outgrew its memory: older keys go to disk"
            );
        }
        let mut sealed = 0;
        while self.mem.sealing().is_under_way() && sealed < SEALED_PER_COMMIT {
            sealed += self.seal_shard()?;
        }
        Ok(())
    }

    /// Filters may take up to half of the budget.
    fn slots_may_take(&self) -> usize {
        self.key_index_bytes - self.mem.keys().filter_bytes().min(self.key_index_bytes / 2)
    }

    fn seal_shard(&mut self) -> StoreResult<usize> {
        let shard = self.mem.sealing().shards_done;
        let mut members = self.mem.keys().members(shard);
        members.retain(|(_, lid)| is_below(*lid, &self.mem.sealing().tails));
        for (place, lid) in &members {
            self.stmts.sealed_insert.execute((place.stored(), lid.stored()))?;
            self.mem.remove_key(*place, *lid);
        }
        self.mem.shrink_keys(shard);
        if !members.is_empty() {
            self.make_filter(shard)?;
        }
        let sealing = self.mem.sealing_mut();
        sealing.shards_done += 1;
        sealing.keys += members.len() as u64;
        Ok(members.len())
    }

    /// Makes the filter of a shard anew, of all its sealed keys.
    fn make_filter(&mut self, shard: u32) -> StoreResult<()> {
        let mut places = Vec::new();
        let mut found = self.stmts.sealed_places.query(Place::range(shard))?;
        while let Some(row) = found.next()? {
            places.push(Place::from_stored(row.get(0)?));
        }
        drop(found);
        let filter = if self.mem.keys().filter_bytes() < self.key_index_bytes / 2 {
            Filter::of(&places)
        } else {
            Filter::EVERYTHING
        };
        let crc = crate::rows::value_crc(u64::from(shard), filter.stored());
        self.stmts.filter_put.execute((shard, filter.stored(), crc))?;
        self.mem.put_filter(shard, filter);
        Ok(())
    }
}
