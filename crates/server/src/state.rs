//! What every handler works with.

use std::path::PathBuf;
use std::sync::Arc;

use onefold_core::{Clock, Engine, limits};
use onefold_runtime::{Health, Phase};
use tokio::sync::watch;

use crate::accept::{AcceptLimits, AcceptStats};
use crate::auth::Token;

/// How to serve.
#[derive(Debug, Clone)]
pub struct Config {
    /// The bearer token every request must carry, `/healthz` and `/readyz` aside. Without one only
    /// this machine is served.
    pub token: Option<Token>,
    /// Bytes of a payload at the most; [`limits::PAYLOAD_BYTES_MAX`] at most.
    pub payload_bytes_max: usize,
    /// Where a backup is put while it is sent, on the store's file system at best; nobody else's backups may
    /// be put there. Without it, the system's directory for temporary files.
    pub backup_dir: Option<PathBuf>,
    /// Queues that get labels of their own in `/metrics`; the smaller rest is added up.
    pub metrics_queues_max: usize,
    /// What clients may take of the server.
    pub accept: AcceptLimits,
    /// Whether this process delivers jobs to HTTP targets.
    pub delivers: bool,
    /// What is known of the store beside its health, told by `/readyz`.
    pub store: watch::Receiver<StoreNotes>,
}

/// What an operator should know of the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreNotes {
    /// In a word, whether what is acknowledged is on another machine, too; `None` if that is not asked of this store.
    pub standby: Option<&'static str>,
    /// In sentences, for example that a standby is missing.
    pub notes: Vec<String>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            token: None,
            payload_bytes_max: limits::PAYLOAD_BYTES_DEFAULT,
            backup_dir: None,
            metrics_queues_max: 200,
            accept: AcceptLimits::default(),
            delivers: false,
            store: watch::channel(StoreNotes::default()).1,
        }
    }
}

impl Config {
    /// Bytes of a request's body at the most: 16 MiB, or twice the payload limit if that is more.
    pub fn request_bytes_max(&self) -> usize {
        limits::REQUEST_BYTES_DEFAULT.max(self.payload_bytes_max.saturating_mul(2))
    }
}

/// What every handler works with. Cheap to clone.
#[derive(Clone)]
pub struct AppState(Arc<Shared>);

struct Shared {
    engine: Arc<dyn Engine>,
    clock: Arc<dyn Clock>,
    config: Config,
    health: watch::Receiver<Health>,
    connections: Arc<AcceptStats>,
}

impl AppState {
    /// `clock` is the one the engine lives by; `health` tells whether the engine serves, see
    /// [`onefold_runtime::Runtime::watch_health`].
    pub fn new(
        engine: Arc<dyn Engine>,
        clock: Arc<dyn Clock>,
        config: Config,
        health: watch::Receiver<Health>,
    ) -> AppState {
        let connections = Arc::new(AcceptStats::default());
        AppState(Arc::new(Shared { engine, clock, config, health, connections }))
    }

    pub(crate) fn engine(&self) -> &dyn Engine {
        self.0.engine.as_ref()
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        self.0.clock.as_ref()
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    /// Whether jobs with an HTTP target are taken: somebody here, or who shares the store, delivers them.
    pub(crate) fn delivers(&self) -> bool {
        self.0.config.delivers || self.0.engine.capabilities().multi_process
    }

    /// What the accept loop counts.
    pub(crate) fn connections(&self) -> &Arc<AcceptStats> {
        &self.0.connections
    }

    pub(crate) fn health(&self) -> Health {
        self.0.health.borrow().clone()
    }

    /// Whether no new leases are handed out.
    pub(crate) fn is_draining(&self) -> bool {
        is_over(&self.0.health.borrow())
    }

    /// Returns once no new leases are handed out.
    pub(crate) async fn drained(&self) {
        let mut health = self.0.health.clone();
        // If nobody tells any more, the process is ending.
        let _ = health.wait_for(is_over).await;
    }
}

fn is_over(health: &Health) -> bool {
    !matches!(health.phase, Phase::Starting | Phase::Serving)
}

impl std::fmt::Debug for AppState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AppState").field("config", self.config()).finish_non_exhaustive()
    }
}
