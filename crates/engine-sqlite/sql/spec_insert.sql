INSERT INTO onefold_specs (seq, kind, key, grp, payload_form, content_type, options, fingerprint, payload, crc)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
