DELETE FROM onefold_receipts WHERE token IN (
    SELECT token FROM (SELECT token, until FROM onefold_receipts ORDER BY token LIMIT ?2) WHERE until <= ?1)
