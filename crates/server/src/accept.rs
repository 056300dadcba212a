//! Onefold's own accept loop: HTTP/1.1 with a deadline for everything a client can be slow at.
//!
//! `axum::serve` hands hyper no timer, and hyper without a timer waits for heads and bodies forever. [`serve`]
//! gives every connection one timer and holds it to [`AcceptLimits`]:
//!
//! | The client | and then |
//! |---|---|
//! | sends nothing at all | closed after `first_byte` |
//! | sends a head bit by bit | 408 and closed after `header_read` |
//! | sends a body with pauses, or too slowly | the handler's read ends with a [`BodyError`]; its answer is the last |
//! | keeps an idle connection | closed after `keep_alive_idle` |
//! | does not take its answer | closed after `write_stall` |
//!
//! What is not HTTP/1.1 is answered without asking a handler, by a problem document: 431 for a head over
//! `max_header_bytes` or with more than 100 fields, 400 for the rest. Two different `Content-Length`s and folded
//! fields are such a 400, and so is `Content-Length` beside `Transfer-Encoding`, which hyper alone would let
//! pass. A body whose chunks cannot be read ends with a [`BodyError`].
//!
//! A client that closes its connection, or only its sending half, is taken to be gone: its handler is dropped.
//! The two look alike, and a parked poll must not lease a job for nobody.
//!
//! An answer with a [`Receipt`] among its extensions is told whether the system took it to its end.
//!
//! The peer's address is in the request's extensions as `ConnectInfo<SocketAddr>`.

mod body;
mod connection;
mod descriptors;
mod framing;
mod last_words;
mod limits;
mod link;
mod receipt;
mod room;
mod stats;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{Request, Response};
use hyper::server::conn::http1;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tower::Service;

pub use self::body::BodyError;
pub use self::descriptors::raise_descriptor_limit;
pub use self::limits::{AcceptLimits, BodyPace};
pub use self::receipt::Receipt;
pub use self::stats::{AcceptStats, CloseReason};

use self::connection::Shared;
use self::link::Order;
use self::room::Room;

/// What can be served: an `axum::Router`, or any tower service with the same types.
pub trait App:
    Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + 'static
{
}

impl<S> App for S where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static
{
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were closed in the middle of a request, because
    /// [`drain_timeout`](AcceptLimits::drain_timeout) had passed.
    pub dropped: usize,
}

/// Serves every connection of `listener` until `drain` is ready, then finishes.
///
/// To finish is to close the listener and the connections without a request, to answer the requests in progress,
/// and to close their connections too, after [`drain_timeout`](AcceptLimits::drain_timeout) even without an
/// answer. When this returns, no connection is open and no task of it runs. If it is dropped instead, its
/// connections are dropped.
///
/// Errors of the listener are counted and logged; the loop goes on.
pub async fn serve<A: App>(
    listener: TcpListener,
    app: A,
    limits: AcceptLimits,
    stats: Arc<AcceptStats>,
    drain: impl Future<Output = ()>,
) -> Drained {
    serve_source(listener, app, limits, stats, drain).await
}

/// A listener, or what a test puts in its place.
trait Source {
    fn accept(&self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send;
}

impl Source for TcpListener {
    fn accept(&self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send {
        TcpListener::accept(self)
    }
}

async fn serve_source<A: App>(
    source: impl Source,
    app: A,
    limits: AcceptLimits,
    stats: Arc<AcceptStats>,
    drain: impl Future<Output = ()>,
) -> Drained {
    let room = Arc::new(Room::new(stats, limits.first_byte / 10));
    let drop_all = DropAll(Arc::clone(&room));
    let shared = Arc::new(Shared { http: http(&limits), room: Arc::clone(&room), limits });
    let tasks = TaskTracker::new();
    accept_until(&source, &app, &shared, &tasks, drain).await;
    drop((source, app));

    tasks.close();
    room.order_all(Order::Drain);
    // If it takes too long, the rest is dropped.
    let _ = tokio::time::timeout(shared.limits.drain_timeout, tasks.wait()).await;
    drop(drop_all);
    tasks.wait().await;
    let dropped = room.dropped();
    if dropped > 0 {
        tracing::warn!(connections = dropped, "drain timeout: requests in progress were dropped");
    }
    Drained { dropped }
}

fn http(limits: &AcceptLimits) -> http1::Builder {
    // Below this hyper panics; above, larger bodies are read in larger pieces.
    const MIN_HEADER_BYTES: usize = 8 * 1024;
    const MIN_BUFFER: usize = 64 * 1024;
    let head = limits.max_header_bytes.max(MIN_HEADER_BYTES);
    let mut http = http1::Builder::new();
    http.header_read_timeout(None).half_close(false).max_header_size(head).max_buf_size(head.max(MIN_BUFFER));
    http
}

/// Drops all connections when it is dropped: at the end of a drain, or with an unfinished `serve`.
struct DropAll(Arc<Room>);

impl Drop for DropAll {
    fn drop(&mut self) {
        self.0.order_all(Order::Drop);
    }
}

async fn accept_until<A: App>(
    source: &impl Source,
    app: &A,
    shared: &Arc<Shared>,
    tasks: &TaskTracker,
    drain: impl Future<Output = ()>,
) {
    const FIRST_PAUSE: Duration = Duration::from_millis(10);
    const LONGEST_PAUSE: Duration = Duration::from_secs(1);
    let Shared { limits, room, .. } = &**shared;
    let most = descriptors::connections(limits.max_connections, limits.descriptors_kept);
    if most < limits.max_connections {
        tracing::warn!(
            connections = most,
            wanted = limits.max_connections,
            "fewer connections than wanted: raise the limit of open files (ulimit -n)"
        );
    }
    let mut crowd = Crowd { most, batch: (most / 64).clamp(1, 64), told: None };
    let mut pause = FIRST_PAUSE;
    let mut drain = pin!(drain);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut drain => return,
            accepted = crowd.accept(source, room) => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                pause = FIRST_PAUSE;
                // Answers are written whole; waiting to fill a packet only delays them.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%peer, %error, "connection is gone already");
                }
                let seat = room.take_seat();
                tasks.spawn(connection::run(stream, peer, app.clone(), Arc::clone(shared), seat));
            }
            Err(error) if is_of_the_peer(&error) => {}
            Err(error) => {
                room.stats().accept_failed();
                tracing::warn!(%error, open = room.open(), "cannot accept connections: closing idle ones, then trying again");
                room.ask_to_leave(crowd.batch);
                tokio::select! {
                    () = &mut drain => return,
                    () = room.one_left(pause) => {}
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// How many connections there may be, and how many are asked to leave at once when there are more.
struct Crowd {
    most: usize,
    batch: usize,
    told: Option<Instant>,
}

impl Crowd {
    /// Accepts a connection, and makes room for it if there is none.
    async fn accept(&mut self, source: &impl Source, room: &Room) -> io::Result<(TcpStream, SocketAddr)> {
        const TELL_EVERY: Duration = Duration::from_secs(10);
        // A connection may become idle without anyone telling.
        const LOOK_AGAIN: Duration = Duration::from_millis(50);
        let accepted = source.accept().await?;
        while room.open() >= self.most {
            if self.told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
                self.told = Some(Instant::now());
                tracing::warn!(most = self.most, "all connections are taken: closing idle ones");
            }
            room.ask_to_leave(self.batch);
            room.one_left(LOOK_AGAIN).await;
        }
        Ok(accepted)
    }
}

/// Whether the error is one of the connection that was to be accepted, and the next may be had at once.
fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use axum::Router;
    use axum::routing::get;
    use rustix::io::Errno;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;

    use super::*;

    /// A listener that fails at its first, third and fourth use.
    struct Failing(TcpListener, AtomicUsize);

    impl Source for Failing {
        async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
            match self.1.fetch_add(1, SeqCst) {
                0 => Err(Errno::CONNABORTED.into()),
                2 => Err(Errno::MFILE.into()),
                3 => Err(Errno::NOBUFS.into()),
                _ => self.0.accept().await,
            }
        }
    }

    #[tokio::test]
    async fn the_loop_survives_a_listener_that_fails_and_frees_what_it_can() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new().route("/", get(|| async { "hello" }));
        let stats = Arc::new(AcceptStats::default());
        let (drain, drained) = oneshot::channel::<()>();
        let drained = async move { drained.await.unwrap_or_default() };
        let limits = AcceptLimits { first_byte: Duration::MAX, ..AcceptLimits::default() };
        let source = Failing(listener, AtomicUsize::new(0));
        let server = tokio::spawn(serve_source(source, app, limits, Arc::clone(&stats), drained));

        let mut silent = TcpStream::connect(address).await.unwrap();
        assert_eq!(silent.read(&mut [0]).await.unwrap(), 0, "closed for want of descriptors");
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("hello"), "{answer}");

        drain.send(()).unwrap();
        assert_eq!(server.await.unwrap(), Drained { dropped: 0 });
        assert_eq!((stats.accept_errors(), stats.closed(CloseReason::Evicted)), (2, 1));
    }
}
