-- What functions for users' own transactions are made of: errors, ids, names, durations, times.
--
-- Literals with backslashes are E'' ones, which mean the same whatever the session says about strings.

-- Errors: one SQLSTATE of a class of our own for each code, and what to do about it.
CREATE OR REPLACE FUNCTION onefold.sqlstates(OUT code text, OUT sqlstate text, OUT hint text) RETURNS SETOF record
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $body$
    VALUES
    ('lease-lost', 'OF001', 'Roll back and stop working on the job: another attempt has it, or it ended. Do not tell anybody that it succeeded.'),
    ('job-not-found', 'OF002', 'Check the id. A job that is finished is deleted when its retention is over.'),
    ('job-finished', 'OF003', 'There is nothing left to cancel: it completed, or it is a dead letter.'),
    ('job-in-progress', 'OF004', 'Another open transaction is changing the job. Roll back and try again, or set a longer lock_timeout.'),
    ('key-reused', 'OF010', 'Use another key for other work; for the same work give a fingerprint of your own, or on_mismatch: return.'),
    ('duplicate-key', 'OF011', 'Another job holds the key: existing_id in the detail. Leave on_duplicate out to be answered with it instead.'),
    ('version-stale', 'OF012', 'The job has a newer version already. Drop this one, or send a larger version.'),
    ('key-in-progress', 'OF013', 'Another open transaction is adding a job with this key. Roll back and try again, or set a longer lock_timeout.'),
    ('busy', 'OF014', 'Another open transaction is making this queue. Try again once it has ended; make queues beforehand.'),
    ('effect-in-progress', 'OF015', 'The step was begun elsewhere, as an effect. Roll back and try again later; do not report success.'),
    ('effect-indeterminate', 'OF016', 'Roll back. Somebody has to find out whether it happened: `onefold effects resolve`.'),
    ('invalid-queue-name', 'OF020', 'Use 1 to 128 of the characters A-Z a-z 0-9 . _ -'),
    ('invalid-key', 'OF021', 'Use 1 to 255 characters without control characters, not only white space; hash what is longer.'),
    ('invalid-fingerprint', 'OF022', 'Give 1 to 255 characters: a version, or a hash of what the job does.'),
    ('invalid-duration', 'OF023', 'Write it like "1h30m" or "250ms", or as whole milliseconds.'),
    ('invalid-time', 'OF024', 'Write it as RFC 3339 with an offset, like "2026-11-21T09:30:00Z".'),
    ('invalid-backoff', 'OF025', 'Give one of {"fixed": …}, {"list": […]} and {"exponential": {"base": …, "max": …}}.'),
    ('invalid-header', 'OF026', 'Give at most 64 headers of 8 KiB that HTTP can carry, each name once in whatever case.'),
    ('invalid-field', 'OF027', 'The message says which option it is, and what it may be.'),
    ('unknown-field', 'OF028', 'Check the spelling of the option, or leave it out.'),
    ('missing-field', 'OF029', 'The message says what has to be given.'),
    ('conflicting-fields', 'OF030', 'Leave one of the two out.'),
    ('invalid-json', 'OF031', 'Write characters beyond the basic plane themselves, or as a pair of surrogates.'),
    ('duplicate-member', 'OF032', 'Keep one of the members that have the same name.'),
    ('nesting-too-deep', 'OF033', 'Flatten it: arrays and objects may be nested 128 deep.'),
    ('payload-too-large', 'OF034', 'Store it elsewhere and send a reference to it.'),
    ('result-too-large', 'OF035', 'Store it elsewhere and give a reference to it.'),
    ('no-deliverer', 'OF036', 'Leave it out, and lease the job with a worker.'),
    ('not-yet', 'OF037', 'Leave it out: it is not built yet.')
$body$;

-- Ends the caller's transaction with one of them. The detail is a JSON object with the code and what else is known.
CREATE OR REPLACE FUNCTION onefold.refuse(why text, sentence text, known jsonb DEFAULT '{}') RETURNS void
LANGUAGE plpgsql AS $body$
DECLARE
    error record;
BEGIN
    SELECT * INTO STRICT error FROM onefold.sqlstates() e WHERE e.code = why;
    RAISE EXCEPTION USING ERRCODE = error.sqlstate, MESSAGE = why || ': ' || sentence, HINT = error.hint,
        DETAIL = (jsonb_build_object('code', why) || known)::text;
END
$body$;

-- What `SET` or `ALTER ROLE` says a payload may have, up to the most there can be.
CREATE OR REPLACE FUNCTION onefold.payload_bytes_max() RETURNS integer LANGUAGE plpgsql STABLE AS $body$
DECLARE
    -- A setting, not one of our tables.
    name CONSTANT text := concat('onefold', '.payload_bytes_max');
    given CONSTANT text := nullif(current_setting(name, true), '');
BEGIN
    IF given COLLATE "C" !~ '^[0-9]{1,18}$' THEN
        PERFORM onefold.refuse('invalid-field', format('the setting `%s` is a number of bytes, and not %L', name, given),
            jsonb_build_object('field', name));
    END IF;
    RETURN least(52428800, coalesce(given::bigint, 1048576));
END
$body$;

CREATE OR REPLACE FUNCTION onefold.now_ms() RETURNS bigint LANGUAGE sql VOLATILE AS $body$
    SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint
$body$;

-- A number from 0 to `most`.
CREATE OR REPLACE FUNCTION onefold.draw(most bigint) RETURNS bigint LANGUAGE sql VOLATILE AS $body$
    SELECT floor(random() * (most + 1))::bigint
$body$;

CREATE OR REPLACE FUNCTION onefold.job_text(created_ms bigint, seq bigint) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $body$
    SELECT 'job_' || lpad(to_hex(created_ms), 12, '0') || '7000' || to_hex((-9223372036854775808) | seq)
$body$;

-- Nothing for a text that is no job's id.
CREATE OR REPLACE FUNCTION onefold.job_of(given text, OUT created_ms bigint, OUT seq bigint)
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $body$
    SELECT ('x' || substr(given, 5, 12))::bit(48)::bigint,
           ('x' || substr(given, 21, 16))::bit(64)::bigint & 4611686018427387903
    WHERE given COLLATE "C" ~ '^(job|msg)_[0-9a-f]{12}7000[89ab][0-9a-f]{15}$'
$body$;

CREATE OR REPLACE FUNCTION onefold.state_word(state smallint) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $body$
    SELECT (ARRAY['scheduled', 'available', 'running', 'retrying', 'completed', 'dead', 'cancelled'])[state + 1]
$body$;

-- The table of the core: what an event makes of a state, nothing where it cannot happen.
CREATE OR REPLACE FUNCTION onefold.transition(from_state smallint, event smallint) RETURNS smallint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $body$
    SELECT (CASE from_state
        WHEN 0 THEN CASE event WHEN 0 THEN 1 WHEN 1 THEN 0 WHEN 5 THEN 5 WHEN 9 THEN 6 END
        WHEN 1 THEN CASE event WHEN 1 THEN 0 WHEN 2 THEN 2 WHEN 5 THEN 5 WHEN 9 THEN 6 END
        WHEN 2 THEN CASE event WHEN 3 THEN 4 WHEN 4 THEN 3 WHEN 5 THEN 5 WHEN 6 THEN 0 WHEN 7 THEN 1 WHEN 8 THEN 1
                               WHEN 9 THEN 6 END
        WHEN 3 THEN CASE event WHEN 0 THEN 1 WHEN 5 THEN 5 WHEN 9 THEN 6 WHEN 10 THEN 1 END
        WHEN 5 THEN CASE event WHEN 10 THEN 1 END
        WHEN 6 THEN CASE event WHEN 10 THEN 1 END
    END)::smallint
$body$;

-- The same where it has to be possible.
CREATE OR REPLACE FUNCTION onefold.step(from_state smallint, event smallint) RETURNS smallint
LANGUAGE plpgsql IMMUTABLE AS $body$
DECLARE
    reached smallint := onefold.transition(from_state, event);
BEGIN
    IF reached IS NULL THEN
        RAISE EXCEPTION 'a % job cannot take event %', onefold.state_word(from_state), event
            USING ERRCODE = 'data_corrupted';
    END IF;
    RETURN reached;
END
$body$;

-- Nothing, or what is wrong with a key, a group, a kind, a label.
CREATE OR REPLACE FUNCTION onefold.name_trouble(given text, what text, most integer) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $body$
    SELECT CASE
        WHEN given COLLATE "C" ~ E'^[\\u0009-\\u000D \\u0085\\u00A0\\u1680\\u2000-\\u200A\\u2028\\u2029\\u202F\\u205F\\u3000]*$'
            THEN format('a %s must not be blank', what)
        WHEN char_length(given) > most THEN format('a %s has at most %s characters', what, most)
        WHEN given COLLATE "C" ~ E'[\\u0001-\\u001F\\u007F-\\u009F]'
            THEN format('a %s must not contain control characters', what)
    END
$body$;

-- An option that is a text; nothing if it is not given.
CREATE OR REPLACE FUNCTION onefold.text_option(opts jsonb, name text, field text) RETURNS text
LANGUAGE plpgsql IMMUTABLE AS $body$
BEGIN
    IF opts -> name IS NULL OR opts -> name = 'null' THEN
        RETURN NULL;
    END IF;
    IF jsonb_typeof(opts -> name) <> 'string' THEN
        PERFORM onefold.refuse('invalid-field', format('`%s` is a text', field), jsonb_build_object('field', field));
    END IF;
    RETURN opts ->> name;
END
$body$;

-- An option that is a whole number; nothing if it is not given.
CREATE OR REPLACE FUNCTION onefold.number_option(opts jsonb, name text, field text, low numeric, high numeric)
RETURNS numeric LANGUAGE plpgsql IMMUTABLE AS $body$
DECLARE
    given jsonb := opts -> name;
BEGIN
    IF given IS NULL OR given = 'null' THEN
        RETURN NULL;
    END IF;
    IF jsonb_typeof(given) = 'number' AND given::text ~ '^-?[0-9]+$' AND given::numeric BETWEEN low AND high THEN
        RETURN given::numeric;
    END IF;
    PERFORM onefold.refuse('invalid-field', format('`%s` is a whole number from %s to %s', field, low, high),
        jsonb_build_object('field', field));
    RETURN NULL;
END
$body$;

-- An option that is a choice of words, as its place among them from 0.
CREATE OR REPLACE FUNCTION onefold.word_option(opts jsonb, name text, field text, words text[]) RETURNS smallint
LANGUAGE plpgsql IMMUTABLE AS $body$
DECLARE
    given text := onefold.text_option(opts, name, field);
    place integer := array_position(words, given);
BEGIN
    IF given IS NOT NULL AND place IS NULL THEN
        PERFORM onefold.refuse('invalid-field', format('`%s` is one of %s', field, array_to_string(words, ', ')),
            jsonb_build_object('field', field));
    END IF;
    RETURN place - 1;
END
$body$;

-- An option that is a duration, in milliseconds; nothing if it is not given.
CREATE OR REPLACE FUNCTION onefold.duration_ms(given jsonb, field text) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE AS $body$
DECLARE
    number CONSTANT text := E'(?:([0-9]+(?:\\.[0-9]+)?)';
    units CONSTANT bigint[] := '{604800000, 86400000, 3600000, 60000, 1000, 1}';
    parts text[];
    part numeric;
    total numeric := 0;
BEGIN
    IF given IS NULL OR given = 'null' THEN
        RETURN NULL;
    END IF;
    IF jsonb_typeof(given) = 'number' AND given::text ~ '^-?[0-9]+$' THEN
        total := given::numeric;
    ELSIF jsonb_typeof(given) = 'string' THEN
        IF given #>> '{}' <> '' AND octet_length(given #>> '{}') <= 1000 THEN
            parts := regexp_match(given #>> '{}', '^' || number || 'w)?' || number || 'd)?' || number || 'h)?'
                || number || 'm(?!s))?' || number || 's)?' || number || 'ms)?$');
        END IF;
        IF parts IS NULL THEN
            PERFORM onefold.refuse('invalid-duration',
                format('`%s` is a duration with the units w d h m s ms, from large to small, without spaces', field),
                jsonb_build_object('field', field));
        END IF;
        FOR unit IN 1 .. 6 LOOP
            part := parts[unit]::numeric * units[unit];
            IF part <> trunc(part) THEN
                PERFORM onefold.refuse('invalid-duration', format('`%s` must come out in whole milliseconds', field),
                    jsonb_build_object('field', field));
            END IF;
            total := total + coalesce(part, 0);
        END LOOP;
    ELSE
        PERFORM onefold.refuse('invalid-field',
            format('`%s` is a duration: a text like "1h30m", or whole milliseconds', field),
            jsonb_build_object('field', field));
    END IF;
    -- Ten years of 365 days.
    IF total < 0 OR total > 315360000000 THEN
        PERFORM onefold.refuse('invalid-duration', format('`%s` is 0 to 3650d', field),
            jsonb_build_object('field', field));
    END IF;
    RETURN total;
END
$body$;

-- A duration as it is shown: days are the largest unit.
CREATE OR REPLACE FUNCTION onefold.duration_text(ms bigint) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $body$
    SELECT CASE ms WHEN 0 THEN '0s' ELSE concat(
        nullif(ms / 86400000, 0) || 'd', nullif(ms / 3600000 % 24, 0) || 'h', nullif(ms / 60000 % 60, 0) || 'm',
        nullif(ms / 1000 % 60, 0) || 's', nullif(ms % 1000, 0) || 'ms') END
$body$;

-- A time of RFC 3339 in unix milliseconds.
CREATE OR REPLACE FUNCTION onefold.time_ms(given text, field text) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $body$
DECLARE
    part text[] := regexp_match(given, '^([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})'
        || E'(?:\\.([0-9]+))?(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))$');
    number integer[];
    day date;
    ms bigint;
BEGIN
    IF given IS NULL THEN
        RETURN NULL;
    END IF;
    IF part IS NULL THEN
        PERFORM onefold.refuse('invalid-time', format('`%s` is a time of RFC 3339 with an offset', field),
            jsonb_build_object('field', field));
    END IF;
    number := ARRAY[part[1], part[2], part[3], part[4], part[5], part[6], coalesce(part[9], '0'),
        coalesce(part[10], '0')]::integer[];
    IF number[2] BETWEEN 1 AND 12 AND number[3] >= 1 AND number[4] < 24 AND number[5] < 60 AND number[6] <= 60
        AND number[7] < 24 AND number[8] < 60 THEN
        -- Without years of which this calendar knows nothing.
        day := make_date(greatest(number[1], 1968), number[2], 1);
        IF number[3] > extract(day FROM day + interval '1 month' - interval '1 day') THEN
            day := NULL;
        END IF;
    END IF;
    IF day IS NULL THEN
        PERFORM onefold.refuse('invalid-time', format('`%s`: there is no such date or time of day', field),
            jsonb_build_object('field', field));
    END IF;
    ms := ((day - date '1970-01-01' + number[3] - 1)::bigint * 86400 + number[4] * 3600 + number[5] * 60
        + least(number[6], 59)) * 1000 + coalesce(rpad(left(part[7], 3), 3, '0'), '0')::integer
        - (CASE part[8] WHEN '-' THEN -1 ELSE 1 END) * (number[7] * 60 + number[8]) * 60000;
    IF number[1] < 1969 OR ms < 0 OR ms > 253402300799999 THEN
        PERFORM onefold.refuse('invalid-time', format('`%s` must lie in the years 1970 to 9999 in UTC', field),
            jsonb_build_object('field', field));
    END IF;
    RETURN ms;
END
$body$;

CREATE OR REPLACE FUNCTION onefold.time_text(ms bigint) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $body$
    SELECT to_char(timestamp 'epoch' + ms * interval '1 millisecond', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
$body$;

-- A time so much later, at most the last there is; none of none.
CREATE OR REPLACE FUNCTION onefold.later(ms bigint, by_ms bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $body$
    SELECT CASE WHEN ms + by_ms > 253402300799999 THEN 253402300799999 ELSE ms + by_ms END
$body$;

-- A number of 64 bits without a sign that is stored as the same bits with one.
CREATE OR REPLACE FUNCTION onefold.unsigned(stored bigint) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $body$
    SELECT stored::numeric + CASE WHEN stored < 0 THEN 18446744073709551616 ELSE 0 END
$body$;

-- The longest beginning of a text that has at most so many bytes.
CREATE OR REPLACE FUNCTION onefold.cut(given text, most integer) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $body$
DECLARE
    bytes bytea;
    length integer := most;
BEGIN
    IF octet_length(given) <= most THEN
        RETURN given;
    END IF;
    bytes := convert_to(given, 'UTF8');
    WHILE get_byte(bytes, length) & 192 = 128 LOOP
        length := length - 1;
    END LOOP;
    RETURN convert_from(substring(bytes FROM 1 FOR length), 'UTF8');
END
$body$;

-- Any option that is not known is refused.
CREATE OR REPLACE FUNCTION onefold.check_options(opts jsonb, place text, known text[]) RETURNS void
LANGUAGE plpgsql IMMUTABLE AS $body$
DECLARE
    strange text;
BEGIN
    IF jsonb_typeof(opts) <> 'object' THEN
        PERFORM onefold.refuse('invalid-field', format('`%s` is a JSON object', place),
            jsonb_build_object('field', place));
    END IF;
    SELECT name INTO strange FROM jsonb_object_keys(opts) name WHERE name <> ALL (known) ORDER BY name LIMIT 1;
    IF strange IS NOT NULL THEN
        strange := CASE place WHEN 'opts' THEN strange ELSE place || '.' || strange END;
        PERFORM onefold.refuse('unknown-field', format('there is no option `%s` here', strange),
            jsonb_build_object('field', strange));
    END IF;
END
$body$;

CREATE OR REPLACE FUNCTION onefold.read_labels(given jsonb) RETURNS json LANGUAGE plpgsql IMMUTABLE AS $body$
DECLARE
    label record;
    trouble text;
BEGIN
    IF given IS NULL OR given IN ('null', '[]') THEN
        RETURN NULL;
    END IF;
    IF jsonb_typeof(given) <> 'array' THEN
        trouble := '`labels` is an array of texts';
    ELSIF jsonb_array_length(given) > 16 THEN
        trouble := 'a job has at most 16 labels';
    ELSE
        FOR label IN SELECT l.value, l.value #>> '{}' AS text FROM jsonb_array_elements(given) l LOOP
            trouble := coalesce(trouble, CASE WHEN jsonb_typeof(label.value) <> 'string' THEN 'a label is a text' END,
                onefold.name_trouble(label.text, 'label', 64));
        END LOOP;
    END IF;
    IF trouble IS NOT NULL THEN
        PERFORM onefold.refuse('invalid-field', trouble, '{"field": "labels"}');
    END IF;
    RETURN given::json;
END
$body$;
