SELECT r.token, r.seq, r.created_ms, r.content, r.state FROM unnest($1::bigint[]) AS u (token),
    LATERAL (SELECT * FROM onefold.receipts WHERE ns = 0 AND token = u.token AND until_ms > $2::bigint OFFSET 0) r
