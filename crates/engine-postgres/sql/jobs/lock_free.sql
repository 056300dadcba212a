SELECT j.seq FROM onefold.jobs j WHERE j.ns = 0 AND j.seq = ANY ($1::bigint[]) ORDER BY j.seq FOR UPDATE SKIP LOCKED
