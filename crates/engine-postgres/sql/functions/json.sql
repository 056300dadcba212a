-- Canonical JSON and fingerprints, as the core makes them.

-- White space out, members by the bytes of their names, strings in one spelling, numbers as given.
CREATE OR REPLACE FUNCTION onefold.canonical_value(given json, depth integer, field text) RETURNS text
LANGUAGE plpgsql IMMUTABLE AS $body$
DECLARE
    written text;
    is_twice boolean := false;
BEGIN
    CASE json_typeof(given)
    WHEN 'object' THEN
        IF depth < 128 THEN
            SELECT concat('{', string_agg(to_json(m.key)::text || ':' || CASE json_typeof(m.value)
                    WHEN 'object' THEN onefold.canonical_value(m.value, depth + 1, field)
                    WHEN 'array' THEN onefold.canonical_value(m.value, depth + 1, field)
                    WHEN 'string' THEN to_json(m.value #>> '{}')::text
                    ELSE m.value::text END, ',' ORDER BY m.key COLLATE "C"), '}'),
                count(*) > count(DISTINCT m.key COLLATE "C")
            INTO written, is_twice FROM json_each(given) m;
        END IF;
    WHEN 'array' THEN
        IF depth < 128 THEN
            SELECT concat('[', string_agg(CASE json_typeof(e.value)
                    WHEN 'object' THEN onefold.canonical_value(e.value, depth + 1, field)
                    WHEN 'array' THEN onefold.canonical_value(e.value, depth + 1, field)
                    WHEN 'string' THEN to_json(e.value #>> '{}')::text
                    ELSE e.value::text END, ',' ORDER BY e.place), ']')
            INTO written FROM json_array_elements(given) WITH ORDINALITY e (value, place);
        END IF;
    WHEN 'string' THEN
        written := to_json(given #>> '{}')::text;
    ELSE
        written := btrim(given::text, E' \t\n\r');
    END CASE;
    IF written IS NULL THEN
        PERFORM onefold.refuse('nesting-too-deep', format('`%s` is nested more than 128 deep', field),
            jsonb_build_object('field', field));
    ELSIF is_twice THEN
        PERFORM onefold.refuse('duplicate-member', format('two members of an object in `%s` have one name', field),
            jsonb_build_object('field', field));
    END IF;
    RETURN written;
END
$body$;

-- The server's own texts have neither the character zero nor half a surrogate pair; JSON may have the first.
CREATE OR REPLACE FUNCTION onefold.canonical(given json, field text) RETURNS bytea LANGUAGE plpgsql IMMUTABLE AS $body$
DECLARE
    -- Not escaped themselves.
    escape CONSTANT text := E'(?<!\\\\)((?:\\\\\\\\)*)\\\\u';
    source text := given::text;
    written text;
BEGIN
    IF source ~* E'\\\\ud[89a-f]' AND regexp_replace(source,
        escape || E'[dD][89abAB][0-9a-fA-F]{2}\\\\u[dD][c-fC-F][0-9a-fA-F]{2}', E'\\1 ', 'g')
        ~ (escape || E'[dD][89a-fA-F]') THEN
        PERFORM onefold.refuse('invalid-json', format('`%s` has half a surrogate pair', field),
            jsonb_build_object('field', field));
    END IF;
    IF strpos(source, E'\\u0000') = 0 THEN
        RETURN convert_to(onefold.canonical_value(given, 0, field), 'UTF8');
    END IF;
    -- Zero goes through as one and one, one as one and two: the order of names stays.
    source := regexp_replace(source, escape || '0001', E'\\1\\\\u0001\\\\u0002', 'g');
    source := regexp_replace(source, escape || '0000', E'\\1\\\\u0001\\\\u0001', 'g');
    written := onefold.canonical_value(source::json, 0, field);
    written := regexp_replace(written, escape || E'0001\\\\u0001', E'\\1\\\\u0000', 'g');
    RETURN convert_to(regexp_replace(written, escape || E'0001\\\\u0002', E'\\1\\\\u0001', 'g'), 'UTF8');
END
$body$;

-- Each field behind its length, an absent one as a length that none has.
CREATE OR REPLACE FUNCTION onefold.framed(VARIADIC fields bytea[]) RETURNS bytea
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $body$
    SELECT string_agg(int8send(coalesce(octet_length(f.field), -1)) || coalesce(f.field, ''), ''::bytea ORDER BY f.place)
    FROM unnest(fields) WITH ORDINALITY f (field, place)
$body$;

-- The payload of a JSON text is its canonical form.
CREATE OR REPLACE FUNCTION onefold.fingerprint(kind text, content_type text, payload bytea, target_method text,
    target_url text) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $body$
    SELECT E'\\x01'::bytea || sha256(E'\\x01'::bytea || onefold.framed(convert_to(kind, 'UTF8'),
        convert_to(content_type, 'UTF8'), payload, convert_to(target_method, 'UTF8'), convert_to(target_url, 'UTF8')))
$body$;

-- The one a caller gives instead.
CREATE OR REPLACE FUNCTION onefold.given_fingerprint(given text) RETURNS bytea LANGUAGE plpgsql IMMUTABLE AS $body$
BEGIN
    IF char_length(given) NOT BETWEEN 1 AND 255 THEN
        PERFORM onefold.refuse('invalid-fingerprint', 'a fingerprint of your own has 1 to 255 characters',
            '{"field": "fingerprint"}');
    END IF;
    RETURN E'\\x81'::bytea || sha256(E'\\x81'::bytea || onefold.framed(convert_to(given, 'UTF8')));
END
$body$;

-- One that was made before, by a library: as it is shown, 66 hex digits.
CREATE OR REPLACE FUNCTION onefold.known_fingerprint(given text) RETURNS bytea LANGUAGE plpgsql IMMUTABLE AS $body$
BEGIN
    IF given COLLATE "C" !~ '^(01|81)[0-9a-f]{64}$' THEN
        PERFORM onefold.refuse('invalid-fingerprint', 'a fingerprint is 66 lower-case hex digits: copy it whole',
            '{"field": "fingerprint_hex"}');
    END IF;
    RETURN decode(given, 'hex');
END
$body$;

-- Tells the same end of an attempt from another one when it comes again (I6).
CREATE OR REPLACE FUNCTION onefold.content(VARIADIC fields bytea[]) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $body$
    SELECT ('x' || encode(substring(sha256(onefold.framed(VARIADIC fields)) FROM 1 FOR 8), 'hex'))::bit(64)::bigint
$body$;
