-- What follows from where a job goes, as `src/place.rs` and `src/work/changes.rs` have it: one row at a time, without a
-- lock that is not the job's own.

-- One row for what happened in one call; the caller's transaction may hold many.
CREATE OR REPLACE FUNCTION onefold.tell(at_ms bigint, what smallint[], number integer, job bigint, job_created bigint,
    why smallint, attempt integer) RETURNS void LANGUAGE plpgsql AS $body$
BEGIN
    INSERT INTO onefold.event_inbox (at_ms, kinds, queues, seqs, created, reasons, attempts)
    SELECT tell.at_ms, what, array_agg(number), array_agg(job), array_agg(job_created),
        array_agg(CASE k WHEN 11 THEN coalesce(why, -1) ELSE -1 END), array_agg(coalesce(attempt, 0))
    FROM unnest(what) k;
END
$body$;

CREATE OR REPLACE FUNCTION onefold.count(number integer, new_jobs integer, left_state smallint, reached smallint,
    repeats integer) RETURNS void LANGUAGE plpgsql AS $body$
DECLARE
    change integer[] := '{0, 0, 0, 0, 0, 0, 0}';
BEGIN
    IF left_state IS NOT DISTINCT FROM reached AND new_jobs = 0 AND repeats = 0 THEN
        RETURN;
    END IF;
    IF left_state IS NOT NULL THEN
        change[left_state + 1] := change[left_state + 1] - 1;
    END IF;
    IF reached IS NOT NULL THEN
        change[reached + 1] := change[reached + 1] + 1;
    END IF;
    INSERT INTO onefold.count_deltas (queue, accepted, scheduled, available, running, retrying, completed, dead,
        cancelled, purged_retention, purged_deleted, duplicates, mismatches, late_writes)
    VALUES (number, new_jobs, change[1], change[2], change[3], change[4], change[5], change[6], change[7], 0, 0, repeats,
        0, 0);
END
$body$;

-- Evidence of a kind that the job's row does not count. Holders of that row's lock only.
CREATE OR REPLACE FUNCTION onefold.note(job bigint, what smallint, at_ms bigint, words text) RETURNS void
LANGUAGE plpgsql AS $body$
DECLARE
    latest integer := 1 + coalesce((SELECT max(e.number) FROM onefold.evidence e
        WHERE e.ns = 0 AND e.seq = job AND e.kind = what), 0);
BEGIN
    INSERT INTO onefold.evidence (seq, kind, number, at_ms, note) VALUES (job, what, latest, note.at_ms, words);
    PERFORM onefold.trim(job, what, latest);
END
$body$;

-- Of each kind the first and the last are kept.
CREATE OR REPLACE FUNCTION onefold.trim(job bigint, what smallint, latest integer) RETURNS void
LANGUAGE plpgsql AS $body$
BEGIN
    IF latest > 40 THEN
        DELETE FROM onefold.evidence e
        WHERE e.ns = 0 AND e.seq = job AND e.kind = what AND e.number > 20 AND e.number <= latest - 20;
    END IF;
END
$body$;

-- The timer of a job, if it has one.
CREATE OR REPLACE FUNCTION onefold.timer(job onefold.jobs, retain_ms bigint, OUT due_ms bigint, OUT kind smallint)
LANGUAGE sql IMMUTABLE AS $body$
    SELECT CASE WHEN job.state IN (0, 3) THEN job.run_at_ms
                WHEN job.state = 1 THEN onefold.later(job.retry_until_ms, 1)
                WHEN job.state >= 4 THEN onefold.later(job.finished_ms, retain_ms) END,
           (CASE WHEN job.state IN (0, 3) THEN 0 WHEN job.state = 1 THEN 1 ELSE 2 END)::smallint
$body$;

-- Writes a job that was changed under its lock, with everything that follows. `event` is the kind it is told by if the
-- job did not end; nothing is told without one.
CREATE OR REPLACE FUNCTION onefold.write_change(was onefold.jobs, job onefold.jobs, spec onefold.specs,
    settings jsonb, event smallint, at_ms bigint) RETURNS void LANGUAGE plpgsql AS $body$
DECLARE
    is_blocking boolean := was.blocks;
    is_finished boolean := job.state >= 4;
    callback text := CASE WHEN job.state = 4 THEN 'on_success' WHEN job.state > 4 THEN 'on_failure' END;
    before record;
    after record;
    now_phase smallint;
    told smallint[] := '{}';
BEGIN
    IF spec.extra -> callback IS NOT NULL THEN
        PERFORM onefold.refuse('not-yet', format('the job has %s: end it through the server, which tells of it',
            callback));
    END IF;
    IF job.state <> was.state THEN
        is_blocking := job.state IN (5, 6) AND settings ->> 'on_dead' IS NOT DISTINCT FROM 'block';
    END IF;
    UPDATE onefold.jobs j SET state = job.state, reason = job.reason, priority = job.priority,
        run_at_ms = job.run_at_ms, max_attempts = job.max_attempts, failures = job.failures,
        cancel_requested = job.cancel_requested, finished_ms = job.finished_ms, blocks = is_blocking,
        duplicates = job.duplicates, lease_ms = job.lease_ms, lease_until_ms = job.lease_until_ms,
        deadline_ms = job.deadline_ms, ended_ms = job.ended_ms, outcome = job.outcome, end_state = job.end_state,
        content = job.content, more = job.more
    WHERE j.ns = 0 AND j.seq = job.seq;

    SELECT * INTO before FROM onefold.timer(was, spec.retain_ms);
    SELECT * INTO after FROM onefold.timer(job, spec.retain_ms);
    IF before IS DISTINCT FROM after THEN
        DELETE FROM onefold.timers t WHERE t.ns = 0 AND t.due_ms = before.due_ms AND t.seq = job.seq;
        INSERT INTO onefold.timers (due_ms, seq, kind) SELECT after.due_ms, job.seq, after.kind
        WHERE after.due_ms IS NOT NULL ON CONFLICT DO NOTHING;
    END IF;
    IF was.state = 2 AND job.state <> 2 THEN
        DELETE FROM onefold.leases l WHERE l.ns = 0 AND l.queue = job.queue AND l.seq = job.seq;
    END IF;
    IF job.group_order IS NULL AND (was.state = 1 OR job.state = 1)
        AND (was.state, was.priority) IS DISTINCT FROM (job.state, job.priority) THEN
        DELETE FROM onefold.ready r
        WHERE r.ns = 0 AND r.queue = job.queue AND r.lane = spec.lane AND r.priority = was.priority AND r.seq = job.seq AND was.state = 1;
        INSERT INTO onefold.ready (queue, lane, priority, seq, grouped)
        SELECT job.queue, spec.lane, job.priority, job.seq, false
        WHERE job.state = 1 ON CONFLICT DO NOTHING;
    END IF;
    IF is_finished THEN
        INSERT INTO onefold.finished (queue, state, finished_ms, seq, own)
        VALUES (job.queue, job.state, job.finished_ms, job.seq, spec.retain_ms IS NOT NULL) ON CONFLICT DO NOTHING;
    END IF;
    PERFORM onefold.count(job.queue, 0, was.state, job.state, 0);

    IF event IS NOT NULL THEN
        told := ARRAY[CASE job.state WHEN 4 THEN 6 WHEN 5 THEN 11 WHEN 6 THEN 13 ELSE event END]::smallint[];
    END IF;
    IF is_finished AND spec.key IS NOT NULL AND spec.free_on & (1 << (job.state - 4)) <> 0 THEN
        DELETE FROM onefold.keys k
        WHERE k.ns = 0 AND k.queue = job.queue AND k.space = 0 AND k.key = spec.key AND k.seq = job.seq;
    END IF;
    IF job.group_order IS NOT NULL AND (was.state, was.priority) IS DISTINCT FROM (job.state, job.priority) THEN
        -- A head that ends badly and holds nobody: somebody waits behind it, and nobody stands before it.
        IF job.state IN (5, 6) AND NOT is_blocking AND (
            SELECT min(m.group_order) FROM onefold.members m
            WHERE m.ns = 0 AND m.queue = job.queue AND m.grp = spec.grp AND m.group_order <> job.group_order
        ) > job.group_order THEN
            told := told || 18::smallint;
        END IF;
        now_phase := CASE WHEN job.state IN (0, 3) THEN 0 WHEN job.state IN (1, 2) THEN job.state
                      WHEN is_blocking THEN 3 END;
        IF now_phase IS NULL THEN
            DELETE FROM onefold.members m WHERE m.ns = 0 AND m.queue = job.queue AND m.grp = spec.grp
                AND m.group_order = job.group_order;
        ELSE
            UPDATE onefold.members m SET phase = now_phase WHERE m.ns = 0 AND m.queue = job.queue
                AND m.grp = spec.grp AND m.group_order = job.group_order;
        END IF;
        -- Who may be leased now is looked at before the next claim: the lock of the group is not ours to hold.
        INSERT INTO onefold.dirty (queue, grp) VALUES (job.queue, spec.grp);
    END IF;
    IF told <> '{}' THEN
        PERFORM onefold.tell(at_ms, told, job.queue, job.seq, job.created_ms, job.reason, job.number);
    END IF;
END
$body$;

-- Puts on their jobs what repeats in users' transactions left, as far as nobody is at those jobs. Gives how many.
CREATE OR REPLACE FUNCTION onefold.fold_repeats(row_limit integer) RETURNS bigint LANGUAGE plpgsql AS $body$
DECLARE
    job record;
    had integer;
    folded bigint := 0;
BEGIN
    FOR job IN
        SELECT r.seq, array_agg(r.id ORDER BY r.id) AS ids, array_agg(r.at_ms ORDER BY r.id) AS times
        FROM (SELECT id, seq, at_ms FROM onefold.repeats WHERE ns = 0 ORDER BY id LIMIT row_limit
              FOR UPDATE SKIP LOCKED) r
        GROUP BY r.seq ORDER BY r.seq
    LOOP
        SELECT j.duplicates INTO had FROM onefold.jobs j WHERE j.ns = 0 AND j.seq = job.seq FOR UPDATE SKIP LOCKED;
        IF FOUND THEN
            UPDATE onefold.jobs j SET duplicates = had + cardinality(job.ids) WHERE j.ns = 0 AND j.seq = job.seq;
            INSERT INTO onefold.evidence (seq, kind, number, at_ms)
            SELECT job.seq, 0, had + t.place, t.at_ms FROM unnest(job.times) WITH ORDINALITY t (at_ms, place);
            PERFORM onefold.trim(job.seq, 0::smallint, had + cardinality(job.ids));
        ELSIF EXISTS (SELECT FROM onefold.jobs j WHERE j.ns = 0 AND j.seq = job.seq) THEN
            CONTINUE;
        END IF;
        DELETE FROM onefold.repeats r WHERE r.ns = 0 AND r.id = ANY (job.ids);
        folded := folded + cardinality(job.ids);
    END LOOP;
    RETURN folded;
END
$body$;
