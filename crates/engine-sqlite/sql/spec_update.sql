UPDATE onefold_specs
SET kind = ?2, key = ?3, grp = ?4, payload_form = ?5, content_type = ?6, options = ?7, fingerprint = ?8, payload = ?9, crc = ?10
WHERE seq = ?1
