SELECT seq, kind, key, grp, payload_form, content_type, options, fingerprint, payload, crc
FROM onefold_specs WHERE seq BETWEEN ?1 AND ?2 ORDER BY seq
