#!/usr/bin/env python3
"""Writes fingerprint.json: inputs and the fingerprints every engine and SQL function must compute.

It shares no code with the implementations, only their definition (crates/core/src/fingerprint.rs).
Run it after changing the inputs below; `--check` says whether the file is what it would write.
"""

import hashlib
import json
import sys
from pathlib import Path

COMPUTED, CUSTOM = b"\x01", b"\x81"
ABSENT = 2**64 - 1


class Number(str):
    """A number's text, which is kept."""


def unique(pairs):
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("duplicate name")
    return dict(pairs)


def refuse(constant):
    raise ValueError(constant)


def canonical(text):
    value = json.loads(
        text, parse_int=Number, parse_float=Number, parse_constant=refuse, object_pairs_hook=unique
    )
    return write(value).encode("utf-8")


def write(value):
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, str):
        return string(value)
    if isinstance(value, list):
        return "[" + ",".join(map(write, value)) + "]"
    if isinstance(value, dict):
        members = sorted(value.items(), key=lambda member: member[0].encode("utf-8"))
        return "{" + ",".join(string(name) + ":" + write(value) for name, value in members) + "}"
    return {None: "null", True: "true", False: "false"}[value]


def string(text):
    short = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}
    escaped = (short.get(c) or (f"\\u{ord(c):04x}" if c < " " else c) for c in text)
    return '"' + "".join(escaped) + '"'


def fingerprint(version, fields):
    hashed = version
    for field in fields:
        if field is None:
            hashed += ABSENT.to_bytes(8, "big")
        else:
            hashed += len(field).to_bytes(8, "big") + field
    return (version + hashlib.sha256(hashed).digest()).hex()


def computed(name, kind=None, content_type=None, payload=None, target_method=None, target_url=None):
    if payload is None:
        form = None
    elif "json" in payload:
        form = canonical(payload["json"])
    else:
        form = bytes.fromhex(payload["hex"])
    text = lambda field: None if field is None else field.encode("utf-8")
    fields = [text(kind), text(content_type), form, text(target_method), text(target_url)]
    return {
        "name": name,
        "kind": kind,
        "content_type": content_type,
        "payload": payload,
        "target_method": target_method,
        "target_url": target_url,
        "fingerprint": fingerprint(COMPUTED, fields),
    }


def custom(name, text):
    return {"name": name, "custom": text, "fingerprint": fingerprint(CUSTOM, [text.encode("utf-8")])}


def refused(name, text):
    try:
        canonical(text)
    except (ValueError, UnicodeEncodeError):
        return {"name": name, "payload": {"json": text}}
    raise AssertionError(f"{name} was not refused")


def as_json(text):
    return {"json": text}


def as_hex(data):
    return {"hex": data.hex()}


ORDER = '{"order_id":17,"lines":[{"sku":"A-1","qty":2}],"note":null}'
ORDER_OTHERWISE = ' {\n\t"note" : null, "lines": [ {"qty": 2, "sku": "\\u0041-1"} ],\r\n "order_id": 17 } '
URL = "https://example.com/hooks/invoice?a=1&b=%C3%A9"

COMPUTED_VECTORS = [
    computed("nothing at all"),
    computed("every field empty", "", "", as_hex(b""), "", ""),
    computed("empty kind, the rest absent", kind=""),
    computed("empty payload, the rest absent", payload=as_hex(b"")),
    computed("every field", "invoice", "application/json", as_json(ORDER), "POST", URL),
    computed("the same, spelled otherwise", "invoice", "application/json", as_json(ORDER_OTHERWISE), "POST", URL),
    computed("the same bytes, not as JSON", "invoice", "text/plain", as_hex(ORDER.encode()), "POST", URL),
    computed("method in lower case", "invoice", "application/json", as_json(ORDER), "post", URL),
    computed("kind only", "invoice"),
    computed("the kind's text as content type", content_type="invoice"),
    computed("two fields", "ab", "c"),
    computed("two fields, cut elsewhere", "a", "bc"),
    computed("target only", target_method="GET", target_url="https://example.com/"),
    computed("raw bytes that are not UTF-8", None, "application/octet-stream", as_hex(b"\x00\xff\xfe\x80")),
    computed("raw JSON with white space", None, "application/json", as_hex(b'{"a": 1}')),
    computed("JSON without white space", None, "application/json", as_json('{"a": 1}')),
    computed("number 1", payload=as_json("1")),
    computed("number 1.0", payload=as_json("1.0")),
    computed("number 1e0", payload=as_json("1e0")),
    computed("number -0", payload=as_json("-0")),
    computed("number beyond f64", payload=as_json("[1E400, -1e-400, 123456789012345678901234567890]")),
    computed("null is not absent", payload=as_json("null")),
    computed("unicode", "Rechnung für Zoë 😀", None, as_json('{"名前":"\u00e9 \\u00e9 \\ud83d\\ude00"}')),
    computed("decomposed, not normalised", None, None, as_json('"e\u0301"')),
    computed("composed", None, None, as_json('"\u00e9"')),
    computed("names by UTF-8, not UTF-16", None, None, as_json('{"\\ud83d\\ude00":1,"\\ufb33":2,"\\u20ac":3,"z":4,"":5}')),
    computed("names by their unescaped text", None, None, as_json('{"\\\\":1,"Z":2,"]":3,"\\n":4,"\\u0041":5,"\\"":6}')),
    computed("every escape", None, None, as_json('"\\u0000\\u0008\\u0009\\u000A\\u000b\\u000C\\u000D\\u001F\\"\\\\\\/\\u007f\\u2028"')),
    computed("nested", None, None, as_json('[[],{},[{"b":{"d":1,"c":[true,false]},"a":[]}]]')),
    computed("128 deep", None, None, as_json("[" * 128 + "]" * 128)),
    computed("8 KiB", None, "text/plain", as_hex(b"0123456789abcdef" * 512)),
]

CUSTOM_VECTORS = [
    custom("one character", "v"),
    custom("a version", "order-17/v2"),
    custom("unicode", "größe 😀"),
    custom("a space", " "),
    custom("the text of a computed one", COMPUTED_VECTORS[0]["fingerprint"]),
    custom("255 characters", "é" * 255),
]

REFUSED_VECTORS = [
    refused("a name twice", '{"a":1,"a":1}'),
    refused("a name twice, once escaped", '{"a":1,"\\u0061":2}'),
    refused("a name twice, deeper", '[{"x":{"b":1,"c":2,"b":1}}]'),
    refused("a lone surrogate", '"\\ud800"'),
    refused("a control character", '"a\nb"'),
    refused("a trailing comma", "[1,]"),
    refused("a leading zero", "01"),
    refused("not a number", "NaN"),
    refused("two values", "1 2"),
    refused("nothing", ""),
    {"name": "129 deep", "payload": as_json("[" * 129 + "]" * 129)},
]


def main():
    path = Path(__file__).with_name("fingerprint.json")
    content = {"computed": COMPUTED_VECTORS, "custom": CUSTOM_VECTORS, "refused": REFUSED_VECTORS}
    text = json.dumps(content, indent=1, ensure_ascii=True) + "\n"
    if sys.argv[1:] == ["--check"]:
        if path.read_text(encoding="utf-8") != text:
            sys.exit(f"{path.name} is not what this script writes: run it without --check")
    else:
        path.write_text(text, encoding="utf-8")


main()
