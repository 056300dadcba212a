-- Each is a piece of the last parameter.
INSERT INTO onefold.lots (queue, finished_ms, seqs)
SELECT u.queue, u.finished_ms, ($5::bigint[])[u.from_place : u.to_place]
FROM unnest($1::integer[], $2::bigint[], $3::integer[], $4::integer[]) AS u (queue, finished_ms, from_place, to_place)
