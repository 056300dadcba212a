//! The testkit: what it finds in handlers, and that it finds nothing in sound ones (I7).

#![cfg(feature = "testkit")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use onefold::testkit::{Effects, Report, Trouble, assert_idempotent, check_idempotent};
use onefold::{Context, EffectPolicy, HandlerError, Job, LocalTx, rusqlite};

type Done = Result<(), HandlerError>;

/// How often an effect was found to happen, at the most; 0 if it was found missing.
fn found(report: &Report, effect: &str) -> Vec<u64> {
    let times = report.findings.iter().filter_map(|finding| match &finding.what {
        Trouble::Repeated { effect: of, times } if of == effect => Some(*times),
        Trouble::Missing { effect: of } if of == effect => Some(0),
        _ => None,
    });
    let mut times: Vec<u64> = times.collect();
    times.sort_unstable();
    times.dedup();
    times
}

/// I7: a step whose receiver knows its key.
async fn charges(_: Job<u64>, ctx: Context, effects: Effects) -> Done {
    let key = ctx.idempotency_key("charge");
    ctx.once("charge")
        .run(|| async {
            effects.happen_with_key("charge", &key).await;
            Ok(())
        })
        .await
}

#[tokio::test]
async fn a_step_with_a_key_happens_once() {
    let report = assert_idempotent(charges, 7).await;
    assert_eq!((report.effects, report.doubts), (vec!["charge".to_owned()], 0));
    assert!(report.points > 4, "begin, question, answer, commit and end: {}", report.points);
}

/// I7: rows in the transaction that completes the job.
async fn books(_: Job<u64>, ctx: Context, effects: Effects) -> Done {
    let outside = effects.clone();
    let write = move |tx: &LocalTx<'_>| outside.happen_in(tx, "book");
    effects.store().commit_with(&ctx, "book", write).await
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_in_the_stores_transaction_are_written_once() {
    assert_idempotent(books, 7).await;
}

/// I7: at most once leaves doubts, which are seen, and nothing happens twice.
async fn mails_at_most_once(_: Job<u64>, ctx: Context, effects: Effects) -> Done {
    ctx.once("mail")
        .policy(EffectPolicy::AtMostOnce)
        .run(|| async {
            effects.happen("mail").await;
            Ok(())
        })
        .await
}

#[tokio::test]
async fn at_most_once_is_never_twice() {
    let report = assert_idempotent(mails_at_most_once, 7).await;
    assert!(report.doubts > 0, "{report:?}");
}

/// The window: without a key, who dies between effect and record does it again.
async fn mails_without_a_key(_: Job<u64>, ctx: Context, effects: Effects) -> Done {
    ctx.once("mail")
        .run(|| async {
            effects.happen("mail").await;
            Ok(())
        })
        .await
}

#[tokio::test]
async fn the_window_is_found() {
    assert_eq!(found(&check_idempotent(mails_without_a_key, 7).await, "mail"), [2]);
}

/// As many a tutorial has it: look whether it was done, do it, write that down.
async fn looks_first(_: Job<u64>, _: Context, effects: Effects) -> Done {
    if !effects.has_happened("logged").await {
        effects.happen("mail").await;
        effects.happen_with_key("logged", "mail").await;
    }
    Ok(())
}

#[tokio::test]
async fn a_look_before_the_work_is_found() {
    let report = check_idempotent(looks_first, 7).await;
    assert_eq!(found(&report, "mail"), [2]);
    let told: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    assert!(
        told.iter()
            .any(|line| line
                .starts_with("mail happened 2 times: the first attempt was dropped where it waited")),
        "{told:?}"
    );
}

/// As another has it: set a marker, then do the work.
async fn marks_first(_: Job<u64>, _: Context, effects: Effects) -> Done {
    if !effects.has_happened("marked").await {
        effects.happen_with_key("marked", "mail").await;
        effects.happen("mail").await;
    }
    Ok(())
}

#[tokio::test]
async fn a_marker_before_the_work_is_found() {
    assert!(found(&check_idempotent(marks_first, 7).await, "mail").contains(&0));
}

/// A handler that never succeeds is told apart from one whose effect is in doubt.
#[tokio::test]
async fn a_job_that_dies_is_found() {
    let fails = |_: Job<u64>, _: Context, _: Effects| async { Err::<(), _>(HandlerError::permanent("no")) };
    let report = check_idempotent(fails, 7).await;
    assert!(report.findings.iter().all(|finding| matches!(finding.what, Trouble::Unfinished { .. })));
    assert!(!report.findings.is_empty());
}

/// The assertion fails the test, and says what happened twice.
#[tokio::test]
async fn the_assertion_says_what_happened_twice() {
    let failed = tokio::spawn(assert_idempotent(looks_first, 7)).await.unwrap_err().into_panic();
    let message = failed.downcast_ref::<String>().unwrap();
    assert!(message.contains("is not idempotent") && message.contains("mail happened 2 times"), "{message}");
}

/// A stopped attempt goes on beside another: its own end finds that the job is somebody else's.
#[tokio::test]
async fn an_attempt_that_was_stopped_goes_on() {
    let went_on = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&went_on);
    let handler = move |_: Job<u64>, ctx: Context, effects: Effects| {
        let seen = Arc::clone(&seen);
        async move {
            effects.happen_with_key("set", "always the same").await;
            // By then another attempt has completed the job.
            let job = effects.store().get(ctx.job_id()).await?;
            if ctx.attempt() == 1 && job.is_some_and(|job| job.attempt > 1) {
                seen.store(true, Ordering::SeqCst);
            }
            Ok::<(), HandlerError>(())
        }
    };
    assert_idempotent(handler, 7).await;
    assert!(went_on.load(Ordering::SeqCst));
}

/// What `happen_in` counts is what was committed.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_rolled_back_did_not_happen() {
    async fn fails_once(_: Job<u64>, ctx: Context, effects: Effects) -> Done {
        let (outside, attempt) = (effects.clone(), ctx.attempt());
        let write = move |tx: &LocalTx<'_>| {
            outside.happen_in(tx, "book")?;
            if attempt == 1 { Err(rusqlite::Error::InvalidQuery) } else { Ok(()) }
        };
        effects.store().commit_with(&ctx, "book", write).await
    }
    assert_idempotent(fails_once, 7).await;
}
