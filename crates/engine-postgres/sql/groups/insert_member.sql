INSERT INTO onefold.members (queue, grp, group_order, seq, phase)
SELECT queue, grp, group_order, seq, phase
FROM unnest($1::integer[], $2::text[], $3::bigint[], $4::bigint[], $5::smallint[]) AS u (queue, grp, group_order, seq, phase)
ON CONFLICT (ns, queue, grp, group_order) DO UPDATE SET phase = excluded.phase
