SELECT shard, bits, crc FROM onefold_sealed_filters
