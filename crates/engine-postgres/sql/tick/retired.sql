-- Finished jobs that were kept as long as their queue says: everything up to a time, for each queue and state.
SELECT f.seq FROM unnest($1::integer[], $2::smallint[], $3::bigint[]) AS u (queue, state, up_to_ms),
    LATERAL (SELECT seq FROM onefold.finished
             WHERE ns = 0 AND queue = u.queue AND state = u.state AND finished_ms <= u.up_to_ms AND NOT own
             ORDER BY finished_ms, seq LIMIT $4::bigint) f
LIMIT $4::bigint
