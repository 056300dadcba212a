//! `ctx.once`: a step is executed, recorded, and replayed by later attempts (I7). On tokio's paused time.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use onefold::{
    CancelReason, Context, DeadReason, EffectError, EffectPolicy, EvidenceKind, HandlerError, Job, JobView,
    Onefold, State, Worker,
};
use onefold_core::{EffectAction, EngineError};
use support::watched::Call;
use support::{Running, SECOND, add, lease_lost, pass, watched, when};
use tokio::sync::{Notify, mpsc};

/// How often a step was executed.
#[derive(Clone, Default)]
struct Count(Arc<AtomicU32>);

impl Count {
    fn up(&self) -> u32 {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn get(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }
}

fn noted(job: &JobView, kind: EvidenceKind) -> usize {
    job.history.iter().filter(|evidence| evidence.kind == kind).count()
}

/// Runs one job to its end with a handler that is given its context and the number of the attempt.
async fn run<F>(
    onefold: &Onefold,
    end: State,
    handler: impl Fn(Context) -> F + Send + Sync + 'static,
) -> JobView
where
    F: Future<Output = Result<u32, HandlerError>> + Send + 'static,
{
    let id = add(onefold, 1).await;
    let worker = Worker::new(onefold).queue("q").handle(move |_: Job<u64>, ctx| handler(ctx));
    let running = Running::start(worker);
    let job = when(onefold, id, end).await;
    running.stop().await;
    job
}

/// I7: a step that was done is not done again by the attempt after a failure: it is given what the first returned.
#[tokio::test(start_paused = true)]
async fn i7_a_step_is_executed_once_over_attempts() {
    let (onefold, count) = (Onefold::in_memory(), Count::default());
    let seen = count.clone();
    let job = run(&onefold, State::Completed, move |ctx| {
        let count = seen.clone();
        async move {
            let receipt: u32 = ctx.once("charge").run(|| async { Ok(count.up() * 7) }).await?;
            if ctx.attempt() == 1 { Err(HandlerError::retry("killed after the charge")) } else { Ok(receipt) }
        }
    })
    .await;
    assert_eq!((count.get(), job.result.as_deref(), job.attempts.len()), (1, Some(&b"7"[..]), 2));
    assert_eq!(noted(&job, EvidenceKind::EffectReplayed), 1);
}

/// What failed is executed again with the next attempt, under both policies if it certainly did not happen.
#[tokio::test(start_paused = true)]
async fn what_was_not_applied_is_executed_again() {
    for policy in [EffectPolicy::AtLeastOnce, EffectPolicy::AtMostOnce] {
        let (onefold, count) = (Onefold::in_memory(), Count::default());
        let seen = count.clone();
        let job = run(&onefold, State::Completed, move |ctx| {
            let count = seen.clone();
            async move {
                let step = ctx.once("mail").policy(policy);
                step.run(|| async {
                    match count.up() {
                        1 => Err(EffectError::not_applied("connection refused").retry_in(SECOND)),
                        n => Ok(n),
                    }
                })
                .await
            }
        })
        .await;
        assert_eq!((count.get(), job.failures), (2, 1), "{policy}");
        assert_eq!(job.attempts[0].error.as_ref().unwrap().message, "connection refused");
    }
}

/// An error that says nothing is a doubt: at least once executes again, at most once never, and the job dies of it.
#[tokio::test(start_paused = true)]
async fn i7_an_unknown_outcome_is_treated_by_policy() {
    for (policy, end, executions) in
        [(EffectPolicy::AtLeastOnce, State::Completed, 2), (EffectPolicy::AtMostOnce, State::Dead, 1)]
    {
        let (onefold, count) = (Onefold::in_memory(), Count::default());
        let seen = count.clone();
        let job = run(&onefold, end, move |ctx| {
            let count = seen.clone();
            async move {
                let step = ctx.once("charge").policy(policy);
                let answer = step.run(|| async {
                    match count.up() {
                        1 => Err(std::io::Error::other("no answer"))?,
                        n => Ok(n),
                    }
                });
                answer.await
            }
        })
        .await;
        assert_eq!(count.get(), executions, "{policy}");
        let dies = (end == State::Dead).then_some(DeadReason::Indeterminate);
        assert_eq!(
            (job.reason, noted(&job, EvidenceKind::EffectIndeterminate)),
            (dies, usize::from(dies.is_some()))
        );
        assert_eq!(job.late_writes, 0, "the worker says nothing about an attempt that is over");
    }
}

/// A permanent failure ends the job; run again by an operator, the step is executed.
#[tokio::test(start_paused = true)]
async fn a_permanent_failure_kills_the_job_and_may_be_redriven() {
    let (onefold, count) = (Onefold::in_memory(), Count::default());
    let seen = count.clone();
    let handler = move |_: Job<u64>, ctx: Context| {
        let count = seen.clone();
        async move {
            let step = ctx.once("charge").policy(EffectPolicy::AtMostOnce);
            step.run(|| async {
                match count.up() {
                    1 => Err(EffectError::permanent("no such account")),
                    n => Ok(n),
                }
            })
            .await
        }
    };
    let id = add(&onefold, 1).await;
    let running = Running::start(Worker::new(&onefold).queue("q").handle(handler));
    assert_eq!(when(&onefold, id, State::Dead).await.reason, Some(DeadReason::Permanent));
    onefold.retry(id).await.unwrap();
    when(&onefold, id, State::Completed).await;
    running.stop().await;
    assert_eq!(count.get(), 2);
}

/// "Held elsewhere" is never success: the attempt that meets it is put off at no cost, and the next one takes over.
#[tokio::test(start_paused = true)]
async fn held_elsewhere_snoozes_at_no_cost() {
    let (onefold, count) = (Onefold::in_memory(), Count::default());
    let seen = count.clone();
    let job = run(&onefold, State::Completed, move |ctx| {
        let count = seen.clone();
        async move {
            if ctx.attempt() == 1 {
                let (other, begun) = (ctx.clone(), Arc::new(Notify::new()));
                let tell = Arc::clone(&begun);
                let _task = tokio::spawn(async move {
                    let hangs = other.once("charge").run(|| async {
                        tell.notify_one();
                        std::future::pending::<Result<u32, EffectError>>().await
                    });
                    hangs.await
                });
                begun.notified().await;
            }
            ctx.once("charge").run(|| async { Ok(count.up()) }).await
        }
    })
    .await;
    assert_eq!((count.get(), job.failures, job.attempts.len()), (1, 0, 2));
    assert_eq!(job.attempts[0].outcome, Some(onefold::Outcome::Snoozed));
    assert_eq!(noted(&job, EvidenceKind::EffectTakenOver), 1);
}

/// A lost lease drops the step where it stands; every call of the context is refused afterwards, and nothing is told.
#[tokio::test(start_paused = true)]
async fn i5_a_lost_lease_drops_the_step() {
    let onefold = Onefold::in_memory();
    let id = add(&onefold, 1).await;
    let (tell, mut told) = mpsc::unbounded_channel();
    let worker = Worker::new(&onefold).queue("q").handle(move |_: Job<u64>, ctx| {
        let tell = tell.clone();
        async move {
            let _ = tell.send("begun");
            let stopped = ctx.once("charge").run(std::future::pending::<Result<u32, EffectError>>).await;
            assert!(stopped.is_err());
            assert_eq!(ctx.cancel_reason(), Some(CancelReason::LeaseLost));
            assert!(lease_lost(ctx.checkpoint(&1).await));
            assert!(ctx.once("other").run(|| async { Ok(1) }).await.is_err());
            let _ = tell.send("refused");
            stopped
        }
    });
    let running = Running::start(worker);
    assert_eq!(told.recv().await, Some("begun"));
    onefold.cancel_by_force(id).await.unwrap();
    assert_eq!(told.recv().await, Some("refused"));
    assert_eq!(running.stop().await.lost, 1);
}

/// I7: a worker that is gone after the effect and before its record leaves a doubt, and the policy decides.
#[tokio::test(start_paused = true)]
async fn i7_death_between_effect_and_record() {
    for (policy, end, executions) in
        [(EffectPolicy::AtLeastOnce, State::Completed, 2), (EffectPolicy::AtMostOnce, State::Dead, 1)]
    {
        let (onefold, count) = (Onefold::in_memory(), Count::default());
        let id = add(&onefold, 1).await;
        let happened = Arc::new(Notify::new());
        let worker = || {
            let (count, happened) = (count.clone(), Arc::clone(&happened));
            Worker::new(&onefold).queue("q").handle(move |_: Job<u64>, ctx| {
                let (count, happened) = (count.clone(), Arc::clone(&happened));
                async move {
                    let step = ctx.once("charge").policy(policy);
                    step.run(|| async {
                        let n = count.up();
                        happened.notify_one();
                        if n == 1 { std::future::pending().await } else { Ok(n) }
                    })
                    .await
                }
            })
        };
        let first = Running::start(worker());
        happened.notified().await;
        first.task.abort();
        let second = Running::start(worker());
        let job = when(&onefold, id, end).await;
        assert_eq!((count.get(), job.lost_leases), (executions, 1), "{policy}");
        second.stop().await;
    }
}

/// A commit is said again until the store has it: the effect has happened.
#[tokio::test(start_paused = true)]
async fn a_commit_is_told_until_it_is_durable() {
    let (tries, count) = (Count::default(), Count::default());
    let tried = tries.clone();
    let onefold = watched(move |call| match call {
        Call::Effects(ops) if matches!(ops[0].action, EffectAction::Commit { .. }) && tried.up() < 4 => {
            Err(EngineError::OutcomeUnknown)
        }
        _ => Ok(()),
    });
    let seen = count.clone();
    let job = run(&onefold, State::Completed, move |ctx| {
        let count = seen.clone();
        async move { ctx.once("charge").run(|| async { Ok(count.up()) }).await }
    })
    .await;
    assert_eq!((tries.get(), count.get(), job.attempts.len()), (4, 1, 1));
}

/// A result that cannot be stored does not make the step happen twice: a later attempt fails for good instead.
#[tokio::test(start_paused = true)]
async fn a_result_that_is_too_large_is_not_executed_again() {
    let (onefold, count) = (Onefold::in_memory(), Count::default());
    let seen = count.clone();
    let job = run(&onefold, State::Dead, move |ctx| {
        let count = seen.clone();
        async move {
            let step = ctx.once("report");
            let text: String = step
                .run(|| async {
                    count.up();
                    Ok("x".repeat(onefold_core::limits::RESULT_BYTES_MAX))
                })
                .await?;
            Err(HandlerError::retry(format!("{} bytes", text.len())))
        }
    })
    .await;
    assert_eq!((count.get(), job.reason, job.attempts.len()), (1, Some(DeadReason::Permanent), 2));
}

/// I11: once the receiver may have forgotten the key, a step in doubt is not executed again.
#[tokio::test(start_paused = true)]
async fn i11_a_forgotten_key_is_not_used_again() {
    let (onefold, count) = (Onefold::in_memory(), Count::default());
    let seen = count.clone();
    let job = run(&onefold, State::Dead, move |ctx| {
        let count = seen.clone();
        async move {
            let step = ctx.once("charge").key_valid_for(SECOND * 2);
            step.run(|| async {
                count.up();
                pass(SECOND).await;
                Err::<u32, _>(EffectError::unknown("no answer").retry_in(SECOND))
            })
            .await
        }
    })
    .await;
    assert_eq!((count.get(), job.reason), (1, Some(DeadReason::Indeterminate)));
}
