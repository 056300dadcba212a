-- What most jobs are given: a payload, perhaps a kind and a key.
INSERT INTO onefold.specs (seq, kind, key, fingerprint, window_ms, free_on, on_duplicate, on_mismatch, payload_form,
    payload)
SELECT u.seq, u.kind, u.key, u.fingerprint, $1::bigint, $2::smallint, $3::smallint, $4::smallint, u.payload_form,
    u.payload
FROM unnest($5::bigint[], $6::text[], $7::text[], $8::bytea[], $9::smallint[], $10::bytea[])
    AS u (seq, kind, key, fingerprint, payload_form, payload)
