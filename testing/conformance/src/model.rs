//! Random operations, crashes and clock steps through an engine and the reference engine side by
//! side: after each, both must have said the same; now and then everything that can be seen must
//! be the same, and the invariants must hold.
//!
//! Ids, tokens and cursors are the engine's own choice and are compared by order of appearance.
//! Left out, because the contract leaves them open: the order in which parked calls for different
//! queues are served, whether they notice before the next tick that a rate has room again, and whether a key whose window was over is held again after the clock was
//! set back behind it.

mod canon;
mod invariants;
mod ops;
mod roll;
mod run;
mod shrink;
mod side;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

pub use ops::Op;

use crate::{Harness, block_on};

/// Cases unless `ONEFOLD_CASES` says otherwise: some twenty seconds with fsync.
pub const CASES: u64 = 40;
/// The same of an engine that asks a server with every operation.
pub const CASES_OF_A_SERVER: u64 = 12;
/// Cases under `ONEFOLD_LONG=1`.
const CASES_LONG: u64 = 2_000;
/// How long a case may take in real time.
const CASE_WITHIN: Duration = Duration::from_secs(40);
/// Operations of a case.
const OPS: usize = 200;

/// Drives cases through an engine and the reference engine, as many as the environment says:
/// `ONEFOLD_SEED` the first seed (1), `ONEFOLD_CASES` how many, `ONEFOLD_LONG=1` for a long run.
/// `test` is the name of the calling test, for the command that repeats a failure, `cases` how many unless the environment
/// says so.
///
/// # Panics
/// If the engines differ or an invariant is broken: with the seed, the shortest list of operations
/// found that shows it, and the command to run it again.
pub fn check<H: Harness>(test: &str, cases: u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("ONEFOLD_SEED");
    let default = match (first, number("ONEFOLD_LONG")) {
        (Some(_), _) => 1,
        (None, Some(1)) => CASES_LONG,
        (None, _) => cases,
    };
    let first = first.unwrap_or(1);
    for seed in first..first.saturating_add(number("ONEFOLD_CASES").unwrap_or(default)) {
        let ops = roll::ops(seed, OPS);
        if let Err(failure) = play::<H>(seed, &ops) {
            panic!("{}", report::<H>(test, seed, ops, failure));
        }
    }
}

fn report<H: Harness>(test: &str, seed: u64, mut ops: Vec<Op>, failure: run::Failure) -> String {
    ops.truncate(failure.step + 1);
    let (ops, failure) = shrink::shrink(ops, failure, |ops| play::<H>(seed, ops).err());
    let list: String = ops.iter().enumerate().map(|(n, op)| format!("{n:4}  {op:?}\n")).collect();
    format!(
        "seed {seed}: {}\n\nshortest list of operations found, the last one shows it:\n{list}\n\
         repeat with: ONEFOLD_SEED={seed} cargo test -p onefold-conformance --test model {test}\n",
        failure.what
    )
}

/// Plays one case on fresh stores.
fn play<H: Harness>(seed: u64, ops: &[Op]) -> Result<(), run::Failure> {
    let mut step = 0;
    let case = async { tokio::time::timeout(CASE_WITHIN, run::run::<H>(seed, ops, &mut step)).await };
    let (what, slow) = match catch_unwind(AssertUnwindSafe(|| block_on(case))) {
        Ok(Ok(Ok(()))) => return Ok(()),
        Ok(Ok(Err(run::Broken::Said(what)))) => (what, false),
        Ok(Ok(Err(run::Broken::Missing(what)))) => (what, true),
        Ok(Err(_)) => ("an operation did not end".to_owned(), true),
        Err(panic) => (format!("panic: {}", text_of(panic.as_ref())), false),
    };
    Err(run::Failure { step, what, slow })
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
        (Some(text), _) => text,
        (None, Some(text)) => text,
        (None, None) => "without a text",
    }
}
