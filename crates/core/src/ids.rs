//! Identifiers: job ids, sequences and fencing tokens.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::Timestamp;

/// The place of a job in the order of acceptance of its store: unique, growing, never reused
/// while the store lives. At most 62 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(u64);

impl Seq {
    /// The largest sequence an id can carry.
    pub const MAX: Seq = Seq((1 << 62) - 1);

    /// A sequence, or `None` above [`Seq::MAX`].
    pub const fn new(value: u64) -> Option<Seq> {
        if value <= Seq::MAX.0 { Some(Seq(value)) } else { None }
    }

    /// The number itself.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The sequence after this one. Saturates at [`Seq::MAX`], which at a million jobs a second
    /// is 146,000 years away.
    #[must_use]
    pub const fn next(self) -> Seq {
        if self.0 >= Seq::MAX.0 { Seq::MAX } else { Seq(self.0 + 1) }
    }
}

/// A job's name for ever: not changed by retry, restart or redrive.
///
/// 128 bits in the layout of UUIDv7 (RFC 9562, section 5.7): 48 bits of unix milliseconds of the
/// acceptance, version 7, a 12-bit shard (0 for now), variant `10`, and the 62-bit [`Seq`]. The
/// sequence inside makes an index on ids unnecessary. Printed `job_` + 32 lower-case hex digits;
/// `msg_` + the same digits is the form of the QStash interface and is read everywhere.
///
/// ```
/// use onefold_core::{JobId, Seq, Timestamp};
/// let id = JobId::new(Timestamp::from_unix_ms(1_795_253_400_000).unwrap(), Seq::new(7).unwrap());
/// assert_eq!(id.to_string(), "job_01a1fd70f1c070008000000000000007");
/// assert_eq!("msg_01a1fd70f1c070008000000000000007".parse(), Ok(id));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(u128);

const VERSION_BITS: u128 = 0x7 << 76;
const VARIANT_BITS: u128 = 0b10 << 62;
const VERSION_MASK: u128 = 0xf << 76;
const VARIANT_MASK: u128 = 0b11 << 62;
const SHARD_MASK: u128 = 0xfff << 64;
const TIME_MASK: u64 = (1 << 48) - 1;

impl JobId {
    /// The id of the job accepted at `accepted_at` with sequence `seq`, in shard 0.
    pub fn new(accepted_at: Timestamp, seq: Seq) -> JobId {
        let time = u128::from(accepted_at.as_unix_ms().unsigned_abs() & TIME_MASK);
        JobId(time << 80 | VERSION_BITS | VARIANT_BITS | u128::from(seq.0))
    }

    /// The sequence inside.
    pub const fn seq(self) -> Seq {
        Seq((self.0 as u64) & Seq::MAX.0)
    }

    /// When the job was accepted, in unix milliseconds.
    pub const fn accepted_unix_ms(self) -> i64 {
        (self.0 >> 80) as i64
    }

    /// The 32 digits without a prefix.
    pub fn digits(self) -> String {
        format!("{:032x}", self.0)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut text = *b"job_00000000000000000000000000000000";
        let mut rest = self.0;
        for place in text.iter_mut().skip(4).rev() {
            *place = HEX[(rest & 0xf) as usize];
            rest >>= 4;
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not a job id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("not a job id: expected `job_` followed by 32 lower-case hex digits")]
pub struct InvalidJobId;

impl FromStr for JobId {
    type Err = InvalidJobId;

    fn from_str(text: &str) -> Result<JobId, InvalidJobId> {
        let digits = text.strip_prefix("job_").or_else(|| text.strip_prefix("msg_")).ok_or(InvalidJobId)?;
        let lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if digits.len() != 32 || !digits.bytes().all(lower_hex) {
            return Err(InvalidJobId);
        }
        let value = u128::from_str_radix(digits, 16).map_err(|_| InvalidJobId)?;
        let shaped = value & VERSION_MASK == VERSION_BITS && value & VARIANT_MASK == VARIANT_BITS;
        // Only shard 0 exists: another shard's id names no job of this store.
        if shaped && value & SHARD_MASK == 0 { Ok(JobId(value)) } else { Err(InvalidJobId) }
    }
}

impl Serialize for JobId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for JobId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<JobId, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Proof of holding a lease: an integer below 2^53 (exact in every JSON reader) from one
/// store-wide sequence, never reused and larger for every lease (I4). Compared on every write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct FencingToken(u64);

impl FencingToken {
    /// The exclusive upper bound: 2^53.
    pub const LIMIT: u64 = 1 << 53;

    /// A token, or `None` for 0 and for 2^53 and above.
    pub const fn new(value: u64) -> Option<FencingToken> {
        if value > 0 && value < FencingToken::LIMIT { Some(FencingToken(value)) } else { None }
    }

    /// The number itself.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl<'de> Deserialize<'de> for FencingToken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<FencingToken, D::Error> {
        let value = u64::deserialize(deserializer)?;
        FencingToken::new(value)
            .ok_or_else(|| serde::de::Error::custom("a fencing token is an integer from 1 to 2^53 - 1"))
    }
}

/// Hands out fencing tokens in order.
///
/// An engine makes [`TokenSequence::opened`] durable before it serves, and the high water with
/// every commit that leases.
#[derive(Debug, Clone)]
pub struct TokenSequence {
    next: u64,
}

impl TokenSequence {
    /// The sequence of a store opened at `now` whose last durable high water is `high_water`
    /// (the smallest number never handed out): `max(high water, unix seconds × 2^20)`, so that
    /// tokens grow even if the store is a copy from an hour ago (I4).
    pub fn opened(high_water: u64, now: Timestamp) -> TokenSequence {
        let from_clock = (now.as_unix_ms().max(0) as u64 / 1000).saturating_mul(1 << 20);
        TokenSequence { next: high_water.max(from_clock).max(1) }
    }

    /// The smallest number not handed out yet: what must be durable.
    pub const fn high_water(&self) -> u64 {
        self.next
    }

    /// The next token, or `None` once all 2^53 are spent.
    pub fn take(&mut self) -> Option<FencingToken> {
        let token = FencingToken::new(self.next)?;
        self.next += 1;
        Some(token)
    }

    /// Whether all 2^53 are spent.
    pub const fn is_exhausted(&self) -> bool {
        FencingToken::new(self.next).is_none()
    }

    /// Takes back everything handed out since the high water was `high_water`. Only for a
    /// transaction that was rolled back before any of those tokens left the engine.
    pub fn rewind(&mut self, high_water: u64) {
        self.next = self.next.min(high_water);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(ms: i64) -> Timestamp {
        Timestamp::from_unix_ms(ms).unwrap()
    }

    #[test]
    fn an_id_carries_time_and_sequence_in_uuid_v7_layout() {
        let id = JobId::new(time(1_795_253_400_123), Seq::MAX);
        assert_eq!(id.seq(), Seq::MAX);
        assert_eq!(id.accepted_unix_ms(), 1_795_253_400_123);
        let digits = id.digits();
        assert_eq!(&digits[12..13], "7");
        assert!(matches!(&digits[16..17], "8" | "9" | "a" | "b"));
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn only_the_printed_form_is_an_id() {
        let good = JobId::new(time(1), Seq::new(1).unwrap()).digits();
        for bad in [
            "",
            "job_",
            &good,
            &format!("job_{}", good.to_uppercase()),
            &format!("job_{good}0"),
            "job_00000000000000000000000000000001",
        ] {
            if bad != format!("job_{good}") {
                assert_eq!(bad.parse::<JobId>(), Err(InvalidJobId), "{bad}");
            }
        }
        let other_shard = format!("job_{}7001{}", &good[..12], &good[16..]);
        assert_eq!(other_shard.parse::<JobId>(), Err(InvalidJobId));
    }

    #[test]
    fn i4_tokens_grow_over_reopen_restore_and_a_clock_set_back() {
        let mut first = TokenSequence::opened(0, time(1_795_253_400_000));
        let a = first.take().unwrap();
        let mut restored = TokenSequence::opened(0, time(1_795_253_401_000));
        assert!(restored.take().unwrap() > a);
        let mut clock_back = TokenSequence::opened(first.high_water(), time(0));
        assert!(clock_back.take().unwrap() > a);
    }

    #[test]
    fn tokens_stay_below_two_to_the_53() {
        let mut last = TokenSequence::opened(FencingToken::LIMIT - 1, time(0));
        assert!(last.take().is_some());
        assert_eq!(last.take(), None);
    }
}
