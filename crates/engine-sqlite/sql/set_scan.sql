SELECT kind, queue, lane, priority, bucket, members FROM onefold_sets
