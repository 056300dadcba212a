//! The API behind a socket.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use onefold_core::Clock;
use onefold_runtime::Runtime;
use thiserror::Error;
use tokio::net::TcpListener;

use crate::accept::{self, Drained};
use crate::auth::is_loopback;
use crate::router::router;
use crate::routes::backup::sweep;
use crate::state::{AppState, Config};

/// Why nothing was served.
#[derive(Debug, Error)]
pub enum ServeError {
    /// Anybody could do anything.
    #[error("will not listen on {0} without a token: set ONEFOLD_TOKEN, or listen on 127.0.0.1")]
    TokenNeeded(SocketAddr),
    /// The listener has no address.
    #[error("the listener cannot be used: {0}")]
    Listener(#[from] std::io::Error),
}

/// Serves the API over the engine of `runtime` until `drain` is ready, then finishes: no more
/// leases, parked polls return empty, requests in progress are answered, idle connections closed.
/// `clock` is the one the engine lives by. Afterwards the caller stops the runtime.
///
/// # Errors
/// [`ServeError`]; once it serves, it does so until the drain.
pub async fn serve(
    runtime: &Runtime,
    clock: Arc<dyn Clock>,
    config: Config,
    listener: TcpListener,
    drain: impl Future<Output = ()>,
) -> Result<Drained, ServeError> {
    let state = AppState::new(Arc::clone(runtime.engine()), clock, config, runtime.watch_health());
    let drain = async {
        drain.await;
        if let Err(error) = runtime.drain().await {
            tracing::error!("the engine cannot drain: {error}");
        }
    };
    serve_app(state, listener, drain).await
}

/// Like [`serve`], for a state of the caller's own making: `drain` must also have drained the engine.
///
/// # Errors
/// [`ServeError`].
pub async fn serve_app(
    state: AppState,
    listener: TcpListener,
    drain: impl Future<Output = ()>,
) -> Result<Drained, ServeError> {
    let address = listener.local_addr()?;
    if state.config().token.is_none() && !is_loopback(address.ip()) {
        return Err(ServeError::TokenNeeded(address));
    }
    // A directory of our own holds only our own leftovers; the system's may hold another server's copy.
    if let Some(directory) = &state.config().backup_dir {
        sweep(directory);
    }
    let (limits, stats) = (state.config().accept.clone(), Arc::clone(state.connections()));
    Ok(accept::serve(listener, router(state), limits, stats, drain).await)
}
