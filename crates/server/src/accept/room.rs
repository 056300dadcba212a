//! Which connections are open, and which of them go when others need their places.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::link::{Link, Order, Standing};
use super::stats::{AcceptStats, CloseReason};

pub(super) struct Room {
    began: Instant,
    seats: Mutex<Vec<Arc<Link>>>,
    left: Notify,
    dropped: AtomicUsize,
    stats: Arc<AcceptStats>,
    /// How long a silent connection is as good as any other.
    fair_silence: Duration,
}

impl Room {
    pub(super) fn new(stats: Arc<AcceptStats>, fair_silence: Duration) -> Room {
        Room {
            began: Instant::now(),
            seats: Mutex::default(),
            left: Notify::new(),
            dropped: AtomicUsize::new(0),
            stats,
            fair_silence,
        }
    }

    /// Microseconds since the loop began.
    pub(super) fn micros(&self, at: Instant) -> u64 {
        u64::try_from(at.duration_since(self.began).as_micros()).unwrap_or(u64::MAX)
    }

    pub(super) fn stats(&self) -> &AcceptStats {
        &self.stats
    }

    fn seats(&self) -> MutexGuard<'_, Vec<Arc<Link>>> {
        // Nothing under the lock panics halfway.
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take_seat(self: &Arc<Self>) -> Seat {
        let accepted = Instant::now();
        let link = Arc::new(Link::new(self.micros(accepted)));
        let mut seats = self.seats();
        link.seat.store(seats.len(), Relaxed);
        seats.push(Arc::clone(&link));
        drop(seats);
        self.stats.connection_opened();
        Seat { room: Arc::clone(self), link, accepted, reason: CloseReason::Panicked }
    }

    fn leave(&self, link: &Link) {
        let mut seats = self.seats();
        let index = link.seat.load(Relaxed);
        seats.swap_remove(index);
        if let Some(moved) = seats.get(index) {
            moved.seat.store(index, Relaxed);
        }
    }

    pub(super) fn open(&self) -> usize {
        self.seats().len()
    }

    /// Connections closed in the middle of a request, by order.
    pub(super) fn dropped(&self) -> usize {
        self.dropped.load(Relaxed)
    }

    /// Returns when a connection was closed, or `patience` has passed.
    pub(super) async fn one_left(&self, patience: Duration) {
        // Either way the caller looks again.
        let _ = tokio::time::timeout(patience, self.left.notified()).await;
    }

    pub(super) fn order_all(&self, order: Order) {
        self.seats().iter().for_each(|link| link.give(order));
    }

    /// Asks connections without a request to close, so that `count` are about to: silent ones that had their
    /// time, then the longest idle, then younger silent ones.
    pub(super) fn ask_to_leave(&self, count: usize) {
        let now = self.micros(Instant::now());
        let seats = self.seats();
        let asked = seats.iter().filter(|link| link.order() == Order::MakeRoom).count();
        let count = count.saturating_sub(asked);
        let mut candidates: Vec<(u8, u64, &Arc<Link>)> = seats
            .iter()
            .filter(|link| link.order() == Order::Serve)
            .filter_map(|link| match link.standing() {
                (Standing::Silent, since) => {
                    let overdue = u128::from(now.saturating_sub(since)) >= self.fair_silence.as_micros();
                    Some((if overdue { 0 } else { 2 }, since, link))
                }
                (Standing::Idle, since) => Some((1, since, link)),
                (Standing::Busy, _) => None,
            })
            .collect();
        if count < candidates.len() {
            candidates.select_nth_unstable_by_key(count, |(rank, since, _)| (*rank, *since));
        }
        candidates.iter().take(count).for_each(|(_, _, link)| link.give(Order::MakeRoom));
    }
}

/// A connection's place in the room, given back when dropped.
pub(super) struct Seat {
    room: Arc<Room>,
    pub(super) link: Arc<Link>,
    pub(super) accepted: Instant,
    /// Why the connection was closed. A handler that panics leaves the first value.
    pub(super) reason: CloseReason,
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.reason == CloseReason::Dropped {
            self.room.dropped.fetch_add(1, Relaxed);
        }
        self.room.leave(&self.link);
        self.room.stats.connection_closed(self.reason);
        self.room.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(seats: &[Seat]) -> Vec<bool> {
        seats.iter().map(|seat| seat.link.order() == Order::MakeRoom).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn overdue_silence_goes_before_idleness_and_requests_stay() {
        let room = Arc::new(Room::new(Arc::default(), Duration::from_secs(1)));
        tokio::time::advance(Duration::from_secs(100)).await;
        let seats: Vec<_> = (0..5).map(|_| room.take_seat()).collect();
        seats[0].link.set_standing(Standing::Busy, 10_000_000);
        seats[1].link.set_standing(Standing::Idle, 50_000_000);
        seats[2].link.set_standing(Standing::Idle, 40_000_000);
        seats[3].link.set_standing(Standing::Silent, 99_500_000);
        seats[4].link.set_standing(Standing::Silent, 98_000_000);
        for (count, expected) in [
            (1, [false, false, false, false, true]),
            (1, [false, false, false, false, true]),
            (2, [false, false, true, false, true]),
            (4, [false, true, true, true, true]),
            (5, [false, true, true, true, true]),
        ] {
            room.ask_to_leave(count);
            assert_eq!(asked(&seats), expected, "{count} are to go");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn seats_are_given_back_in_any_order() {
        let room = Arc::new(Room::new(Arc::default(), Duration::ZERO));
        let mut seats: Vec<_> = (0..4).map(|_| room.take_seat()).collect();
        for index in [1, 2, 0, 0] {
            drop(seats.remove(index));
            assert_eq!(room.open(), seats.len());
            room.order_all(Order::Drain);
            assert!(seats.iter().all(|seat| seat.link.order() == Order::Drain));
        }
        assert_eq!((room.stats().open(), room.stats().closed(CloseReason::Panicked)), (0, 4));
    }
}
