-- Nodes that serve, queues whose jobs do not add up (I2), leases and attempts above the next token (I4).
SELECT (SELECT count(*) FROM onefold.nodes WHERE seen_at > clock_timestamp() - interval '10 seconds'),
       (SELECT extract(epoch FROM clock_timestamp() - max(seen_at))::bigint FROM onefold.nodes),
       (SELECT count(*) FROM (
            SELECT FROM (SELECT queue, accepted, scheduled + available + running + retrying + completed + dead + cancelled
                    + purged_retention + purged_deleted AS known FROM onefold.counts
                UNION ALL
                SELECT queue, accepted, scheduled + available + running + retrying + completed + dead + cancelled
                    + purged_retention + purged_deleted FROM onefold.count_deltas) counted
            GROUP BY queue HAVING sum(accepted) <> sum(known)) unbalanced),
       (SELECT count(*) FROM (SELECT seq FROM onefold.leases WHERE ns = 0
                              UNION SELECT unnest(seqs) FROM onefold.watches WHERE ns = 0) l
            JOIN onefold.jobs j ON j.ns = 0 AND j.seq = l.seq
        WHERE j.token >= (SELECT CASE WHEN is_called THEN last_value + 1 ELSE last_value END FROM onefold.token_seq)),
       (SELECT count(*) FROM onefold.queues WHERE alive)
