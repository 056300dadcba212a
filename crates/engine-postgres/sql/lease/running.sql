-- By the counts: a claim sees those of every claim before it, and of ends at least not too many. With the time: whoever ended
-- before that is not counted.
SELECT least(greatest(sum(running), 0), $2::bigint)::bigint, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint
FROM (SELECT running FROM onefold.counts WHERE ns = 0 AND queue = $1::integer
      UNION ALL
      SELECT running FROM onefold.count_deltas WHERE ns = 0 AND queue = $1::integer) c
