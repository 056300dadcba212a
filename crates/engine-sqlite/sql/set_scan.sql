SELECT kind, queue, priority, bucket, members FROM onefold_sets
