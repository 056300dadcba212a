-- Schema version 1 of the embedded store. Every table carries the prefix onefold_.
-- Times are unix milliseconds. `seq` is the sequence inside a job's id. Written only by the one
-- writer thread; anybody may read. For people: the view onefold_job_list.

-- One row: the numbers that only grow.
CREATE TABLE onefold_meta (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    store_id    BLOB NOT NULL,             -- 16 random bytes, the name of this store
    hash_key    BLOB NOT NULL,             -- 16 random bytes, the key of the key index's hash
    created_at  INTEGER NOT NULL,
    next_seq    INTEGER NOT NULL,
    next_token  INTEGER NOT NULL,
    next_event  INTEGER NOT NULL
) STRICT;

CREATE TABLE onefold_queues (
    id          INTEGER PRIMARY KEY,
    ns          INTEGER NOT NULL DEFAULT 0,
    name        TEXT NOT NULL,
    deleted_at  INTEGER,                   -- set: kept only to name the queue in its last events
    settings    TEXT NOT NULL,             -- JSON
    counts      TEXT NOT NULL,             -- JSON; accepted = unfinished + completed + dead + cancelled + purged
    starts      TEXT NOT NULL              -- JSON; leases that count for the queue's rate
) STRICT;
CREATE UNIQUE INDEX onefold_queues_by_name ON onefold_queues (ns, name) WHERE deleted_at IS NULL;

-- Where a job stands. state: 1 scheduled 2 available 3 running 4 retrying 5 completed 6 dead 7 cancelled.
-- The rest, the latest attempt included, is packed in `body`; earlier attempts are in onefold_attempts.
CREATE TABLE onefold_jobs (
    seq             INTEGER PRIMARY KEY,
    created_at      INTEGER NOT NULL,
    queue           INTEGER NOT NULL,
    state           INTEGER NOT NULL CHECK (state BETWEEN 1 AND 7),
    priority        INTEGER NOT NULL,
    run_at          INTEGER NOT NULL,
    finished_at     INTEGER CHECK ((finished_at IS NOT NULL) = (state >= 5)),
    group_order     INTEGER,
    retain          INTEGER,
    body            BLOB NOT NULL          -- CRC-32 of the row, version, fields; padded: see rows/job.rs
) STRICT;

-- What was asked for. Changed only before the first start.
CREATE TABLE onefold_specs (
    seq             INTEGER PRIMARY KEY,
    kind            TEXT,
    key             TEXT,
    grp             TEXT,
    payload_form    INTEGER NOT NULL,      -- 0 absent 1 JSON 2 raw bytes
    content_type    TEXT,
    options         TEXT,                  -- JSON: what else differs from the defaults
    fingerprint     BLOB,
    payload         BLOB,
    crc             INTEGER NOT NULL
) STRICT;

-- Attempts before the latest.
CREATE TABLE onefold_attempts (
    seq             INTEGER NOT NULL,
    number          INTEGER NOT NULL,
    token           INTEGER NOT NULL,
    attempt         TEXT NOT NULL,         -- JSON
    crc             INTEGER NOT NULL,
    PRIMARY KEY (seq, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE onefold_results (
    seq             INTEGER PRIMARY KEY,
    result          BLOB NOT NULL,
    crc             INTEGER NOT NULL
) STRICT;

CREATE TABLE onefold_checkpoints (
    seq             INTEGER PRIMARY KEY,
    value           BLOB NOT NULL,
    crc             INTEGER NOT NULL
) STRICT;

-- What happened to a job beside its attempts: of each kind the first 20 and the last 20.
CREATE TABLE onefold_evidence (
    seq             INTEGER NOT NULL,
    kind            INTEGER NOT NULL,
    slot            INTEGER NOT NULL,
    number          INTEGER NOT NULL,
    at              INTEGER NOT NULL,
    note            TEXT,
    PRIMARY KEY (seq, kind, slot)
) STRICT, WITHOUT ROWID;

-- The dedup ledger, in order of expiry class and then of writing: lid = class << 48 | counter,
-- where a class holds windows that differ by less than a factor of two, so that each class is
-- dropped from its head. space: 0 keys of jobs, 1 identities of requests, 2 ticks of schedules (of queue 0, which is none).
CREATE TABLE onefold_ledger (
    lid             INTEGER PRIMARY KEY,
    space           INTEGER NOT NULL,
    queue           INTEGER NOT NULL,
    key             TEXT NOT NULL,
    seq             INTEGER NOT NULL,
    created_at      INTEGER NOT NULL,
    fingerprint     BLOB NOT NULL,
    until           INTEGER NOT NULL,
    free_on         INTEGER NOT NULL,
    hash            INTEGER NOT NULL,      -- 46 bits of the key's hash, 18 of a check over them and lid
    crc             INTEGER NOT NULL
) STRICT;

-- Keys the index in memory had no room for: place = the first 46 bits of the hash.
CREATE TABLE onefold_sealed_keys (
    place           INTEGER NOT NULL,
    lid             INTEGER NOT NULL,
    PRIMARY KEY (place, lid)
) STRICT, WITHOUT ROWID;

-- A filter of the sealed keys of each shard that has some; empty: anything.
CREATE TABLE onefold_sealed_filters (
    shard           INTEGER PRIMARY KEY,
    bits            BLOB NOT NULL,
    crc             INTEGER NOT NULL
) STRICT;

-- One row once there were sealed keys: how far that is.
CREATE TABLE onefold_sealing (
    id              INTEGER PRIMARY KEY CHECK (id = 1),
    progress        TEXT NOT NULL          -- JSON
) STRICT;

-- Sets of job sequences, 4,096 to a row. kind: 0 leasable now, by queue, lane (0 for workers, else that of the origin
-- it is delivered to) and priority; 1 running.
CREATE TABLE onefold_sets (
    kind            INTEGER NOT NULL,
    queue           INTEGER NOT NULL,
    lane            INTEGER NOT NULL,
    priority        INTEGER NOT NULL,
    bucket          INTEGER NOT NULL,
    members         BLOB NOT NULL,
    PRIMARY KEY (kind, queue, lane, priority, bucket)
) STRICT, WITHOUT ROWID;

-- Jobs that something happens to at a time: bucket = at >> 18 (about 4.4 minutes).
CREATE TABLE onefold_timers (
    bucket          INTEGER NOT NULL,
    seq             INTEGER NOT NULL,
    at              INTEGER NOT NULL,
    PRIMARY KEY (bucket, seq)
) STRICT, WITHOUT ROWID;

-- Unfinished (and blocking) jobs of each group, in order.
CREATE TABLE onefold_groups (
    queue           INTEGER NOT NULL,
    grp             TEXT NOT NULL,
    ord             INTEGER NOT NULL,
    seq             INTEGER NOT NULL,
    PRIMARY KEY (queue, grp, ord)
) STRICT, WITHOUT ROWID;

-- When the first of 4,096 neighbouring jobs may be deleted.
CREATE TABLE onefold_retention (
    bucket          INTEGER PRIMARY KEY,
    at              INTEGER NOT NULL
) STRICT;

-- First answers to the ends of attempts whose jobs are gone, kept for a day.
CREATE TABLE onefold_receipts (
    token           INTEGER PRIMARY KEY,
    seq             INTEGER NOT NULL,
    created_at      INTEGER NOT NULL,
    content         INTEGER NOT NULL,
    state           INTEGER NOT NULL,
    until           INTEGER NOT NULL
) STRICT;

-- Events, all of one commit in a row.
CREATE TABLE onefold_events (
    first           INTEGER PRIMARY KEY,
    count           INTEGER NOT NULL,
    at              INTEGER NOT NULL,
    events          BLOB NOT NULL
) STRICT;

CREATE TABLE onefold_settings (
    name            TEXT PRIMARY KEY,
    value           BLOB NOT NULL,
    version         INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Effects and their outcomes. state: 1 executing 2 completed 3 released 4 indeterminate. A job's are kept as long as its
-- rows; of the others `due` is when time next does something to them.
CREATE TABLE onefold_effects (
    ns              INTEGER NOT NULL DEFAULT 0,
    scope           TEXT NOT NULL,
    key             TEXT NOT NULL,
    job             INTEGER,               -- the sequence of the job whose step it is
    state           INTEGER NOT NULL,
    due             INTEGER,
    record          TEXT NOT NULL,         -- JSON
    crc             INTEGER NOT NULL,
    result          BLOB,
    result_crc      INTEGER,
    PRIMARY KEY (ns, scope, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX onefold_effects_of_job ON onefold_effects (job) WHERE job IS NOT NULL;
CREATE INDEX onefold_effects_due ON onefold_effects (due) WHERE due IS NOT NULL;
CREATE INDEX onefold_effects_unclear ON onefold_effects (ns, scope, key) WHERE state = 4;
-- Schedules. What their jobs are stands in onefold_specs under `template`, a sequence that no job has.
CREATE TABLE onefold_schedules (
    ns              INTEGER NOT NULL DEFAULT 0,
    id              TEXT NOT NULL,
    template        INTEGER NOT NULL,
    next_at         INTEGER,               -- the next tick; null: paused, or there is none
    tz              TEXT,                  -- the release of the time zone database that says so; null: none was asked
    schedule        TEXT NOT NULL,         -- JSON
    crc             INTEGER NOT NULL,
    PRIMARY KEY (ns, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX onefold_schedules_due ON onefold_schedules (next_at, id) WHERE next_at IS NOT NULL;

CREATE VIEW onefold_job_list AS
SELECT printf('job_%012x7000%016x', j.created_at, j.seq | (-9223372036854775807 - 1)) AS id,
       q.name AS queue,
       CASE j.state WHEN 1 THEN 'scheduled' WHEN 2 THEN 'available' WHEN 3 THEN 'running'
                    WHEN 4 THEN 'retrying' WHEN 5 THEN 'completed' WHEN 6 THEN 'dead' ELSE 'cancelled' END AS state,
       s.kind, s.key, s.grp AS "group", j.priority,
       strftime('%FT%TZ', j.created_at / 1000, 'unixepoch') AS created_at,
       strftime('%FT%TZ', j.run_at / 1000, 'unixepoch') AS run_at,
       strftime('%FT%TZ', j.finished_at / 1000, 'unixepoch') AS finished_at,
       CASE s.payload_form WHEN 1 THEN CAST(s.payload AS TEXT) END AS payload
FROM onefold_jobs j
JOIN onefold_queues q ON q.id = j.queue
LEFT JOIN onefold_specs s ON s.seq = j.seq;
