UPDATE onefold.specs AS t SET kind = u.kind, fingerprint = u.fingerprint, window_ms = u.window_ms, free_on =
    u.free_on, on_duplicate = u.on_duplicate, on_mismatch = u.on_mismatch, version = u.version, max_delay_ms =
    u.max_delay_ms, backoff = u.backoff::json, timeout_ms = u.timeout_ms, labels = u.labels::json, retain_ms =
    u.retain_ms, extra = u.extra::json, payload_form = u.payload_form, payload = u.payload,
    lane = u.lane
FROM unnest($1::bigint[], $2::text[], $3::bytea[], $4::bigint[], $5::smallint[], $6::smallint[], $7::smallint[],
    $8::bigint[], $9::bigint[], $10::text[], $11::bigint[], $12::text[], $13::bigint[], $14::text[], $15::smallint[],
    $16::bytea[], $17::integer[])
    AS u (seq, kind, fingerprint, window_ms, free_on, on_duplicate, on_mismatch, version, max_delay_ms, backoff,
    timeout_ms, labels, retain_ms, extra, payload_form, payload, lane),
    LATERAL (SELECT ctid FROM onefold.specs WHERE ns = 0 AND seq = u.seq OFFSET 0) k
WHERE t.ctid = k.ctid
