SELECT e.scope, e.key, e.record, e.crc, e.result, e.result_crc, e.job IS NULL OR j.seq IS NOT NULL
FROM onefold_effects e LEFT JOIN onefold_jobs j ON j.seq = e.job
