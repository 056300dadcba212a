//! Ordered sets of job sequences, kept in memory as small as a bit or two bytes a member and on
//! disk as one row for 4,096 neighbours, so that marking a job leasable or running costs no row
//! of its own: a commit writes only the few containers it touched.

use std::collections::BTreeMap;

const BUCKET_BITS: u32 = 12;
const WORDS: usize = 1 << (BUCKET_BITS - 6);
/// Above this many members a bitmap is smaller than a list.
const SPARSE_MAX: usize = WORDS * 4;

/// The container a sequence belongs to.
pub(crate) fn bucket_of(seq: u64) -> u64 {
    seq >> BUCKET_BITS
}

fn place_of(seq: u64) -> u16 {
    (seq & ((1 << BUCKET_BITS) - 1)) as u16
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Container {
    Sparse(Vec<u16>),
    Dense { words: Box<[u64; WORDS]>, count: u16 },
}

impl Container {
    fn insert(&mut self, place: u16) -> bool {
        match self {
            Container::Sparse(places) => {
                // Sequences mostly arrive in order: look at the end first.
                let at = match places.last() {
                    Some(last) if *last < place => Err(places.len()),
                    _ => places.binary_search(&place),
                };
                let Err(at) = at else { return false };
                places.insert(at, place);
                if places.len() > SPARSE_MAX {
                    *self = Container::dense(places);
                }
                true
            }
            Container::Dense { words, count } => {
                let Some(word) = words.get_mut(usize::from(place >> 6)) else { return false };
                let bit = 1_u64 << (place & 63);
                let new = *word & bit == 0;
                *word |= bit;
                *count += u16::from(new);
                new
            }
        }
    }

    fn remove(&mut self, place: u16) -> bool {
        match self {
            Container::Sparse(places) => match places.binary_search(&place) {
                Ok(at) => {
                    places.remove(at);
                    true
                }
                Err(_) => false,
            },
            Container::Dense { words, count } => {
                let Some(word) = words.get_mut(usize::from(place >> 6)) else { return false };
                let bit = 1_u64 << (place & 63);
                let there = *word & bit != 0;
                *word &= !bit;
                *count -= u16::from(there);
                there
            }
        }
    }

    fn contains(&self, place: u16) -> bool {
        match self {
            Container::Sparse(places) => places.binary_search(&place).is_ok(),
            Container::Dense { words, .. } => {
                words.get(usize::from(place >> 6)).is_some_and(|word| word & (1 << (place & 63)) != 0)
            }
        }
    }

    fn first(&self) -> Option<u16> {
        match self {
            Container::Sparse(places) => places.first().copied(),
            Container::Dense { words, .. } => {
                let (at, word) = words.iter().enumerate().find(|(_, word)| **word != 0)?;
                Some((at as u16) << 6 | word.trailing_zeros() as u16)
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Container::Sparse(places) => places.len(),
            Container::Dense { count, .. } => usize::from(*count),
        }
    }

    fn places(&self) -> Vec<u16> {
        match self {
            Container::Sparse(places) => places.clone(),
            Container::Dense { words, .. } => {
                let bits = |(at, word): (usize, &u64)| {
                    let word = *word;
                    (0..64_u16)
                        .filter(move |bit| word & (1 << bit) != 0)
                        .map(move |bit| (at as u16) << 6 | bit)
                };
                words.iter().enumerate().flat_map(bits).collect()
            }
        }
    }

    fn dense(places: &[u16]) -> Container {
        let mut words = Box::new([0_u64; WORDS]);
        for place in places {
            if let Some(word) = words.get_mut(usize::from(place >> 6)) {
                *word |= 1 << (place & 63);
            }
        }
        Container::Dense { words, count: places.len() as u16 }
    }
}

/// An ordered set of sequences.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SeqSet {
    containers: BTreeMap<u64, Container>,
    len: u64,
}

impl SeqSet {
    /// Adds a member; whether it is new.
    pub(crate) fn insert(&mut self, seq: u64) -> bool {
        let empty = || Container::Sparse(Vec::new());
        let new = self.containers.entry(bucket_of(seq)).or_insert_with(empty).insert(place_of(seq));
        self.len += u64::from(new);
        new
    }

    /// Takes a member out; whether it was in.
    pub(crate) fn remove(&mut self, seq: u64) -> bool {
        let Some(container) = self.containers.get_mut(&bucket_of(seq)) else { return false };
        let there = container.remove(place_of(seq));
        if container.len() == 0 {
            self.containers.remove(&bucket_of(seq));
        }
        self.len -= u64::from(there);
        there
    }

    pub(crate) fn contains(&self, seq: u64) -> bool {
        self.containers.get(&bucket_of(seq)).is_some_and(|container| container.contains(place_of(seq)))
    }

    /// The smallest member.
    pub(crate) fn first(&self) -> Option<u64> {
        let (bucket, container) = self.containers.first_key_value()?;
        container.first().map(|place| bucket << BUCKET_BITS | u64::from(place))
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.containers.iter().flat_map(|(bucket, container)| {
            container.places().into_iter().map(move |place| bucket << BUCKET_BITS | u64::from(place))
        })
    }

    /// One container as it is stored, `None` if it is empty: a list of big-endian u16 below 512
    /// bytes, else a bitmap of 512 bytes.
    pub(crate) fn stored(&self, bucket: u64) -> Option<Vec<u8>> {
        match self.containers.get(&bucket)? {
            Container::Sparse(places) if places.len() < SPARSE_MAX => {
                Some(places.iter().flat_map(|place| place.to_be_bytes()).collect())
            }
            Container::Sparse(places) => Some(Container::dense(places).bitmap()),
            dense => Some(dense.bitmap()),
        }
    }

    /// Adds a stored container. `None` if it is not one.
    pub(crate) fn load(&mut self, bucket: u64, stored: &[u8]) -> Option<()> {
        let container = if stored.len() == WORDS * 8 {
            let mut words = Box::new([0_u64; WORDS]);
            for (word, bytes) in words.iter_mut().zip(stored.chunks_exact(8)) {
                *word = u64::from_be_bytes(bytes.try_into().ok()?);
            }
            let count = words.iter().map(|word| word.count_ones()).sum::<u32>() as u16;
            Container::Dense { words, count }
        } else {
            let places: Vec<u16> = stored
                .chunks_exact(2)
                .map(|pair| pair.try_into().map(u16::from_be_bytes))
                .collect::<Result<_, _>>()
                .ok()?;
            let sorted = places.windows(2).all(|pair| pair.first() < pair.last());
            let fits = places.last().is_none_or(|last| *last < 1 << BUCKET_BITS);
            if !stored.len().is_multiple_of(2) || places.is_empty() || !sorted || !fits {
                return None;
            }
            Container::Sparse(places)
        };
        self.len += container.len() as u64;
        self.containers.insert(bucket, container);
        Some(())
    }
}

impl Container {
    fn bitmap(&self) -> Vec<u8> {
        match self {
            Container::Sparse(places) => Container::dense(places).bitmap(),
            Container::Dense { words, .. } => words.iter().flat_map(|word| word.to_be_bytes()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A set is what a BTreeSet is, in memory and after a round over the disk form.
        #[test]
        fn behaves_like_a_plain_set(ops in proptest::collection::vec((any::<bool>(), 0..20_000_u64), 0..4_000)) {
            let (mut set, mut model) = (SeqSet::default(), BTreeSet::new());
            for (add, seq) in ops {
                if add {
                    prop_assert_eq!(set.insert(seq), model.insert(seq));
                } else {
                    prop_assert_eq!(set.remove(seq), model.remove(&seq));
                }
                prop_assert_eq!(set.first(), model.first().copied());
                prop_assert_eq!(set.len(), model.len() as u64);
            }
            prop_assert!(set.iter().eq(model.iter().copied()));
            let mut loaded = SeqSet::default();
            for bucket in 0..6 {
                if let Some(stored) = set.stored(bucket) {
                    prop_assert_eq!(loaded.load(bucket, &stored), Some(()));
                }
            }
            prop_assert!(loaded.iter().eq(model.iter().copied()));
            prop_assert!(model.iter().all(|seq| loaded.contains(*seq)));
        }
    }

    #[test]
    fn a_damaged_container_is_refused() {
        for bad in [&[][..], &[0], &[0, 2, 0, 1], &[0xff, 0xff]] {
            assert_eq!(SeqSet::default().load(0, bad), None);
        }
    }
}
