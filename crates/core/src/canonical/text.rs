//! Strings and white space of JSON that is valid UTF-8.

use super::CanonicalErrorKind;

pub(super) const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// Bytes before the next quote, backslash or control character of a string.
///
/// Eight bytes at a time: a byte of `flagged` is set where one of the three stands. A borrow may also set
/// bytes above such a place, so only the lowest one counts.
pub(super) fn plain_length(text: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    const fn below(word: u64, limit: u64) -> u64 {
        word.wrapping_sub(ONES * limit) & !word & HIGH
    }
    let (words, rest) = text.as_chunks::<8>();
    for (index, bytes) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*bytes);
        let quotes = word ^ (ONES * b'"' as u64);
        let backslashes = word ^ (ONES * b'\\' as u64);
        let flagged = below(word, 0x20) | below(quotes, 1) | below(backslashes, 1);
        if flagged != 0 {
            return Some(index * 8 + flagged.trailing_zeros() as usize / 8);
        }
    }
    let special = |byte: &u8| *byte < 0x20 || matches!(*byte, b'"' | b'\\');
    rest.iter().position(special).map(|at| words.len() * 8 + at)
}

/// An escape sequence that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Escape {
    pub(super) meaning: char,
    /// Bytes of source, with the backslash.
    pub(super) length: usize,
    /// Whether it is written as the canonical form writes it.
    pub(super) canonical: bool,
}

/// Reads the escape that `text` starts with, backslash included.
pub(super) fn read_escape(text: &[u8]) -> Result<Escape, CanonicalErrorKind> {
    let short = |meaning, canonical| Ok(Escape { meaning, length: 2, canonical });
    match text.get(1) {
        Some(b'"') => short('"', true),
        Some(b'\\') => short('\\', true),
        Some(b'/') => short('/', false),
        Some(b'b') => short('\u{8}', true),
        Some(b'f') => short('\u{c}', true),
        Some(b'n') => short('\n', true),
        Some(b'r') => short('\r', true),
        Some(b't') => short('\t', true),
        Some(b'u') => read_unicode_escape(text),
        Some(_) => Err(CanonicalErrorKind::InvalidEscape),
        None => Err(CanonicalErrorKind::UnexpectedEnd),
    }
}

fn read_unicode_escape(text: &[u8]) -> Result<Escape, CanonicalErrorKind> {
    let first = read_hex(text)?;
    if let Some(meaning) = char::from_u32(first) {
        let only_form = meaning < ' ' && !matches!(meaning, '\u{8}' | '\t' | '\n' | '\u{c}' | '\r');
        let upper_case = text.get(2..6).unwrap_or_default().iter().any(u8::is_ascii_uppercase);
        return Ok(Escape { meaning, length: 6, canonical: only_form && !upper_case });
    }
    if first >= 0xdc00 || !text.get(6..).is_some_and(|rest| rest.starts_with(b"\\u")) {
        return Err(CanonicalErrorKind::LoneSurrogate);
    }
    let second = read_hex(text.get(6..).unwrap_or_default())?;
    if !(0xdc00..0xe000).contains(&second) {
        return Err(CanonicalErrorKind::LoneSurrogate);
    }
    let scalar = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
    let meaning = char::from_u32(scalar).ok_or(CanonicalErrorKind::LoneSurrogate)?;
    Ok(Escape { meaning, length: 12, canonical: false })
}

/// The four hex digits after `\u`.
fn read_hex(text: &[u8]) -> Result<u32, CanonicalErrorKind> {
    let digits = text.get(2..6).ok_or(CanonicalErrorKind::UnexpectedEnd)?;
    digits.iter().try_fold(0, |value, digit| {
        let digit = char::from(*digit).to_digit(16).ok_or(CanonicalErrorKind::InvalidEscape)?;
        Ok(value << 4 | digit)
    })
}

/// Appends `character` as a canonical string spells it.
fn push_canonical(character: char, out: &mut Vec<u8>) {
    match character {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\u{8}' => out.extend_from_slice(b"\\b"),
        '\t' => out.extend_from_slice(b"\\t"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\u{c}' => out.extend_from_slice(b"\\f"),
        '\r' => out.extend_from_slice(b"\\r"),
        control @ ..' ' => {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            let code = control as usize;
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', HEX[code >> 4], HEX[code & 15]]);
        }
        plain => push_utf8(plain, out),
    }
}

fn push_utf8(character: char, out: &mut Vec<u8>) {
    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
}

/// Copies the inside of a valid string up to its closing quote, each escape through `push`. Returns the
/// length of what was read, without the quote.
fn copy_string(source: &[u8], out: &mut Vec<u8>, push: fn(char, &mut Vec<u8>)) -> usize {
    let mut at = 0;
    loop {
        let rest = source.get(at..).unwrap_or_default();
        let (plain, rest) = rest.split_at(plain_length(rest).unwrap_or(rest.len()));
        out.extend_from_slice(plain);
        at += plain.len();
        if rest.first() != Some(&b'\\') {
            return at;
        }
        // The scanner has read this escape before.
        let Ok(escape) = read_escape(rest) else { return at };
        push(escape.meaning, out);
        at += escape.length;
    }
}

/// Appends the meaning of the inside of a valid string.
pub(super) fn unescape(source: &[u8], out: &mut Vec<u8>) {
    copy_string(source, out, push_utf8);
}

/// Copies valid JSON that starts and ends outside strings, without white space and with every string in
/// its canonical spelling.
pub(super) fn copy(source: &[u8], out: &mut Vec<u8>) {
    let mut rest = source;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte == b'"' {
            out.push(b'"');
            let inside = copy_string(rest, out, push_canonical);
            out.push(b'"');
            rest = rest.get(inside + 1..).unwrap_or_default();
        } else if !is_space(*byte) {
            out.push(*byte);
        }
    }
}
