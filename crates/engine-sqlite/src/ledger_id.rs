//! Ids of entries of the dedup ledger.

/// An expiry class and a counter within it, so that a class is a range that grows at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LedgerId(u64);

const COUNTER_BITS: u32 = 48;
const COUNTER_MAX: u64 = (1 << COUNTER_BITS) - 1;

impl LedgerId {
    /// The counter of a class never gets near its 2^48.
    pub(crate) fn new(class: u16, counter: u64) -> LedgerId {
        LedgerId(u64::from(class) << COUNTER_BITS | counter & COUNTER_MAX)
    }

    pub(crate) fn from_bits(bits: u64) -> LedgerId {
        LedgerId(bits)
    }

    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    pub(crate) fn from_stored(stored: i64) -> LedgerId {
        LedgerId(stored as u64)
    }

    pub(crate) fn stored(self) -> i64 {
        self.0 as i64
    }

    pub(crate) fn class(self) -> u16 {
        (self.0 >> COUNTER_BITS) as u16
    }

    pub(crate) fn counter(self) -> u64 {
        self.0 & COUNTER_MAX
    }

    /// The last id there can be of a class.
    pub(crate) fn last_of(class: u16) -> LedgerId {
        LedgerId::new(class, COUNTER_MAX)
    }
}
