//! Canonical JSON: one spelling for texts that mean the same, so that [fingerprints](crate::Fingerprint)
//! do not depend on how a client happened to write them.
//!
//! - No white space outside strings.
//! - Members sorted by the UTF-8 bytes of their unescaped names; two members with one name are refused.
//! - Strings escaped as in RFC 8785: `\b \t \n \f \r \" \\`, other controls as `\u00xx` in lower case,
//!   everything else as raw UTF-8, nothing normalised.
//! - Numbers exactly as given: `1`, `1.0` and `1e0` are three numbers, and none is ever rounded.
//!
//! It differs from RFC 8785 in the last point and in sorting by UTF-8 instead of UTF-16.
//!
//! It is also the check of JSON that comes from outside: [`validate`] and [`canonicalize`] use no
//! recursion, take time in proportion to the input (times its logarithm where members must be sorted)
//! and memory of at most a few times its size.
//!
//! What is accepted is RFC 8259, and what `serde_json` accepts, except that
//! - duplicate names and a nesting of more than the given depth are refused,
//! - a lone surrogate (`"\ud800"`) is refused always, not only when the string is looked at,
//! - numbers beyond `f64` (`1E400`) are accepted, since they are never converted.

mod scan;
mod text;

use std::borrow::Cow;
use std::ops::Range;

use thiserror::Error;

use scan::{Scan, Shuffled};

/// Why bytes were refused as JSON, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{kind} (at byte {offset} of the JSON)")]
pub struct CanonicalError {
    /// What is wrong.
    pub kind: CanonicalErrorKind,
    /// Where, in bytes from the start of the input.
    pub offset: usize,
}

/// What can be wrong with JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CanonicalErrorKind {
    /// Not UTF-8.
    #[error("JSON must be UTF-8: send other bytes as base64")]
    NotUtf8,
    /// The text stops inside a value, or there is none.
    #[error("the JSON ends too early: send one whole value")]
    UnexpectedEnd,
    /// No value where one must stand.
    #[error("a JSON value must stand here: an object, array, string, number, true, false or null")]
    ExpectedValue,
    /// No name where one must stand.
    #[error("a member's name in double quotes must stand here")]
    ExpectedName,
    /// No colon after a name.
    #[error("a colon must stand between a member's name and its value")]
    ExpectedColon,
    /// Something else after an element.
    #[error("a comma or ] must follow an element of an array")]
    ExpectedCommaOrBracket,
    /// Something else after a member.
    #[error("a comma or }} must follow a member of an object")]
    ExpectedCommaOrBrace,
    /// Not `-?(0|[1-9][0-9]*)(.[0-9]+)?([eE][+-]?[0-9]+)?`.
    #[error("this is not a JSON number: write it like -12.5e3, without leading zeros")]
    InvalidNumber,
    /// A backslash with something JSON does not know.
    #[error("this is not a JSON escape: use \\\" \\\\ \\/ \\b \\f \\n \\r \\t or \\u and four hex digits")]
    InvalidEscape,
    /// Half of a surrogate pair.
    #[error(
        "a surrogate escape must be a pair, \\ud800-\\udbff then \\udc00-\\udfff: write the character itself"
    )]
    LoneSurrogate,
    /// A raw control character within a string.
    #[error("a control character in a string must be escaped, for example as \\n or \\u001f")]
    ControlCharacter,
    /// A second member with the same unescaped name.
    #[error("two members of one object have this name: keep one of them")]
    DuplicateName,
    /// Too many arrays and objects inside each other.
    #[error("the JSON is nested more than {max} deep: flatten it")]
    TooDeep {
        /// Deepest nesting allowed.
        max: usize,
    },
    /// Something after the value.
    #[error("nothing may follow the JSON value: send exactly one")]
    TrailingBytes,
    /// Longer than we can index: 4 GiB.
    #[error("JSON of 4 GiB or more is not accepted: send a reference to it")]
    TooLong,
}

/// The canonical form of `input`: borrowed where `input` is canonical already.
///
/// `max_depth` is how deep arrays and objects may be nested: `[]` has depth 1, `1` depth 0. Callers
/// use [`limits::JSON_DEPTH_MAX`](crate::limits::JSON_DEPTH_MAX) unless they have a reason.
///
/// # Errors
/// [`CanonicalError`] if it is not one JSON value with unique names, or nested too deep.
///
/// ```
/// # use onefold_core::canonical::canonicalize;
/// let canonical = canonicalize(br#" {"b": 1.0, "a": "\u00e9\/"} "#, 128)?;
/// assert_eq!(canonical, r#"{"a":"é/","b":1.0}"#.as_bytes());
/// # Ok::<(), onefold_core::canonical::CanonicalError>(())
/// ```
pub fn canonicalize(input: &[u8], max_depth: usize) -> Result<Cow<'_, [u8]>, CanonicalError> {
    let scan = scan::scan(input, max_depth)?;
    if scan.verbatim && scan.shuffled.is_empty() {
        return Ok(Cow::Borrowed(input));
    }
    Ok(Cow::Owned(write(input, &scan)))
}

/// Whether [`canonicalize`] would succeed, without writing anything.
///
/// # Errors
/// The same as [`canonicalize`].
pub fn validate(input: &[u8], max_depth: usize) -> Result<(), CanonicalError> {
    scan::scan(input, max_depth).map(drop)
}

/// An object whose members are being written.
struct Writing<'a> {
    object: &'a Shuffled,
    members: std::slice::Iter<'a, Range<u32>>,
    /// Where the stretch of source around the object ends.
    outer_end: usize,
}

/// Copies the source stretch by stretch, jumping within objects whose members are out of order.
fn write(input: &[u8], scan: &Scan) -> Vec<u8> {
    // Never too small: the canonical form of a string or of white space is no longer than its source.
    let mut out = Vec::with_capacity(input.len());
    let copy = |out: &mut Vec<u8>, stretch: Range<usize>| {
        let source = input.get(stretch).unwrap_or_default();
        if scan.verbatim { out.extend_from_slice(source) } else { text::copy(source, out) }
    };
    let mut writing: Vec<Writing<'_>> = Vec::new();
    let (mut at, mut end) = (0, input.len());
    let mut next = 0;
    loop {
        let object = scan.shuffled.get(next).filter(|object| (object.start as usize) < end);
        if let Some(object) = object {
            copy(&mut out, at..object.start as usize);
            writing.push(Writing { object, members: scan.members_of(object).iter(), outer_end: end });
        } else {
            copy(&mut out, at..end);
        }
        let Some(current) = writing.last_mut() else { return out };
        if let Some(member) = current.members.next() {
            out.push(if object.is_some() { b'{' } else { b',' });
            (at, end) = (member.start as usize, member.end as usize);
        } else {
            out.push(b'}');
            (at, end) = (current.object.end as usize, current.outer_end);
            writing.pop();
        }
        next = scan.first_shuffled_from(at as u32, next + usize::from(object.is_some()));
    }
}

#[cfg(test)]
mod tests;
