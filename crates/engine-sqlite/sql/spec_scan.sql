SELECT seq, kind, key, grp, payload_form, content_type, options, fingerprint, payload, crc FROM onefold_specs ORDER BY seq
