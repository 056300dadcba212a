//! Keeps leases: extends them while their handlers run, gives up those that could not be extended
//! in time, and gives back jobs that wait too long for a runner.

use std::sync::Arc;

use onefold_core::{DurationMs, End};

use super::lease::{CancelReason, Lease};
use super::outbox::Letter;
use super::shared::{Shared, Ticket};
use crate::time::to_std;

/// Runs until it is dropped.
pub(crate) async fn run(shared: Arc<Shared>) {
    let beat = shared.config.heartbeat();
    let mut next_beat = shared.clock().monotonic().saturating_add(beat);
    loop {
        let next = [give_up_overdue(&shared), give_back_overdue(&shared)].into_iter().flatten().min();
        let until = next.map_or(next_beat, |next| next.min(next_beat));
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

/// Gives back jobs that have waited too long for a runner. Returns when the next one will have.
fn give_back_overdue(shared: &Shared) -> Option<DurationMs> {
    let (overdue, next) = shared.take_overdue(shared.clock().monotonic());
    for Ticket { lease, .. } in overdue {
        tracing::info!(job = %lease.id, "gave back a job no handler was free for; a smaller prefetch avoids this");
        shared.end(lease, End::Release);
    }
    next
}
