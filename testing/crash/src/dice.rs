//! Chance that can be repeated.

/// Throws that depend on the seed and on what is decided, not on the order of asking. The numbers
/// of a seed never change: a failure found with it can be found again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(mix(seed))
    }

    /// The dice for one question among others.
    pub(crate) fn about(self, what: u64) -> Dice {
        Dice(mix(self.0 ^ mix(what)))
    }

    /// A number below `limit`, which is at least 1.
    pub(crate) fn below(self, limit: u64) -> u64 {
        // The remainder favours small numbers by less than one part in 2^40 for the limits here.
        self.0 % limit.max(1)
    }

    /// Bytes as a disk block may hold from an earlier life.
    pub(crate) fn fill(self, bytes: &mut [u8]) {
        for (index, chunk) in (0..).zip(bytes.chunks_mut(8)) {
            let noise = self.about(index).0.to_le_bytes();
            chunk.copy_from_slice(&noise[..chunk.len()]);
        }
    }
}

/// The finaliser of `SplitMix64`.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
