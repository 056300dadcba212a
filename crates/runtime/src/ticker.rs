//! The loop: tick, wait until the engine wants the next one, tick.

use std::sync::Arc;
use std::time::Duration;

use onefold_core::{Clock, DurationMs, Engine, EngineError, StepDetector, Ticked, Timestamp};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{Health, Phase};

/// Between ticks of a store that other processes serve too: their hints may not reach us.
const BACKSTOP: DurationMs = DurationMs::from_ms(1_000);
/// Timers do not follow the wall clock when it is set or the machine sleeps. So a longer wait is
/// interrupted this often to look at the clock; the engine is left alone.
const LOOK_AT_CLOCK: DurationMs = DurationMs::from_ms(5_000);
/// After a tick that did nothing: whatever an engine says then, it cannot make the loop spin.
const PAUSE_AFTER_NOTHING: Duration = Duration::from_millis(1);
/// After the first failed tick; doubles up to [`LONGEST_BACKOFF`].
const FIRST_BACKOFF: DurationMs = DurationMs::from_ms(100);
const LONGEST_BACKOFF: DurationMs = DurationMs::from_ms(5_000);

pub(crate) struct Ticker {
    engine: Arc<dyn Engine>,
    clock: Arc<dyn Clock>,
    health: Arc<watch::Sender<Health>>,
    stop: CancellationToken,
    steps: StepDetector,
}

/// When to tick again.
enum Next {
    At { time: Timestamp, idle: bool },
    AfterBackoff(DurationMs),
}

/// Tells the end of the loop whatever it was, a panic of the engine included.
struct TellEnd {
    health: Arc<watch::Sender<Health>>,
    phase: Phase,
}

impl Drop for TellEnd {
    fn drop(&mut self) {
        let phase = self.phase.clone();
        self.health.send_modify(|health| health.over(phase));
    }
}

impl Ticker {
    pub(crate) fn new(
        engine: Arc<dyn Engine>,
        clock: Arc<dyn Clock>,
        health: Arc<watch::Sender<Health>>,
        stop: CancellationToken,
    ) -> Ticker {
        let steps = StepDetector::new(clock.as_ref());
        Ticker { engine, clock, health, stop, steps }
    }

    pub(crate) async fn run(mut self) {
        let died = Phase::Failed(EngineError::Poisoned("the task that ticks the store died".to_owned()));
        let mut end = TellEnd { health: Arc::clone(&self.health), phase: died };
        let stop = self.stop.clone();
        end.phase = loop {
            let next = match self.engine.tick().await {
                Ok(ticked) => self.ticked(&ticked),
                Err(error) => match self.failed(error) {
                    Ok(next) => next,
                    Err(phase) => break phase,
                },
            };
            tokio::select! {
                () = stop.cancelled() => break Phase::Stopped,
                () = self.pause(next) => {}
            }
        };
    }

    fn ticked(&self, ticked: &Ticked) -> Next {
        let now = self.clock.now();
        if ticked.clock_stepped {
            tracing::warn!("the wall clock was set: live leases got their full length again");
        }
        self.health.send_modify(|health| health.ticked(ticked, now));
        let shared = self.engine.capabilities().multi_process;
        let time = if shared { ticked.next.min(now.saturating_add(BACKSTOP)) } else { ticked.next };
        Next::At { time, idle: ticked.due + ticked.expired + ticked.purged == 0 }
    }

    fn failed(&self, error: EngineError) -> Result<Next, Phase> {
        match error {
            EngineError::Closed | EngineError::Poisoned(_) => {
                tracing::error!(%error, "the store is no longer served");
                return Err(Phase::Failed(error));
            }
            EngineError::DiskFull
            | EngineError::Corrupt(_)
            | EngineError::Busy
            | EngineError::Unavailable(_)
            | EngineError::OutcomeUnknown
            | EngineError::TokensExhausted
            | EngineError::Io(_) => {}
        }
        self.health.send_modify(|health| health.failed(error.clone()));
        let failing = self.health.borrow().failing;
        let backoff = FIRST_BACKOFF.as_ms() << failing.saturating_sub(1).min(16);
        let backoff = DurationMs::from_ms(backoff.min(LONGEST_BACKOFF.as_ms()));
        tracing::warn!(%error, failing, %backoff, "a tick of the store failed; it is tried again");
        Ok(Next::AfterBackoff(backoff))
    }

    async fn pause(&mut self, next: Next) {
        match next {
            Next::At { time, idle } => {
                if idle {
                    sleep(PAUSE_AFTER_NOTHING).await;
                }
                self.wait_until(time).await;
                tokio::task::yield_now().await;
            }
            Next::AfterBackoff(backoff) => sleep(Duration::from_millis(backoff.as_ms())).await,
        }
    }

    /// Waits until `at` by the wall clock, or until the engine wants to be ticked earlier, or the
    /// wall clock was set.
    async fn wait_until(&mut self, at: Timestamp) {
        let engine = Arc::clone(&self.engine);
        let mut sooner = engine.tick_sooner();
        loop {
            let left = at.as_unix_ms().saturating_sub(self.clock.now().as_unix_ms());
            let Some(left) = u64::try_from(left).ok().filter(|ms| *ms > 0) else {
                return;
            };
            let piece = left.min(LOOK_AT_CLOCK.as_ms());
            tokio::select! {
                () = &mut sooner => return,
                () = sleep(Duration::from_millis(piece)) => {}
            }
            if self.steps.stepped(self.clock.as_ref()) {
                return;
            }
        }
    }
}
