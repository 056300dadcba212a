-- The store. `ns` (0) is first in every key, so that namespaces can come without a new layout.
-- Times are unix milliseconds; states, reasons, outcomes and kinds are numbers: `docs/internals/engine-postgres.md`.
-- Indexes beside a key do without `ns`: two that begin alike cost the same in a table that was empty when it was last
-- looked at, and the planner would take either for a row's key. Sweeps that go by them go through all namespaces.
-- Rows of lists have `toast_tuple_target`: compressing them costs more than all else that is done for them.

-- One row: what outlives everything. Who leases holds it in ROW SHARE mode, who raises the token sequence in
-- EXCLUSIVE mode: so the sequence never goes back under a lease, and who only reads is in nobody's way.
CREATE TABLE onefold.store (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    -- The life of the server for which tokens were last raised: database, timeline and start.
    server text NOT NULL DEFAULT ''
);
INSERT INTO onefold.store DEFAULT VALUES;

CREATE SEQUENCE onefold.job_seq AS bigint MAXVALUE 4611686018427387903;
CREATE SEQUENCE onefold.token_seq AS bigint MAXVALUE 9007199254740991;

-- A queue keeps its number for ever: a deleted one is only no longer alive.
CREATE TABLE onefold.queues (
    ns smallint NOT NULL DEFAULT 0,
    queue integer NOT NULL GENERATED ALWAYS AS IDENTITY,
    name text COLLATE "C" NOT NULL,
    alive boolean NOT NULL DEFAULT true,
    settings json NOT NULL DEFAULT '{}',
    PRIMARY KEY (ns, queue),
    UNIQUE (ns, name)
);

-- What counts for the rate of a queue, under the lock of its row in `queues`: JSON, pairs of a moment and how many leases
-- began until then. `full_until_ms`: when there is room again, if there was none when this was written.
CREATE TABLE onefold.rates (
    ns smallint NOT NULL DEFAULT 0,
    queue integer NOT NULL,
    starts text NOT NULL,
    last_ms bigint NOT NULL,
    full_until_ms bigint,
    PRIMARY KEY (ns, queue)
) WITH (fillfactor = 50);
CREATE INDEX rates_last ON onefold.rates (last_ms);
CREATE INDEX rates_full_until ON onefold.rates (full_until_ms);

-- Where a job stands, with its latest attempt. No index but the key, and room in each page for what its jobs become, even
-- if somebody's old transaction keeps all versions: so updates stay there (HOT), and the table is no larger in the end.
CREATE TABLE onefold.jobs (
    ns smallint NOT NULL DEFAULT 0,
    seq bigint NOT NULL,
    created_ms bigint NOT NULL,
    queue integer NOT NULL,
    state smallint NOT NULL,
    reason smallint,
    priority smallint NOT NULL,
    run_at_ms bigint NOT NULL,
    max_attempts integer NOT NULL,
    failures integer NOT NULL,
    lost_leases integer NOT NULL,
    recent_losses bigint[] NOT NULL,
    retry_until_ms bigint,
    cancel_requested boolean NOT NULL,
    finished_ms bigint,
    group_order bigint,
    -- It ended as a dead or cancelled head that blocks its group.
    blocks boolean NOT NULL,
    duplicates integer NOT NULL,
    mismatches integer NOT NULL,
    number integer,
    token bigint,
    worker text,
    started_ms bigint,
    -- Of an open attempt that was extended, these three are in `leases`.
    lease_ms bigint,
    lease_until_ms bigint,
    deadline_ms bigint,
    poll bigint,
    ended_ms bigint,
    outcome smallint,
    end_state smallint,
    content bigint,
    more json,
    -- What was asked for has nothing that the end of an attempt would have to know: no group, no backoff, timeout or
    -- retention of its own, and a key, if any, that stays.
    plain boolean NOT NULL DEFAULT false,
    PRIMARY KEY (ns, seq)
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0.05);

-- What was asked for. Written once, changed only by replace and edit before the first start.
CREATE TABLE onefold.specs (
    ns smallint NOT NULL DEFAULT 0,
    seq bigint NOT NULL,
    kind text,
    key text,
    fingerprint bytea,
    window_ms bigint NOT NULL,
    free_on smallint NOT NULL,
    on_duplicate smallint NOT NULL,
    on_mismatch smallint NOT NULL,
    version bigint,
    max_delay_ms bigint,
    grp text,
    backoff json,
    timeout_ms bigint,
    labels json,
    retain_ms bigint,
    -- Whom it stands in line for: 0 workers, else the lane of the origin it is delivered to.
    lane integer NOT NULL DEFAULT 0,
    -- Headers, content type, traceparent, target and callbacks, where there are any.
    extra json,
    payload_form smallint NOT NULL,
    payload bytea,
    -- Room for compressed and encrypted payloads.
    codec smallint NOT NULL DEFAULT 0,
    encryption_key integer,
    PRIMARY KEY (ns, seq)
);

CREATE TABLE onefold.attempts (
    ns smallint NOT NULL DEFAULT 0,
    seq bigint NOT NULL,
    number integer NOT NULL,
    token bigint NOT NULL,
    worker text NOT NULL,
    started_ms bigint NOT NULL,
    lease_ms bigint NOT NULL,
    lease_until_ms bigint NOT NULL,
    deadline_ms bigint NOT NULL,
    poll bigint,
    ended_ms bigint,
    outcome smallint,
    end_state smallint,
    content bigint,
    more json,
    PRIMARY KEY (ns, seq, number)
);

CREATE TABLE onefold.results (
    ns smallint NOT NULL DEFAULT 0,
    seq bigint NOT NULL,
    result bytea NOT NULL,
    PRIMARY KEY (ns, seq)
);

CREATE TABLE onefold.checkpoints (
    ns smallint NOT NULL DEFAULT 0,
    seq bigint NOT NULL,
    value bytea NOT NULL,
    PRIMARY KEY (ns, seq)
);

CREATE TABLE onefold.evidence (
    ns smallint NOT NULL DEFAULT 0,
    seq bigint NOT NULL,
    kind smallint NOT NULL,
    number integer NOT NULL,
    at_ms bigint NOT NULL,
    note text,
    PRIMARY KEY (ns, seq, kind, number)
);

-- Adds of users' own transactions that were answered with a job, until a tick puts them on that job: such an add does not
-- lock it.
CREATE TABLE onefold.repeats (
    ns smallint NOT NULL DEFAULT 0,
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    seq bigint NOT NULL,
    at_ms bigint NOT NULL,
    PRIMARY KEY (ns, id)
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);

-- First answers to ends of attempts whose job is gone (I6).
CREATE TABLE onefold.receipts (
    ns smallint NOT NULL DEFAULT 0,
    token bigint NOT NULL,
    seq bigint NOT NULL,
    created_ms bigint NOT NULL,
    content bigint NOT NULL,
    state smallint NOT NULL,
    until_ms bigint NOT NULL,
    PRIMARY KEY (ns, token)
);
CREATE INDEX receipts_until ON onefold.receipts (until_ms);

-- The dedup ledger (I3): keys of jobs (space 0), identities of requests (space 1), and ticks of schedules (space 2, of
-- queue 0, which is none).
CREATE TABLE onefold.keys (
    ns smallint NOT NULL DEFAULT 0,
    queue integer NOT NULL,
    space smallint NOT NULL,
    key text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    created_ms bigint NOT NULL,
    fingerprint bytea NOT NULL,
    until_ms bigint NOT NULL,
    free_on smallint NOT NULL,
    PRIMARY KEY (ns, queue, space, key)
) PARTITION BY HASH (key);
CREATE TABLE onefold.keys_0 PARTITION OF onefold.keys FOR VALUES WITH (MODULUS 8, REMAINDER 0);
CREATE TABLE onefold.keys_1 PARTITION OF onefold.keys FOR VALUES WITH (MODULUS 8, REMAINDER 1);
CREATE TABLE onefold.keys_2 PARTITION OF onefold.keys FOR VALUES WITH (MODULUS 8, REMAINDER 2);
CREATE TABLE onefold.keys_3 PARTITION OF onefold.keys FOR VALUES WITH (MODULUS 8, REMAINDER 3);
CREATE TABLE onefold.keys_4 PARTITION OF onefold.keys FOR VALUES WITH (MODULUS 8, REMAINDER 4);
CREATE TABLE onefold.keys_5 PARTITION OF onefold.keys FOR VALUES WITH (MODULUS 8, REMAINDER 5);
CREATE TABLE onefold.keys_6 PARTITION OF onefold.keys FOR VALUES WITH (MODULUS 8, REMAINDER 6);
CREATE TABLE onefold.keys_7 PARTITION OF onefold.keys FOR VALUES WITH (MODULUS 8, REMAINDER 7);
CREATE INDEX keys_until ON onefold.keys (until_ms);

-- Only what could be leased now. Claims touch nothing else to choose.
CREATE TABLE onefold.ready (
    ns smallint NOT NULL DEFAULT 0,
    queue integer NOT NULL,
    lane integer NOT NULL DEFAULT 0,
    priority smallint NOT NULL,
    seq bigint NOT NULL,
    -- A hint that the claim checks under its group's lock.
    grouped boolean NOT NULL,
    PRIMARY KEY (ns, queue, lane, priority, seq)
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);

-- The same for jobs that were added together: a few dozen a row, in order. An entry may be wrong (the job was cancelled,
-- edited, leased by way of `ready`): claims look at the job, drop what is wrong and leave the rest.
CREATE TABLE onefold.segments (
    ns smallint NOT NULL DEFAULT 0,
    queue integer NOT NULL,
    lane integer NOT NULL DEFAULT 0,
    priority smallint NOT NULL,
    -- The first it ever had.
    first bigint NOT NULL,
    seqs bigint[] NOT NULL,
    PRIMARY KEY (ns, queue, lane, priority, first)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);

-- Jobs that were leased together, for when to look whether they still run: once they were extended, `leases` says.
-- Entries of jobs that ended stay until that time comes near.
CREATE TABLE onefold.watches (
    ns smallint NOT NULL DEFAULT 0,
    check_ms bigint NOT NULL,
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    poll bigint,
    seqs bigint[] NOT NULL,
    PRIMARY KEY (ns, check_ms, id)
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000, toast_tuple_target = 8160);
CREATE INDEX watches_poll ON onefold.watches (poll) WHERE poll IS NOT NULL;

-- Open attempts that were extended. `check_ms` is when to look again, never later than the lease ends; an extension does
-- not touch it, so that heartbeats change no index.
CREATE TABLE onefold.leases (
    ns smallint NOT NULL DEFAULT 0,
    queue integer NOT NULL,
    seq bigint NOT NULL,
    lease_ms bigint NOT NULL,
    lease_until_ms bigint NOT NULL,
    deadline_ms bigint NOT NULL,
    check_ms bigint NOT NULL,
    poll bigint,
    PRIMARY KEY (ns, seq)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);
CREATE INDEX leases_check ON onefold.leases (check_ms);
CREATE INDEX leases_poll ON onefold.leases (poll) WHERE poll IS NOT NULL;

-- What becomes due of one job: 0 it may run, 1 it may no longer start, 2 its own retention is over.
CREATE TABLE onefold.timers (
    ns smallint NOT NULL DEFAULT 0,
    due_ms bigint NOT NULL,
    seq bigint NOT NULL,
    kind smallint NOT NULL,
    PRIMARY KEY (ns, due_ms, seq)
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);

-- Finished jobs. Those with a retention of their own have a timer besides.
CREATE TABLE onefold.finished (
    ns smallint NOT NULL DEFAULT 0,
    queue integer NOT NULL,
    state smallint NOT NULL,
    finished_ms bigint NOT NULL,
    seq bigint NOT NULL,
    own boolean NOT NULL,
    PRIMARY KEY (ns, queue, state, finished_ms, seq)
);

-- The same for jobs that completed together and have no retention of their own.
CREATE TABLE onefold.lots (
    ns smallint NOT NULL DEFAULT 0,
    queue integer NOT NULL,
    finished_ms bigint NOT NULL,
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    seqs bigint[] NOT NULL,
    PRIMARY KEY (ns, queue, finished_ms, id)
) WITH (toast_tuple_target = 8160);

-- Groups (I8). The row is the lock; `ready_seq` is who stands in `ready` for the group.
CREATE TABLE onefold.groups (
    ns smallint NOT NULL DEFAULT 0,
    queue integer NOT NULL,
    grp text COLLATE "C" NOT NULL,
    ready_seq bigint,
    ready_lane integer,
    ready_priority smallint,
    PRIMARY KEY (ns, queue, grp)
) WITH (fillfactor = 70);

-- Unfinished jobs of groups and those that block theirs: 0 waits for its time, 1 available, 2 running, 3 blocks.
CREATE TABLE onefold.members (
    ns smallint NOT NULL DEFAULT 0,
    queue integer NOT NULL,
    grp text COLLATE "C" NOT NULL,
    group_order bigint NOT NULL,
    seq bigint NOT NULL,
    phase smallint NOT NULL,
    PRIMARY KEY (ns, queue, grp, group_order)
) WITH (fillfactor = 70);
CREATE INDEX members_running ON onefold.members (ns, queue, grp) WHERE phase = 2;

-- Groups to look at before the next claim: adds do not take the lock of a group.
CREATE TABLE onefold.dirty (
    ns smallint NOT NULL DEFAULT 0,
    queue integer NOT NULL,
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    grp text COLLATE "C" NOT NULL,
    PRIMARY KEY (ns, queue, id)
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);

-- Counts of queues: what transactions added, one row each, folded into one row a queue by ticks. No row is hot.
CREATE TABLE onefold.counts (
    ns smallint NOT NULL DEFAULT 0,
    queue integer NOT NULL,
    accepted bigint NOT NULL,
    scheduled bigint NOT NULL,
    available bigint NOT NULL,
    running bigint NOT NULL,
    retrying bigint NOT NULL,
    completed bigint NOT NULL,
    dead bigint NOT NULL,
    cancelled bigint NOT NULL,
    purged_retention bigint NOT NULL,
    purged_deleted bigint NOT NULL,
    duplicates bigint NOT NULL,
    mismatches bigint NOT NULL,
    late_writes bigint NOT NULL,
    PRIMARY KEY (ns, queue)
) WITH (fillfactor = 50);
CREATE TABLE onefold.count_deltas (
    ns smallint NOT NULL DEFAULT 0,
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    queue integer NOT NULL,
    accepted bigint NOT NULL,
    scheduled bigint NOT NULL,
    available bigint NOT NULL,
    running bigint NOT NULL,
    retrying bigint NOT NULL,
    completed bigint NOT NULL,
    dead bigint NOT NULL,
    cancelled bigint NOT NULL,
    purged_retention bigint NOT NULL,
    purged_deleted bigint NOT NULL,
    duplicates bigint NOT NULL,
    mismatches bigint NOT NULL,
    late_writes bigint NOT NULL,
    PRIMARY KEY (ns, id)
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);

-- Events of a transaction, one row. They get their cursors after the commit, from whoever reads or ticks next, under
-- the lock of `event_head`: a cursor never passes one that commits late.
CREATE TABLE onefold.event_inbox (
    ns smallint NOT NULL DEFAULT 0,
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    at_ms bigint NOT NULL,
    kinds smallint[] NOT NULL,
    queues integer[] NOT NULL,
    seqs bigint[] NOT NULL,
    created bigint[] NOT NULL,
    reasons smallint[] NOT NULL,
    attempts integer[] NOT NULL,
    -- What events of schedules tell besides, by their place.
    about json,
    PRIMARY KEY (ns, id)
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000, toast_tuple_target = 8160);
CREATE TABLE onefold.events (
    ns smallint NOT NULL DEFAULT 0,
    -- The cursor of the last event of the row.
    last bigint NOT NULL,
    at_ms bigint NOT NULL,
    kinds smallint[] NOT NULL,
    queues integer[] NOT NULL,
    seqs bigint[] NOT NULL,
    created bigint[] NOT NULL,
    reasons smallint[] NOT NULL,
    attempts integer[] NOT NULL,
    about json,
    PRIMARY KEY (ns, last)
) WITH (toast_tuple_target = 8160);
CREATE TABLE onefold.event_head (
    ns smallint NOT NULL DEFAULT 0,
    -- The cursor of the last event there ever was.
    last bigint NOT NULL,
    PRIMARY KEY (ns)
);
INSERT INTO onefold.event_head (last) VALUES (0);

CREATE FUNCTION onefold.number_events(row_limit integer) RETURNS bigint LANGUAGE plpgsql AS $body$
DECLARE
    head bigint;
    moved bigint;
BEGIN
    SELECT last INTO head FROM onefold.event_head WHERE ns = 0 FOR UPDATE;
    WITH gone AS (
        DELETE FROM onefold.event_inbox WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM onefold.event_inbox WHERE ns = 0 ORDER BY id LIMIT row_limit))
        RETURNING *
    ), put AS (
        INSERT INTO onefold.events (last, at_ms, kinds, queues, seqs, created, reasons, attempts, about)
        SELECT head + sum(cardinality(kinds)) OVER (ORDER BY id), at_ms, kinds, queues, seqs, created, reasons, attempts,
            about
        FROM gone
        RETURNING last
    )
    SELECT max(last) INTO moved FROM put;
    IF moved IS NOT NULL THEN
        UPDATE onefold.event_head SET last = moved WHERE ns = 0;
    END IF;
    RETURN coalesce(moved, head);
END
$body$;

-- Effects and their outcomes. state: 0 executing 1 completed 2 released 3 indeterminate. Those of a job are kept as long
-- as its rows; of the others `due_ms` is when time next does something to them.
CREATE TABLE onefold.effects (
    ns smallint NOT NULL DEFAULT 0,
    scope text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    -- The job whose step it is.
    seq bigint,
    state smallint NOT NULL,
    due_ms bigint,
    -- JSON, as the core writes it.
    record text NOT NULL,
    result bytea,
    PRIMARY KEY (ns, scope, key)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX effects_of_job ON onefold.effects (seq) WHERE seq IS NOT NULL;
CREATE INDEX effects_due ON onefold.effects (due_ms) WHERE due_ms IS NOT NULL;
CREATE INDEX effects_unclear ON onefold.effects (ns, scope, key) WHERE state = 3;
CREATE INDEX effects_leased ON onefold.effects (ns, scope, key) WHERE state = 0 AND seq IS NULL;
-- Schedules. What a schedule's jobs are stands in `specs` under `template`, a sequence that no job has. Who evaluates a
-- schedule holds its row; others pass it by.
CREATE TABLE onefold.schedules (
    ns smallint NOT NULL DEFAULT 0,
    id text COLLATE "C" NOT NULL,
    template bigint NOT NULL,
    -- The next tick, or when to look again; null: paused, or there is none.
    next_ms bigint,
    -- The release of the time zone database that says so; null: none was asked.
    tz text,
    schedule json NOT NULL,
    PRIMARY KEY (ns, id)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);
CREATE INDEX schedules_next ON onefold.schedules (next_ms, id) WHERE next_ms IS NOT NULL;

CREATE TABLE onefold.settings (
    ns smallint NOT NULL DEFAULT 0,
    name text COLLATE "C" NOT NULL,
    value bytea NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (ns, name)
);

-- Who serves, by the database's clock.
CREATE TABLE onefold.nodes (
    ns smallint NOT NULL DEFAULT 0,
    node text COLLATE "C" NOT NULL,
    seen_at timestamptz NOT NULL,
    PRIMARY KEY (ns, node)
) WITH (fillfactor = 50);
