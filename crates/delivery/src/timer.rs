//! Waiting, as a parameter: tests let time pass by hand while sockets stay real.

use std::future::Future;
use std::pin::Pin;

use onefold_core::DurationMs;

/// Ends when the time has passed.
pub type Elapse = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Makes timers.
pub trait Timer: Send + Sync + 'static {
    /// A timer that runs from now on and ends after `wait`.
    fn after(&self, wait: DurationMs) -> Elapse;
}

/// The timers of tokio.
#[derive(Debug, Clone, Copy, Default)]
pub struct TokioTimer;

impl Timer for TokioTimer {
    fn after(&self, wait: DurationMs) -> Elapse {
        Box::pin(tokio::time::sleep(wait.into()))
    }
}
