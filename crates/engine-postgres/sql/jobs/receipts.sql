SELECT token, seq, created_ms, content, state FROM onefold.receipts
WHERE ns = 0 AND token = ANY ($1::bigint[]) AND until_ms > $2::bigint
