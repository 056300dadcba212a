//! What a schedule is called, and what makes a tick's job the only one.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

use super::Tick;
use crate::{Fingerprint, FreeOn, Hold, JobId, Key, Timestamp, limits};

/// What a schedule is called: `[A-Za-z0-9._-]{1,128}`, chosen by whoever makes it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScheduleId(Arc<str>);

/// Why a schedule id was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidScheduleId {
    /// Not `[A-Za-z0-9._-]{1,128}`.
    #[error(
        "a schedule id is 1 to 128 of the characters A-Z a-z 0-9 . _ -: write it like \"nightly-report\""
    )]
    Form,
}

impl ScheduleId {
    /// Characters of an id.
    pub const CHARS_MAX: usize = 128;

    /// The text as given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key of the job that `tick` of this schedule adds.
    pub fn key_of(&self, tick: Tick) -> TickKey {
        TickKey(format!("{self}@{}", tick.at()))
    }
}

impl FromStr for ScheduleId {
    type Err = InvalidScheduleId;

    fn from_str(text: &str) -> Result<ScheduleId, InvalidScheduleId> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let fits = (1..=ScheduleId::CHARS_MAX).contains(&text.len()) && text.bytes().all(allowed);
        if fits { Ok(ScheduleId(Arc::from(text))) } else { Err(InvalidScheduleId::Form) }
    }
}

/// The identity of a tick: schedule and nominal time, `nightly@2026-03-08T07:00:00.000Z`, and nothing else. Whoever
/// evaluates the schedule, whenever and however often, gets the same one, so that a ledger that holds a key once
/// holds a tick to one job (I9). It does not depend on the pattern: a schedule edited at the moment it fires adds
/// the old tick's job or the new one's, not both.
///
/// It belongs into a key space of its own in the ledger: callers' keys may have the same text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TickKey(String);

impl TickKey {
    /// Characters of one, at the most: fewer than a [`Key`] may have.
    pub const CHARS_MAX: usize = ScheduleId::CHARS_MAX + 1 + Timestamp::TEXT_LEN;

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The ledger's entry for a tick whose job was added at `now`. It outlives the job; after it, the schedule's last tick
    /// says the same.
    #[allow(
        clippy::expect_used,
        reason = "CHARS_MAX is below what a fingerprint of one's own may have, and never 0"
    )]
    pub fn hold(&self, job: JobId, now: Timestamp) -> Hold {
        let fingerprint = Fingerprint::custom(&self.0).expect("a tick's key is short and not empty");
        let until = now.saturating_add(limits::DEDUP_WINDOW);
        Hold { job, fingerprint, until, free_on: FreeOn::default() }
    }

    /// As a key of the ledger, for the reserved key space alone.
    #[allow(
        clippy::expect_used,
        reason = "CHARS_MAX is 153 of 255, and an id and a time are ASCII letters, digits, . _ - : @"
    )]
    pub fn to_key(&self) -> Key {
        Key::new(&self.0).expect("a tick's key is short and has no controls")
    }
}

impl fmt::Display for TickKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ScheduleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ScheduleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl Borrow<str> for ScheduleId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Serialize for ScheduleId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ScheduleId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ScheduleId, D::Error> {
        <Cow<'de, str>>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick(ms: i64) -> Tick {
        Tick(Timestamp::from_unix_ms(ms).unwrap())
    }

    #[test]
    fn ids_are_a_small_alphabet() {
        for good in ["a", "nightly-report", "scd_7xJ.9", &"q".repeat(128)] {
            assert_eq!(good.parse::<ScheduleId>().unwrap().as_str(), good);
        }
        for bad in ["", "a b", "ä", "a/b", "a@b", "a\0", &"q".repeat(129)] {
            assert_eq!(bad.parse::<ScheduleId>(), Err(InvalidScheduleId::Form), "{bad}");
        }
    }

    /// I9: the same tick always has the same key, another tick or schedule never.
    #[test]
    fn a_tick_has_one_key_and_shares_it_with_none() {
        let [a, ab] = ["a", "ab"].map(|id| id.parse::<ScheduleId>().unwrap());
        assert_eq!(a.key_of(tick(1_772_953_200_000)).as_str(), "a@2026-03-08T07:00:00.000Z");
        assert_eq!(a.key_of(tick(5)), a.clone().key_of(tick(5)));
        assert_ne!(a.key_of(tick(5)), a.key_of(tick(6)));
        assert_ne!(a.key_of(tick(5)), ab.key_of(tick(5)));
    }

    #[test]
    fn the_longest_key_of_a_tick_is_a_key() {
        let id: ScheduleId = "q".repeat(ScheduleId::CHARS_MAX).parse().unwrap();
        let key = id.key_of(tick(Timestamp::MAX.as_unix_ms()));
        assert_eq!(key.as_str().len(), TickKey::CHARS_MAX);
        assert_eq!(key.to_key().as_str(), key.as_str());
    }
}
