-- Each is a piece of the last parameter.
INSERT INTO onefold.segments (queue, priority, first, seqs)
SELECT u.queue, u.priority, ($5::bigint[])[u.from_place], ($5::bigint[])[u.from_place : u.to_place]
FROM unnest($1::integer[], $2::smallint[], $3::integer[], $4::integer[])
    AS u (queue, priority, from_place, to_place)
