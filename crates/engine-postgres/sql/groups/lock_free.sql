-- With the time at which each was had: whoever had it before has ended what he did.
SELECT u.place, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint
FROM unnest($1::integer[], $2::text[]) WITH ORDINALITY AS u (queue, grp, place),
    LATERAL (SELECT 1 FROM onefold.groups WHERE ns = 0 AND queue = u.queue AND grp = u.grp FOR UPDATE SKIP LOCKED) g
