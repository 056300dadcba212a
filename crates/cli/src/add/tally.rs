//! What became of the lines.

use serde::Serialize;

use crate::failure::Failure;
use crate::output::Output;
use crate::progress::Bar;

/// Refusals that are told one by one.
const TOLD: usize = 20;

/// What became of the lines.
#[derive(Debug, Default, Serialize)]
pub(super) struct Tally {
    /// Jobs that were not there before.
    new: u64,
    /// Lines answered with an earlier job.
    repeated: u64,
    /// Lines that were no jobs, or were refused.
    refused: u64,
    /// Lines whose answer was lost and that could not be repeated safely.
    unknown: u64,
    /// The first refusals.
    refusals: Vec<Refusal>,
}

#[derive(Debug, Serialize)]
struct Refusal {
    line: u64,
    /// The stable word of a server's refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    detail: String,
}

impl Tally {
    pub(super) fn added(&mut self, is_new: bool) {
        match is_new {
            true => self.new += 1,
            false => self.repeated += 1,
        }
    }

    pub(super) fn refused(&mut self, line: u64, code: Option<String>, detail: String, bar: &Bar) {
        self.refused += 1;
        if self.refusals.len() >= TOLD {
            return;
        }
        let word = code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default();
        bar.above(&format!("line {line}: {detail}{word}"));
        self.refusals.push(Refusal { line, code, detail });
        if self.refusals.len() == TOLD {
            bar.above("further lines that are refused are only counted");
        }
    }

    pub(super) fn unknown(&mut self, lines: u64) {
        self.unknown += lines;
    }

    /// Whether every line is a job now.
    pub(super) fn is_clean(&self) -> bool {
        self.refused == 0 && self.unknown == 0
    }

    pub(super) fn in_short(&self) -> String {
        let unknown = match self.unknown {
            0 => String::new(),
            lines => format!(", {lines} unknown"),
        };
        format!("{} new, {} repeated, {} refused{unknown}", self.new, self.repeated, self.refused)
    }

    pub(super) fn tell(&self, output: Output) -> Result<(), Failure> {
        if output.json {
            return output.json(self);
        }
        output.line(self.in_short())?;
        if self.unknown > 0 {
            output.line(format!(
                "the answer about {} lines was lost, and without keys they cannot be repeated safely: see `onefold jobs`; \
                 --key-from FIELD makes a repeat safe",
                self.unknown
            ))?;
        }
        Ok(())
    }
}
