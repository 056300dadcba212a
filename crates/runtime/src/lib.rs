//! The loops over an engine. An engine does nothing by itself: [`Runtime`] calls its tick when
//! something is due (timers, lease expiry, ends of parked polls, retention) and never otherwise,
//! and says how the store is doing. [`Deliveries`] leases what is delivered over HTTP and hands it to a
//! [`Deliverer`].
//!
//! Here also stand the machine's clocks and randomness, which everything else takes as
//! parameters: [`SystemClock`], [`TokioClock`] and [`SystemEntropy`].

mod deliveries;
mod health;
mod system;
mod ticker;

use std::fmt;
use std::sync::Arc;

use onefold_core::{Clock, Engine, EngineResult};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use deliveries::{Deliverer, Deliveries, Room};
pub use health::{Health, Phase};
pub use system::{SystemClock, SystemEntropy, TokioClock};

/// A store being served by this process: the engine and the task that ticks it.
///
/// Dropping it ends the ticking and leaves the engine open; [`Runtime::stop`] closes it.
pub struct Runtime {
    engine: Arc<dyn Engine>,
    health: Arc<watch::Sender<Health>>,
    stop: CancellationToken,
}

impl Runtime {
    /// Starts ticking `engine` on the current tokio runtime, which needs its timers enabled.
    /// `clock` is the one the engine lives by.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(engine: Arc<dyn Engine>, clock: Arc<dyn Clock>) -> Runtime {
        let (stop, health) = (CancellationToken::new(), Arc::new(watch::Sender::new(Health::starting())));
        let ticker = ticker::Ticker::new(Arc::clone(&engine), clock, Arc::clone(&health), stop.clone());
        tokio::spawn(ticker.run());
        Runtime { engine, health, stop }
    }

    /// The engine.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    /// How the store is doing now.
    pub fn health(&self) -> Health {
        self.health.borrow().clone()
    }

    /// How the store is doing, as it changes.
    pub fn watch_health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// Hands out no more leases: parked polls return empty, and so do new ones. Everything else
    /// goes on until [`Runtime::stop`].
    ///
    /// # Errors
    /// The engine's, if it cannot.
    pub async fn drain(&self) -> EngineResult<()> {
        self.health.send_if_modified(Health::draining);
        self.engine.drain().await
    }

    /// Ends the ticking and closes the engine, finishing what was begun. Stopping again changes
    /// nothing.
    ///
    /// # Errors
    /// The engine's, if it cannot be closed cleanly.
    pub async fn stop(&self) -> EngineResult<()> {
        self.stop.cancel();
        // The sender is ours, so waiting cannot fail.
        let _ = self.health.subscribe().wait_for(|health| health.phase.is_over()).await;
        self.engine.close().await
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("health", &*self.health.borrow()).finish_non_exhaustive()
    }
}
