//! A look at Rust source that tells code from comments and strings, so that a rule about code is not broken by a
//! sentence about it. Not a parser: it only needs to know where comments, strings and test modules begin and end.

use std::ops::Range;

/// Two views of a file, each as long as the file, with everything else blanked; line breaks stay.
pub(crate) struct Views {
    /// Comments and the insides of strings are blank; the quotes stay.
    pub(crate) code: String,
    /// Only comments.
    pub(crate) comments: String,
}

pub(crate) fn views(source: &str) -> Views {
    let bytes = source.as_bytes();
    let mut code: Vec<u8> = bytes.iter().map(|&byte| if byte == b'\n' { byte } else { b' ' }).collect();
    let mut comments = code.clone();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let (length, kind) = token(rest, at.checked_sub(1).map(|before| bytes[before]));
        let range = at..at + length;
        match kind {
            Kind::Code => code[range.clone()].copy_from_slice(&bytes[range]),
            Kind::Comment => comments[range.clone()].copy_from_slice(&bytes[range]),
            Kind::Text => {
                let quote = |byte: &u8| matches!(byte, b'"' | b'\'');
                let first = at + rest.iter().position(quote).unwrap_or(0);
                let last = at + rest[..length].iter().rposition(quote).unwrap_or(0);
                code[first] = bytes[first];
                code[last] = bytes[last];
            }
        }
        at += length.max(1);
    }
    let text = |view: Vec<u8>| String::from_utf8_lossy(&view).into_owned();
    Views { code: text(code), comments: text(comments) }
}

#[derive(Clone, Copy)]
enum Kind {
    Code,
    Comment,
    Text,
}

/// Length and kind of what starts here. `before` keeps the `r` of `bar"` from starting a raw string.
fn token(rest: &[u8], before: Option<u8>) -> (usize, Kind) {
    let in_word = before.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    match rest {
        [b'/', b'/', ..] => (until(rest, b"\n", 0), Kind::Comment),
        [b'/', b'*', ..] => (block_comment(rest), Kind::Comment),
        [b'"', ..] => (string(rest), Kind::Text),
        [b'b' | b'c', b'r', tail @ ..] | [b'r', tail @ ..] if !in_word => match raw_string(tail) {
            Some(length) => (rest.len() - tail.len() + length, Kind::Text),
            None => (1, Kind::Code),
        },
        [b'\'', b'\\', ..] => (3 + until(rest.get(3..).unwrap_or_default(), b"'", 1), Kind::Text),
        [b'\'', first, tail @ ..] if tail.iter().take(width(*first)).next_back() == Some(&b'\'') => {
            (1 + width(*first) + 1, Kind::Text)
        }
        _ => (1, Kind::Code),
    }
}

/// Bytes of the UTF-8 character that starts with `first`.
fn width(first: u8) -> usize {
    match first {
        0xf0.. => 4,
        0xe0.. => 3,
        0xc0.. => 2,
        _ => 1,
    }
}

/// Where `end` begins, plus `extra`, or the whole rest.
fn until(rest: &[u8], end: &[u8], extra: usize) -> usize {
    rest.windows(end.len()).position(|window| window == end).map_or(rest.len(), |found| found + extra)
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] if depth == 1 => return at + 2,
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    rest.len()
}

fn string(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Length of a raw string from its first `#` or quote, if it is one.
fn raw_string(tail: &[u8]) -> Option<usize> {
    let hashes = tail.iter().take_while(|&&byte| byte == b'#').count();
    if tail.get(hashes) != Some(&b'"') {
        return None;
    }
    let end = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
    Some(hashes + 1 + until(&tail[hashes + 1..], &end, end.len()))
}

/// Line numbers (from 0) of items under `#[cfg(test)]`.
pub(crate) fn test_lines(code: &str) -> Vec<Range<usize>> {
    let line_of = |offset: usize| code[..offset].matches('\n').count();
    code.match_indices("#[cfg(test)]")
        .filter_map(|(start, _)| {
            let open = start + code[start..].find(['{', ';'])?;
            let mut depth = 0_usize;
            for (offset, c) in code[open..].char_indices() {
                match c {
                    ';' if depth == 0 => return None,
                    '{' => depth += 1,
                    '}' if depth == 1 => return Some(line_of(start)..line_of(open + offset) + 1),
                    '}' => depth -= 1,
                    _ => {}
                }
            }
            Some(line_of(start)..line_of(code.len()) + 1)
        })
        .collect()
}

/// Whether `text` holds `word` with no letter, digit or underscore on either side.
pub(crate) fn has_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(part) && !text[at + word.len()..].starts_with(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_told_from_code() {
        let source =
            "let a = \"x // y\"; // one \"two\nlet b = /* in /* deep */ */ 'c'; fn f<'a>(s: &'a str) {}";
        let views = views(source);
        assert_eq!(
            views.code,
            "let a = \"      \";            \nlet b =                     ' '; fn f<'a>(s: &'a str) {}"
        );
        assert_eq!(views.comments.trim(), "// one \"two\n        /* in /* deep */ */");
        assert_eq!(views.code.len(), source.len());
    }

    #[test]
    fn strings_end_where_rust_ends_them() {
        for text in
            [r#""a\"b""#, r###"r#"a"b"#"###, r#"br"a\""#, r"'\''", r"'\u{1f600}'", "'\"'", "'é'", "\"é\""]
        {
            let source = format!("f({text}); done");
            assert!(views(&source).code.ends_with("); done"), "{text} -> {}", views(&source).code);
            assert!(!views(&source).code.contains('a'), "{text}");
        }
        assert!(views("bar\"x\"; y").code.starts_with("bar\" \"; y"));
    }

    #[test]
    fn test_modules_are_found_by_their_braces() {
        let source =
            "fn a() {}\n#[cfg(test)]\nmod tests {\n  fn b() {}\n}\nfn c() {}\n#[cfg(test)]\nmod more;\n";
        assert_eq!(format!("{:?}", test_lines(source)), "[1..5]");
    }

    #[test]
    fn words_stand_alone() {
        assert!(has_word("a sleep(b)", "sleep"));
        assert!(!has_word("asleep sleep_until", "sleep"));
    }
}
