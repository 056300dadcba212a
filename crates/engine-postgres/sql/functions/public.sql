-- The functions for users' own transactions. They run with the rights of the schema's owner, so that a role that may
-- call them needs no rights on the tables; nobody may until somebody grants it. They find nothing by the caller's
-- search path, and their plans depend neither on statistics nor on the session.

CREATE OR REPLACE FUNCTION onefold.add(queue text, payload json DEFAULT NULL, opts jsonb DEFAULT '{}')
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
SET enable_bitmapscan = off SET plan_cache_mode = force_generic_plan SET jit = off AS $body$
BEGIN
    IF opts ? 'content_type' THEN
        PERFORM onefold.refuse('conflicting-fields', '`content_type` is for bytes: use add_bytes',
            '{"field": "content_type"}');
    END IF;
    RETURN onefold.add_job(queue, CASE WHEN payload IS NULL THEN 0 ELSE 1 END::smallint,
        convert_to(payload::text, 'UTF8'), CASE WHEN payload IS NOT NULL THEN onefold.canonical(payload, 'payload') END,
        coalesce(opts, '{}'));
END
$body$;

CREATE OR REPLACE FUNCTION onefold.add_bytes(queue text, payload bytea, opts jsonb DEFAULT '{}')
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
SET enable_bitmapscan = off SET plan_cache_mode = force_generic_plan SET jit = off AS $body$
DECLARE
    media_type text;
BEGIN
    IF payload IS NULL THEN
        PERFORM onefold.refuse('missing-field', 'add_bytes needs a payload: for a job without one use add',
            '{"field": "payload"}');
    END IF;
    opts := coalesce(opts, '{}');
    media_type := coalesce(onefold.text_option(opts, 'content_type', 'content_type'), 'application/octet-stream');
    IF media_type COLLATE "C" !~ '^[!-~]([ -~]{0,253}[!-~])?$' THEN
        PERFORM onefold.refuse('invalid-field', 'a media type is 1 to 255 ASCII characters, like image/png',
            '{"field": "content_type"}');
    END IF;
    RETURN onefold.add_job(queue, 2::smallint, payload, payload,
        opts || jsonb_build_object('content_type', media_type));
END
$body$;

CREATE OR REPLACE FUNCTION onefold.make_queue(queue text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off AS $body$
BEGIN
    PERFORM onefold.queue_of(queue);
END
$body$;

CREATE OR REPLACE FUNCTION onefold.complete(job text, token bigint, result json DEFAULT NULL, opts jsonb DEFAULT '{}')
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
SET enable_bitmapscan = off SET plan_cache_mode = force_generic_plan SET jit = off AS $body$
DECLARE
    bytes CONSTANT bytea := convert_to(result::text, 'UTF8');
BEGIN
    PERFORM onefold.check_options(coalesce(opts, '{}'), 'opts', '{}');
    IF octet_length(bytes) > 1048576 THEN
        PERFORM onefold.refuse('result-too-large', 'a result has at most 1048576 bytes', '{"field": "result"}');
    ELSIF result IS NOT NULL THEN
        PERFORM onefold.canonical(result, 'result');
    END IF;
    RETURN onefold.end_attempt(job, token, 3::smallint, onefold.content('complete', bytes), bytes, NULL, NULL, NULL);
END
$body$;

CREATE OR REPLACE FUNCTION onefold.fail(job text, token bigint, message text, opts jsonb DEFAULT '{}')
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
SET enable_bitmapscan = off SET plan_cache_mode = force_generic_plan SET jit = off AS $body$
DECLARE
    words CONSTANT text := onefold.cut(message, 8192);
    kind text;
    is_retryable boolean;
    wait_ms bigint;
BEGIN
    opts := coalesce(opts, '{}');
    PERFORM onefold.check_options(opts, 'opts', '{kind,retryable,retry_in}');
    IF message IS NULL THEN
        PERFORM onefold.refuse('missing-field', 'a failure needs a message', '{"field": "message"}');
    ELSIF jsonb_typeof(opts -> 'retryable') NOT IN ('boolean', 'null') THEN
        PERFORM onefold.refuse('invalid-field', '`retryable` is true or false', '{"field": "retryable"}');
    END IF;
    kind := onefold.cut(onefold.text_option(opts, 'kind', 'kind'), 128);
    is_retryable := coalesce((opts ->> 'retryable')::boolean, true);
    wait_ms := onefold.duration_ms(opts -> 'retry_in', 'retry_in');
    RETURN onefold.end_attempt(job, token, 4::smallint, onefold.content('fail', convert_to(words, 'UTF8'),
            convert_to(kind, 'UTF8'), CASE WHEN is_retryable THEN E'\\x01' ELSE E'\\x00' END::bytea, int8send(wait_ms)),
        NULL, json_strip_nulls(json_build_object('message', words, 'kind', kind)), is_retryable, wait_ms);
END
$body$;

CREATE OR REPLACE FUNCTION onefold.snooze(job text, token bigint, delay text, opts jsonb DEFAULT '{}')
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
SET enable_bitmapscan = off SET plan_cache_mode = force_generic_plan SET jit = off AS $body$
DECLARE
    delay_ms bigint;
BEGIN
    PERFORM onefold.check_options(coalesce(opts, '{}'), 'opts', '{}');
    delay_ms := onefold.duration_ms(to_jsonb(delay), 'delay');
    IF delay_ms IS NULL THEN
        PERFORM onefold.refuse('missing-field', 'a snooze needs a delay', '{"field": "delay"}');
    END IF;
    RETURN onefold.end_attempt(job, token, 6::smallint, onefold.content('snooze', int8send(delay_ms)), NULL, NULL, NULL,
        delay_ms);
END
$body$;

CREATE OR REPLACE FUNCTION onefold.once(job text, step text, token bigint DEFAULT NULL, result json DEFAULT NULL)
RETURNS json LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
SET enable_bitmapscan = off SET plan_cache_mode = force_generic_plan SET jit = off AS $body$
DECLARE
    was onefold.jobs;
    trouble CONSTANT text := onefold.name_trouble(step, 'key', 255);
BEGIN
    IF step IS NULL OR trouble IS NOT NULL THEN
        PERFORM onefold.refuse('invalid-key', coalesce(trouble, 'a step needs a name'), '{"field": "step"}');
    ELSIF octet_length(convert_to(result::text, 'UTF8')) > 1048576 THEN
        PERFORM onefold.refuse('result-too-large', 'a result has at most 1048576 bytes', '{"field": "result"}');
    ELSIF result IS NOT NULL THEN
        PERFORM onefold.canonical(result, 'result');
    END IF;
    was := onefold.locked_job(job);
    IF was.seq IS NULL THEN
        PERFORM onefold.refuse('job-not-found', format('there is no job %L, or no longer', job));
    ELSIF was.token IS NULL OR token IS NOT NULL AND (was.state <> 2 OR was.token <> token) THEN
        PERFORM onefold.refuse('lease-lost',
            format('token %s is not the current one of %s, which is %s', token, job, onefold.state_word(was.state)),
            jsonb_build_object('id', job, 'state', onefold.state_word(was.state)));
    END IF;
    RETURN onefold.record_step(was, step, was.token, result);
END
$body$;

CREATE OR REPLACE FUNCTION onefold.cancel(job text, opts jsonb DEFAULT '{}')
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
SET enable_bitmapscan = off SET plan_cache_mode = force_generic_plan SET jit = off AS $body$
BEGIN
    opts := coalesce(opts, '{}');
    PERFORM onefold.check_options(opts, 'opts', '{force}');
    IF jsonb_typeof(opts -> 'force') NOT IN ('boolean', 'null') THEN
        PERFORM onefold.refuse('invalid-field', '`force` is true or false', '{"field": "force"}');
    END IF;
    RETURN onefold.cancel_job(job, coalesce((opts ->> 'force')::boolean, false));
END
$body$;

REVOKE ALL ON FUNCTION onefold.add(text, json, jsonb) FROM PUBLIC;
REVOKE ALL ON FUNCTION onefold.add_bytes(text, bytea, jsonb) FROM PUBLIC;
REVOKE ALL ON FUNCTION onefold.make_queue(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION onefold.complete(text, bigint, json, jsonb) FROM PUBLIC;
REVOKE ALL ON FUNCTION onefold.fail(text, bigint, text, jsonb) FROM PUBLIC;
REVOKE ALL ON FUNCTION onefold.snooze(text, bigint, text, jsonb) FROM PUBLIC;
REVOKE ALL ON FUNCTION onefold.once(text, text, bigint, json) FROM PUBLIC;
REVOKE ALL ON FUNCTION onefold.cancel(text, jsonb) FROM PUBLIC;
