//! What there is to say about one delivery: the row of the execution log.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use onefold_core::{DurationMs, Timestamp};

use crate::{Denied, Ending, Failure, Verdict, judge};

/// One delivery, told from beginning to end.
#[derive(Debug, Clone)]
pub struct Report {
    /// The connection the request went over, once there was one.
    pub connection: Option<ConnectionUsed>,
    /// Connections that were tried and did not come about, in order.
    pub dials: Vec<(SocketAddr, Failure)>,
    /// Addresses of the host that were not dialled because the policy denies them.
    pub denied: Vec<Denied>,
    /// Idle connections that turned out closed before anything was sent over them.
    pub found_closed: u32,
    /// How it ended.
    pub ended: Ended,
    /// How long each part took.
    pub timing: Timing,
    /// Bytes of the answer read, head and body.
    pub bytes_read: u64,
}

/// The connection of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionUsed {
    /// The other end.
    pub address: SocketAddr,
    /// Whether an earlier delivery had used it.
    pub reused: bool,
}

/// How a delivery ended.
#[derive(Debug, Clone)]
pub enum Ended {
    /// With a whole answer.
    Answered(Answer),
    /// Without one.
    Failed {
        /// Why.
        failure: Failure,
        /// What had come of the answer, if its head was complete.
        begun: Option<Answer>,
    },
}

/// An answer, or the beginning of one.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers. Hostile input: escape them wherever they are shown.
    pub headers: HeaderMap,
    /// The beginning of the body, at most [`crate::RESPONSE_KEPT`] bytes, as it came. Hostile input, too.
    pub body: Bytes,
    /// Bytes of the body that were read; more than `body` holds if it was cut.
    pub body_bytes: u64,
}

impl Answer {
    /// Whether `body` is only the beginning of what was read.
    pub fn is_cut(&self) -> bool {
        self.body_bytes > self.body.len() as u64
    }
}

/// How long the parts of a delivery took. A part that was not reached, or not needed, took none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timing {
    /// Looking the host up.
    pub dns: DurationMs,
    /// Connecting, over all addresses tried.
    pub connect: DurationMs,
    /// The TLS handshake.
    pub tls: DurationMs,
    /// From sending the request to the end of the head of the answer.
    pub head: DurationMs,
    /// Reading the body.
    pub body: DurationMs,
    /// All of it.
    pub total: DurationMs,
}

impl Report {
    /// The answer, whole or begun.
    pub fn answer(&self) -> Option<&Answer> {
        match &self.ended {
            Ended::Answered(answer) => Some(answer),
            Ended::Failed { begun, .. } => begun.as_ref(),
        }
    }

    /// Why there is no whole answer.
    pub fn failure(&self) -> Option<&Failure> {
        match &self.ended {
            Ended::Answered(_) => None,
            Ended::Failed { failure, .. } => Some(failure),
        }
    }

    /// What the delivery means for its job and the lane of its target, at `now`.
    pub fn verdict(&self, now: Timestamp) -> Verdict {
        let ending = match &self.ended {
            Ended::Answered(answer) => Ending::Answered { status: answer.status, headers: &answer.headers },
            Ended::Failed { failure, .. } => Ending::Failed(failure),
        };
        judge(ending, now)
    }
}
