//! How long, how many and how much.

use std::time::Duration;

/// What clients may take of the server before it closes their connections.
///
/// `Duration::MAX` turns a deadline off.
#[derive(Debug, Clone)]
pub struct AcceptLimits {
    /// From the connection's beginning to its first byte. 10 s.
    pub first_byte: Duration,
    /// From the first byte of a head to its last. 10 s.
    pub header_read: Duration,
    /// How fast a body must come while a handler waits for it.
    pub body: BodyPace,
    /// From an answer's end to the first byte of the next request. 60 s.
    pub keep_alive_idle: Duration,
    /// How long a client may take no byte of an answer. 30 s.
    pub write_stall: Duration,
    /// After an answer to a request that was not read to its end: how long what still comes is read and thrown
    /// away, because closing on unread bytes makes the client's system discard the answer. 2 s.
    pub linger: Duration,
    /// How long a drain waits for requests in progress. 10 s.
    pub drain_timeout: Duration,
    /// Connections at once. 12 000; fewer if the process may not open as many files.
    ///
    /// When all are taken, the connections that are silent or idle longest are closed for new ones: first those
    /// that never sent a byte, after a tenth of `first_byte`, then idle ones, then younger silent ones. Only if
    /// every connection is in the middle of a request do new ones wait, in the system's queue.
    pub max_connections: usize,
    /// Files the process may open that connections leave to the store and to deliveries. 256.
    pub descriptors_kept: u64,
    /// The request line and the headers together, in bytes. 64 KiB; at least 8 KiB. More is answered with 431.
    pub max_header_bytes: usize,
}

/// How fast a body must come.
///
/// Only time spent waiting for the client counts, never the time a handler takes.
#[derive(Debug, Clone)]
pub struct BodyPace {
    /// From one byte to the next. 10 s.
    pub idle: Duration,
    /// Bytes per second on average; 0 asks for none. 1024.
    pub min_rate: u64,
    /// Waiting that is allowed whatever the rate is. 10 s.
    pub grace: Duration,
    /// All the waiting for one body. 10 min.
    pub total: Duration,
}

impl Default for AcceptLimits {
    fn default() -> Self {
        AcceptLimits {
            first_byte: Duration::from_secs(10),
            header_read: Duration::from_secs(10),
            body: BodyPace::default(),
            keep_alive_idle: Duration::from_secs(60),
            write_stall: Duration::from_secs(30),
            linger: Duration::from_secs(2),
            drain_timeout: Duration::from_secs(10),
            max_connections: 12_000,
            descriptors_kept: 256,
            max_header_bytes: 64 * 1024,
        }
    }
}

impl Default for BodyPace {
    fn default() -> Self {
        BodyPace {
            idle: Duration::from_secs(10),
            min_rate: 1024,
            grace: Duration::from_secs(10),
            total: Duration::from_secs(600),
        }
    }
}

/// Which rule of [`BodyPace`] is the next to be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PaceRule {
    Idle = 1,
    MinRate = 2,
    Total = 3,
}

impl BodyPace {
    /// How much longer the next byte may take, after `bytes` in `waited`, and the rule that says so.
    pub(super) fn patience(&self, bytes: u64, waited: Duration) -> (Duration, PaceRule) {
        let by_rate = match bytes.saturating_mul(1000).checked_div(self.min_rate) {
            Some(millis) => self.grace.max(Duration::from_millis(millis)),
            None => Duration::MAX,
        };
        [
            (self.idle, PaceRule::Idle),
            (by_rate.saturating_sub(waited), PaceRule::MinRate),
            (self.total.saturating_sub(waited), PaceRule::Total),
        ]
        .into_iter()
        .min_by_key(|(left, _)| *left)
        .unwrap_or((self.idle, PaceRule::Idle))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strictest_rule_of_a_body_decides() {
        let pace = BodyPace::default();
        let secs = Duration::from_secs;
        assert_eq!(pace.patience(0, secs(0)), (secs(10), PaceRule::Idle));
        assert_eq!(pace.patience(1, secs(9)), (secs(1), PaceRule::MinRate), "a byte now and then");
        assert_eq!(pace.patience(20 * 1024, secs(15)), (secs(5), PaceRule::MinRate), "20 KiB buy 20 s");
        assert_eq!(pace.patience(1 << 30, secs(15)), (secs(10), PaceRule::Idle), "much, then nothing");
        assert_eq!(pace.patience(1 << 30, secs(595)), (secs(5), PaceRule::Total));
        assert_eq!(pace.patience(1 << 30, secs(700)), (secs(0), PaceRule::Total));
        let any_rate = BodyPace { min_rate: 0, ..BodyPace::default() };
        assert_eq!(any_rate.patience(1, secs(500)), (secs(10), PaceRule::Idle));
    }
}
