//! What the worker has to tell the store, collected while an earlier settle is on its way.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use onefold_core::{DurationMs, End, SettleAction, SettleOp, Settled};
use tokio::sync::{Notify, oneshot};

use super::lease::Lease;
use crate::Error;

/// One thing to tell.
pub(crate) enum Letter {
    /// The attempt is over.
    End { lease: Arc<Lease>, end: End },
    /// A handler says something and waits for the answer.
    Ask { lease: Arc<Lease>, action: SettleAction, answer: oneshot::Sender<Result<Settled, Error>> },
    /// A handler left notes.
    Notes { lease: Arc<Lease> },
    /// Still at it.
    Heartbeat { lease: Arc<Lease>, length: DurationMs },
}

/// The operations of one settle, and beside each what becomes of its answer.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) ops: Vec<SettleOp>,
    pub(crate) receipts: Vec<Receipt>,
}

/// What becomes of the answer to an operation.
pub(crate) struct Receipt {
    pub(crate) lease: Arc<Lease>,
    pub(crate) of: ReceiptOf,
}

pub(crate) enum ReceiptOf {
    End,
    Extension { length: DurationMs, answer: Option<oneshot::Sender<Result<Settled, Error>>> },
    Answer(oneshot::Sender<Result<Settled, Error>>),
    Note,
}

#[derive(Default)]
struct Inner {
    letters: VecDeque<Letter>,
    closed: bool,
}

#[derive(Default)]
pub(crate) struct Outbox {
    inner: Mutex<Inner>,
    posted: Notify,
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn post(&self, letter: Letter) {
        self.post_all([letter]);
    }

    /// Once closed it takes nothing: who waits for an answer learns that there is none.
    pub(crate) fn post_all(&self, letters: impl IntoIterator<Item = Letter>) {
        let mut inner = self.lock();
        if !inner.closed {
            inner.letters.extend(letters);
            drop(inner);
            self.posted.notify_one();
        }
    }

    /// Nothing more will be posted.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.posted.notify_one();
    }

    /// Nothing will be sent any more.
    pub(crate) fn abandon(&self) {
        let unsent = {
            let mut inner = self.lock();
            inner.closed = true;
            std::mem::take(&mut inner.letters)
        };
        drop(unsent);
    }

    /// Everything there is, in order, up to `max` operations, waiting if there is nothing. `None`
    /// once it is closed and empty.
    pub(crate) async fn next(&self, max: usize) -> Option<Batch> {
        loop {
            {
                let mut inner = self.lock();
                if !inner.letters.is_empty() {
                    return Some(collect(&mut inner.letters, max));
                }
                if inner.closed {
                    return None;
                }
            }
            self.posted.notified().await;
        }
    }
}

fn collect(letters: &mut VecDeque<Letter>, max: usize) -> Batch {
    let mut batch = Batch::default();
    batch.ops.reserve(letters.len().min(max));
    batch.receipts.reserve(letters.len().min(max));
    // Notes are two operations.
    while batch.ops.len() + 2 <= max.max(2) {
        let Some(letter) = letters.pop_front() else { break };
        batch.put(letter);
    }
    batch
}

impl Batch {
    fn put(&mut self, letter: Letter) {
        match letter {
            Letter::End { lease, end } => self.push(lease, SettleAction::End(end), ReceiptOf::End),
            Letter::Heartbeat { lease, .. } if lease.has_ended() => {}
            Letter::Heartbeat { lease, length } => {
                self.push(lease, SettleAction::Extend(length), ReceiptOf::Extension { length, answer: None });
            }
            Letter::Ask { lease, action: SettleAction::Extend(length), answer } => {
                let of = ReceiptOf::Extension { length, answer: Some(answer) };
                self.push(lease, SettleAction::Extend(length), of);
            }
            Letter::Ask { lease, action, answer } => self.push(lease, action, ReceiptOf::Answer(answer)),
            Letter::Notes { lease } => {
                let notes = lease.take_notes();
                if let Some(progress) = notes.progress {
                    self.push(Arc::clone(&lease), SettleAction::Progress(progress), ReceiptOf::Note);
                }
                if !notes.log.is_empty() {
                    self.push(lease, SettleAction::Log(notes.log), ReceiptOf::Note);
                }
            }
        }
    }

    fn push(&mut self, lease: Arc<Lease>, action: SettleAction, of: ReceiptOf) {
        self.ops.push(SettleOp { id: lease.id, token: lease.token, action });
        self.receipts.push(Receipt { lease, of });
    }

    /// The second half of a batch of at least two.
    pub(crate) fn split_off_half(&mut self) -> Batch {
        let half = self.ops.len() / 2;
        Batch { ops: self.ops.split_off(half), receipts: self.receipts.split_off(half) }
    }
}
