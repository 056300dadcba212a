//! Jobs that something happens to at a time: all on disk, those of the near future in memory too.

use onefold_core::Timestamp;

use super::store::Store;
use crate::error::StoreResult;

/// Timers lie on disk in buckets of 2^18 ms; those of the near future are in memory too.
const TIMER_BUCKET_BITS: u32 = 18;
impl Store<'_> {
    pub(crate) fn timer_bucket(at: Timestamp) -> i64 {
        at.as_unix_ms() >> TIMER_BUCKET_BITS
    }

    /// When a bucket of timers begins.
    pub(crate) fn timer_bucket_start(bucket: i64) -> Timestamp {
        Timestamp::from_unix_ms(bucket << TIMER_BUCKET_BITS).unwrap_or(Timestamp::EPOCH)
    }

    pub(super) fn insert_timer(&mut self, at: Timestamp, seq: u64) -> StoreResult<()> {
        let bucket = Self::timer_bucket(at);
        self.stmts.timer_put.execute((bucket, seq as i64, at.as_unix_ms()))?;
        if bucket <= self.timers_loaded {
            self.mem.insert_timer(at, seq);
        }
        Ok(())
    }

    pub(super) fn remove_timer(&mut self, at: Timestamp, seq: u64) -> StoreResult<()> {
        self.stmts.timer_delete.execute((Self::timer_bucket(at), seq as i64))?;
        self.mem.remove_timer(at, seq);
        Ok(())
    }
}
