-- Those near their time whose jobs ended or are in `leases`: so that nobody comes for them.
DELETE FROM onefold.watches WHERE ctid = ANY (ARRAY(
    SELECT w.ctid FROM (SELECT ctid, seqs FROM onefold.watches
                        WHERE ns = 0 AND check_ms > $3::bigint AND check_ms <= $1::bigint
                        ORDER BY check_ms, id LIMIT $2::bigint FOR UPDATE SKIP LOCKED) w
    WHERE (SELECT true FROM unnest(w.seqs) AS s (seq),
               LATERAL (SELECT seq, state FROM onefold.jobs WHERE ns = 0 AND seq = s.seq OFFSET 0) j
           WHERE j.state = 2
             AND (SELECT true FROM onefold.leases l WHERE l.ns = 0 AND l.seq = j.seq) IS NULL LIMIT 1) IS NULL))
