INSERT OR REPLACE INTO onefold_sealed_filters (shard, bits, crc) VALUES (?1, ?2, ?3)
