-- Ends of attempts and cancels in a user's own transaction. Whatever is refused fails that transaction.

-- The job's row under its lock, with a lease as it is now; nothing if it is gone.
CREATE OR REPLACE FUNCTION onefold.locked_job(id text) RETURNS onefold.jobs LANGUAGE plpgsql AS $body$
DECLARE
    wanted record;
    job onefold.jobs;
    lease record;
BEGIN
    SELECT * INTO wanted FROM onefold.job_of(id);
    -- Only who waits no longer than so long has to be told what was waited for; a block for that costs a subtransaction.
    IF current_setting('lock_timeout') = '0' THEN
        SELECT * INTO job FROM onefold.jobs j WHERE j.ns = 0 AND j.seq = wanted.seq FOR UPDATE;
    ELSE
        BEGIN
            SELECT * INTO job FROM onefold.jobs j WHERE j.ns = 0 AND j.seq = wanted.seq FOR UPDATE;
        EXCEPTION WHEN lock_not_available THEN
            PERFORM onefold.refuse('job-in-progress', 'another open transaction is changing ' || id);
        END;
    END IF;
    IF job.created_ms IS DISTINCT FROM wanted.created_ms THEN
        RETURN NULL;
    END IF;
    IF job.state = 2 THEN
        SELECT l.lease_ms, l.lease_until_ms, l.deadline_ms INTO lease FROM onefold.leases l
        WHERE l.ns = 0 AND l.queue = job.queue AND l.seq = job.seq;
        IF FOUND THEN
            job.lease_ms := lease.lease_ms;
            job.lease_until_ms := lease.lease_until_ms;
            job.deadline_ms := lease.deadline_ms;
        END IF;
    END IF;
    RETURN job;
END
$body$;

-- The answer to an end that is not the current holder's: the first answer if it is that end again (I6), else none.
CREATE OR REPLACE FUNCTION onefold.first_answer(id text, holder bigint, job onefold.jobs, content bigint, at_ms bigint)
RETURNS smallint LANGUAGE plpgsql AS $body$
DECLARE
    wanted record;
    first record;
BEGIN
    IF job.seq IS NULL THEN
        SELECT * INTO wanted FROM onefold.job_of(id);
        SELECT r.content, r.state INTO first FROM onefold.receipts r
        WHERE r.ns = 0 AND r.token = holder AND r.until_ms > at_ms AND r.seq = wanted.seq
            AND r.created_ms = wanted.created_ms;
        IF NOT FOUND THEN
            PERFORM onefold.refuse('job-not-found', format('there is no job %L, or no longer', id));
        END IF;
        job.state := first.state;
    ELSIF job.token = holder THEN
        SELECT job.content, job.end_state AS state INTO first;
    ELSE
        SELECT a.content, a.end_state AS state INTO first FROM onefold.attempts a
        WHERE a.ns = 0 AND a.seq = job.seq AND a.token = holder;
    END IF;
    IF first.content = content THEN
        RETURN first.state;
    END IF;
    PERFORM onefold.refuse('lease-lost',
        format('token %s is not the current one of %s, which is %s', holder, id, onefold.state_word(job.state)),
        jsonb_build_object('id', id, 'state', onefold.state_word(job.state)));
    RETURN NULL;
END
$body$;

-- How long a job waits after this failure.
CREATE OR REPLACE FUNCTION onefold.backoff_wait(given jsonb, failure integer) RETURNS bigint
LANGUAGE plpgsql AS $body$
DECLARE
    form jsonb := coalesce(given, '{"exponential": {"base": 5000, "max": 21600000}}');
    longest bigint;
BEGIN
    IF form ? 'fixed' THEN
        RETURN onefold.duration_ms(form -> 'fixed', 'backoff');
    ELSIF form ? 'list' THEN
        RETURN onefold.duration_ms(
            form -> 'list' -> (least(failure, jsonb_array_length(form -> 'list')) - 1), 'backoff');
    END IF;
    longest := least(onefold.duration_ms(form #> '{exponential,max}', 'backoff'),
        onefold.duration_ms(form #> '{exponential,base}', 'backoff') * 2::numeric ^ least(failure - 1, 63));
    RETURN longest / 2 + onefold.draw(longest - longest / 2);
END
$body$;

-- Ends the job's current attempt: 3 complete, 4 fail, 6 snooze, by the event's number in the core's table.
CREATE OR REPLACE FUNCTION onefold.end_attempt(id text, holder bigint, event smallint, content bigint, result bytea,
    error json, is_retryable boolean, wait_ms bigint) RETURNS jsonb LANGUAGE plpgsql AS $body$
DECLARE
    was onefold.jobs;
    job onefold.jobs;
    spec onefold.specs;
    settings jsonb;
    at_ms bigint;
    state smallint;
    next_event smallint := event;
BEGIN
    IF holder IS NULL OR holder NOT BETWEEN 1 AND 9007199254740991 THEN
        PERFORM onefold.refuse('invalid-field', 'a fencing token is an integer from 1 to 2^53 - 1', '{"field": "token"}');
    END IF;
    was := onefold.locked_job(id);
    at_ms := onefold.now_ms();
    IF was.state IS DISTINCT FROM 2 OR was.token <> holder THEN
        state := onefold.first_answer(id, holder, was, content, at_ms);
        -- Its transaction was committed, with the caller's rows: a caller that does not know so must not write them again. Who
        -- has no rows of its own may ask for the first answer, as the HTTP API gives it. (In two parts: no table's name.)
        IF current_setting(concat('onefold', '.repeated_end'), true) IS DISTINCT FROM 'first_answer' THEN
            PERFORM onefold.refuse('lease-lost',
                format('token %s has ended its attempt of %s already, in a transaction that was committed', holder, id),
                jsonb_build_object('id', id, 'state', onefold.state_word(state)));
        END IF;
        RETURN jsonb_build_object('ok', true, 'state', onefold.state_word(state));
    END IF;
    SELECT * INTO STRICT spec FROM onefold.specs s WHERE s.ns = 0 AND s.seq = was.seq;
    SELECT q.settings INTO STRICT settings FROM onefold.queues q WHERE q.ns = 0 AND q.queue = was.queue;
    job := was;
    job.ended_ms := at_ms;
    job.content := content;
    job.outcome := CASE event WHEN 3 THEN 0 WHEN 4 THEN 1 ELSE 3 END;
    IF event = 4 THEN
        job.failures := job.failures + 1;
        job.more := concat('{"error":', error, CASE WHEN job.more IS NULL THEN '}' ELSE ',' || substr(job.more::text, 2) END);
    END IF;
    -- What is to become of it, in the order of the core's rules.
    IF event <> 3 AND job.cancel_requested THEN
        next_event := 9;
    ELSIF event = 4 AND NOT is_retryable THEN
        next_event := 5;
        job.reason := 1;
    ELSIF event = 4 AND job.failures + job.lost_leases >= job.max_attempts THEN
        next_event := 5;
        job.reason := 0;
    ELSIF event <> 3 THEN
        job.run_at_ms := onefold.later(at_ms, coalesce(wait_ms, onefold.backoff_wait(spec.backoff::jsonb, job.failures)));
        IF job.run_at_ms > job.retry_until_ms THEN
            next_event := 5;
            job.reason := 3;
            job.run_at_ms := was.run_at_ms;
        END IF;
    END IF;
    job.state := onefold.step(was.state, next_event);
    job.end_state := job.state;
    IF job.state >= 4 THEN
        job.finished_ms := at_ms;
        job.cancel_requested := false;
    END IF;
    IF result IS NOT NULL THEN
        INSERT INTO onefold.results AS r (seq, result) VALUES (job.seq, result)
        ON CONFLICT (ns, seq) DO UPDATE SET result = excluded.result;
    END IF;
    PERFORM onefold.write_change(was, job, spec, settings, CASE event WHEN 4 THEN 7 ELSE 8 END::smallint, at_ms);
    RETURN jsonb_build_object('ok', true, 'state', onefold.state_word(job.state));
END
$body$;

-- Cancels a job, or asks its holder to stop.
CREATE OR REPLACE FUNCTION onefold.cancel_job(id text, is_forced boolean) RETURNS jsonb LANGUAGE plpgsql AS $body$
DECLARE
    was onefold.jobs := onefold.locked_job(id);
    job onefold.jobs := was;
    spec onefold.specs;
    settings jsonb;
    at_ms bigint := onefold.now_ms();
BEGIN
    IF was.seq IS NULL THEN
        PERFORM onefold.refuse('job-not-found', format('there is no job %L, or no longer', id));
    ELSIF was.state IN (4, 5) THEN
        PERFORM onefold.refuse('job-finished', format('%s is %s already', id, onefold.state_word(was.state)),
            jsonb_build_object('id', id, 'state', onefold.state_word(was.state)));
    ELSIF was.state = 2 AND NOT is_forced THEN
        IF NOT was.cancel_requested THEN
            UPDATE onefold.jobs j SET cancel_requested = true WHERE j.ns = 0 AND j.seq = was.seq;
            PERFORM onefold.note(was.seq, 4::smallint, at_ms, NULL);
            PERFORM onefold.tell(at_ms, '{12}', was.queue, was.seq, was.created_ms, NULL, was.number);
        END IF;
        job.cancel_requested := true;
    ELSIF was.state <> 6 THEN
        SELECT * INTO STRICT spec FROM onefold.specs s WHERE s.ns = 0 AND s.seq = was.seq;
        SELECT q.settings INTO STRICT settings FROM onefold.queues q WHERE q.ns = 0 AND q.queue = was.queue;
        job.state := onefold.step(was.state, 9::smallint);
        job.finished_ms := at_ms;
        job.cancel_requested := false;
        IF was.state = 2 THEN
            job.ended_ms := at_ms;
            job.outcome := 6;
            job.end_state := job.state;
            job.content := NULL;
        END IF;
        PERFORM onefold.note(was.seq, 4::smallint, at_ms, CASE WHEN is_forced THEN 'force' END);
        PERFORM onefold.write_change(was, job, spec, settings, 13::smallint, at_ms);
    END IF;
    RETURN jsonb_build_object('id', onefold.job_text(was.created_ms, was.seq), 'state', onefold.state_word(job.state),
        'cancel_requested', job.cancel_requested);
END
$body$;
