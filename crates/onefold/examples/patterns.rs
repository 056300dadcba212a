//! How jobs are commonly made idempotent, each way as it is often written and as it holds: every handler is struck wherever
//! it waits, and its effects are counted. Ends with an error if a careless one is not caught, or a careful one is.
//!
//! `cargo run -p onefold --example patterns`

use std::time::Duration;

use onefold::testkit::{Effects, Finding, Report, Trouble, check_idempotent};
use onefold::{Context, EffectError, HandlerError, Job, LocalTx, Onefold};

type Done = Result<(), HandlerError>;

/// A welcome e-mail, with a look into the log of e-mails before: whoever dies between e-mail and log sends it again.
mod welcome {
    use super::*;

    pub(super) async fn careless(_: Job<u64>, _: Context, effects: Effects) -> Done {
        if !effects.has_happened("log").await {
            effects.happen("e-mail").await;
            effects.happen_with_key("log", "welcome").await;
        }
        Ok(())
    }

    pub(super) async fn careful(_: Job<u64>, ctx: Context, effects: Effects) -> Done {
        let key = ctx.idempotency_key("e-mail");
        let send = ctx.once("e-mail").run(|| async {
            effects.happen_with_key("e-mail", &key).await;
            Ok(())
        });
        send.await
    }
}

/// A charge through an API that takes idempotency keys: a key with the attempt in it is another one every time.
mod charge {
    use super::*;

    pub(super) async fn careless(_: Job<u64>, ctx: Context, effects: Effects) -> Done {
        let key = format!("{}-{}", ctx.job_id(), ctx.attempt());
        effects.happen_with_key("charge", &key).await;
        Ok(())
    }

    pub(super) async fn careful(_: Job<u64>, ctx: Context, effects: Effects) -> Done {
        let key = ctx.idempotency_key("charge");
        let charge = ctx.once("charge").key_valid_for(Duration::from_secs(24 * 3_600));
        charge
            .run(|| async {
                effects.happen_with_key("charge", &key).await;
                Ok(())
            })
            .await
    }
}

/// A report behind a fence that is set before the work and tells "somebody is at it" as done: who dies behind it leaves it
/// there, and there is never a report. A fence that Onefold keeps has a holder, and the next attempt takes over.
mod report {
    use super::*;

    pub(super) async fn careless(_: Job<u64>, _: Context, effects: Effects) -> Done {
        if effects.has_happened("fence").await {
            return Ok(());
        }
        effects.happen_with_key("fence", "report").await;
        effects.happen_with_key("report", "report").await;
        Ok(())
    }

    pub(super) async fn careful(
        job: Job<u64>,
        ctx: Context,
        effects: Effects,
    ) -> Result<String, HandlerError> {
        let key = ctx.idempotency_key("report");
        let place = format!("reports/{}.pdf", job.payload);
        let render = ctx.once("report").run(|| async {
            effects.happen_with_key("report", &key).await;
            Ok(place)
        });
        // The same place in every attempt: what the first returned is replayed.
        render.await
    }
}

/// What a webhook brings, written into tables of one's own: with a table of the events that were seen, but in transactions
/// of their own. Rows and completion in one transaction leave no gap.
mod webhook {
    use super::*;

    pub(super) async fn careless(_: Job<u64>, _: Context, effects: Effects) -> Done {
        if !effects.has_happened("seen").await {
            effects.happen_with_key("seen", "event").await;
            effects.happen("row").await;
        }
        Ok(())
    }

    pub(super) async fn careful(_: Job<u64>, ctx: Context, effects: Effects) -> Done {
        let outside = effects.clone();
        let write = move |tx: &LocalTx<'_>| outside.happen_in(tx, "row");
        effects.store().commit_with(&ctx, "row", write).await
    }

    /// Two copies of an event arrive at once: one of them makes a job.
    pub(super) async fn two_copies() -> Result<bool, Box<dyn std::error::Error>> {
        let onefold = Onefold::in_memory();
        let events = onefold.queue::<u64>("events");
        let (first, second) = tokio::join!(events.add_unique("evt_7", 7), events.add_unique("evt_7", 7));
        let (first, second) = (first?, second?);
        Ok(first.id == second.id && first.duplicate != second.duplicate)
    }
}

/// An API that remembers keys for a day, answers a second call during the first with "in flight", and the same key with
/// another body with "mismatch".
mod in_flight {
    use super::*;

    enum Answer {
        Sent,
        InFlight,
        Mismatch,
    }

    /// The second call of a key meets the first in flight, if nothing was sent by then.
    async fn send(key: &str, body: u64, effects: &Effects) -> Answer {
        if body == 0 {
            return Answer::Mismatch;
        }
        if !effects.has_happened("first call").await {
            effects.happen_with_key("first call", key).await;
        } else if !effects.has_happened("message").await && !effects.has_happened("second call").await {
            effects.happen_with_key("second call", key).await;
            return Answer::InFlight;
        }
        effects.happen_with_key("message", key).await;
        Answer::Sent
    }

    /// "In flight" taken for "sent": if the first call fails, nothing was.
    pub(super) async fn careless(job: Job<u64>, ctx: Context, effects: Effects) -> Done {
        match send(&ctx.idempotency_key("message"), job.payload, &effects).await {
            Answer::Sent | Answer::InFlight => Ok(()),
            Answer::Mismatch => Err(HandlerError::retry("mismatch")),
        }
    }

    pub(super) async fn careful(job: Job<u64>, ctx: Context, effects: Effects) -> Done {
        let key = ctx.idempotency_key("message");
        let message = ctx.once("message").key_valid_for(Duration::from_secs(24 * 3_600)).run(|| async {
            match send(&key, job.payload, &effects).await {
                Answer::Sent => Ok(()),
                // Nobody knows yet how that one ends; with the same key it does no harm to ask again.
                Answer::InFlight => {
                    Err(EffectError::unknown("in flight").retry_in(Duration::from_millis(500)))
                }
                Answer::Mismatch => Err(EffectError::permanent("the key was used with another body")),
            }
        });
        message.await
    }
}

/// A document in a search index: inserted it is there twice; put in the place of its id it is the same however often.
mod search {
    use super::*;

    pub(super) async fn careless(_: Job<u64>, _: Context, effects: Effects) -> Done {
        effects.happen("document").await;
        Ok(())
    }

    pub(super) async fn careful(job: Job<u64>, _: Context, effects: Effects) -> Done {
        effects.happen_with_key("document", &format!("product {}", job.payload)).await;
        Ok(())
    }
}

/// A value that is set is the same however often.
async fn set(_: Job<u64>, _: Context, effects: Effects) -> Done {
    effects.happen_with_key("set", "true").await;
    Ok(())
}

/// A notice that may come twice: nothing is kept, and none is missing.
async fn notice(_: Job<u64>, _: Context, effects: Effects) -> Done {
    effects.happen("notice").await;
    Ok(())
}

struct Table {
    sound: bool,
}

impl Table {
    fn tell(&mut self, what: &str, is_as_expected: bool, report: &Report) {
        self.sound &= is_as_expected;
        let first = report.findings.first().map_or("nothing found".to_owned(), ToString::to_string);
        let verdict = if is_as_expected { "as expected" } else { "NOT AS EXPECTED" };
        println!("{what:<28} {verdict:<16} {:>2} findings: {first}", report.findings.len());
    }

    fn careless(&mut self, what: &str, report: &Report) {
        self.tell(&format!("{what}, careless"), !report.findings.is_empty(), report);
    }

    fn careful(&mut self, what: &str, report: &Report) {
        self.tell(&format!("{what}, careful"), report.findings.is_empty(), report);
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut table = Table { sound: true };
    table.careless("welcome e-mail", &check_idempotent(welcome::careless, 7).await);
    table.careful("welcome e-mail", &check_idempotent(welcome::careful, 7).await);
    table.careless("charge", &check_idempotent(charge::careless, 7).await);
    table.careful("charge", &check_idempotent(charge::careful, 7).await);
    table.careless("report", &check_idempotent(report::careless, 7).await);
    table.careful("report", &check_idempotent(report::careful, 7).await);
    table.careless("webhook", &check_idempotent(webhook::careless, 7).await);
    table.careful("webhook", &check_idempotent(webhook::careful, 7).await);
    table.careless("in flight", &check_idempotent(in_flight::careless, 7).await);
    table.careful("in flight", &check_idempotent(in_flight::careful, 7).await);
    let mismatch = check_idempotent(in_flight::careful, 0).await;
    let dies = |f: &Finding| matches!(&f.what, Trouble::Unfinished { state } if state == "dead (permanent)");
    let only_dies = !mismatch.findings.is_empty() && mismatch.findings.iter().all(dies);
    table.tell("mismatch: dies for good", only_dies, &mismatch);
    table.careless("search", &check_idempotent(search::careless, 7).await);
    table.careful("search", &check_idempotent(search::careful, 7).await);
    let two = webhook::two_copies().await?;
    table.sound &= two;
    println!("two copies of an event at once: {}", if two { "one job" } else { "TWO JOBS" });

    let report = check_idempotent(set, 7).await;
    table.careful("set", &report);
    let report = check_idempotent(notice, 7).await;
    let never_missing = report.findings.iter().all(|f| matches!(f.what, Trouble::Repeated { .. }));
    table.tell("notice, twice on purpose", never_missing && !report.findings.is_empty(), &report);
    if table.sound { Ok(()) } else { Err("some handler is not what it is taken for".into()) }
}
