//! The parser: one pass over the text that refuses what is not JSON and notes what keeps it from being
//! canonical.

use std::ops::Range;

use super::text::{is_space, plain_length, read_escape, unescape};
use super::{CanonicalError, CanonicalErrorKind};

/// What is known of a valid text.
pub(super) struct Scan {
    /// Every stretch of the text can be copied as it stands; only the order of members may differ.
    pub(super) verbatim: bool,
    /// The objects whose members are not in order, by `start`.
    pub(super) shuffled: Vec<Shuffled>,
    members: Vec<Range<u32>>,
}

/// An object whose members are not in order.
pub(super) struct Shuffled {
    /// Offset of `{`.
    pub(super) start: u32,
    /// Offset after `}`.
    pub(super) end: u32,
    members: Range<usize>,
}

impl Scan {
    /// Where each member of `object` stands in the source, in canonical order.
    pub(super) fn members_of(&self, object: &Shuffled) -> &[Range<u32>] {
        self.members.get(object.members.clone()).unwrap_or_default()
    }

    /// Index of the first of [`Scan::shuffled`] that starts at `offset` or later; `likely` saves the search.
    pub(super) fn first_shuffled_from(&self, offset: u32, likely: usize) -> usize {
        let (before, after) = self.shuffled.split_at_checked(likely).unwrap_or((&self.shuffled, &[]));
        let starts_before = |object: &Shuffled| object.start < offset;
        if before.last().is_none_or(starts_before) && !after.first().is_some_and(starts_before) {
            return before.len();
        }
        self.shuffled.partition_point(starts_before)
    }
}

pub(super) fn scan(input: &[u8], max_depth: usize) -> Result<Scan, CanonicalError> {
    if u32::try_from(input.len()).is_err() {
        return Err(CanonicalError { kind: CanonicalErrorKind::TooLong, offset: u32::MAX as usize });
    }
    if let Err(error) = std::str::from_utf8(input) {
        return Err(CanonicalError { kind: CanonicalErrorKind::NotUtf8, offset: error.valid_up_to() });
    }
    let mut scanner = Scanner {
        input,
        max_depth,
        at: 0,
        open: Vec::with_capacity(8),
        members: Vec::with_capacity(16),
        unescaped: Vec::new(),
        found: Scan { verbatim: true, shuffled: Vec::new(), members: Vec::new() },
    };
    match scanner.text() {
        Ok(()) => {
            let mut found = scanner.found;
            // They were noted where they end.
            found.shuffled.sort_unstable_by_key(|object| object.start);
            Ok(found)
        }
        Err(kind) => Err(CanonicalError { kind, offset: scanner.at }),
    }
}

/// An array or object whose end has not been reached.
enum Open {
    Array,
    Object {
        start: u32,
        /// Index of its first member in [`Scanner::members`].
        first: usize,
        /// Whether the names so far are strictly ascending.
        ascending: bool,
    },
}

/// A member of an object whose end has not been reached.
struct Member {
    /// From its name's quote to the comma or brace after its value. Offsets fit: the input is below 4 GiB.
    source: Range<u32>,
    name: Name,
}

enum Name {
    /// Without escapes, ending here; it starts after the quote.
    Plain { end: u32 },
    /// With escapes: where it stands in [`Scanner::unescaped`].
    Unescaped(Range<u32>),
}

/// What follows the place the scanner has reached.
enum Expect {
    Value,
    /// The value has ended; now a comma, the end of the array or object around it, or of the text.
    Separator,
}

/// Where it stops, `at` is the offset of the trouble.
struct Scanner<'a> {
    input: &'a [u8],
    max_depth: usize,
    at: usize,
    open: Vec<Open>,
    /// Of all open objects, those of the innermost last.
    members: Vec<Member>,
    unescaped: Vec<u8>,
    found: Scan,
}

impl<'a> Scanner<'a> {
    fn text(&mut self) -> Result<(), CanonicalErrorKind> {
        let mut expect = Expect::Value;
        loop {
            self.skip_space();
            expect = match expect {
                Expect::Value => self.value()?,
                Expect::Separator if !self.open.is_empty() => self.separator()?,
                Expect::Separator if self.at == self.input.len() => return Ok(()),
                Expect::Separator => return Err(CanonicalErrorKind::TrailingBytes),
            };
        }
    }

    /// A scalar, or the start of an array or object.
    fn value(&mut self) -> Result<Expect, CanonicalErrorKind> {
        match self.peek() {
            Some(b'"') => self.string().map(drop)?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b'{') => return self.enter_object(),
            Some(b'[') => return self.enter_array(),
            Some(b't') => self.literal(b"true")?,
            Some(b'f') => self.literal(b"false")?,
            Some(b'n') => self.literal(b"null")?,
            _ => return Err(self.unexpected(CanonicalErrorKind::ExpectedValue)),
        }
        Ok(Expect::Separator)
    }

    fn enter_array(&mut self) -> Result<Expect, CanonicalErrorKind> {
        self.enter(Open::Array)?;
        self.skip_space();
        if self.peek() == Some(b']') {
            return Ok(self.leave());
        }
        Ok(Expect::Value)
    }

    fn enter_object(&mut self) -> Result<Expect, CanonicalErrorKind> {
        let (start, first) = (self.at as u32, self.members.len());
        self.enter(Open::Object { start, first, ascending: true })?;
        self.skip_space();
        if self.peek() == Some(b'}') {
            return Ok(self.leave());
        }
        self.name()?;
        Ok(Expect::Value)
    }

    fn enter(&mut self, open: Open) -> Result<(), CanonicalErrorKind> {
        if self.open.len() >= self.max_depth {
            return Err(CanonicalErrorKind::TooDeep { max: self.max_depth });
        }
        self.open.push(open);
        self.at += 1;
        Ok(())
    }

    fn leave(&mut self) -> Expect {
        self.open.pop();
        self.at += 1;
        Expect::Separator
    }

    /// What stands after a value inside an array or object.
    fn separator(&mut self) -> Result<Expect, CanonicalErrorKind> {
        match (self.open.last(), self.peek()) {
            (Some(Open::Array), Some(b',')) => {
                self.at += 1;
                Ok(Expect::Value)
            }
            (Some(Open::Array), Some(b']')) => Ok(self.leave()),
            (Some(Open::Object { .. }), Some(b',')) => {
                self.end_member();
                self.at += 1;
                self.skip_space();
                self.name()?;
                Ok(Expect::Value)
            }
            (Some(&Open::Object { start, first, ascending }), Some(b'}')) => {
                self.end_member();
                if !ascending {
                    self.sort_members(start, first)?;
                }
                self.members.truncate(first);
                Ok(self.leave())
            }
            (Some(Open::Object { .. }), _) => Err(self.unexpected(CanonicalErrorKind::ExpectedCommaOrBrace)),
            (_, _) => Err(self.unexpected(CanonicalErrorKind::ExpectedCommaOrBracket)),
        }
    }

    /// A member's name and the colon after it.
    fn name(&mut self) -> Result<(), CanonicalErrorKind> {
        if self.peek() != Some(b'"') {
            return Err(self.unexpected(CanonicalErrorKind::ExpectedName));
        }
        let start = self.at as u32;
        let has_escapes = self.string()?;
        let inside = start as usize + 1..self.at - 1;
        let name = if has_escapes {
            let from = self.unescaped.len() as u32;
            unescape(self.input.get(inside).unwrap_or_default(), &mut self.unescaped);
            Name::Unescaped(from..self.unescaped.len() as u32)
        } else {
            Name::Plain { end: inside.end as u32 }
        };
        self.skip_space();
        if self.peek() != Some(b':') {
            return Err(self.unexpected(CanonicalErrorKind::ExpectedColon));
        }
        self.at += 1;
        self.add_member(Member { source: start..start, name });
        Ok(())
    }

    fn add_member(&mut self, member: Member) {
        let names = Names { input: self.input, unescaped: &self.unescaped };
        if let Some(Open::Object { first, ascending, .. }) = self.open.last_mut()
            && *first < self.members.len()
            && let Some(before) = self.members.last()
        {
            *ascending = *ascending && names.of(before) < names.of(&member);
        }
        self.members.push(member);
    }

    fn end_member(&mut self) {
        if let Some(member) = self.members.last_mut() {
            member.source.end = self.at as u32;
        }
    }

    /// Notes the canonical order of the object that started at `start`, whose members are those from index
    /// `first` on and whose brace is next.
    fn sort_members(&mut self, start: u32, first: usize) -> Result<(), CanonicalErrorKind> {
        let names = Names { input: self.input, unescaped: &self.unescaped };
        let members = self.members.get_mut(first..).unwrap_or_default();
        members.sort_unstable_by(|a, b| {
            names.of(a).cmp(names.of(b)).then_with(|| a.source.start.cmp(&b.source.start))
        });
        let repeats = members.windows(2).filter(|pair| names.of(&pair[0]) == names.of(&pair[1]));
        if let Some(repeat) = repeats.map(|pair| pair[1].source.start).min() {
            self.at = repeat as usize;
            return Err(CanonicalErrorKind::DuplicateName);
        }
        let from = self.found.members.len();
        self.found.members.extend(members.iter().map(|member| member.source.clone()));
        let members = from..self.found.members.len();
        self.found.shuffled.push(Shuffled { start, end: self.at as u32 + 1, members });
        Ok(())
    }

    /// Goes past a string. Whether it has escapes.
    fn string(&mut self) -> Result<bool, CanonicalErrorKind> {
        self.at += 1;
        let mut has_escapes = false;
        loop {
            let rest = self.rest();
            let Some(plain) = plain_length(rest) else {
                self.at = self.input.len();
                return Err(CanonicalErrorKind::UnexpectedEnd);
            };
            self.at += plain;
            match rest.get(plain) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(has_escapes);
                }
                Some(b'\\') => {
                    let escape = read_escape(self.rest())?;
                    self.found.verbatim &= escape.canonical;
                    self.at += escape.length;
                    has_escapes = true;
                }
                _ => return Err(CanonicalErrorKind::ControlCharacter),
            }
        }
    }

    fn number(&mut self) -> Result<(), CanonicalErrorKind> {
        self.eat(b"-");
        if self.eat(b"0") {
            if matches!(self.peek(), Some(b'0'..=b'9')) {
                return Err(CanonicalErrorKind::InvalidNumber);
            }
        } else {
            self.digits()?;
        }
        if self.eat(b".") {
            self.digits()?;
        }
        if self.eat(b"eE") {
            self.eat(b"+-");
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), CanonicalErrorKind> {
        let rest = self.rest();
        match rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len()) {
            0 => Err(self.unexpected(CanonicalErrorKind::InvalidNumber)),
            count => {
                self.at += count;
                Ok(())
            }
        }
    }

    fn literal(&mut self, word: &[u8]) -> Result<(), CanonicalErrorKind> {
        let rest = self.rest();
        if rest.starts_with(word) {
            self.at += word.len();
            return Ok(());
        }
        if word.starts_with(rest) {
            self.at = self.input.len();
        }
        Err(self.unexpected(CanonicalErrorKind::ExpectedValue))
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        if rest.first().is_some_and(|byte| is_space(*byte)) {
            self.found.verbatim = false;
            self.at += rest.iter().position(|byte| !is_space(*byte)).unwrap_or(rest.len());
        }
    }

    fn eat(&mut self, any_of: &[u8]) -> bool {
        let there = self.peek().is_some_and(|byte| any_of.contains(&byte));
        self.at += usize::from(there);
        there
    }

    fn peek(&self) -> Option<u8> {
        self.input.get(self.at).copied()
    }

    fn rest(&self) -> &'a [u8] {
        self.input.get(self.at..).unwrap_or_default()
    }

    /// `kind`, unless there is nothing at all.
    fn unexpected(&self, kind: CanonicalErrorKind) -> CanonicalErrorKind {
        if self.peek().is_none() { CanonicalErrorKind::UnexpectedEnd } else { kind }
    }
}

/// Where unescaped names can be read.
#[derive(Clone, Copy)]
struct Names<'a> {
    input: &'a [u8],
    unescaped: &'a [u8],
}

impl<'a> Names<'a> {
    fn of(self, member: &Member) -> &'a [u8] {
        let name = match &member.name {
            Name::Plain { end } => self.input.get(member.source.start as usize + 1..*end as usize),
            Name::Unescaped(range) => self.unescaped.get(range.start as usize..range.end as usize),
        };
        name.unwrap_or_default()
    }
}
