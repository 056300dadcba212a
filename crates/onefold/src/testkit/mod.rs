//! For tests of handlers: is what they do done once, whatever befalls them?
//!
//! [`assert_idempotent`] runs a handler on a real embedded store, once in peace, and then again and again with its first
//! attempt struck at every point where it waits: dropped there, as by a crash; or stopped there while a second attempt runs
//! to its end beside it, and let go on afterwards, as a process that was suspended. Its end is such a point, too: a
//! worker may die before the store hears of it, and the handler then runs twice in sequence.
//!
//! The handler is given [`Effects`], which stand for the world outside. What it does to them is counted:
//!
//! ```
//! use onefold::testkit::{Effects, assert_idempotent};
//! use onefold::{Context, HandlerError, Job};
//!
//! async fn charge(job: Job<u64>, ctx: Context, effects: Effects) -> Result<u64, HandlerError> {
//!     let key = ctx.idempotency_key("charge");
//!     let amount = job.payload;
//!     ctx.once("charge").run(|| async move { effects.happen_with_key("charge", &key).await; Ok(amount) }).await
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! assert_idempotent(charge, 995).await;
//! # }
//! ```

mod effects;
mod scenario;

use std::fmt;

use futures_util::{StreamExt, stream};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use effects::Effects;
use scenario::{Blow, Played, Point, play};

use crate::{Context, HandlerError, Job};

/// Points of a handler that are struck at the most.
const POINTS_MAX: u32 = 200;
/// Stores that are open at once.
const AT_ONCE: usize = 8;

/// What was tried, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The effects of the handler, in peace.
    pub effects: Vec<String>,
    /// Points where its first attempt was struck, each in two ways.
    pub points: u32,
    /// Jobs that died as indeterminate after the effect: nobody knew, and somebody can find out.
    pub doubts: u32,
    /// What should not have been.
    pub findings: Vec<Finding>,
}

/// Something that should not have been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub what: Trouble,
    /// What was done to the handler.
    pub when: String,
}

/// See [`Finding`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// An effect happened more than once.
    Repeated {
        /// Which.
        effect: String,
        /// How often.
        times: u64,
    },
    /// An effect never happened, though the job was completed.
    Missing {
        /// Which.
        effect: String,
    },
    /// The job was not completed, and not for a doubt either.
    Unfinished {
        /// What became of it.
        state: String,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            Trouble::Repeated { effect, times } => write!(f, "{effect} happened {times} times")?,
            Trouble::Missing { effect } => write!(f, "{effect} never happened, and the job is completed")?,
            Trouble::Unfinished { state } => write!(f, "the job is {state}")?,
        }
        write!(f, ": {}", self.when)
    }
}

/// Runs a handler as described [here](self), and fails the test if an effect happened twice or never.
///
/// Takes real time, some tenths of a second for ten points: not for tokio's paused time.
///
/// # Panics
/// With what happened twice or never, and when.
#[track_caller]
pub fn assert_idempotent<T, R, H, F>(handler: H, payload: T) -> impl Future<Output = Report>
where
    T: Serialize + DeserializeOwned + Clone + Send + 'static,
    R: Serialize + 'static,
    H: Fn(Job<T>, Context, Effects) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<R, HandlerError>> + Send + 'static,
{
    let caller = std::panic::Location::caller();
    async move {
        let report = check_idempotent(handler, payload).await;
        let told: Vec<String> = report.findings.iter().map(Finding::to_string).collect();
        assert!(told.is_empty(), "the handler of {caller} is not idempotent:\n  {}", told.join("\n  "));
        report
    }
}

/// The same, without a verdict.
///
/// # Panics
/// If no store can be opened in the directory for temporary files.
pub async fn check_idempotent<T, R, H, F>(handler: H, payload: T) -> Report
where
    T: Serialize + DeserializeOwned + Clone + Send + 'static,
    R: Serialize + 'static,
    H: Fn(Job<T>, Context, Effects) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<R, HandlerError>> + Send + 'static,
{
    let peace = play(handler.clone(), payload.clone(), None).await;
    let expected: Vec<String> = peace.effects.keys().cloned().collect();
    let waits = (1..=peace.waits.min(POINTS_MAX)).map(Point::Wait);
    let points: Vec<Point> = waits.chain([Point::End]).collect();
    let mut report = Report {
        effects: expected,
        points: u32::try_from(points.len()).unwrap_or(u32::MAX),
        doubts: 0,
        findings: Vec::new(),
    };
    report.judge(peace, "in peace".to_owned());
    let blows = points.into_iter().flat_map(|point| [Blow::Dropped(point), Blow::Stopped(point)]);
    let played = blows.map(|blow| {
        let run = play(handler.clone(), payload.clone(), Some(blow));
        async move { (blow, run.await) }
    });
    let mut played = stream::iter(played.collect::<Vec<_>>()).buffered(AT_ONCE);
    while let Some((blow, run)) = played.next().await {
        report.judge(run, blow.to_string());
    }
    report
}

impl Report {
    fn judge(&mut self, run: Played, when: String) {
        let mut find = |what| self.findings.push(Finding { what, when: when.clone() });
        for (effect, times) in run.effects.iter().filter(|(_, times)| **times > 1) {
            find(Trouble::Repeated { effect: effect.clone(), times: *times });
        }
        match run.unfinished {
            None => {
                for effect in self.effects.iter().filter(|effect| !run.effects.contains_key(*effect)) {
                    find(Trouble::Missing { effect: effect.clone() });
                }
            }
            Some(_) if run.in_doubt => self.doubts += 1,
            Some(state) => find(Trouble::Unfinished { state }),
        }
    }
}
