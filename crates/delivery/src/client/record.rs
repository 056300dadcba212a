//! Notes taken while a delivery is on its way, so that whenever the deadline ends it, there is a report.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use onefold_core::{Clock, DurationMs};

use super::meter::Meter;
use crate::{Answer, ConnectionUsed, Denied, Ended, Failure, Report, Timing};

/// Where a delivery is.
#[derive(Debug, Clone)]
pub(super) enum Stage {
    Dns { host: String },
    Connect { address: SocketAddr },
    Tls,
    Head,
    Body,
}

pub(super) struct Record {
    clock: Arc<dyn Clock>,
    started_at: DurationMs,
    stage: Stage,
    stage_since: DurationMs,
    timing: Timing,
    pub(super) denied: Vec<Denied>,
    pub(super) dials: Vec<(SocketAddr, Failure)>,
    pub(super) found_closed: u32,
    connection: Option<(ConnectionUsed, Arc<Meter>)>,
    head: Option<(StatusCode, HeaderMap)>,
    body: BytesMut,
    body_bytes: u64,
}

impl Record {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Record {
        let now = clock.monotonic();
        Record {
            clock,
            started_at: now,
            stage: Stage::Head,
            stage_since: now,
            timing: Timing::default(),
            denied: Vec::new(),
            dials: Vec::new(),
            found_closed: 0,
            connection: None,
            head: None,
            body: BytesMut::new(),
            body_bytes: 0,
        }
    }

    /// The delivery is in `stage` from now on.
    pub(super) fn enter(&mut self, stage: Stage) {
        self.close_stage();
        self.stage = stage;
    }

    fn close_stage(&mut self) {
        let now = self.clock.monotonic();
        let took = now.saturating_sub(self.stage_since);
        self.stage_since = now;
        let part = match self.stage {
            Stage::Dns { .. } => &mut self.timing.dns,
            Stage::Connect { .. } => &mut self.timing.connect,
            Stage::Tls => &mut self.timing.tls,
            Stage::Head => &mut self.timing.head,
            Stage::Body => &mut self.timing.body,
        };
        *part = part.saturating_add(took);
    }

    /// The request is about to go over this connection.
    pub(super) fn sending(&mut self, connection: ConnectionUsed, meter: Arc<Meter>) {
        self.connection = Some((connection, meter));
        self.enter(Stage::Head);
    }

    /// Nothing had been sent over it after all.
    pub(super) fn was_closed(&mut self) {
        self.connection = None;
        self.found_closed += 1;
    }

    pub(super) fn answered(&mut self, status: StatusCode, headers: HeaderMap) {
        self.head = Some((status, headers));
        self.enter(Stage::Body);
    }

    pub(super) fn headers(&self) -> Option<&HeaderMap> {
        self.head.as_ref().map(|(_, headers)| headers)
    }

    /// Keeps what there is room for of `data`; how many bytes of the body have come so far.
    pub(super) fn read(&mut self, data: &Bytes, kept: usize) -> u64 {
        let room = kept.saturating_sub(self.body.len());
        self.body.extend_from_slice(data.get(..room).unwrap_or(data.as_ref()));
        self.body_bytes = self.body_bytes.saturating_add(data.len() as u64);
        self.body_bytes
    }

    /// What the deadline means where the delivery is now.
    fn timed_out(&self) -> Failure {
        match &self.stage {
            Stage::Dns { host } => Failure::DnsTimeout { host: host.clone() },
            Stage::Connect { address } => Failure::ConnectTimeout { address: *address },
            Stage::Tls => Failure::TlsTimeout,
            Stage::Head => Failure::HeadersTimeout,
            Stage::Body => Failure::BodyTimeout,
        }
    }

    /// The report; `None` if the deadline ended the delivery.
    pub(super) fn into_report(mut self, ended: Option<Result<(), Failure>>) -> Report {
        self.close_stage();
        self.timing.total = self.clock.monotonic().saturating_sub(self.started_at);
        let result = ended.unwrap_or_else(|| Err(self.timed_out()));
        let body = self.body.freeze();
        let answer =
            self.head.map(|(status, headers)| Answer { status, headers, body, body_bytes: self.body_bytes });
        let ended = match (result, answer) {
            (Ok(()), Some(answer)) => Ended::Answered(answer),
            (Err(failure), begun) => Ended::Failed { failure, begun },
            // An exchange ends well only with a head.
            (Ok(()), None) => Ended::Failed { failure: Failure::HeadersTimeout, begun: None },
        };
        Report {
            connection: self.connection.as_ref().map(|(used, _)| *used),
            dials: self.dials,
            denied: self.denied,
            found_closed: self.found_closed,
            ended,
            timing: self.timing,
            bytes_read: self.connection.map_or(0, |(_, meter)| meter.read()),
        }
    }
}
