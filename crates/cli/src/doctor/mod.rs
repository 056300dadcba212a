//! `onefold doctor`: is everything as it should be, and if not, what to do.

mod directory;
mod machine;
mod postgres;
mod server;

use clap::Args;
use serde::Serialize;

use crate::config::{Config, RemoteArgs, Store, StoreArgs};
use crate::failure::Failure;
use crate::output::Output;
use crate::time::now;

/// `onefold doctor`.
#[derive(Debug, Clone, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

/// One line.
#[derive(Debug, Serialize)]
struct Line {
    check: &'static str,
    verdict: Verdict,
    /// What is, and what to do if that is not well.
    detail: String,
}

impl Line {
    fn ok(check: &'static str, detail: impl Into<String>) -> Line {
        Line { check, verdict: Verdict::Ok, detail: detail.into() }
    }

    fn warn(check: &'static str, detail: impl Into<String>) -> Line {
        Line { check, verdict: Verdict::Warn, detail: detail.into() }
    }

    fn fail(check: &'static str, detail: impl Into<String>) -> Line {
        Line { check, verdict: Verdict::Fail, detail: detail.into() }
    }
}

/// Tells each line as soon as it is known.
struct Report {
    output: Output,
    lines: Vec<Line>,
}

#[derive(Serialize)]
struct ReportJson<'a> {
    ok: bool,
    checks: &'a [Line],
}

impl Report {
    fn tell(&mut self, line: Line) -> Result<(), Failure> {
        if !self.output.json {
            let word = match line.verdict {
                Verdict::Ok => "OK  ",
                Verdict::Warn => "WARN",
                Verdict::Fail => "FAIL",
            };
            self.output.line(format!("{word}  {:<12}  {}", line.check, line.detail))?;
        }
        self.lines.push(line);
        Ok(())
    }

    fn has(&self, verdict: Verdict) -> bool {
        self.lines.iter().any(|line| line.verdict == verdict)
    }

    fn finish(self) -> Result<(), Failure> {
        let ok = !self.has(Verdict::Fail);
        if self.output.json {
            self.output.json(&ReportJson { ok, checks: &self.lines })?;
        } else if !ok {
            self.output.line("something is wrong: see the lines with FAIL")?;
        } else if self.has(Verdict::Warn) {
            self.output.line("nothing is broken; see the lines with WARN")?;
        } else {
            self.output.line("everything is well")?;
        }
        if ok { Ok(()) } else { Err(Failure::Told) }
    }
}

pub(crate) async fn doctor(args: DoctorArgs, config: &Config, output: Output) -> Result<(), Failure> {
    let store = config.store(args.store, None).map_err(Failure::usage)?;
    let remote = config.remote(args.remote).map_err(Failure::usage)?;
    let mut report = Report { output, lines: Vec::new() };
    report.tell(machine::descriptors())?;
    let served = match &store {
        Store::Directory(data) => directory::check(data, now(), &mut report)?,
        Store::Postgres(settings) => postgres::check(settings, &mut report).await?,
    };
    server::check(&remote, served, &mut report).await?;
    report.finish()
}
