-- With payloads up to a size.
SELECT s.seq, s.kind, s.key, s.fingerprint, s.window_ms, s.free_on, s.on_duplicate, s.on_mismatch, s.version,
       s.max_delay_ms, s.grp, s.backoff::text, s.timeout_ms, s.labels::text, s.retain_ms, s.extra::text,
       s.payload_form, coalesce(octet_length(s.payload), 0),
       CASE WHEN octet_length(s.payload) <= $2::integer THEN s.payload END
FROM unnest($1::bigint[]) AS u (seq),
    LATERAL (SELECT * FROM onefold.specs WHERE ns = 0 AND seq = u.seq OFFSET 0) s
