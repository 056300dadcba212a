-- A step of a job whose rows are the caller's own: recorded in the transaction that writes them, so that of all attempts
-- one writes. The record is that of an effect, as `onefold_core::Effect` has it.
CREATE OR REPLACE FUNCTION onefold.record_step(was onefold.jobs, step text, holder bigint, result json) RETURNS json
LANGUAGE plpgsql AS $body$
DECLARE
    id CONSTANT text := onefold.job_text(was.created_ms, was.seq);
    at_ms CONSTANT bigint := onefold.now_ms();
    at CONSTANT text := onefold.time_text(at_ms);
    known record;
    stored text;
BEGIN
    SELECT e.state, e.record::json AS record, e.result INTO known FROM onefold.effects e
    WHERE e.ns = 0 AND e.scope = id AND e.key = step FOR UPDATE;
    IF known.state = 1 THEN
        IF (known.record ->> 'attempt')::integer IS DISTINCT FROM was.number THEN
            PERFORM onefold.note(was.seq, 9::smallint, at_ms, format('%s in attempt %s: the stored result', step, was.number));
            PERFORM onefold.tell(at_ms, '{22}', was.queue, was.seq, was.created_ms, NULL, was.number);
        END IF;
        RETURN json_build_object('state', 'completed', 'result', convert_from(known.result, 'UTF8')::json);
    ELSIF known.state = 0 THEN
        PERFORM onefold.refuse('effect-in-progress', format('%s of %s was begun as an effect elsewhere', step, id));
    ELSIF known.state = 3 THEN
        PERFORM onefold.refuse('effect-indeterminate', format('nobody knows whether %s of %s happened', step, id));
    END IF;
    stored := json_strip_nulls(json_build_object('scope', id, 'key', step, 'job', id, 'policy', 'at_least_once',
        'state', 'completed', 'token', holder, 'attempt', was.number, 'lease', '0s', 'ttl', '0s', 'first_begun_at', at,
        'begun_at', at, 'ended_at', at, 'executions', coalesce((known.record ->> 'executions')::integer, 0) + 1,
        'replays', 0));
    IF known.state = 2 THEN
        UPDATE onefold.effects e SET state = 1, record = stored, result = convert_to(record_step.result::text, 'UTF8')
        WHERE e.ns = 0 AND e.scope = id AND e.key = step;
    ELSE
        INSERT INTO onefold.effects (scope, key, seq, state, record, result)
        VALUES (id, step, was.seq, 1, stored, convert_to(record_step.result::text, 'UTF8')) ON CONFLICT DO NOTHING;
        IF NOT FOUND THEN
            PERFORM onefold.refuse('effect-in-progress', format('%s of %s is being recorded elsewhere', step, id));
        END IF;
    END IF;
    RETURN json_build_object('state', 'execute');
END
$body$;
