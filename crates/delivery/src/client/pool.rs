//! Idle connections, few and not for long.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::Full;
use hyper::client::conn::http1::SendRequest;
use onefold_core::DurationMs;
use tokio::task::AbortHandle;

use super::meter::Meter;
use crate::{Limits, Origin};

/// A connection. Dropping it closes it.
pub(super) struct Connection {
    pub(super) sender: SendRequest<Full<Bytes>>,
    pub(super) meter: Arc<Meter>,
    pub(super) address: SocketAddr,
    pub(super) opened_at: DurationMs,
    pub(super) driver: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

struct Idle {
    connection: Connection,
    until: DurationMs,
}

/// Idle connections by origin. A connection's address was vetted when it was dialled, and it leads nowhere else.
pub(super) struct Pool {
    limits: Limits,
    idle: Mutex<Idles>,
}

#[derive(Default)]
struct Idles {
    by_origin: HashMap<Origin, Vec<Idle>>,
    total: usize,
}

impl Pool {
    pub(super) fn new(limits: Limits) -> Pool {
        Pool { limits, idle: Mutex::default() }
    }

    /// The connection to `origin` that was used last, if one is still good.
    pub(super) fn take(&self, origin: &Origin, now: DurationMs) -> Option<Connection> {
        let mut idle = self.lock();
        let of_origin = idle.by_origin.get_mut(origin)?;
        let before = of_origin.len();
        of_origin.retain(|idle| idle.is_good(now));
        let taken = of_origin.pop();
        let left = of_origin.len();
        if left == 0 {
            idle.by_origin.remove(origin);
        }
        idle.total -= before - left;
        taken.map(|idle| idle.connection)
    }

    /// Keeps a connection whose answer was read to its end, if the target allows and there is room.
    pub(super) fn put(&self, origin: Origin, connection: Connection, headers: &HeaderMap, now: DurationMs) {
        let stay = promised(headers).map_or(self.limits.idle, |promised| self.limits.idle.min(promised));
        let until =
            now.saturating_add(stay).min(connection.opened_at.saturating_add(self.limits.connection_age));
        if until <= now {
            return;
        }
        let mut idle = self.lock();
        if idle.total >= self.limits.idle_connections {
            idle.sweep(now);
        }
        if idle.total >= self.limits.idle_connections {
            return;
        }
        let of_origin = idle.by_origin.entry(origin).or_default();
        if of_origin.len() < self.limits.idle_per_origin {
            of_origin.push(Idle { connection, until });
            idle.total += 1;
        }
    }

    /// Closes what has been idle for too long.
    pub(super) fn sweep(&self, now: DurationMs) {
        self.lock().sweep(now);
    }

    /// How many are still open.
    pub(super) fn open(&self) -> usize {
        let is_open = |idle: &&Idle| !idle.connection.sender.is_closed();
        self.lock().by_origin.values().flatten().filter(is_open).count()
    }

    fn lock(&self) -> MutexGuard<'_, Idles> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Idles {
    fn sweep(&mut self, now: DurationMs) {
        self.by_origin.retain(|_, of_origin| {
            of_origin.retain(|idle| idle.is_good(now));
            !of_origin.is_empty()
        });
        self.total = self.by_origin.values().map(Vec::len).sum();
    }
}

impl Idle {
    fn is_good(&self, now: DurationMs) -> bool {
        now < self.until && !self.connection.sender.is_closed()
    }
}

/// How long the target says that it keeps an idle connection (`keep-alive: timeout=5`), less a second for the way.
fn promised(headers: &HeaderMap) -> Option<DurationMs> {
    let value = headers.get("keep-alive")?.to_str().ok()?;
    let seconds = value.split(',').find_map(|part| part.trim().strip_prefix("timeout="))?;
    let seconds: u64 = seconds.trim().parse().ok()?;
    Some(DurationMs::from_ms(seconds.saturating_sub(1).saturating_mul(1000)))
}
