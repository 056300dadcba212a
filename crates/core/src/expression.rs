//! The retry delays of the QStash interface: arithmetic over the number of retries, in milliseconds, such
//! as `1000 * (1 + retried)`. It is evaluated once, when a job is accepted, into a list of waits.
//!
//! ```text
//! sum      = product { ("+" | "-") product }
//! product  = factor { ("*" | "/") factor }
//! factor   = "-" factor | number | "retried" | "(" sum ")" | function "(" sum { "," sum } ")"
//! number   = digits [ "." digits ]
//! function = "pow" | "exp" | "sqrt" | "abs" | "floor" | "ceil" | "round" | "min" | "max"
//! ```
//!
//! `retried` is the number of retries already made: 0 for the wait after the first failure. `pow`, `min`
//! and `max` take two arguments, the others one. Spaces and tabs may stand between all of these.

use std::fmt;

use thiserror::Error;

use crate::{DurationMs, limits};

/// A delay expression that was read and can be evaluated.
///
/// It is computed in `f64`. The result is rounded to the nearest millisecond and brought within 0 and
/// [`Expression::WAIT_MAX`]: what is negative becomes 0, what is infinite or no number (`0 / 0`, the root
/// of a negative) the maximum, since a job that retries without pause harms more than one that waits.
///
/// ```
/// # use onefold_core::expression::Expression;
/// let expression: Expression = "max(1000, pow(2, retried) * 100)".parse()?;
/// let waits = expression.compile_to_list(6);
/// assert_eq!(waits.iter().map(|wait| wait.as_ms()).collect::<Vec<_>>(), [1000, 1000, 1000, 1000, 1600, 3200]);
/// # Ok::<(), onefold_core::expression::InvalidExpression>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Expression {
    source: Box<str>,
    /// In postfix order.
    steps: Vec<Step>,
}

/// Why an expression was refused. Places are counted in bytes, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidExpression {
    /// Longer than [`Expression::LENGTH_MAX`].
    #[error("a delay expression has at most {max} bytes: shorten it", max = Expression::LENGTH_MAX)]
    TooLong,
    /// Nested deeper than [`Expression::DEPTH_MAX`].
    #[error("a delay expression is nested at most {max} deep: flatten it", max = Expression::DEPTH_MAX)]
    TooDeep,
    /// Nothing where a value must stand.
    #[error("the delay expression ends too early: write it like 1000 * (1 + retried)")]
    UnexpectedEnd,
    /// No value where one must stand.
    #[error(
        "a number, retried, a function or ( must stand at character {at} of the delay expression: \
         write it like 1000 * (1 + retried)"
    )]
    ExpectedValue {
        /// Where.
        at: usize,
    },
    /// Something else after a value.
    #[error(
        "only + - * / , or ) can follow at character {at} of the delay expression, parentheses in pairs: \
         write it like 1000 * (1 + retried)"
    )]
    ExpectedOperator {
        /// Where.
        at: usize,
    },
    /// A name that is neither `retried` nor a function.
    #[error(
        "the name at character {at} of the delay expression is not known: use retried, pow, exp, sqrt, abs, \
         floor, ceil, round, min or max"
    )]
    UnknownName {
        /// Where.
        at: usize,
    },
    /// Too few or too many arguments, or none in parentheses.
    #[error("{function} in the delay expression takes {takes} in parentheses: write {example}")]
    Arguments {
        /// The function.
        function: &'static str,
        /// How many arguments it takes.
        takes: &'static str,
        /// How it is written.
        example: &'static str,
    },
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    Number(f64),
    Retried,
    One(OneArgument),
    Two(TwoArguments),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum OneArgument {
    Negate,
    Exp,
    Sqrt,
    Abs,
    Floor,
    Ceil,
    Round,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum TwoArguments {
    Add,
    Subtract,
    Multiply,
    Divide,
    Pow,
    Min,
    Max,
}

impl Expression {
    /// Bytes of an expression, at the most.
    pub const LENGTH_MAX: usize = 1024;
    /// Parentheses, calls and minus signs inside each other, at the most.
    pub const DEPTH_MAX: usize = 32;
    /// The longest wait that can come out.
    pub const WAIT_MAX: DurationMs = DurationMs::from_ms(24 * 3_600_000);

    /// The text it was read from, unchanged.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The wait before the next attempt when `retried` retries have been made.
    pub fn wait(&self, retried: u32) -> DurationMs {
        let ms = self.value(f64::from(retried)).round();
        if ms < Expression::WAIT_MAX.as_ms() as f64 {
            // Negative numbers become 0.
            DurationMs::from_ms(ms as u64)
        } else {
            Expression::WAIT_MAX
        }
    }

    /// The wait after each of the first `attempts` failures, as [`Backoff::List`](crate::Backoff::List)
    /// wants it: at least one and at most [`limits::BACKOFF_LIST_MAX`].
    pub fn compile_to_list(&self, attempts: u32) -> Vec<DurationMs> {
        let count = attempts.clamp(1, limits::BACKOFF_LIST_MAX as u32);
        (0..count).map(|retried| self.wait(retried)).collect()
    }

    fn value(&self, retried: f64) -> f64 {
        let mut stack: Vec<f64> = Vec::with_capacity(8);
        for step in &self.steps {
            match *step {
                Step::Number(number) => stack.push(number),
                Step::Retried => stack.push(retried),
                Step::One(function) => {
                    if let Some(x) = stack.last_mut() {
                        *x = function.of(*x);
                    }
                }
                Step::Two(function) => {
                    let y = stack.pop();
                    if let (Some(x), Some(y)) = (stack.last_mut(), y) {
                        *x = function.of(*x, y);
                    }
                }
            }
        }
        // The parser leaves exactly one.
        stack.pop().unwrap_or(f64::NAN)
    }
}

impl OneArgument {
    fn of(self, x: f64) -> f64 {
        match self {
            OneArgument::Negate => -x,
            OneArgument::Exp => x.exp(),
            OneArgument::Sqrt => x.sqrt(),
            OneArgument::Abs => x.abs(),
            OneArgument::Floor => x.floor(),
            OneArgument::Ceil => x.ceil(),
            OneArgument::Round => x.round(),
        }
    }
}

impl TwoArguments {
    fn of(self, x: f64, y: f64) -> f64 {
        match self {
            TwoArguments::Add => x + y,
            TwoArguments::Subtract => x - y,
            TwoArguments::Multiply => x * y,
            TwoArguments::Divide => x / y,
            TwoArguments::Pow => x.powf(y),
            // Unlike f64::min and max, these let through that an argument is no number.
            TwoArguments::Min => {
                if x < y || x.is_nan() {
                    x
                } else {
                    y
                }
            }
            TwoArguments::Max => {
                if x > y || x.is_nan() {
                    x
                } else {
                    y
                }
            }
        }
    }
}

impl std::str::FromStr for Expression {
    type Err = InvalidExpression;

    fn from_str(source: &str) -> Result<Expression, InvalidExpression> {
        if source.len() > Expression::LENGTH_MAX {
            return Err(InvalidExpression::TooLong);
        }
        let mut parser = Parser { source, at: 0, depth: 0, steps: Vec::new() };
        parser.sum()?;
        match parser.peek() {
            None => Ok(Expression { source: source.into(), steps: parser.steps }),
            Some(_) => Err(parser.expected_operator()),
        }
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

/// Recursive, but no deeper than [`Expression::DEPTH_MAX`].
struct Parser<'a> {
    source: &'a str,
    at: usize,
    depth: usize,
    steps: Vec<Step>,
}

impl<'a> Parser<'a> {
    fn sum(&mut self) -> Result<(), InvalidExpression> {
        self.product()?;
        loop {
            let operator = match self.peek() {
                Some(b'+') => TwoArguments::Add,
                Some(b'-') => TwoArguments::Subtract,
                _ => return Ok(()),
            };
            self.at += 1;
            self.product()?;
            self.steps.push(Step::Two(operator));
        }
    }

    fn product(&mut self) -> Result<(), InvalidExpression> {
        self.factor()?;
        loop {
            let operator = match self.peek() {
                Some(b'*') => TwoArguments::Multiply,
                Some(b'/') => TwoArguments::Divide,
                _ => return Ok(()),
            };
            self.at += 1;
            self.factor()?;
            self.steps.push(Step::Two(operator));
        }
    }

    fn factor(&mut self) -> Result<(), InvalidExpression> {
        match self.peek() {
            Some(b'-') => {
                self.at += 1;
                self.nested(Parser::factor)?;
                self.steps.push(Step::One(OneArgument::Negate));
                Ok(())
            }
            Some(b'(') => {
                self.at += 1;
                self.nested(Parser::sum)?;
                if self.eat(b')') { Ok(()) } else { Err(self.expected_operator()) }
            }
            Some(b'0'..=b'9') => self.number(),
            Some(b'a'..=b'z' | b'A'..=b'Z' | b'_') => self.name(),
            Some(_) => Err(InvalidExpression::ExpectedValue { at: self.at + 1 }),
            None => Err(InvalidExpression::UnexpectedEnd),
        }
    }

    fn nested(
        &mut self,
        parse: fn(&mut Parser<'a>) -> Result<(), InvalidExpression>,
    ) -> Result<(), InvalidExpression> {
        if self.depth == Expression::DEPTH_MAX {
            return Err(InvalidExpression::TooDeep);
        }
        self.depth += 1;
        parse(self)?;
        self.depth -= 1;
        Ok(())
    }

    fn number(&mut self) -> Result<(), InvalidExpression> {
        let start = self.at;
        self.take(|byte| byte.is_ascii_digit());
        if self.rest().starts_with('.') {
            self.at += 1;
            if self.take(|byte| byte.is_ascii_digit()).is_empty() {
                return Err(InvalidExpression::ExpectedValue { at: self.at + 1 });
            }
        }
        let text = self.source.get(start..self.at).unwrap_or_default();
        let number = text.parse().map_err(|_| InvalidExpression::ExpectedValue { at: start + 1 })?;
        self.steps.push(Step::Number(number));
        Ok(())
    }

    fn name(&mut self) -> Result<(), InvalidExpression> {
        let at = self.at + 1;
        let one = |function| (Step::One(function), 1);
        let two = |function| (Step::Two(function), 2);
        let (function, (step, takes), example) =
            match self.take(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                "retried" => {
                    self.steps.push(Step::Retried);
                    return Ok(());
                }
                "pow" => ("pow", two(TwoArguments::Pow), "pow(2, retried)"),
                "min" => ("min", two(TwoArguments::Min), "min(60000, 1000 * retried)"),
                "max" => ("max", two(TwoArguments::Max), "max(1000, 100 * retried)"),
                "exp" => ("exp", one(OneArgument::Exp), "exp(retried)"),
                "sqrt" => ("sqrt", one(OneArgument::Sqrt), "sqrt(retried)"),
                "abs" => ("abs", one(OneArgument::Abs), "abs(retried - 3)"),
                "floor" => ("floor", one(OneArgument::Floor), "floor(retried / 2)"),
                "ceil" => ("ceil", one(OneArgument::Ceil), "ceil(retried / 2)"),
                "round" => ("round", one(OneArgument::Round), "round(retried / 2)"),
                _ => return Err(InvalidExpression::UnknownName { at }),
            };
        if self.arguments()? != Some(takes) {
            let takes = if takes == 1 { "one argument" } else { "two arguments" };
            return Err(InvalidExpression::Arguments { function, takes, example });
        }
        self.steps.push(step);
        Ok(())
    }

    /// How many arguments stand in the parentheses here; `None` without parentheses.
    fn arguments(&mut self) -> Result<Option<usize>, InvalidExpression> {
        if !self.eat(b'(') {
            return Ok(None);
        }
        if self.eat(b')') {
            return Ok(Some(0));
        }
        let mut count = 1;
        self.nested(Parser::sum)?;
        while self.eat(b',') {
            self.nested(Parser::sum)?;
            count += 1;
        }
        if self.eat(b')') { Ok(Some(count)) } else { Err(self.expected_operator()) }
    }

    fn expected_operator(&mut self) -> InvalidExpression {
        match self.peek() {
            Some(_) => InvalidExpression::ExpectedOperator { at: self.at + 1 },
            None => InvalidExpression::UnexpectedEnd,
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    /// The next byte that is not a space.
    fn peek(&mut self) -> Option<u8> {
        self.take(|byte| matches!(byte, b' ' | b'\t'));
        self.rest().bytes().next()
    }

    fn take(&mut self, wanted: fn(u8) -> bool) -> &'a str {
        let rest = self.rest();
        let length = rest.bytes().position(|byte| !wanted(byte)).unwrap_or(rest.len());
        self.at += length;
        // Only ASCII is wanted, so this ends between characters.
        rest.get(..length).unwrap_or_default()
    }

    fn rest(&self) -> &'a str {
        self.source.get(self.at..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
