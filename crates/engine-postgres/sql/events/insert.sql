INSERT INTO onefold.event_inbox (at_ms, kinds, queues, seqs, created, reasons, attempts, about)
VALUES ($1::bigint, $2::smallint[], $3::integer[], $4::bigint[], $5::bigint[], $6::smallint[], $7::integer[],
    $8::text::json)
