//! Between the words of the wire and those of the core, one noun a file.

pub(crate) mod add;
pub(crate) mod effect;
pub(crate) mod event;
pub(crate) mod filter;
pub(crate) mod job;
pub(crate) mod lease;
pub(crate) mod queue;
pub(crate) mod schedule;
pub(crate) mod settle;
pub(crate) mod wait;

use std::borrow::Cow;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use onefold_core::{
    Backoff, DurationMs, InvalidDuration, Label, State, Timestamp, check_labels, check_number,
    expression::Expression,
};
use onefold_wire::{self as wire, ErrorCode, Span, Text};

use crate::failure::Failure;

/// Parses a text that may be absent.
fn text<T: FromStr<Err: Display>>(
    field: &'static str,
    code: ErrorCode,
    given: Option<Text<'_>>,
) -> Result<Option<T>, Failure> {
    given.map(|text| text.parse()).transpose().map_err(|why| Failure::field(code, field, why))
}

fn duration(field: &str, given: &Span<'_>) -> Result<DurationMs, Failure> {
    let parsed = match given {
        Span::Text(text) => text.parse(),
        Span::Ms(ms) => {
            u64::try_from(*ms).map_err(|_| InvalidDuration::Negative).and_then(DurationMs::try_from_ms)
        }
    };
    parsed.map_err(|why| Failure::field(ErrorCode::InvalidDuration, field, why))
}

fn some_duration(field: &str, given: Option<&Span<'_>>) -> Result<Option<DurationMs>, Failure> {
    given.map(|span| duration(field, span)).transpose()
}

fn duration_within(
    field: &str,
    given: Option<&Span<'_>>,
    allowed: RangeInclusive<DurationMs>,
) -> Result<Option<DurationMs>, Failure> {
    let Some(duration) = some_duration(field, given)? else { return Ok(None) };
    if allowed.contains(&duration) {
        return Ok(Some(duration));
    }
    let why = format!("this is {} to {}, not {duration}", allowed.start(), allowed.end());
    Err(Failure::field(ErrorCode::InvalidDuration, field, why))
}

fn number_within(
    field: &str,
    given: Option<u32>,
    allowed: RangeInclusive<u32>,
) -> Result<Option<u32>, Failure> {
    let Some(number) = given else { return Ok(None) };
    check_number(number, allowed).map_err(|why| Failure::not_allowed(field, why))?;
    Ok(given)
}

pub(crate) fn time(field: &'static str, given: &str) -> Result<Timestamp, Failure> {
    given.parse().map_err(|why| Failure::field(ErrorCode::InvalidTime, field, why))
}

pub(crate) fn state(field: &'static str, word: &str) -> Result<State, Failure> {
    State::parse(word).ok_or_else(|| {
        let words: Vec<&str> = State::ALL.iter().map(|state| state.as_str()).collect();
        Failure::field(ErrorCode::InvalidField, field, format!("a state is one of {}", words.join(", ")))
    })
}

fn labels(given: Option<Vec<Text<'_>>>) -> Result<Option<Vec<Label>>, Failure> {
    let Some(given) = given else { return Ok(None) };
    check_labels(given.len()).map_err(|why| Failure::not_allowed("labels", why))?;
    let parse = |(index, label): (usize, &Text<'_>)| {
        Label::new(&**label)
            .map_err(|why| Failure::field(ErrorCode::InvalidField, format!("labels[{index}]"), why))
    };
    given.iter().enumerate().map(parse).collect::<Result<_, _>>().map(Some)
}

/// `attempts` is how many waits an expression is computed for; the last of them repeats.
fn backoff(field: &str, given: &wire::Backoff<'_>, attempts: u32) -> Result<Backoff, Failure> {
    let backoff = match given {
        wire::Backoff::Exponential { base, max } => Backoff::Exponential {
            base: duration(&format!("{field}.exponential.base"), base)?,
            max: duration(&format!("{field}.exponential.max"), max)?,
        },
        wire::Backoff::Fixed(wait) => Backoff::Fixed(duration(&format!("{field}.fixed"), wait)?),
        wire::Backoff::List(waits) => {
            let wait = |(index, wait)| duration(&format!("{field}.list[{index}]"), wait);
            Backoff::List(waits.iter().enumerate().map(wait).collect::<Result<_, _>>()?)
        }
        wire::Backoff::Expression(source) => {
            let expression: Expression =
                source.parse().map_err(|why| Failure::field(ErrorCode::InvalidBackoff, field, why))?;
            let mut waits = expression.compile_to_list(attempts);
            // The last one repeats anyway.
            while waits.len() > 1 && waits.get(waits.len() - 2) == waits.last() {
                waits.pop();
            }
            Backoff::List(waits)
        }
    };
    backoff.check().map_err(|why| Failure::not_allowed(field, why))?;
    Ok(backoff)
}

fn backoff_view(backoff: &Backoff) -> wire::Backoff<'static> {
    match backoff {
        Backoff::Exponential { base, max } => {
            wire::Backoff::Exponential { base: span(*base), max: span(*max) }
        }
        Backoff::Fixed(wait) => wire::Backoff::Fixed(span(*wait)),
        Backoff::List(waits) => wire::Backoff::List(waits.iter().copied().map(span).collect()),
    }
}

fn span(duration: DurationMs) -> Span<'static> {
    Span::from(duration.to_string())
}

fn shown(value: impl Display) -> Text<'static> {
    Text::from(value.to_string())
}

fn time_text(time: Timestamp) -> Text<'static> {
    let mut buffer = [0; Timestamp::TEXT_LEN];
    Text::from(time.text(&mut buffer).to_owned())
}

fn word(word: &'static str) -> Text<'static> {
    Text(Cow::Borrowed(word))
}
