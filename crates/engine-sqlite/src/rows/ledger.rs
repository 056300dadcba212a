//! Entries of the dedup ledger, as they are stored.

use onefold_core::{FreeOn, Hold, JobId, Key};
use rusqlite::{Row, Statement};

use super::{Checksum, bad, corrupt, fingerprint_of, int, opt_bytes, seq, text, time};
use crate::error::StoreResult;
use crate::ledger_id::LedgerId;

/// An entry of the dedup ledger.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LedgerRow {
    pub(crate) lid: LedgerId,
    pub(crate) space: u8,
    pub(crate) queue: i64,
    pub(crate) key: Key,
    pub(crate) hold: Hold,
    pub(crate) hash: i64,
}

impl LedgerRow {
    fn crc(&self, fingerprint: &[u8]) -> i64 {
        let mut sum = Checksum::new();
        sum.int(Some(self.lid.stored())).int(Some(i64::from(self.space))).int(Some(self.queue));
        sum.bytes(Some(self.key.as_str().as_bytes()));
        sum.int(Some(self.hold.job.seq().get() as i64)).int(Some(self.hold.job.accepted_unix_ms()));
        sum.bytes(Some(fingerprint)).int(Some(self.hold.until.as_unix_ms()));
        sum.int(Some(i64::from(self.hold.free_on.bits()))).int(Some(self.hash)).finish()
    }

    /// Writes it with `ledger_insert`.
    pub(crate) fn write(&self, stmt: &mut Statement<'_>) -> StoreResult<()> {
        let fingerprint = self.hold.fingerprint.as_bytes();
        stmt.raw_bind_parameter(1, self.lid.stored())?;
        stmt.raw_bind_parameter(2, self.space)?;
        stmt.raw_bind_parameter(3, self.queue)?;
        stmt.raw_bind_parameter(4, self.key.as_str())?;
        stmt.raw_bind_parameter(5, self.hold.job.seq().get() as i64)?;
        stmt.raw_bind_parameter(6, self.hold.job.accepted_unix_ms())?;
        stmt.raw_bind_parameter(7, &fingerprint[..])?;
        stmt.raw_bind_parameter(8, self.hold.until.as_unix_ms())?;
        stmt.raw_bind_parameter(9, self.hold.free_on.bits())?;
        stmt.raw_bind_parameter(10, self.hash)?;
        stmt.raw_bind_parameter(11, self.crc(fingerprint))?;
        stmt.raw_execute()?;
        Ok(())
    }

    /// Reads one selected by `ledger_select` or `ledger_head`.
    pub(crate) fn read(row: &Row<'_>) -> StoreResult<LedgerRow> {
        let fingerprint = opt_bytes(row, 6)?.unwrap_or_default();
        let hold = Hold {
            job: JobId::new(time(int(row, 5)?)?, seq(int(row, 4)?)?),
            fingerprint: fingerprint_of(fingerprint)?,
            until: time(int(row, 7)?)?,
            free_on: FreeOn::from_bits(int(row, 8)? as u8),
        };
        let entry = LedgerRow {
            lid: LedgerId::from_stored(int(row, 0)?),
            space: int(row, 1)? as u8,
            queue: int(row, 2)?,
            key: Key::new(text(opt_bytes(row, 3)?.unwrap_or_default())?).map_err(|_| bad("key"))?,
            hold,
            hash: int(row, 9)?,
        };
        if entry.crc(fingerprint) != int(row, 10)? {
            return Err(corrupt("a ledger entry", entry.hold.job.seq().get() as i64));
        }
        Ok(entry)
    }
}
