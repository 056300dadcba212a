SELECT check_ms, id, seqs FROM onefold.watches WHERE ns = 0 AND (check_ms, id) > ($1::bigint, $2::bigint)
ORDER BY check_ms, id LIMIT $3::bigint
