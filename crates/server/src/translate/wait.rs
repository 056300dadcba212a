//! How long a request may wait for something to happen.

use onefold_core::{DurationMs, limits};
use onefold_wire::Span;

use crate::failure::Failure;

/// A wait in a query: text, or milliseconds as digits.
pub(crate) fn parse(text: &str) -> Result<DurationMs, Failure> {
    let span = text.parse::<i64>().map_or_else(|_| Span::from(text), Span::Ms);
    let within = super::duration_within("wait", Some(&span), DurationMs::ZERO..=limits::WAIT_MAX)?;
    Ok(within.unwrap_or(DurationMs::ZERO))
}
