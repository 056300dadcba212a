//! The key index: which ledger entries a key may have, by a keyed hash. Held in memory at 13 bytes
//! a key and slot; a hit is always confirmed against the ledger, so the index may point at too
//! much but never at too little.

use hashbrown::HashTable;
use siphasher::sip::SipHasher13;
use std::hash::Hasher;

const SHARDS: usize = 256;

/// The hash of a key: keyed, so that nobody outside can choose colliding ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyHash(u64);

impl KeyHash {
    pub(crate) fn from_stored(stored: i64) -> KeyHash {
        KeyHash(stored as u64)
    }

    pub(crate) fn stored(self) -> i64 {
        self.0 as i64
    }

    fn shard(self) -> usize {
        (self.0 >> 56) as usize
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
    fn new(hash: KeyHash, lid: u64) -> Slot {
        Slot { tag: (hash.0 >> 24) as u32, lid: [(lid >> 32) as u32, lid as u32] }
    }

    fn lid(self) -> u64 {
        u64::from(self.lid[0]) << 32 | u64::from(self.lid[1])
    }

    /// Where the slot stands in its shard; only what the slot itself keeps of the hash.
    fn place(tag: u32) -> u64 {
        // Spread over the high bits too, which the table uses for its control bytes.
        u64::from(tag).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// See the [module](self). 256 shards, so that growing is never one long stop.
#[derive(Debug)]
pub(crate) struct KeyIndex {
    shards: Vec<HashTable<Slot>>,
    len: u64,
}

impl KeyIndex {
    pub(crate) fn new() -> KeyIndex {
        KeyIndex { shards: (0..SHARDS).map(|_| HashTable::new()).collect(), len: 0 }
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn insert(&mut self, hash: KeyHash, lid: u64) {
        let slot = Slot::new(hash, lid);
        if let Some(shard) = self.shards.get_mut(hash.shard()) {
            shard.insert_unique(Slot::place(slot.tag), slot, |slot| Slot::place(slot.tag));
            self.len += 1;
        }
    }

    pub(crate) fn remove(&mut self, hash: KeyHash, lid: u64) -> bool {
        let slot = Slot::new(hash, lid);
        let Some(shard) = self.shards.get_mut(hash.shard()) else { return false };
        match shard.find_entry(Slot::place(slot.tag), |other| *other == slot) {
            Ok(entry) => {
                entry.remove();
                self.len -= 1;
                true
            }
            Err(_) => false,
        }
    }

    /// The ledger ids a key may have.
    pub(crate) fn find(&self, hash: KeyHash) -> impl Iterator<Item = u64> + '_ {
        let tag = Slot::new(hash, 0).tag;
        let shard = self.shards.get(hash.shard());
        shard
            .into_iter()
            .flat_map(move |shard| shard.iter_hash(Slot::place(tag)))
            .filter(move |s| s.tag == tag)
            .map(|s| s.lid())
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
        for n in 0..50_000 {
            index.insert(hash(n), n << 40 | n);
        }
        for n in 0..50_000 {
            assert!(index.find(hash(n)).any(|lid| lid == n << 40 | n), "{n}");
        }
        assert!((0..50_000).map(|n| index.find(hash(n)).count()).sum::<usize>() < 50_100);
        for n in 0..50_000 {
            assert!(index.remove(hash(n), n << 40 | n));
            assert!(!index.remove(hash(n), n << 40 | n));
        }
        assert_eq!(index.len(), 0);
    }

    #[test]
    fn spaces_queues_and_secrets_are_apart() {
        let (a, b) = (KeyHasher::new(&[1; 16]), KeyHasher::new(&[2; 16]));
        let hashes = [a.hash(0, 1, "k"), a.hash(1, 1, "k"), a.hash(0, 2, "k"), b.hash(0, 1, "k")];
        for (i, hash) in hashes.iter().enumerate() {
            assert!(hashes.iter().skip(i + 1).all(|other| other != hash));
        }
    }
}
