INSERT INTO onefold.attempts (seq, number, token, worker, started_ms, lease_ms, lease_until_ms, deadline_ms, poll,
    ended_ms, outcome, end_state, content, more)
SELECT u.seq, u.number, u.token, u.worker, u.started_ms, u.lease_ms, u.lease_until_ms, u.deadline_ms, u.poll,
    u.ended_ms, u.outcome, u.end_state, u.content, u.more::json
FROM unnest($1::bigint[], $2::integer[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[],
    $8::bigint[], $9::bigint[], $10::bigint[], $11::smallint[], $12::smallint[], $13::bigint[], $14::text[])
    AS u (seq, number, token, worker, started_ms, lease_ms, lease_until_ms, deadline_ms, poll, ended_ms, outcome,
    end_state, content, more)
