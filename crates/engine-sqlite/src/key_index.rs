//! The key index: which ledger entries a key may have, by a keyed hash. Held in memory at 13 bytes
//! a key and slot; a hit is always confirmed against the ledger, so the index may point at too
//! much but never at too little. Older keys are sealed: they lie in a table on disk, and memory
//! keeps a filter of them.

use hashbrown::HashTable;
use siphasher::sip::SipHasher13;
use std::hash::Hasher;

use crate::ledger_id::LedgerId;

/// A power of two. Many, so that neither growing nor sealing one is a long stop.
pub(crate) const SHARDS: u32 = 1 << SHARD_BITS;
const SHARD_BITS: u32 = 14;
/// Bits of a slot's own.
const TAG_BITS: u32 = 32;
/// Bits that are left in a stored hash.
const CHECK_BITS: u32 = 64 - SHARD_BITS - TAG_BITS;

/// The hash of a key: keyed, so that nobody outside can choose colliding ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyHash(u64);

impl KeyHash {
    pub(crate) fn from_stored(stored: i64) -> KeyHash {
        KeyHash(stored as u64)
    }

    /// As it stands in a ledger row: the place, and a check of it and the row's id, so that opening
    /// can trust the column without reading the row.
    pub(crate) fn stored(self, lid: LedgerId) -> i64 {
        let place = self.place();
        (place.0 << CHECK_BITS | place.check(lid)) as i64
    }

    /// Whether it was read as it was stored with this row.
    pub(crate) fn is_of(self, lid: LedgerId) -> bool {
        self.0 & ((1 << CHECK_BITS) - 1) == self.place().check(lid)
    }

    /// What the index keeps of it: its first 46 bits, shard and tag.
    pub(crate) fn place(self) -> Place {
        Place(self.0 >> CHECK_BITS)
    }
}

/// Where a key stands in the index. Places grow with shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place(u64);

impl Place {
    fn new(shard: u32, tag: u32) -> Place {
        Place(u64::from(shard) << TAG_BITS | u64::from(tag))
    }

    pub(crate) fn shard(self) -> u32 {
        (self.0 >> TAG_BITS) as u32
    }

    /// The first and the last place of a shard, as stored.
    pub(crate) fn range(shard: u32) -> (i64, i64) {
        (Place::new(shard, 0).stored(), Place::new(shard, u32::MAX).stored())
    }

    pub(crate) fn from_stored(stored: i64) -> Place {
        Place(stored as u64)
    }

    fn tag(self) -> u32 {
        self.0 as u32
    }

    fn check(self, lid: LedgerId) -> u64 {
        let mut both = [0; 16];
        both[..8].copy_from_slice(&self.0.to_le_bytes());
        both[8..].copy_from_slice(&lid.bits().to_le_bytes());
        u64::from(crc32fast::hash(&both)) & ((1 << CHECK_BITS) - 1)
    }

    pub(crate) fn stored(self) -> i64 {
        self.0 as i64
    }
}

/// Hashes keys of one store.
#[derive(Debug, Clone)]
pub(crate) struct KeyHasher(SipHasher13);

impl KeyHasher {
    pub(crate) fn new(secret: &[u8; 16]) -> KeyHasher {
        KeyHasher(SipHasher13::new_with_key(secret))
    }

    pub(crate) fn hash(&self, space: u8, queue: i64, key: &str) -> KeyHash {
        let mut hash = self.0;
        hash.write_u8(space);
        hash.write_i64(queue);
        hash.write(key.as_bytes());
        KeyHash(hash.finish())
    }
}

/// A slot: 32 bits of the hash, and the ledger id. Packed, since there are millions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    tag: u32,
    lid: [u32; 2],
}

impl Slot {
    fn new(place: Place, lid: LedgerId) -> Slot {
        Slot { tag: place.tag(), lid: [(lid.bits() >> 32) as u32, lid.bits() as u32] }
    }

    fn lid(self) -> LedgerId {
        LedgerId::from_bits(u64::from(self.lid[0]) << 32 | u64::from(self.lid[1]))
    }

    /// Where the slot stands in its shard; only what the slot itself keeps of the hash.
    fn spread(tag: u32) -> u64 {
        // Over the high bits too, which the table uses for its control bytes.
        u64::from(tag).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// A Bloom filter of the sealed keys of one shard: ten bits and six probes a key, wrong
/// once in a hundred (Kirsch, Mitzenmacher: "Less hashing, same performance", 2006).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    /// None at all: any key may be among them.
    bits: Vec<u8>,
}

impl Filter {
    const BITS_A_KEY: usize = 10;
    const PROBES: u64 = 6;

    /// A filter that rules nothing out.
    pub(crate) const EVERYTHING: Filter = Filter { bits: Vec::new() };

    pub(crate) fn of(places: &[Place]) -> Filter {
        let mut filter = Filter { bits: vec![0; (places.len() * Filter::BITS_A_KEY).div_ceil(8).max(8)] };
        for place in places {
            for (byte, bit) in filter.probes(*place) {
                if let Some(byte) = filter.bits.get_mut(byte) {
                    *byte |= bit;
                }
            }
        }
        filter
    }

    pub(crate) fn from_stored(stored: &[u8]) -> Filter {
        Filter { bits: stored.to_vec() }
    }

    pub(crate) fn stored(&self) -> &[u8] {
        &self.bits
    }

    pub(crate) fn may_hold(&self, place: Place) -> bool {
        self.bits.is_empty()
            || self.probes(place).all(|(byte, bit)| self.bits.get(byte).is_some_and(|held| held & bit != 0))
    }

    fn probes(&self, place: Place) -> impl Iterator<Item = (usize, u8)> + use<> {
        let bits = (self.bits.len() as u64 * 8).max(1);
        let first = Slot::spread(place.tag());
        let step = first.rotate_left(32) | 1;
        (0..Filter::PROBES).map(move |n| {
            let at = first.wrapping_add(step.wrapping_mul(n)) >> 16;
            let at = at % bits;
            ((at / 8) as usize, 1 << (at % 8))
        })
    }
}

#[derive(Debug, Default)]
struct Shard {
    slots: HashTable<Slot>,
    /// Of its sealed keys.
    filter: Option<Filter>,
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct KeyIndex {
    shards: Vec<Shard>,
    len: u64,
    slot_bytes: usize,
    filter_bytes: usize,
}

impl KeyIndex {
    pub(crate) fn new() -> KeyIndex {
        let shards = (0..SHARDS).map(|_| Shard::default()).collect();
        KeyIndex { shards, len: 0, slot_bytes: 0, filter_bytes: 0 }
    }

    /// Keys in memory.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Memory that keys take.
    pub(crate) fn slot_bytes(&self) -> usize {
        self.slot_bytes
    }

    /// Memory that filters of sealed keys take.
    pub(crate) fn filter_bytes(&self) -> usize {
        self.filter_bytes
    }

    fn shard(&self, place: Place) -> Option<&Shard> {
        self.shards.get(place.shard() as usize)
    }

    fn with_slots<T>(&mut self, shard: u32, change: impl FnOnce(&mut HashTable<Slot>) -> T) -> Option<T> {
        let slots = &mut self.shards.get_mut(shard as usize)?.slots;
        let before = slots.allocation_size();
        let changed = change(slots);
        self.slot_bytes = self.slot_bytes + slots.allocation_size() - before;
        Some(changed)
    }

    pub(crate) fn insert(&mut self, place: Place, lid: LedgerId) {
        let slot = Slot::new(place, lid);
        self.with_slots(place.shard(), |slots| {
            slots.insert_unique(Slot::spread(slot.tag), slot, |slot| Slot::spread(slot.tag));
        });
        self.len += 1;
    }

    pub(crate) fn remove(&mut self, place: Place, lid: LedgerId) -> bool {
        let slot = Slot::new(place, lid);
        let Some(shard) = self.shards.get_mut(place.shard() as usize) else { return false };
        match shard.slots.find_entry(Slot::spread(slot.tag), |other| *other == slot) {
            Ok(entry) => {
                entry.remove();
                self.len -= 1;
                true
            }
            Err(_) => false,
        }
    }

    /// The ledger ids a key in memory may have.
    pub(crate) fn find(&self, hash: KeyHash) -> impl Iterator<Item = LedgerId> + '_ {
        let tag = hash.place().tag();
        self.shard(hash.place())
            .into_iter()
            .flat_map(move |shard| shard.slots.iter_hash(Slot::spread(tag)))
            .filter(move |s| s.tag == tag)
            .map(|s| s.lid())
    }

    // Sealed keys.

    /// Whether a key may be among the sealed ones.
    pub(crate) fn may_be_sealed(&self, place: Place) -> bool {
        self.shard(place).and_then(|shard| shard.filter.as_ref()).is_some_and(|filter| filter.may_hold(place))
    }

    /// The keys of a shard, in order.
    pub(crate) fn members(&self, shard: u32) -> Vec<(Place, LedgerId)> {
        let slots = self.shards.get(shard as usize).map(|shard| &shard.slots);
        let mut members: Vec<_> =
            slots.into_iter().flatten().map(|slot| (Place::new(shard, slot.tag), slot.lid())).collect();
        members.sort_unstable();
        members
    }

    /// Gives back the memory of keys that were sealed.
    pub(crate) fn shrink(&mut self, shard: u32) {
        let shrink = |slots: &mut HashTable<Slot>| slots.shrink_to_fit(|slot| Slot::spread(slot.tag));
        self.with_slots(shard, shrink);
    }

    /// Knows from now on what is sealed of a shard. Whether it did not before.
    pub(crate) fn put_filter(&mut self, shard: u32, filter: Filter) -> bool {
        let Some(shard) = self.shards.get_mut(shard as usize) else { return false };
        self.filter_bytes += filter.bits.len();
        let before = shard.filter.replace(filter);
        self.filter_bytes -= before.as_ref().map_or(0, |filter| filter.bits.len());
        before.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_every_key_and_after_removal_none() {
        let hasher = KeyHasher::new(b"0123456789abcdef");
        let mut index = KeyIndex::new();
        let hash = |n: u64| hasher.hash(0, 1, &format!("key-{n}"));
        let lid = |n: u64| LedgerId::from_bits(n << 40 | n);
        for n in 0..50_000 {
            index.insert(hash(n).place(), lid(n));
        }
        for n in 0..50_000 {
            assert!(index.find(hash(n)).any(|found| found == lid(n)), "{n}");
        }
        assert!((0..50_000).map(|n| index.find(hash(n)).count()).sum::<usize>() < 50_100);
        for n in 0..50_000 {
            assert!(index.remove(hash(n).place(), lid(n)));
            assert!(!index.remove(hash(n).place(), lid(n)));
        }
        assert_eq!(index.len(), 0);
        (0..SHARDS).for_each(|shard| index.shrink(shard));
        assert_eq!(index.slot_bytes(), 0, "and the memory is given back");
    }

    #[test]
    fn spaces_queues_and_secrets_are_apart() {
        let (a, b) = (KeyHasher::new(&[1; 16]), KeyHasher::new(&[2; 16]));
        let hashes = [a.hash(0, 1, "k"), a.hash(1, 1, "k"), a.hash(0, 2, "k"), b.hash(0, 1, "k")];
        for (i, hash) in hashes.iter().enumerate() {
            assert!(hashes.iter().skip(i + 1).all(|other| other != hash));
        }
    }

    /// A filter never denies a key it was made of, and most others.
    #[test]
    fn a_filter_knows_its_own_and_few_others() {
        let hasher = KeyHasher::new(b"0123456789abcdef");
        let place = |n: u64| hasher.hash(0, 1, &format!("key-{n}")).place();
        for count in [0, 1, 7, 1_000] {
            let own: Vec<Place> = (0..count).map(place).collect();
            let filter = Filter::from_stored(Filter::of(&own).stored());
            assert!(own.iter().all(|place| filter.may_hold(*place)), "{count}");
            let others = (10_000..20_000).filter(|n| filter.may_hold(place(*n))).count();
            assert!(others < 300, "{others} of 10,000 at {count}");
        }
        assert!((0..100).all(|n| Filter::EVERYTHING.may_hold(place(n))));
    }
}
