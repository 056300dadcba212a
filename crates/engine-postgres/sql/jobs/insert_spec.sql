INSERT INTO onefold.specs (seq, kind, key, fingerprint, window_ms, free_on, on_duplicate, on_mismatch, version,
    max_delay_ms, grp, backoff, timeout_ms, labels, retain_ms, extra, payload_form, payload, lane)
SELECT u.seq, u.kind, u.key, u.fingerprint, u.window_ms, u.free_on, u.on_duplicate, u.on_mismatch, u.version,
    u.max_delay_ms, u.grp, u.backoff::json, u.timeout_ms, u.labels::json, u.retain_ms, u.extra::json, u.payload_form,
    u.payload, u.lane
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bytea[], $5::bigint[], $6::smallint[], $7::smallint[],
    $8::smallint[], $9::bigint[], $10::bigint[], $11::text[], $12::text[], $13::bigint[], $14::text[], $15::bigint[],
    $16::text[], $17::smallint[], $18::bytea[], $19::integer[])
    AS u (seq, kind, key, fingerprint, window_ms, free_on, on_duplicate, on_mismatch, version, max_delay_ms, grp,
    backoff, timeout_ms, labels, retain_ms, extra, payload_form, payload, lane)
