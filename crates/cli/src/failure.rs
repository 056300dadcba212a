//! How a command ends, and what it says when it did not do what was asked.

use std::fmt;
use std::process::ExitCode;

/// Why a command did not do what was asked. Its text is one sentence that says what to do.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was asked for in a way that cannot be done: exit code 2.
    Usage(String),
    /// It went wrong: exit code 1.
    Failed(String),
    /// Everything was said already, and some of it was bad news: exit code 1.
    Told,
    /// Whoever read the output has gone, as `head` does. Not a failure.
    NobodyReads,
}

impl Failure {
    pub(crate) fn usage(what: impl fmt::Display) -> Failure {
        Failure::Usage(what.to_string())
    }

    pub(crate) fn failed(what: impl fmt::Display) -> Failure {
        Failure::Failed(what.to_string())
    }

    /// Writing to standard output failed.
    pub(crate) fn output(error: &std::io::Error) -> Failure {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Failure::NobodyReads,
            _ => Failure::Failed(format!("cannot write to standard output: {error}")),
        }
    }

    /// Tells the failure on standard error; the exit code.
    pub(crate) fn tell(&self) -> ExitCode {
        use std::io::Write;
        let (text, code) = match self {
            Failure::Usage(text) => (Some(text), 2),
            Failure::Failed(text) => (Some(text), 1),
            Failure::Told => (None, 1),
            Failure::NobodyReads => (None, 0),
        };
        if let Some(text) = text {
            // Without standard error there is nobody left to tell.
            let _ = writeln!(std::io::stderr(), "error: {text}");
        }
        ExitCode::from(code)
    }
}
