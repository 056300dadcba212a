-- Each is a piece of the last parameter.
INSERT INTO onefold.segments (queue, lane, priority, first, seqs)
SELECT u.queue, u.lane, u.priority, ($6::bigint[])[u.from_place], ($6::bigint[])[u.from_place : u.to_place]
FROM unnest($1::integer[], $2::integer[], $3::smallint[], $4::integer[], $5::integer[])
    AS u (queue, lane, priority, from_place, to_place)
