//! The API behind a socket.

use std::future::Future;
use std::io;

use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;

use crate::auth::Peer;
use crate::router::router;
use crate::state::AppState;

/// Serves until `drain` is ready.
///
/// # Errors
/// If the listener breaks.
pub async fn serve(
    state: AppState,
    listener: TcpListener,
    drain: impl Future<Output = ()>,
) -> io::Result<()> {
    let router = router(state);
    tokio::pin!(drain);
    loop {
        let (stream, address) = tokio::select! {
            accepted = listener.accept() => accepted?,
            () = &mut drain => return Ok(()),
        };
        let router = router.clone().layer(axum::Extension(Peer(address.ip())));
        tokio::spawn(async move {
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
                .await;
        });
    }
}
