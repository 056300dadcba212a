//! Rows and what they mean: jobs, specs, attempts and ledger entries, each with a checksum over
//! its columns that is verified on every read.

mod effect;
mod job;
mod ledger;
mod schedule;
mod spec;

use bytes::Bytes;
use onefold_core::{Attempt, DeadReason, Fingerprint, Outcome, Seq, State, Timestamp};
use rusqlite::types::ValueRef;
use rusqlite::{Row, Statement};

use crate::error::{StoreError, StoreResult};
pub(crate) use effect::{listed_effect, read_effect, update_effect, write_effect};
pub(crate) use job::{JobRow, read_job, write_job};
pub(crate) use ledger::LedgerRow;
pub(crate) use schedule::{ScheduleRow, read_schedule};
pub(crate) use spec::{read_spec, write_spec};

/// Collects a row's columns for its checksum: CRC-32 over tags, lengths and values.
struct Checksum(Vec<u8>);

impl Checksum {
    fn new() -> Checksum {
        Checksum(Vec::with_capacity(512))
    }

    fn int(&mut self, value: Option<i64>) -> &mut Checksum {
        match value {
            Some(value) => self.0.extend_from_slice(&value.to_le_bytes()),
            None => self.0.push(0xff),
        }
        self
    }

    fn bytes(&mut self, value: Option<&[u8]>) -> &mut Checksum {
        match value {
            Some(value) => {
                self.0.extend_from_slice(&(value.len() as u32).to_le_bytes());
                self.0.extend_from_slice(value);
            }
            None => self.0.push(0xff),
        }
        self
    }

    fn finish(&self) -> i64 {
        i64::from(crc32fast::hash(&self.0))
    }
}

/// The checksum of a single value that belongs to `seq`.
pub(crate) fn value_crc(seq: u64, value: &[u8]) -> i64 {
    Checksum::new().int(Some(seq as i64)).bytes(Some(value)).finish()
}

fn corrupt(what: &'static str, seq: i64) -> StoreError {
    StoreError::corrupt(format!("{what} of sequence {seq} does not match its checksum"))
}

fn int(row: &Row<'_>, column: usize) -> StoreResult<i64> {
    Ok(row.get_ref(column)?.as_i64()?)
}

fn opt_int(row: &Row<'_>, column: usize) -> StoreResult<Option<i64>> {
    Ok(row.get_ref(column)?.as_i64_or_null()?)
}

fn opt_bytes<'a>(row: &'a Row<'_>, column: usize) -> StoreResult<Option<&'a [u8]>> {
    match row.get_ref(column)? {
        ValueRef::Null => Ok(None),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Ok(Some(bytes)),
        ValueRef::Integer(_) | ValueRef::Real(_) => {
            Err(StoreError::corrupt("a column has the wrong type".to_owned()))
        }
    }
}

fn text(bytes: &[u8]) -> StoreResult<&str> {
    std::str::from_utf8(bytes).map_err(|_| StoreError::corrupt("a text is not UTF-8".to_owned()))
}

fn bad(what: &str) -> StoreError {
    StoreError::corrupt(format!("a stored {what} cannot be read"))
}

fn time(ms: i64) -> StoreResult<Timestamp> {
    Timestamp::from_unix_ms(ms).ok_or_else(|| bad("time"))
}

pub(crate) fn seq(value: i64) -> StoreResult<Seq> {
    u64::try_from(value).ok().and_then(Seq::new).ok_or_else(|| bad("sequence"))
}

/// Enums are stored as their place in the declaration, from 1.
macro_rules! codes {
    ($to:ident, $from:ident, $type:ty) => {
        pub(crate) fn $to(value: $type) -> i64 {
            <$type>::ALL.iter().position(|other| *other == value).map_or(0, |at| at as i64 + 1)
        }
        pub(crate) fn $from(code: i64) -> StoreResult<$type> {
            let at = usize::try_from(code - 1).map_err(|_| bad(stringify!($type)))?;
            <$type>::ALL.get(at).copied().ok_or_else(|| bad(stringify!($type)))
        }
    };
}
codes!(state_code, state_of, State);
codes!(reason_code, reason_of, DeadReason);
codes!(outcome_code, outcome_of, Outcome);
codes!(evidence_code, evidence_of, onefold_core::EvidenceKind);
codes!(event_code, event_of, onefold_core::EventKind);

fn fingerprint_of(bytes: &[u8]) -> StoreResult<Fingerprint> {
    Fingerprint::from_bytes(bytes).map_err(|_| bad("fingerprint"))
}

/// Writes an attempt that is not the latest any more, with `attempt_insert`.
pub(crate) fn write_attempt(stmt: &mut Statement<'_>, seq: Seq, attempt: &Attempt) -> StoreResult<()> {
    let json = serde_json::to_string(attempt).map_err(|_| bad("attempt"))?;
    let (seq, token) = (seq.get(), attempt.token.get() as i64);
    stmt.execute((seq as i64, attempt.number, token, &json, value_crc(seq, json.as_bytes())))?;
    Ok(())
}

/// Reads an attempt selected by `attempt_select` for `seq`.
pub(crate) fn read_attempt(row: &Row<'_>, seq: Seq) -> StoreResult<Attempt> {
    let json = opt_bytes(row, 1)?.unwrap_or_default();
    if value_crc(seq.get(), json) != int(row, 2)? {
        return Err(corrupt("an attempt", seq.get() as i64));
    }
    serde_json::from_slice(json).map_err(|_| bad("attempt"))
}

/// Reads a value of `seq` selected with its checksum: a result or a checkpoint.
pub(crate) fn read_value(row: &Row<'_>, seq: Seq) -> StoreResult<Bytes> {
    let value = opt_bytes(row, 0)?.unwrap_or_default();
    if value_crc(seq.get(), value) != int(row, 1)? {
        return Err(corrupt("a result or checkpoint", seq.get() as i64));
    }
    Ok(Bytes::copy_from_slice(value))
}
