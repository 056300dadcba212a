use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;

use super::*;

const DEPTH: usize = 128;

fn canonical(input: impl AsRef<[u8]>) -> Result<String, CanonicalError> {
    let input = input.as_ref();
    let output = canonicalize(input, DEPTH);
    assert_eq!(validate(input, DEPTH).err(), output.as_ref().err().copied());
    Ok(String::from_utf8(output?.into_owned()).unwrap())
}

fn refused(input: impl AsRef<[u8]>) -> (CanonicalErrorKind, usize) {
    let error = canonical(input).unwrap_err();
    (error.kind, error.offset)
}

#[test]
fn strings_are_escaped_as_in_rfc_8785() {
    // RFC 8785, 3.2.2 (input) and 3.2.3 (output); its numbers do not apply.
    let input =
        r#"{"string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/", "literals": [null, true, false]}"#;
    let output = r#"{"literals":[null,true,false],"string":"€$\u000f\nA'B\"\\\\\"/"}"#;
    assert_eq!(canonical(input).unwrap(), output);
    let controls = r#""\u0008\u0009\u000A\u000C\u000D\u0000\u001F""#;
    assert_eq!(canonical(controls).unwrap(), r#""\b\t\n\f\r\u0000\u001f""#);
    // DEL, line separators and astral characters need no escape.
    assert_eq!(canonical(r#""\u007f\u2028\ud83d\ude00\/""#).unwrap(), "\"\u{7f}\u{2028}😀/\"");
    // Nothing is normalised.
    assert_eq!(canonical("\"A\u{30a}\"").unwrap(), "\"A\u{30a}\"");
}

#[test]
fn names_are_sorted_by_utf_8_and_not_utf_16() {
    // The sorting example of RFC 8785, 3.2.3: there the emoji (U+1F600) comes before U+FB33.
    let input = r#"{"\u20ac": "Euro Sign", "\r": "Carriage Return", "\ufb33": "Hebrew Letter Dalet With Dagesh",
        "1": "One", "\ud83d\ude00": "Emoji: Grinning Face", "\u0080": "Control",
        "\u00f6": "Latin Small Letter O With Diaeresis"}"#;
    let output = concat!(
        r#"{"\r":"Carriage Return","1":"One","#,
        "\"\u{80}\":\"Control\",\"ö\":\"Latin Small Letter O With Diaeresis\",\"€\":\"Euro Sign\",",
        "\"\u{fb33}\":\"Hebrew Letter Dalet With Dagesh\",\"😀\":\"Emoji: Grinning Face\"}"
    );
    assert_eq!(canonical(input).unwrap(), output);
    // By the unescaped name: an escaped line feed sorts as itself, not as a backslash.
    let input = r#"{"\\":1,"Z":2,"]":3,"\n":4,"":5,"a":6}"#;
    assert_eq!(canonical(input).unwrap(), r#"{"":5,"\n":4,"Z":2,"\\":1,"]":3,"a":6}"#);
    assert_eq!(canonical(r#"{"ab":1,"a":2,"B":3}"#).unwrap(), r#"{"B":3,"a":2,"ab":1}"#);
}

#[test]
fn sorting_reaches_every_depth_and_keeps_arrays() {
    let input = r#" { "b" : [ { "d" : [ 3 , 1 ] , "c" : { "z" : { } , "y" : [ ] } } , 2 ] , "a" : { "f" : 1 , "e" : 2 } } "#;
    let output = r#"{"a":{"e":2,"f":1},"b":[{"c":{"y":[],"z":{}},"d":[3,1]},2]}"#;
    assert_eq!(canonical(input).unwrap(), output);
    assert_eq!(canonical(output).unwrap(), output);
    let input = "\t[ { \"b\":1,\r\n\"a\":{\"d\":\"x y\",\"c\":0} } ]\n";
    assert_eq!(canonical(input).unwrap(), r#"[{"a":{"c":0,"d":"x y"},"b":1}]"#);
}

#[test]
fn canonical_input_is_borrowed() {
    for text in [r#"{"a":[1,"x y\n\u001f",{"b":null,"c":{}}],"d":-0.0E+1}"#, "\"é\"", "0", "[]"] {
        let output = canonicalize(text.as_bytes(), DEPTH);
        assert!(matches!(output, Ok(Cow::Borrowed(same)) if same == text.as_bytes()), "{text}");
    }
    for text in [
        r#"{"b":1,"a":2}"#,
        " 1",
        "1 ",
        "[1, 2]",
        r#""\/""#,
        r#""\u0041""#,
        r#""\u0020""#,
        r#""\u001F""#,
        r#""\u000a""#,
    ] {
        assert!(matches!(canonicalize(text.as_bytes(), DEPTH), Ok(Cow::Owned(_))), "{text}");
    }
}

#[test]
fn the_text_of_numbers_is_kept() {
    for number in ["0", "-0", "1", "1.0", "1e0", "1E400", "-1e-400", "100", "1E2", "12345678901234567890.5"] {
        assert_eq!(canonical(number).unwrap(), number);
        assert_eq!(canonical(format!("[ {number} ]")).unwrap(), format!("[{number}]"));
    }
    use CanonicalErrorKind::{ExpectedValue, InvalidNumber, TrailingBytes, UnexpectedEnd};
    for (text, expected) in [
        ("01", (InvalidNumber, 1)),
        ("-01", (InvalidNumber, 2)),
        ("-x", (InvalidNumber, 1)),
        ("1.e1", (InvalidNumber, 2)),
        ("1e+x", (InvalidNumber, 3)),
        ("1..2", (InvalidNumber, 2)),
        ("-", (UnexpectedEnd, 1)),
        ("1.", (UnexpectedEnd, 2)),
        ("1e", (UnexpectedEnd, 2)),
        ("0x10", (TrailingBytes, 1)),
        ("+1", (ExpectedValue, 0)),
        (".5", (ExpectedValue, 0)),
        ("NaN", (ExpectedValue, 0)),
        ("Infinity", (ExpectedValue, 0)),
    ] {
        assert_eq!(refused(text), expected, "{text}");
    }
}

#[test]
fn a_name_stands_once_however_it_is_written() {
    use CanonicalErrorKind::DuplicateName;
    assert_eq!(refused(r#"{"a":1,"a":1}"#), (DuplicateName, 7));
    assert_eq!(refused(r#"{"a":1,"\u0061":1}"#), (DuplicateName, 7));
    assert_eq!(refused(r#"{"😀":1,"b":2,"\ud83d\uDE00":1}"#), (DuplicateName, 16));
    // The first repeat in the text is named, not the first in order.
    assert_eq!(refused(r#"[{"x":{"":1,"b":2,"a":3,"b":4,"a":5}}]"#), (DuplicateName, 24));
    let apart = r#"{"a":{"a":1},"b":{"a":1}}"#;
    assert_eq!(canonical(apart).unwrap(), apart);
    // Not normalised: composed and decomposed are two names.
    assert!(canonical("{\"\u{e5}\":1,\"a\u{30a}\":2}").is_ok());
}

#[test]
fn nesting_is_allowed_up_to_the_limit() {
    let nested = |depth: usize| format!("{}0{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(canonical(nested(DEPTH)).unwrap(), nested(DEPTH));
    assert_eq!(refused(nested(DEPTH + 1)), (CanonicalErrorKind::TooDeep { max: DEPTH }, DEPTH));
    let objects = |depth: usize| format!("{}0{}", r#"{"b":0,"a":"#.repeat(depth), "}".repeat(depth));
    assert!(canonical(objects(DEPTH)).unwrap().starts_with(r#"{"a":{"a":"#));
    assert_eq!(refused(objects(DEPTH + 1)).0, CanonicalErrorKind::TooDeep { max: DEPTH });
    assert_eq!(validate(b"1", 0), Ok(()));
    assert!(validate(b"[]", 0).is_err());
    // Depth is what is open at once.
    assert_eq!(validate(format!("[{}0]", "[],{},".repeat(1000)).as_bytes(), 2), Ok(()));
}

#[test]
fn bombs_are_refused_without_recursion() {
    let brackets = "[".repeat(100_000);
    assert_eq!(refused(&brackets).0, CanonicalErrorKind::TooDeep { max: DEPTH });
    assert_eq!(refused(r#"{"a":"#.repeat(100_000)).0, CanonicalErrorKind::TooDeep { max: DEPTH });
    // Even a caller who allows any depth keeps the stack: nothing recurses.
    let unlimited = |input: String| canonicalize(input.as_bytes(), usize::MAX).map(Cow::into_owned);
    assert_eq!(unlimited(brackets).unwrap_err().kind, CanonicalErrorKind::UnexpectedEnd);
    let objects = format!("{}0{}", r#"{"b":0,"a":"#.repeat(100_000), "}".repeat(100_000));
    let sorted = format!("{}0{}", r#"{"a":"#.repeat(100_000), r#","b":0}"#.repeat(100_000));
    assert!(unlimited(objects).unwrap() == sorted.into_bytes());
}

#[test]
fn what_is_not_json_is_refused_where_it_goes_wrong() {
    use CanonicalErrorKind::*;
    for (text, expected) in [
        ("", (UnexpectedEnd, 0)),
        ("  ", (UnexpectedEnd, 2)),
        ("\u{feff}1", (ExpectedValue, 0)),
        ("\u{b}1", (ExpectedValue, 0)),
        ("tru", (UnexpectedEnd, 3)),
        ("trve", (ExpectedValue, 0)),
        ("nullx", (TrailingBytes, 4)),
        ("1 2", (TrailingBytes, 2)),
        ("{} ]", (TrailingBytes, 3)),
        ("1\0", (TrailingBytes, 1)),
        ("[", (UnexpectedEnd, 1)),
        ("[1", (UnexpectedEnd, 2)),
        ("[1,", (UnexpectedEnd, 3)),
        ("[1,]", (ExpectedValue, 3)),
        ("[,1]", (ExpectedValue, 1)),
        ("[1 2]", (ExpectedCommaOrBracket, 3)),
        ("[1}", (ExpectedCommaOrBracket, 2)),
        ("{", (UnexpectedEnd, 1)),
        ("{\"a\"", (UnexpectedEnd, 4)),
        ("{\"a\":", (UnexpectedEnd, 5)),
        ("{\"a\":1", (UnexpectedEnd, 6)),
        ("{\"a\":1,", (UnexpectedEnd, 7)),
        ("{\"a\":1,}", (ExpectedName, 7)),
        ("{a:1}", (ExpectedName, 1)),
        ("{'a':1}", (ExpectedName, 1)),
        ("{1:1}", (ExpectedName, 1)),
        ("{\"a\" 1}", (ExpectedColon, 5)),
        ("{\"a\",1}", (ExpectedColon, 4)),
        ("{\"a\":}", (ExpectedValue, 5)),
        ("{\"a\":1]", (ExpectedCommaOrBrace, 6)),
        ("{\"a\":1 \"b\":2}", (ExpectedCommaOrBrace, 7)),
        ("\"abc", (UnexpectedEnd, 4)),
        ("\"a\\", (UnexpectedEnd, 2)),
        ("\"a\\u12", (UnexpectedEnd, 2)),
        ("\"a\\x\"", (InvalidEscape, 2)),
        ("\"a\\u12g4\"", (InvalidEscape, 2)),
        ("\"a\\u+123\"", (InvalidEscape, 2)),
        ("\"a\nb\"", (ControlCharacter, 2)),
        ("\"a\0\"", (ControlCharacter, 2)),
        ("\"12345678\u{1f}\"", (ControlCharacter, 9)),
        ("/* no */ 1", (ExpectedValue, 0)),
    ] {
        assert_eq!(refused(text), expected, "{text}");
    }
    for lone in [r"\ud800", r"\udc00", r"\ud800\ud800", r"\ud800x", r"\udc00\ud800", r"\udbff\u0041"] {
        assert_eq!(refused(format!("\"{lone}\"")), (LoneSurrogate, 1), "{lone}");
    }
    assert_eq!(refused(b"[\"\xff\"]"), (NotUtf8, 2));
    // An encoded surrogate, an overlong slash, a cut character.
    for bytes in [&b"\"\xed\xa0\x80\""[..], b"\"\xc0\xaf\"", b"\"\xe2\x82"] {
        assert_eq!(refused(bytes), (NotUtf8, 1));
    }
}

/// Strings are read eight bytes at a time, so each byte is tried at each place of a word and of its rest.
#[test]
fn every_byte_of_a_string_is_looked_at() {
    for at in 0..20 {
        for byte in 0..0x80_u8 {
            let text = format!("\"{}{}{}\"", "é".repeat(at / 2), "x".repeat(at % 2), char::from(byte));
            let expected = match byte {
                ..0x20 => Err((CanonicalErrorKind::ControlCharacter, at + 1)),
                b'"' => Err((CanonicalErrorKind::TrailingBytes, at + 2)),
                b'\\' => Err((CanonicalErrorKind::UnexpectedEnd, at + 3)),
                _ => Ok(text.clone()),
            };
            assert_eq!(canonical(&text).map_err(|error| (error.kind, error.offset)), expected, "{text:?}");
        }
    }
}

#[test]
fn errors_say_what_to_do_and_where() {
    let error = canonical(r#"{"a":1,"a":2}"#).unwrap_err();
    assert_eq!(
        error.to_string(),
        "two members of one object have this name: keep one of them (at byte 7 of the JSON)"
    );
    let kind = CanonicalErrorKind::ExpectedCommaOrBrace;
    assert_eq!(kind.to_string(), "a comma or } must follow a member of an object");
}

/// A value as a tree with the text of its numbers, so that it can be written in many ways.
#[derive(Debug, Clone)]
enum Tree {
    Atom(&'static str),
    Text(String),
    Array(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

/// Characters that are escaped, need two UTF-16 units, sort differently there, or are plain.
fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-c]{0,3}", "[\u{0}-\u{1f}\"\\\\/\u{7f}-\u{ff}\u{fb33}\u{1f600}\u{2028}a-c ]{0,20}"]
}

fn tree() -> impl Strategy<Value = Tree> {
    let atom = prop::sample::select(&["null", "true", "false", "0", "-0", "1.0", "1", "1e3", "-2.5E-7"]);
    let leaf = prop_oneof![atom.prop_map(Tree::Atom), text().prop_map(Tree::Text)];
    leaf.prop_recursive(5, 60, 6, |inner| {
        let members = vec((text(), inner.clone()), 0..7).prop_map(|mut members| {
            members.sort_by(|a, b| a.0.cmp(&b.0));
            members.dedup_by(|a, b| a.0 == b.0);
            Tree::Object(members)
        });
        prop_oneof![vec(inner, 0..6).prop_map(Tree::Array), members]
    })
}

/// One of the many ways to write a tree, drawn from a seed.
struct Speller {
    state: u64,
    out: String,
}

impl Speller {
    fn choice(&mut self, among: usize) -> usize {
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) as usize % among
    }

    fn space(&mut self) {
        let space = ["", "", "", " ", "\n\t", "  \r\n"][self.choice(6)];
        self.out.push_str(space);
    }

    fn value(&mut self, tree: &Tree) {
        self.space();
        match tree {
            Tree::Atom(text) => self.out.push_str(text),
            Tree::Text(text) => self.string(text),
            Tree::Array(items) => {
                self.out.push('[');
                for (index, item) in items.iter().enumerate() {
                    self.out.push_str(if index == 0 { "" } else { "," });
                    self.value(item);
                }
                self.space();
                self.out.push(']');
            }
            Tree::Object(members) => {
                let mut order: Vec<_> = members.iter().collect();
                for index in (1..order.len()).rev() {
                    order.swap(index, self.choice(index + 1));
                }
                self.out.push('{');
                for (index, (name, value)) in order.into_iter().enumerate() {
                    self.out.push_str(if index == 0 { "" } else { "," });
                    self.space();
                    self.string(name);
                    self.space();
                    self.out.push(':');
                    self.value(value);
                }
                self.space();
                self.out.push('}');
            }
        }
        self.space();
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for character in text.chars() {
            let short = "\"\\/\u{8}\u{c}\n\r\t".find(character);
            let must = character < ' ' || "\"\\".contains(character);
            match (self.choice(4), short) {
                (0, Some(at)) => self.out.extend(['\\', char::from(b"\"\\/bfnrt"[at])]),
                (1, _) => self.units(character, |unit| format!("\\u{unit:04X}")),
                (2, _) => self.units(character, |unit| format!("\\u{unit:04x}")),
                _ if must => self.units(character, |unit| format!("\\u{unit:04x}")),
                _ => self.out.push(character),
            }
        }
        self.out.push('"');
    }

    fn units(&mut self, character: char, escape: fn(u16) -> String) {
        self.out.extend(character.encode_utf16(&mut [0; 2]).iter().map(|unit| escape(*unit)));
    }
}

fn spelled(tree: &Tree, seed: u64) -> String {
    let mut speller = Speller { state: seed, out: String::new() };
    speller.value(tree);
    speller.out
}

/// The canonical form of a tree, written the slow way. Its members are in order.
fn expected(tree: &Tree) -> String {
    match tree {
        Tree::Atom(text) => (*text).to_owned(),
        Tree::Text(text) => expected_string(text),
        Tree::Array(items) => format!("[{}]", items.iter().map(expected).collect::<Vec<_>>().join(",")),
        Tree::Object(members) => {
            let members =
                members.iter().map(|(name, value)| format!("{}:{}", expected_string(name), expected(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
    }
}

fn expected_string(text: &str) -> String {
    let escaped = text.chars().map(|character| match character {
        '"' => "\\\"".to_owned(),
        '\\' => "\\\\".to_owned(),
        '\u{8}' => "\\b".to_owned(),
        '\u{c}' => "\\f".to_owned(),
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        ..' ' => format!("\\u{:04x}", u32::from(character)),
        _ => character.to_string(),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

/// Accepted and refused are the same for `serde_json`, but for the differences this module documents.
/// It is asked to skip the value, since it then takes numbers of any size.
fn agrees(input: &[u8]) -> Result<(), TestCaseError> {
    use CanonicalErrorKind::{DuplicateName, LoneSurrogate, NotUtf8, TooDeep};
    let verdict = canonical(input);
    let Ok(text) = std::str::from_utf8(input) else {
        prop_assert_eq!(verdict.map_err(|error| error.kind), Err(NotUtf8));
        return Ok(());
    };
    let theirs = serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    match verdict {
        Ok(output) => {
            prop_assert!(theirs, "{:?}", text);
            prop_assert!(output.len() <= text.len());
        }
        Err(error) => match error.kind {
            DuplicateName | TooDeep { .. } => {}
            // When it does not skip strings it refuses these, too.
            LoneSurrogate => prop_assert!(serde_json::from_str::<Value>(text).is_err(), "{:?}", text),
            _ => prop_assert!(!theirs, "{:?}: {}", text, error),
        },
    }
    Ok(())
}

proptest! {
    #[test]
    fn every_spelling_has_one_canonical_form(tree in tree(), seed in any::<u64>()) {
        let input = spelled(&tree, seed);
        let output = canonical(&input).unwrap();
        prop_assert_eq!(&output, &expected(&tree), "{}", input);
        prop_assert!(matches!(canonicalize(output.as_bytes(), DEPTH), Ok(Cow::Borrowed(_))));
        let before: Value = serde_json::from_str(&input).unwrap();
        let after: Value = serde_json::from_str(&output).unwrap();
        prop_assert_eq!(before, after);
    }

    #[test]
    fn any_bytes_are_accepted_or_refused(input in vec(any::<u8>(), 0..200)) {
        agrees(&input)?;
    }

    /// A text with one byte changed, taken out, or cut off there.
    #[test]
    fn broken_texts_are_judged_as_serde_json_does(
        tree in tree(),
        seed in any::<u64>(),
        at in any::<prop::sample::Index>(),
        with in prop_oneof![prop::sample::select(b"{}[],:\"\\u0e-.+tn1 \0".to_vec()), any::<u8>()],
    ) {
        let mut input = spelled(&tree, seed).into_bytes();
        let at = at.index(input.len());
        input[at] = with;
        agrees(&input)?;
        input.remove(at);
        agrees(&input)?;
        input.truncate(at);
        agrees(&input)?;
    }

    #[test]
    fn noise_is_judged_as_serde_json_does(input in vec(prop::sample::select(&[
        "{", "}", "[", "]", ",", ":", "\"a\":", "\"b\"", "\"\\u0061\":", " ", "1", "-", ".5", "0", "e1", "true", "null",
        "\"", "\\", "\\ud83d", "\\ude00",
    ]), 0..12)) {
        agrees(input.concat().as_bytes())?;
    }
}
