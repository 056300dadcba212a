//! The way from a node to a server.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, UnixStream, unix};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::frames::Frames;

/// Bytes that are read at a time.
const CHUNK: usize = 64 * 1024;

/// Listens for a node, and carries what it sends to a server and back, until told otherwise.
pub struct Proxy {
    address: SocketAddr,
    link: Arc<Link>,
}

/// What happens to a connection that commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It breaks, and the server never hears of the commit.
    BreaksBefore,
    /// It breaks once the server has committed, and its answer never arrives.
    BreaksAfter,
    /// The whole way is cut, and the server waits for what never comes.
    CutBefore,
}

struct Link {
    server: Mutex<PathBuf>,
    state: watch::Sender<State>,
    trap: Mutex<Option<Trap>>,
    sprung: AtomicU64,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// Nothing arrives, and nobody is told.
    cut: bool,
    /// How often all connections were broken.
    resets: u64,
}

struct Trap {
    /// What the transaction sends that is meant.
    marker: Vec<u8>,
    fault: Fault,
}

impl Proxy {
    /// Leads to the server with this socket.
    pub(crate) fn to(server: &Path, runtime: &Handle) -> Proxy {
        let link = Arc::new(Link {
            server: Mutex::new(server.to_owned()),
            state: watch::Sender::new(State::default()),
            trap: Mutex::new(None),
            sprung: AtomicU64::new(0),
        });
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(Arc::clone(&link).accept(listener));
        Proxy { address, link }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on new connections lead to the server with this socket.
    pub(crate) fn lead_to(&self, server: &Path) {
        *self.link.server.lock().unwrap() = server.to_owned();
    }

    /// From now on whatever is sent either way is lost, and no end hears of the other's.
    pub fn cut(&self) {
        self.link.state.send_modify(|state| state.cut = true);
    }

    /// Undoes [`Proxy::cut`]. Connections that lost something break.
    pub fn heal(&self) {
        self.link.state.send_modify(|state| state.cut = false);
    }

    /// Breaks all connections.
    pub fn reset(&self) {
        self.link.state.send_modify(|state| state.resets += 1);
    }

    /// Has this happen to the next connection that commits a transaction in which `marker` was sent.
    pub fn trap(&self, marker: impl AsRef<[u8]>, fault: Fault) {
        *self.link.trapped() = Some(Trap { marker: marker.as_ref().to_vec(), fault });
    }

    /// How many traps were sprung so far.
    pub fn sprung(&self) -> u64 {
        self.link.sprung.load(Ordering::SeqCst)
    }
}

impl Link {
    async fn accept(self: Arc<Self>, listener: TcpListener) {
        while let Ok((client, _)) = listener.accept().await {
            let link = Arc::clone(&self);
            tokio::spawn(async move {
                let _ = client.set_nodelay(true);
                link.carry(client).await;
            });
        }
    }

    /// Carries both ways until one end is gone or the way breaks.
    async fn carry(&self, client: TcpStream) {
        let mut states = self.state.subscribe();
        let resets = states.borrow_and_update().resets;
        // Who breaks says no goodbye.
        let _ = client.set_zero_linger();
        let way = Way::default();
        if states.borrow().cut {
            // The system has taken it, and it never gets further.
            way.loses();
            way.broken(states, resets).await;
            return;
        }
        let path = self.server.lock().unwrap().clone();
        let Ok(server) = UnixStream::connect(path).await else { return };
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        tokio::select! {
            () = self.carry_up(from_client, to_server, &way) => {}
            () = self.carry_down(from_server, to_client, &way) => {}
            () = way.broken(states, resets) => {}
        }
    }

    fn is_cut(&self) -> bool {
        self.state.borrow().cut
    }

    /// What the node sends; returns when the connection is to break.
    async fn carry_up(&self, mut from: OwnedReadHalf, mut to: unix::OwnedWriteHalf, way: &Way) {
        let (mut chunk, mut frames, mut marked) = (vec![0; CHUNK], Frames::default(), false);
        while let Some(length) = self.read(&mut from, &mut chunk, way).await {
            for frame in frames.push(&chunk[..length]) {
                marked &= !frame.begins();
                marked |= self.trapped().as_ref().is_some_and(|trap| frame.holds(&trap.marker));
                if marked && frame.commits() {
                    match self.spring() {
                        Some(Fault::BreaksBefore) => return self.has_sprung(),
                        Some(Fault::BreaksAfter) => way.swallows.store(true, Ordering::SeqCst),
                        Some(Fault::CutBefore) => {
                            self.state.send_modify(|state| state.cut = true);
                            way.loses();
                            self.has_sprung();
                            std::future::pending().await
                        }
                        None => {}
                    }
                }
                if to.write_all(&frame.0).await.is_err() {
                    return;
                }
            }
        }
    }

    /// What the server sends; returns when the connection is to break.
    async fn carry_down(&self, mut from: unix::OwnedReadHalf, mut to: OwnedWriteHalf, way: &Way) {
        let mut chunk = vec![0; CHUNK];
        while let Some(length) = self.read(&mut from, &mut chunk, way).await {
            if way.swallows.load(Ordering::SeqCst) {
                // It is the answer to the commit.
                return self.has_sprung();
            }
            if to.write_all(&chunk[..length]).await.is_err() {
                return;
            }
        }
    }

    /// Reads what arrives; nothing once no more will.
    async fn read(&self, from: &mut (impl AsyncRead + Unpin), chunk: &mut [u8], way: &Way) -> Option<usize> {
        loop {
            let length = from.read(chunk).await.unwrap_or(0);
            if self.is_cut() {
                way.loses();
            }
            match (way.has_lost.load(Ordering::SeqCst), length) {
                (false, 0) => return None,
                (false, length) => return Some(length),
                // The other end hears of nothing, the end of this one included.
                (true, 0) => std::future::pending().await,
                (true, _) => {}
            }
        }
    }

    fn trapped(&self) -> MutexGuard<'_, Option<Trap>> {
        self.trap.lock().unwrap()
    }

    fn spring(&self) -> Option<Fault> {
        self.trapped().take().map(|trap| trap.fault)
    }

    fn has_sprung(&self) {
        self.sprung.fetch_add(1, Ordering::SeqCst);
    }
}

/// One connection.
#[derive(Default)]
struct Way {
    /// Something was lost on it: it is of no use any more, which nobody knows until the cut is healed.
    has_lost: AtomicBool,
    /// What the server says from now on does not arrive.
    swallows: AtomicBool,
}

impl Way {
    fn loses(&self) {
        self.has_lost.store(true, Ordering::SeqCst);
    }

    /// Waits until it breaks from outside.
    async fn broken(&self, mut states: watch::Receiver<State>, resets: u64) {
        let breaks =
            |state: &State| state.resets != resets || (!state.cut && self.has_lost.load(Ordering::SeqCst));
        // Whoever would break it may be gone.
        if states.wait_for(breaks).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
