//! What the parts of one connection tell each other.

use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use std::sync::{Mutex, PoisonError};

use futures_util::task::AtomicWaker;

use super::framing::Place;
use super::limits::PaceRule;
use super::receipt::Receipt;

/// What the accept loop wants of a connection; a later one overrules an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Serve = 0,
    /// Close if no request is in progress.
    MakeRoom = 1,
    /// Answer the request in progress, if there is one, and close.
    Drain = 2,
    /// Close now.
    Drop = 3,
}

/// How easily the accept loop can close a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// No byte ever came.
    Silent = 0,
    /// Between two requests.
    Idle = 1,
    Busy = 2,
}

/// Shared by a connection's stream, its requests and answers, its watch, and the accept loop.
///
/// All but the accept loop run in the connection's task and nearly always on its thread, so the atomics are
/// plain loads and stores; they make the parts `Send`, and carry no other memory with them.
pub(super) struct Link {
    place: AtomicU8,
    starved: AtomicBool,
    ended: AtomicBool,
    write_blocked: AtomicBool,
    refused_head: AtomicU64,
    requests: AtomicU64,
    in_progress: AtomicBool,
    refused: AtomicBool,
    unsent: AtomicBool,
    spoke_for_itself: AtomicBool,
    receipt: Mutex<Option<Receipt>>,
    turn: AtomicU32,
    body_bytes: AtomicU64,
    verdict: AtomicU8,
    /// Whoever reads the body.
    pub(super) body_waker: AtomicWaker,

    order: AtomicU8,
    /// The connection's task.
    pub(super) task_waker: AtomicWaker,
    standing: AtomicU8,
    standing_since: AtomicU64,
    /// Its index among the seats; changed under their lock only.
    pub(super) seat: AtomicUsize,
}

impl Link {
    /// A connection that has sent nothing, accepted `now` microseconds after the loop began.
    pub(super) fn new(now: u64) -> Link {
        Link {
            place: AtomicU8::new(Place::Between as u8),
            starved: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            write_blocked: AtomicBool::new(false),
            refused_head: AtomicU64::new(u64::MAX),
            requests: AtomicU64::new(0),
            in_progress: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            unsent: AtomicBool::new(false),
            spoke_for_itself: AtomicBool::new(false),
            receipt: Mutex::new(None),
            turn: AtomicU32::new(0),
            body_bytes: AtomicU64::new(0),
            verdict: AtomicU8::new(0),
            body_waker: AtomicWaker::new(),
            order: AtomicU8::new(Order::Serve as u8),
            task_waker: AtomicWaker::new(),
            standing: AtomicU8::new(Standing::Silent as u8),
            standing_since: AtomicU64::new(now),
            seat: AtomicUsize::new(0),
        }
    }

    // The stream tells:

    /// Bytes came, and left the client at `place`.
    pub(super) fn bytes_came(&self, bytes: usize, place: Place) {
        self.starved.store(false, Relaxed);
        // Only a body is paced; a head has one deadline, however often a byte of it comes.
        if place == Place::Body || self.place() == Place::Body {
            self.body_bytes.store(self.body_bytes.load(Relaxed).saturating_add(bytes as u64), Relaxed);
            self.take_turn();
        }
        self.place.store(place as u8, Relaxed);
    }

    /// hyper wanted bytes, and there were none.
    pub(super) fn set_starved(&self) {
        self.starved.store(true, Relaxed);
    }

    /// The client will send no more.
    pub(super) fn set_ended(&self) {
        self.ended.store(true, Relaxed);
    }

    pub(super) fn ended(&self) -> bool {
        self.ended.load(Relaxed)
    }

    pub(super) fn set_write_blocked(&self) {
        self.write_blocked.store(true, Relaxed);
    }

    pub(super) fn wrote(&self) {
        if self.write_blocked.load(Relaxed) {
            self.write_blocked.store(false, Relaxed);
            self.take_turn();
        }
    }

    /// The stream took everything there was to write.
    pub(super) fn all_written(&self) {
        if self.unsent() && !self.in_progress() {
            self.unsent.store(false, Relaxed);
            if let Some(receipt) = self.take_receipt() {
                receipt.sign();
            }
        }
    }

    /// Whether a request was begun whose answer the stream has not taken to its end.
    pub(super) fn unsent(&self) -> bool {
        self.unsent.load(Relaxed)
    }

    /// hyper answered without a request.
    pub(super) fn set_spoke_for_itself(&self) {
        self.spoke_for_itself.store(true, Relaxed);
    }

    pub(super) fn spoke_for_itself(&self) -> bool {
        self.spoke_for_itself.load(Relaxed)
    }

    /// The `number`th request of the connection must not be served.
    pub(super) fn refuse_head(&self, number: u64) {
        self.refused_head.store(number, Relaxed);
    }

    // Requests and answers tell:

    /// A head is complete. `false` if its request must not be served.
    pub(super) fn begin_request(&self) -> bool {
        let number = self.requests.load(Relaxed) + 1;
        self.requests.store(number, Relaxed);
        self.in_progress.store(true, Relaxed);
        self.unsent.store(true, Relaxed);
        self.body_bytes.store(0, Relaxed);
        self.take_turn();
        let refused = number >= self.refused_head.load(Relaxed);
        if refused {
            self.refused.store(true, Relaxed);
        }
        !refused
    }

    /// To be signed when the answer in progress was taken to its end.
    pub(super) fn keep_receipt(&self, receipt: Receipt) {
        let earlier = self.receipt.lock().unwrap_or_else(PoisonError::into_inner).replace(receipt);
        // hyper reads no head before an answer is written; if it did, nobody could say that one was not.
        if let Some(earlier) = earlier {
            earlier.sign();
        }
    }

    pub(super) fn take_receipt(&self) -> Option<Receipt> {
        self.receipt.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The answer was handed to hyper completely, or given up.
    pub(super) fn end_request(&self) {
        self.in_progress.store(false, Relaxed);
        self.take_turn();
    }

    /// The rule the body in progress broke.
    pub(super) fn verdict(&self) -> Option<PaceRule> {
        match self.verdict.load(Acquire) {
            1 => Some(PaceRule::Idle),
            2 => Some(PaceRule::MinRate),
            3 => Some(PaceRule::Total),
            _ => None,
        }
    }

    // The watch asks and tells:

    /// Changes with every event that starts a deadline anew.
    pub(super) fn turn(&self) -> u32 {
        self.turn.load(Relaxed)
    }

    fn take_turn(&self) {
        self.turn.store(self.turn().wrapping_add(1), Relaxed);
    }

    pub(super) fn place(&self) -> Place {
        match self.place.load(Relaxed) {
            0 => Place::Between,
            1 => Place::Head,
            _ => Place::Body,
        }
    }

    pub(super) fn starved(&self) -> bool {
        self.starved.load(Relaxed)
    }

    pub(super) fn write_blocked(&self) -> bool {
        self.write_blocked.load(Relaxed)
    }

    pub(super) fn in_progress(&self) -> bool {
        self.in_progress.load(Relaxed)
    }

    /// A request could be read in two ways, and was not served.
    pub(super) fn refused(&self) -> bool {
        self.refused.load(Relaxed)
    }

    /// Requests begun.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    pub(super) fn body_bytes(&self) -> u64 {
        self.body_bytes.load(Relaxed)
    }

    /// The body is given up. Whoever reads it may be another task.
    pub(super) fn condemn_body(&self, rule: PaceRule) {
        self.verdict.store(rule as u8, Release);
        self.body_waker.wake();
    }

    pub(super) fn set_standing(&self, standing: Standing, now: u64) {
        self.standing.store(standing as u8, Relaxed);
        self.standing_since.store(now, Relaxed);
    }

    // The accept loop asks and tells:

    /// The standing and since when, in microseconds of the loop.
    pub(super) fn standing(&self) -> (Standing, u64) {
        let standing = match self.standing.load(Relaxed) {
            0 => Standing::Silent,
            1 => Standing::Idle,
            _ => Standing::Busy,
        };
        (standing, self.standing_since.load(Relaxed))
    }

    pub(super) fn order(&self) -> Order {
        match self.order.load(Acquire) {
            0 => Order::Serve,
            1 => Order::MakeRoom,
            2 => Order::Drain,
            _ => Order::Drop,
        }
    }

    pub(super) fn give(&self, order: Order) {
        self.order.fetch_max(order as u8, AcqRel);
        self.task_waker.wake();
    }

    /// A request came before the order to make room.
    pub(super) fn decline_to_make_room(&self) {
        // Fails if another order came, which is then the one to follow.
        let _ = self.order.compare_exchange(Order::MakeRoom as u8, Order::Serve as u8, AcqRel, Acquire);
    }
}
