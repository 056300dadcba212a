-- Each is a piece of the last parameter.
INSERT INTO onefold.watches (check_ms, poll, seqs)
SELECT u.check_ms, u.poll, ($5::bigint[])[u.from_place : u.to_place]
FROM unnest($1::bigint[], $2::bigint[], $3::integer[], $4::integer[]) AS u (check_ms, poll, from_place, to_place)
