-- Adds in a user's own transaction. Such an add locks nothing that is shared with others but its key; only a repeat under
-- `replace`, which changes a job, locks that job.

-- The dedup options into a spec.
CREATE OR REPLACE FUNCTION onefold.read_dedup(asked onefold.specs, dedup jsonb) RETURNS onefold.specs
LANGUAGE plpgsql IMMUTABLE AS $body$
DECLARE
    version numeric;
    spec onefold.specs := asked;
    ending text;
BEGIN
    spec.window_ms := 604800000;
    spec.free_on := 0;
    spec.on_duplicate := 0;
    spec.on_mismatch := 0;
    IF dedup IS NULL OR dedup = 'null' THEN
        RETURN spec;
    END IF;
    PERFORM onefold.check_options(dedup, 'dedup',
        '{window,free_on,until,on_duplicate,on_mismatch,version,max_delay}');
    spec.window_ms := coalesce(onefold.duration_ms(dedup -> 'window', 'dedup.window'), spec.window_ms);
    spec.on_duplicate := coalesce(onefold.word_option(dedup, 'on_duplicate', 'dedup.on_duplicate',
        '{return,reject,replace}'), 0);
    spec.on_mismatch := coalesce(onefold.word_option(dedup, 'on_mismatch', 'dedup.on_mismatch', '{reject,return}'), 0);
    version := onefold.number_option(dedup, 'version', 'dedup.version', 0, 18446744073709551615);
    -- The same bits with a sign.
    spec.version := CASE WHEN version > 9223372036854775807 THEN version - 18446744073709551616 ELSE version END;
    spec.max_delay_ms := onefold.duration_ms(dedup -> 'max_delay', 'dedup.max_delay');
    IF onefold.word_option(dedup, 'until', 'dedup.until', '{done}') = 0 THEN
        spec.free_on := 7;
    END IF;
    IF coalesce(dedup -> 'free_on', 'null') <> 'null' THEN
        IF spec.free_on = 7 THEN
            PERFORM onefold.refuse('conflicting-fields', '`dedup.until` and `dedup.free_on` cannot be given together',
                '{"field": "dedup.until"}');
        ELSIF jsonb_typeof(dedup -> 'free_on') <> 'array' THEN
            PERFORM onefold.refuse('invalid-field', '`dedup.free_on` is an array of completed, dead, cancelled',
                '{"field": "dedup.free_on"}');
        END IF;
        FOR ending IN SELECT e FROM jsonb_array_elements_text(dedup -> 'free_on') e LOOP
            IF ending IS NULL OR ending NOT IN ('completed', 'dead', 'cancelled') THEN
                PERFORM onefold.refuse('invalid-field', 'an end in `dedup.free_on` is completed, dead or cancelled',
                    '{"field": "dedup.free_on"}');
            END IF;
            spec.free_on := spec.free_on | (1 << array_position('{completed,dead,cancelled}', ending) - 1);
        END LOOP;
    END IF;
    IF spec.on_duplicate <> 2 AND (spec.version IS NOT NULL OR spec.max_delay_ms IS NOT NULL) THEN
        PERFORM onefold.refuse('conflicting-fields',
            '`dedup.version` and `dedup.max_delay` mean something only with `on_duplicate: replace`',
            '{"field": "dedup.on_duplicate"}');
    END IF;
    RETURN spec;
END
$body$;

-- A backoff in the form in which it is stored.
CREATE OR REPLACE FUNCTION onefold.read_backoff(given jsonb) RETURNS json LANGUAGE plpgsql IMMUTABLE AS $body$
DECLARE
    base bigint;
    most bigint;
    waits bigint[];
BEGIN
    IF given IS NULL OR given = 'null' THEN
        RETURN NULL;
    END IF;
    PERFORM onefold.check_options(given, 'backoff', '{exponential,fixed,list,expression}');
    IF (SELECT count(*) FROM jsonb_object_keys(given)) <> 1 THEN
        PERFORM onefold.refuse('invalid-field', '`backoff` has exactly one of exponential, fixed and list',
            '{"field": "backoff"}');
    END IF;
    IF given ? 'expression' THEN
        PERFORM onefold.refuse('not-yet', '`backoff.expression` is compiled by the server only: give the list it makes',
            '{"field": "backoff.expression"}');
    ELSIF given ? 'fixed' THEN
        base := onefold.duration_ms(given -> 'fixed', 'backoff.fixed');
        IF base IS NOT NULL THEN
            RETURN json_build_object('fixed', base);
        END IF;
    ELSIF given ? 'list' THEN
        IF jsonb_typeof(given -> 'list') = 'array' THEN
            waits := ARRAY(SELECT onefold.duration_ms(w.wait, format('backoff.list[%s]', w.place - 1))
                FROM jsonb_array_elements(given -> 'list') WITH ORDINALITY w (wait, place) ORDER BY w.place);
            IF cardinality(waits) NOT BETWEEN 1 AND 1000 THEN
                PERFORM onefold.refuse('invalid-backoff', 'a list has 1 to 1000 waits', '{"field": "backoff"}');
            END IF;
            IF array_position(waits, NULL) IS NULL THEN
                RETURN json_build_object('list', waits);
            END IF;
        END IF;
    ELSIF jsonb_typeof(given -> 'exponential') = 'object' THEN
        PERFORM onefold.check_options(given -> 'exponential', 'backoff.exponential', '{base,max}');
        base := onefold.duration_ms(given #> '{exponential,base}', 'backoff.exponential.base');
        most := onefold.duration_ms(given #> '{exponential,max}', 'backoff.exponential.max');
        IF base IS NULL OR most IS NULL THEN
            PERFORM onefold.refuse('missing-field', '`backoff.exponential` has a `base` and a `max`',
                '{"field": "backoff.exponential"}');
        ELSIF base = 0 OR most < base THEN
            PERFORM onefold.refuse('invalid-backoff', '`base` must be more than 0, and `max` not less than it',
                '{"field": "backoff"}');
        END IF;
        RETURN json_build_object('exponential', json_build_object('base', base, 'max', most));
    END IF;
    PERFORM onefold.refuse('invalid-field', '`backoff` is {"fixed": …}, {"list": […]} or {"exponential": {…}}',
        '{"field": "backoff"}');
    RETURN NULL;
END
$body$;

-- Headers as they are stored: pairs of name and value.
CREATE OR REPLACE FUNCTION onefold.read_headers(given jsonb) RETURNS json LANGUAGE plpgsql IMMUTABLE AS $body$
DECLARE
    header record;
    trouble text;
BEGIN
    IF given IS NULL OR given = 'null' THEN
        RETURN NULL;
    END IF;
    IF jsonb_typeof(given) <> 'object' THEN
        PERFORM onefold.refuse('invalid-field', '`headers` is an object of names and values', '{"field": "headers"}');
    END IF;
    IF (SELECT count(*) FROM jsonb_object_keys(given)) > 64 THEN
        PERFORM onefold.refuse('invalid-header', 'a job has at most 64 headers', '{"field": "headers"}');
    END IF;
    FOR header IN SELECT h.key AS name, h.value, h.value #>> '{}' AS text FROM jsonb_each(given) h LOOP
        IF jsonb_typeof(header.value) <> 'string' THEN
            PERFORM onefold.refuse('invalid-field', format('the value of header %I is a text', header.name),
                '{"field": "headers"}');
        END IF;
        trouble := CASE
            WHEN header.name COLLATE "C" !~ E'^[A-Za-z0-9!#$%&''*+.^_`|~-]+$'
                THEN 'a name is made of letters, digits and !#$%&''*+-.^_`|~'
            WHEN header.text COLLATE "C" ~ E'[\\u0001-\\u0008\\u000A-\\u001F\\u007F]'
                THEN 'a value has no CR, LF, NUL or other control characters'
            WHEN (SELECT count(*) FROM jsonb_object_keys(given) other WHERE lower(other) = lower(header.name)) > 1
                THEN 'two names that differ only in case are one header, and a header is given once'
            WHEN octet_length(header.name) + octet_length(header.text) > 8192 THEN 'a header has at most 8192 bytes'
        END;
        IF trouble IS NOT NULL THEN
            PERFORM onefold.refuse('invalid-header', format('%I: %s', header.name, trouble), '{"field": "headers"}');
        END IF;
    END LOOP;
    RETURN (SELECT json_agg(json_build_array(h.key, h.value)) FROM jsonb_each(given) h);
END
$body$;

-- The options of an add into a spec; those that are not of the spec are read where they are used.
CREATE OR REPLACE FUNCTION onefold.read_spec(opts jsonb) RETURNS onefold.specs LANGUAGE plpgsql IMMUTABLE AS $body$
DECLARE
    spec onefold.specs;
    trouble text;
    traceparent text;
    headers json;
BEGIN
    PERFORM onefold.check_options(opts, 'opts', '{kind,content_type,key,fingerprint,fingerprint_hex,dedup,delay,run_at,priority,'
        'group,flow_key,max_attempts,backoff,timeout,target,on_success,on_failure,headers,labels,retain,traceparent}');
    IF coalesce(opts -> 'flow_key', 'null') <> 'null' THEN
        PERFORM onefold.refuse('not-yet', '`flow_key`: flows are not built yet', '{"field": "flow_key"}');
    ELSIF coalesce(opts -> 'target', opts -> 'on_success', opts -> 'on_failure') <> 'null' THEN
        PERFORM onefold.refuse('no-deliverer', 'nothing is delivered over HTTP yet', '{"field": "target"}');
    END IF;
    spec.kind := onefold.text_option(opts, 'kind', 'kind');
    spec.key := onefold.text_option(opts, 'key', 'key');
    spec.grp := onefold.text_option(opts, 'group', 'group');
    traceparent := onefold.text_option(opts, 'traceparent', 'traceparent');
    trouble := onefold.name_trouble(spec.key, 'key', 255);
    IF trouble IS NOT NULL THEN
        PERFORM onefold.refuse('invalid-key', trouble, '{"field": "key"}');
    END IF;
    trouble := coalesce(onefold.name_trouble(spec.kind, 'kind', 128), onefold.name_trouble(spec.grp, 'group', 255),
        CASE WHEN traceparent COLLATE "C" !~ '^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$'
             THEN 'traceparent must look like 00-<32 hex>-<16 hex>-<2 hex>' END);
    IF trouble IS NOT NULL THEN
        PERFORM onefold.refuse('invalid-field', trouble);
    END IF;
    spec := onefold.read_dedup(spec, opts -> 'dedup');
    spec.backoff := onefold.read_backoff(opts -> 'backoff');
    spec.timeout_ms := onefold.duration_ms(opts -> 'timeout', 'timeout');
    IF spec.timeout_ms = 0 THEN
        PERFORM onefold.refuse('invalid-duration', '`timeout`: an attempt needs more than no time',
            '{"field": "timeout"}');
    END IF;
    spec.retain_ms := onefold.duration_ms(opts -> 'retain', 'retain');
    spec.labels := onefold.read_labels(opts -> 'labels');
    headers := onefold.read_headers(opts -> 'headers');
    spec.extra := nullif(jsonb_strip_nulls(jsonb_build_object('headers', headers,
        'content_type', onefold.text_option(opts, 'content_type', 'content_type'), 'traceparent', traceparent)),
        '{}')::json;
    RETURN spec;
END
$body$;

-- The number and settings of a queue, which is made if there is none. Making one locks its name until the end of the
-- transaction; nothing else here does.
CREATE OR REPLACE FUNCTION onefold.queue_of(given text, OUT number integer, OUT settings jsonb)
LANGUAGE plpgsql AS $body$
DECLARE
    is_alive boolean;
BEGIN
    IF given IS NULL OR given COLLATE "C" !~ '^[A-Za-z0-9._-]{1,128}$' THEN
        PERFORM onefold.refuse('invalid-queue-name', format('%L cannot be the name of a queue', given),
            '{"field": "queue"}');
    END IF;
    FOR try IN 1 .. 2 LOOP
        SELECT q.queue, q.settings, q.alive INTO number, settings, is_alive FROM onefold.queues q
        WHERE q.ns = 0 AND q.name = given;
        EXIT WHEN is_alive;
        IF current_setting('lock_timeout') = '0' THEN
            INSERT INTO onefold.queues (name) VALUES (given)
            ON CONFLICT (ns, name) DO UPDATE SET alive = true WHERE NOT queues.alive;
        ELSE
            BEGIN
                INSERT INTO onefold.queues (name) VALUES (given)
                ON CONFLICT (ns, name) DO UPDATE SET alive = true WHERE NOT queues.alive;
            EXCEPTION WHEN lock_not_available THEN
                PERFORM onefold.refuse('busy', format('another open transaction is making the queue %s', given));
            END;
        END IF;
    END LOOP;
END
$body$;

-- When a job may run that is accepted now.
CREATE OR REPLACE FUNCTION onefold.when_to_run(at_ms bigint, delay_ms bigint, run_at_ms bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $body$
    SELECT CASE WHEN run_at_ms > at_ms THEN run_at_ms ELSE coalesce(onefold.later(at_ms, delay_ms), at_ms) END
$body$;

-- Takes a key for a new job if nobody holds it, waiting for open transactions that use it. Gives who holds it else.
CREATE OR REPLACE FUNCTION onefold.take_key(number integer, spec onefold.specs, job bigint, OUT holder bigint,
    OUT holder_created bigint, OUT held_for bytea, OUT taken_ms bigint) LANGUAGE plpgsql AS $body$
DECLARE
    hold record;
BEGIN
    -- Each round somebody else was first.
    FOR round IN 1 .. 100 LOOP
        taken_ms := onefold.now_ms();
        SELECT k.seq, k.created_ms, k.fingerprint, k.until_ms INTO hold FROM onefold.keys k
        WHERE k.ns = 0 AND k.queue = number AND k.space = 0 AND k.key = spec.key;
        IF NOT FOUND THEN
            INSERT INTO onefold.keys (queue, space, key, seq, created_ms, fingerprint, until_ms, free_on)
            VALUES (number, 0, spec.key, job, taken_ms, spec.fingerprint,
                onefold.later(taken_ms, spec.window_ms), spec.free_on)
            ON CONFLICT DO NOTHING;
            IF FOUND THEN
                RETURN;
            END IF;
            CONTINUE;
        END IF;
        IF taken_ms < hold.until_ms OR EXISTS (
            SELECT FROM onefold.jobs j WHERE j.ns = 0 AND j.seq = hold.seq AND j.state < 4) THEN
            holder := hold.seq;
            holder_created := hold.created_ms;
            held_for := hold.fingerprint;
            RETURN;
        END IF;
        -- Nobody holds it any more. Whoever runs its job again takes the key, too: the lock decides who was first.
        PERFORM 1 FROM onefold.keys k
        WHERE k.ns = 0 AND k.queue = number AND k.space = 0 AND k.key = spec.key AND k.seq = hold.seq FOR UPDATE;
        IF FOUND AND NOT EXISTS (
            SELECT FROM onefold.jobs j WHERE j.ns = 0 AND j.seq = hold.seq AND j.state < 4) THEN
            UPDATE onefold.keys k SET seq = job, created_ms = taken_ms, fingerprint = spec.fingerprint,
                until_ms = onefold.later(taken_ms, spec.window_ms), free_on = spec.free_on
            WHERE k.ns = 0 AND k.queue = number AND k.space = 0 AND k.key = spec.key;
            RETURN;
        END IF;
    END LOOP;
    PERFORM onefold.refuse('key-in-progress', 'others keep adding and freeing this key');
END
$body$;

-- The answer to an add.
CREATE OR REPLACE FUNCTION onefold.added(created_ms bigint, seq bigint, state smallint, run_at_ms bigint,
    is_duplicate boolean, is_replaced boolean, spec onefold.specs, opts jsonb) RETURNS jsonb
LANGUAGE sql STABLE AS $body$
    SELECT jsonb_strip_nulls(jsonb_build_object(
        'id', onefold.job_text(created_ms, seq), 'state', coalesce(onefold.state_word(state), 'purged'),
        'run_at', onefold.time_text(run_at_ms), 'duplicate', is_duplicate, 'replaced', is_replaced,
        'dedup', CASE WHEN coalesce(opts -> 'dedup', 'null') <> 'null' THEN jsonb_build_object(
            'window', CASE WHEN coalesce(opts #> '{dedup,window}', 'null') <> 'null'
                THEN onefold.duration_text(spec.window_ms) END,
            'free_on', ARRAY(SELECT e.word FROM unnest('{completed,dead,cancelled}'::text[]) WITH ORDINALITY
                e (word, place) WHERE spec.free_on & (1 << (e.place - 1)::integer) <> 0 ORDER BY e.place),
            'on_duplicate', ('{return,reject,replace}'::text[])[spec.on_duplicate + 1],
            'on_mismatch', ('{reject,return}'::text[])[spec.on_mismatch + 1],
            'version', onefold.unsigned(spec.version),
            'max_delay', onefold.duration_text(spec.max_delay_ms)) END))
$body$;

-- A repeat of a key that is held by another job: answered with that, or refused.
CREATE OR REPLACE FUNCTION onefold.repeated(number integer, spec onefold.specs, held_for bytea, holder bigint,
    holder_created bigint, opts jsonb) RETURNS jsonb LANGUAGE plpgsql AS $body$
DECLARE
    job record;
    known CONSTANT jsonb := jsonb_build_object('existing_id', onefold.job_text(holder_created, holder));
    at_ms bigint := onefold.now_ms();
BEGIN
    IF spec.on_duplicate <> 2 AND spec.on_mismatch = 0 AND spec.fingerprint <> held_for THEN
        PERFORM onefold.refuse('key-reused', format('the key was first used for another job (%s) with different content',
            known ->> 'existing_id'), known);
    ELSIF spec.on_duplicate = 1 THEN
        PERFORM onefold.refuse('duplicate-key', format('the key is held by %s', known ->> 'existing_id'), known);
    END IF;
    SELECT j.created_ms, j.state, j.run_at_ms, j.number INTO job FROM onefold.jobs j
    WHERE j.ns = 0 AND j.seq = holder;
    IF FOUND THEN
        -- Put on the job by whoever ticks next: a repeat does not lock it.
        INSERT INTO onefold.repeats (seq, at_ms) VALUES (holder, at_ms);
        PERFORM onefold.tell(at_ms, '{1}', number, holder, holder_created, NULL, job.number);
    ELSE
        PERFORM onefold.tell(at_ms, '{1}', number, 0, 0, NULL, 0);
    END IF;
    PERFORM onefold.count(number, 0, NULL, NULL, 1);
    RETURN onefold.added(holder_created, holder, job.state, job.run_at_ms, true,
        CASE WHEN spec.on_duplicate = 2 THEN false END, spec, opts);
END
$body$;

-- A repeat under `replace`: new content for a job that has not started. Nothing if the key is not its any more.
CREATE OR REPLACE FUNCTION onefold.replace(number integer, asked onefold.specs, holder bigint, holder_created bigint,
    settings jsonb, wanted_ms bigint, priority smallint, max_attempts integer, opts jsonb) RETURNS jsonb
LANGUAGE plpgsql AS $body$
DECLARE
    was onefold.jobs := onefold.locked_job(onefold.job_text(holder_created, holder));
    job onefold.jobs := was;
    old onefold.specs;
    spec onefold.specs := asked;
    at_ms bigint := onefold.now_ms();
BEGIN
    PERFORM 1 FROM onefold.keys k
    WHERE k.ns = 0 AND k.queue = number AND k.space = 0 AND k.key = spec.key AND k.seq = holder FOR UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    SELECT * INTO old FROM onefold.specs s WHERE s.ns = 0 AND s.seq = was.seq;
    IF onefold.unsigned(asked.version) < onefold.unsigned(old.version) THEN
        PERFORM onefold.refuse('version-stale', format('%s already has a newer version than the one given',
            onefold.job_text(holder_created, holder)),
            jsonb_build_object('existing_id', onefold.job_text(holder_created, holder)));
    ELSIF was.state IS NULL OR was.state > 1 OR was.number IS NOT NULL THEN
        RETURN onefold.repeated(number, asked, NULL, holder, holder_created, opts);
    END IF;
    spec.grp := old.grp;
    spec.lane := 0;
    spec.version := coalesce(spec.version, old.version);
    UPDATE onefold.specs s SET kind = spec.kind, fingerprint = spec.fingerprint, window_ms = spec.window_ms,
        free_on = spec.free_on, on_duplicate = spec.on_duplicate, on_mismatch = spec.on_mismatch,
        version = spec.version, max_delay_ms = spec.max_delay_ms, backoff = spec.backoff, timeout_ms = spec.timeout_ms,
        labels = spec.labels, retain_ms = spec.retain_ms, extra = spec.extra, payload_form = spec.payload_form,
        payload = spec.payload, lane = spec.lane
    WHERE s.ns = 0 AND s.seq = holder;
    IF old.lane <> spec.lane AND was.state = 1 THEN
        DELETE FROM onefold.ready r
        WHERE r.ns = 0 AND r.queue = number AND r.lane = old.lane AND r.priority = was.priority AND r.seq = holder;
        IF was.group_order IS NULL THEN
            INSERT INTO onefold.ready (queue, lane, priority, seq, grouped)
            VALUES (number, spec.lane, was.priority, holder, false) ON CONFLICT DO NOTHING;
        ELSE
            INSERT INTO onefold.dirty (queue, grp) VALUES (number, old.grp);
        END IF;
    END IF;
    UPDATE onefold.jobs j SET plain = false WHERE j.ns = 0 AND j.seq = holder AND j.plain;
    UPDATE onefold.keys k SET fingerprint = spec.fingerprint, until_ms = onefold.later(holder_created, spec.window_ms),
        free_on = spec.free_on
    WHERE k.ns = 0 AND k.queue = number AND k.space = 0 AND k.key = spec.key;
    PERFORM onefold.note(holder, 2::smallint, at_ms, NULL);
    job.duplicates := was.duplicates + 1;
    INSERT INTO onefold.evidence (seq, kind, number, at_ms) VALUES (holder, 0, job.duplicates, at_ms);
    PERFORM onefold.trim(holder, 0::smallint, job.duplicates);
    PERFORM onefold.count(number, 0, NULL, NULL, 1);
    job.run_at_ms := least(wanted_ms, onefold.later(holder_created, spec.max_delay_ms));
    IF job.run_at_ms > at_ms THEN
        job.state := onefold.step(was.state, 1::smallint);
    ELSIF was.state = 0 THEN
        job.state := onefold.step(was.state, 0::smallint);
    END IF;
    job.run_at_ms := greatest(job.run_at_ms, was.created_ms);
    job.priority := priority;
    job.max_attempts := max_attempts;
    PERFORM onefold.write_change(was, job, spec, settings, 3::smallint, at_ms);
    RETURN onefold.added(was.created_ms, was.seq, job.state, job.run_at_ms, true, true, asked, opts);
END
$body$;

-- Adds a job. `form` is 0 for no payload, 1 for JSON, 2 for bytes; `canonical` is what its fingerprint is made of.
CREATE OR REPLACE FUNCTION onefold.add_job(queue text, form smallint, payload bytea, canonical bytea, opts jsonb)
RETURNS jsonb LANGUAGE plpgsql AS $body$
DECLARE
    most CONSTANT integer := onefold.payload_bytes_max();
    of_queue record;
    spec onefold.specs;
    priority smallint;
    max_attempts integer;
    delay_ms bigint;
    run_at_ms bigint;
    taken record;
    job_state smallint;
    at_ms bigint;
    answer jsonb;
BEGIN
    spec := onefold.read_spec(opts);
    spec.payload_form := form;
    spec.payload := payload;
    IF octet_length(spec.payload) > most THEN
        PERFORM onefold.refuse('payload-too-large', format('a payload has at most %s bytes', most),
            '{"field": "payload"}');
    END IF;
    IF coalesce(opts -> 'fingerprint', 'null') <> 'null' THEN
        spec.fingerprint := onefold.given_fingerprint(onefold.text_option(opts, 'fingerprint', 'fingerprint'));
    ELSIF coalesce(opts -> 'fingerprint_hex', 'null') <> 'null' THEN
        spec.fingerprint := onefold.known_fingerprint(onefold.text_option(opts, 'fingerprint_hex', 'fingerprint_hex'));
    ELSIF spec.key IS NOT NULL THEN
        spec.fingerprint := onefold.fingerprint(spec.kind, spec.extra ->> 'content_type', canonical, NULL, NULL);
    END IF;
    priority := coalesce(onefold.number_option(opts, 'priority', 'priority', -32768, 32767), 0);
    max_attempts := onefold.number_option(opts, 'max_attempts', 'max_attempts', 1, 1000);
    delay_ms := onefold.duration_ms(opts -> 'delay', 'delay');
    run_at_ms := onefold.time_ms(onefold.text_option(opts, 'run_at', 'run_at'), 'run_at');
    IF delay_ms IS NOT NULL AND run_at_ms IS NOT NULL THEN
        PERFORM onefold.refuse('conflicting-fields', '`delay` and `run_at` cannot be given together',
            '{"field": "delay"}');
    END IF;

    of_queue := onefold.queue_of(queue);
    max_attempts := coalesce(max_attempts, (of_queue.settings ->> 'max_attempts')::integer, 20);
    spec.backoff := coalesce(spec.backoff, nullif((of_queue.settings -> 'backoff')::text, 'null')::json);
    IF coalesce(opts #> '{dedup,window}', 'null') = 'null' THEN
        spec.window_ms := coalesce(onefold.duration_ms(of_queue.settings -> 'dedup_window', 'dedup_window'),
            spec.window_ms);
    END IF;

    spec.seq := nextval('onefold.job_seq');
    at_ms := onefold.now_ms();
    IF spec.key IS NOT NULL THEN
        FOR round IN 1 .. 100 LOOP
            IF current_setting('lock_timeout') = '0' THEN
                taken := onefold.take_key(of_queue.number, spec, spec.seq);
            ELSE
                BEGIN
                    taken := onefold.take_key(of_queue.number, spec, spec.seq);
                EXCEPTION WHEN lock_not_available THEN
                    PERFORM onefold.refuse('key-in-progress', 'another open transaction is using the key');
                END;
            END IF;
            at_ms := taken.taken_ms;
            EXIT WHEN taken.holder IS NULL;
            IF spec.on_duplicate <> 2 THEN
                RETURN onefold.repeated(of_queue.number, spec, taken.held_for, taken.holder, taken.holder_created, opts);
            END IF;
            answer := onefold.replace(of_queue.number, spec, taken.holder, taken.holder_created, of_queue.settings,
                onefold.when_to_run(at_ms, delay_ms, run_at_ms), priority, max_attempts, opts);
            IF answer IS NOT NULL THEN
                RETURN answer;
            END IF;
        END LOOP;
        IF taken.holder IS NOT NULL THEN
            PERFORM onefold.refuse('key-in-progress', 'others keep adding and freeing this key');
        END IF;
    END IF;

    run_at_ms := onefold.when_to_run(at_ms, delay_ms, run_at_ms);
    job_state := CASE WHEN run_at_ms > at_ms THEN 0 ELSE 1 END;
    INSERT INTO onefold.jobs (seq, created_ms, queue, state, priority, run_at_ms, max_attempts, failures, lost_leases,
        recent_losses, cancel_requested, group_order, blocks, duplicates, mismatches)
    VALUES (spec.seq, at_ms, of_queue.number, job_state, priority, run_at_ms, max_attempts, 0, 0,
        '{}', false, CASE WHEN spec.grp IS NOT NULL THEN spec.seq END, false, 0, 0);
    spec.ns := 0;
    spec.codec := 0;
    spec.lane := 0;
    INSERT INTO onefold.specs SELECT spec.*;
    IF job_state = 0 THEN
        INSERT INTO onefold.timers (due_ms, seq, kind) VALUES (run_at_ms, spec.seq, 0);
    ELSIF spec.grp IS NULL THEN
        INSERT INTO onefold.ready (queue, priority, seq, grouped)
        VALUES (of_queue.number, priority, spec.seq, false);
    END IF;
    IF spec.grp IS NOT NULL THEN
        INSERT INTO onefold.members (queue, grp, group_order, seq, phase)
        VALUES (of_queue.number, spec.grp, spec.seq, spec.seq, job_state);
        IF job_state = 1 THEN
            INSERT INTO onefold.dirty (queue, grp) VALUES (of_queue.number, spec.grp);
        END IF;
    END IF;
    PERFORM onefold.count(of_queue.number, 1, NULL, job_state, 0);
    PERFORM onefold.tell(at_ms, '{0}', of_queue.number, spec.seq, at_ms, NULL, 0);
    RETURN onefold.added(at_ms, spec.seq, job_state, run_at_ms, false, NULL, spec, opts);
END
$body$;
