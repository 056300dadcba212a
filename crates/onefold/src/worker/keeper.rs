//! Keeps leases: extends them while their handlers run, and gives up those that could not be
//! extended in time.

use std::sync::Arc;

use onefold_core::DurationMs;

use super::lease::{CancelReason, Lease};
use super::outbox::Letter;
use super::shared::Shared;
use crate::time::to_std;

/// Runs until it is dropped.
pub(crate) async fn run(shared: Arc<Shared>) {
    let beat = shared.config.heartbeat();
    let mut next_beat = shared.clock().monotonic().saturating_add(beat);
    loop {
        let next_loss = give_up_overdue(&shared);
        let until = next_loss.map_or(next_beat, |loss| loss.min(next_beat));
        let pause = until.saturating_sub(shared.clock().monotonic());
        tokio::select! {
            () = tokio::time::sleep(to_std(pause)) => {}
            () = shared.urgent.notified() => extend(&shared, beat.saturating_add(shared.config.margin())),
        }
        if shared.clock().monotonic() >= next_beat {
            // A lease fresher than this lives to the next beat, so short jobs cost no heartbeats.
            extend(&shared, DurationMs::from_ms(shared.config.lease.as_ms() / 6 * 5));
            next_beat = shared.clock().monotonic().saturating_add(beat);
        }
    }
}

/// Extends what has no more than `left` left.
fn extend(shared: &Shared, left: DurationMs) {
    let length = shared.config.lease;
    let until = shared.clock().monotonic().saturating_add(left);
    let stale = |lease: &Arc<Lease>| lease.deadline() <= until && !lease.is_lost();
    let letters = shared.open_leases().into_iter().filter(stale);
    shared.outbox.post_all(letters.map(|lease| Letter::Heartbeat { lease, length }));
}

/// Tells handlers to stop whose lease may soon be somebody else's. Returns when the next one
/// would be.
fn give_up_overdue(shared: &Shared) -> Option<DurationMs> {
    let now = shared.clock().monotonic();
    let mut next = None;
    for lease in shared.open_leases() {
        let gives_up_at = lease.deadline().saturating_sub(shared.config.margin());
        if lease.is_lost() {
            continue;
        }
        if gives_up_at <= now {
            tracing::warn!(job = %lease.id, token = %lease.token, "a lease could not be extended in time");
            lease.signal(CancelReason::LeaseLost);
        } else {
            next = Some(next.map_or(gives_up_at, |next: DurationMs| next.min(gives_up_at)));
        }
    }
    next
}
