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
    idle: Mutex<HashMap<Origin, Vec<Idle>>>,
}

impl Pool {
    pub(super) fn new(limits: Limits) -> Pool {
        Pool { limits, idle: Mutex::default() }
    }

    /// The connection to `origin` that was used last, if one is still good.
    pub(super) fn take(&self, origin: &Origin, now: DurationMs) -> Option<Connection> {
        let mut idle = self.lock();
        let lane = idle.get_mut(origin)?;
        lane.retain(|idle| idle.is_good(now));
        let taken = lane.pop();
        if lane.is_empty() {
            idle.remove(origin);
        }
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
        if idle.values().map(Vec::len).sum::<usize>() >= self.limits.idle_connections {
            sweep(&mut idle, now);
        }
        let total: usize = idle.values().map(Vec::len).sum();
        let lane = idle.entry(origin).or_default();
        if total < self.limits.idle_connections && lane.len() < self.limits.idle_per_origin {
            lane.push(Idle { connection, until });
        }
    }

    /// Closes what has been idle for too long.
    pub(super) fn sweep(&self, now: DurationMs) {
        sweep(&mut self.lock(), now);
    }

    /// How many are still open.
    pub(super) fn open(&self) -> usize {
        self.lock().values().flatten().filter(|idle| !idle.connection.sender.is_closed()).count()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Origin, Vec<Idle>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sweep(idle: &mut HashMap<Origin, Vec<Idle>>, now: DurationMs) {
    idle.retain(|_, lane| {
        lane.retain(|idle| idle.is_good(now));
        !lane.is_empty()
    });
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
