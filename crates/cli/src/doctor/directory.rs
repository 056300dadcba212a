//! The data directory.

use std::path::Path;

use onefold_core::Timestamp;
use onefold_engine_sqlite::inspect::{self, Check, Checked, Inspector};

use super::{Line, Report, machine};
use crate::config::Bytes;
use crate::failure::Failure;
use crate::progress::Bar;
use crate::table::some;
use crate::time::readable;

/// What a server sets aside in a file of its own, so that it can finish jobs on a full disk.
const HEAD_ROOM: u64 = 16 << 20;

/// Checks the directory; whether a process serves it.
pub(super) fn check(data: &Path, now: Timestamp, report: &mut Report) -> Result<bool, Failure> {
    let served = match inspect::is_in_use(data) {
        Ok(served) => served,
        Err(error) => {
            report.tell(Line::fail("directory", error.to_string()))?;
            return Ok(false);
        }
    };
    if !inspect::is_there(data) {
        report.tell(Line::warn(
            "directory",
            format!("there is no store in {}; if there should be one, name it with --data", data.display()),
        ))?;
        return Ok(served);
    }
    let by = if served { "served by a running process" } else { "served by nobody now" };
    report.tell(Line::ok("directory", format!("{}, {by}", data.display())))?;
    report.tell(machine::disk(data))?;
    if served {
        report.tell(head_room(data))?;
    }
    let inspector = match Inspector::open(data) {
        Ok(inspector) => inspector,
        Err(error) => {
            report.tell(Line::fail("store", error.to_string()))?;
            return Ok(served);
        }
    };
    match inspector.facts() {
        Ok(facts) => {
            let told = format!(
                "schema {}, made {}, {} beside its log",
                facts.schema,
                readable(facts.created_at),
                Bytes(facts.bytes)
            );
            report.tell(Line::ok("store", told))?;
            report.tell(machine::clock(&facts, now))?;
        }
        Err(error) => report.tell(Line::fail("store", format!("{error}; restore a backup")))?,
    }
    invariants(&inspector, now, report)?;
    Ok(served)
}

fn head_room(data: &Path) -> Line {
    let there = data.join("head-room").metadata().map_or(0, |meta| meta.len());
    match there >= HEAD_ROOM {
        true => {
            Line::ok("head-room", format!("{} set aside for finishing jobs on a full disk", Bytes(there)))
        }
        false => Line::fail(
            "head-room",
            "given up because the disk was full: new jobs are refused until there is space again",
        ),
    }
}

fn invariants(inspector: &Inspector, now: Timestamp, report: &mut Report) -> Result<(), Failure> {
    let bar = Bar::new(report.output);
    let checked = inspector.check(now, &mut |progress| bar.set(progress.reading, progress.done, progress.of));
    drop(bar);
    let checked = match checked {
        Ok(checked) => checked,
        Err(error) => return report.tell(Line::fail("integrity", format!("{error}; restore a backup"))),
    };
    for check in Check::ALL {
        report.tell(finding(check, &checked))?;
    }
    Ok(())
}

fn finding(check: Check, checked: &Checked) -> Line {
    let Checked { queues, jobs, keys, findings } = checked;
    let (name, well) = match check {
        Check::Pages => ("pages", "the file's pages fit together".to_owned()),
        Check::Rows => {
            ("rows", format!("{} and {} are as they were written", some(*jobs, "job"), some(*keys, "key")))
        }
        Check::Conservation => {
            ("conservation", format!("no job of {} is missing (I2)", some(*queues, "queue")))
        }
        Check::Keys => ("keys", "no key has two jobs (I3)".to_owned()),
        Check::Tokens => ("tokens", "every running job has a token of its own (I4)".to_owned()),
        Check::Sets => ("sets", "what is leasable and what runs is known".to_owned()),
    };
    let Some(finding) = findings.get(&check) else { return Line::ok(name, well) };
    let told = finding.told.join("; ");
    let more = finding.count - finding.told.len() as u64;
    let more = if more == 0 { String::new() } else { format!("; and {more} more") };
    Line::fail(name, format!("{told}{more}. Keep a copy of the directory, and restore the latest backup"))
}
