//! Figures of the store, as the writer knows them.

use onefold_core::StoreStats;

use super::Writer;

impl Writer<'_> {
    pub(super) fn store_stats(&mut self) -> StoreStats {
        let mut stats = self.stats.report();
        stats.parked_polls = self.parked.len() as u64;
        stats.keys_in_memory = self.store.mem.keys().len();
        stats.keys = stats.keys_in_memory + self.store.mem.sealing().keys;
        stats.disk_full = self.disk.is_full();
        (stats.file_bytes, stats.wal_bytes) = self.disk.file_sizes();
        stats
    }
}
