DELETE FROM onefold.nodes WHERE ns = 0 AND node = $1::text
