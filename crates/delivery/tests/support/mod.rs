//! A receiver that misbehaves on cue, and a client whose time, names and authorities are the test's.
//!
//! Everything runs on one thread; what a test has to wait for, it waits for by a signal of the receiver or the timer.

#![allow(dead_code, clippy::unwrap_used, reason = "a test may fail, and not every test uses everything")]

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use onefold_core::{DurationMs, FencingToken, JobId, ManualClock, SeededEntropy, Seq, Timestamp};
use onefold_delivery::{
    AddressPolicy, Client, ClientParts, ConnectTo, Delivery, DeliveryHeaders, Elapse, JobVerdict, LaneLimits,
    Lanes, Limits, Report, ResolveError, Resolved, Resolver, Resolving, SigningKeys, Stamp, TargetHeaders,
    TargetMethod, TargetUrl, Timer, Trust, Verdict,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};

pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

pub(crate) fn now() -> Timestamp {
    "2026-11-21T09:30:00Z".parse().unwrap()
}

pub(crate) fn ms(ms: u64) -> DurationMs {
    DurationMs::from_ms(ms)
}

/// How long it should wait, and what ends it.
type SetTimer = (DurationMs, Option<oneshot::Sender<()>>);

/// Timers that end when told to.
#[derive(Clone, Default)]
pub(crate) struct HandTimer {
    set: Arc<Mutex<Vec<SetTimer>>>,
    count: Arc<watch::Sender<usize>>,
}

impl HandTimer {
    /// Ends the timer that was set as number `nth`, from 0, once it is set.
    pub(crate) async fn fire(&self, nth: usize) {
        let _ = self.count.subscribe().wait_for(|count| *count > nth).await.unwrap();
        let sender = self.set.lock().unwrap()[nth].1.take();
        let _ = sender.unwrap().send(());
    }

    pub(crate) fn waits(&self) -> Vec<DurationMs> {
        self.set.lock().unwrap().iter().map(|(wait, _)| *wait).collect()
    }
}

impl Timer for HandTimer {
    fn after(&self, wait: DurationMs) -> Elapse {
        let (sender, receiver) = oneshot::channel();
        self.set.lock().unwrap().push((wait, Some(sender)));
        self.count.send_modify(|count| *count += 1);
        Box::pin(async move {
            if receiver.await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}

/// Names of the test. Each lookup of a name gives its next answer; the last one stays.
#[derive(Clone, Default)]
pub(crate) struct Names {
    answers: Arc<Mutex<HashMap<String, VecDeque<Vec<IpAddr>>>>>,
    lookups: Arc<Mutex<Vec<String>>>,
}

impl Names {
    pub(crate) fn with(self, name: &str, answers: &[&[&str]]) -> Names {
        let answers =
            answers.iter().map(|answer| answer.iter().map(|ip| ip.parse().unwrap()).collect()).collect();
        self.answers.lock().unwrap().insert(name.to_owned(), answers);
        self
    }

    pub(crate) fn lookups(&self) -> Vec<String> {
        self.lookups.lock().unwrap().clone()
    }
}

impl Resolver for Names {
    fn resolve(&self, name: Arc<str>) -> Resolving {
        self.lookups.lock().unwrap().push(name.to_string());
        let mut answers = self.answers.lock().unwrap();
        let found: Resolved = match answers.get_mut(&*name) {
            None => Err(ResolveError("no such name".to_owned())),
            Some(answers) if answers.len() > 1 => Ok(answers.pop_front().unwrap()),
            Some(answers) => Ok(answers.front().cloned().unwrap_or_default()),
        };
        let silent = name.starts_with("silent");
        Box::pin(async move { if silent { std::future::pending().await } else { found } })
    }
}

/// A client and everything it is told.
pub(crate) struct Sender {
    pub(crate) client: Arc<Client>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) timer: HandTimer,
    pub(crate) names: Names,
    lanes: Lanes<String, ()>,
}

#[derive(Default)]
pub(crate) struct Setup {
    pub(crate) allow: Vec<&'static str>,
    pub(crate) listen: Vec<&'static str>,
    pub(crate) names: Names,
    pub(crate) connect_to: Vec<String>,
    pub(crate) trust: Option<Trust>,
    pub(crate) limits: Limits,
}

impl Setup {
    /// As of a server that listens on loopback.
    pub(crate) fn local() -> Setup {
        Setup { listen: vec!["127.0.0.1:7717"], ..Setup::default() }
    }

    pub(crate) fn sender(self) -> Sender {
        let clock = Arc::new(ManualClock::at(now()));
        let timer = HandTimer::default();
        let listen: Vec<SocketAddr> = self.listen.iter().map(|text| text.parse().unwrap()).collect();
        let parts = ClientParts {
            policy: AddressPolicy::for_listeners(&listen)
                .allow(self.allow.iter().map(|range| range.parse().unwrap())),
            resolver: Arc::new(self.names.clone()),
            connect_to: self.connect_to.iter().map(|rule| rule.parse::<ConnectTo>().unwrap()).collect(),
            trust: self.trust.unwrap_or_else(Trust::nobody),
            limits: self.limits,
            clock: Arc::<ManualClock>::clone(&clock),
            timer: Arc::new(timer.clone()),
        };
        let limits = LaneLimits { slots: 1, ..LaneLimits::default() };
        let lanes = Lanes::new(limits, Arc::new(SeededEntropy::new(1)));
        Sender { client: Arc::new(Client::new(parts)), clock, timer, names: self.names, lanes }
    }
}

pub(crate) fn delivery(url: &str, body: impl Into<Bytes>) -> Delivery {
    let (url, body) = (TargetUrl::parse(url).unwrap(), body.into());
    let stamp = Stamp {
        job: JobId::new(now(), Seq::new(7).unwrap()),
        attempt: 1,
        token: FencingToken::new(9).unwrap(),
        retry_until: Some(now()),
        traceparent: None,
        job_headers: &[],
        now: now(),
    };
    let keys = SigningKeys::one(SECRET.parse().unwrap());
    let target = TargetHeaders::parse(&[("x-shop", "7")]).unwrap();
    let headers =
        DeliveryHeaders::new(&url, &stamp, &target, Some("application/json"), &keys, &body).unwrap();
    Delivery { url, method: TargetMethod::Post, headers, body, timeout: ms(30_000), fresh_connection: false }
}

impl Sender {
    pub(crate) async fn deliver(&self, url: &str) -> Report {
        self.client.deliver(delivery(url, "{}")).await
    }

    /// Delivers through a lane with the only slot there is, and sees that the slot is free afterwards.
    pub(crate) async fn deliver_in_lane(&mut self, url: &str) -> (Report, Verdict) {
        let delivery = delivery(url, "{}");
        let lane = delivery.url.origin().to_string();
        let start = onefold_core::Clock::monotonic(&*self.clock);
        self.lanes.offer(lane.clone(), (), start).unwrap();
        let started = self.lanes.start(start).unwrap();
        assert_eq!(self.lanes.running(), 1);
        let report = self.client.deliver(delivery).await;
        let verdict = report.verdict(now());
        self.lanes.finish(&lane, started.pass, verdict.lane, start);
        assert_eq!(self.lanes.running(), 0, "the slot is free");
        (report, verdict)
    }

    /// Delivers while `meanwhile` goes on, which may let the deadline pass.
    pub(crate) async fn deliver_while(
        &mut self,
        url: &str,
        meanwhile: impl Future<Output = ()>,
    ) -> (Report, Verdict) {
        let (told, ()) = tokio::join!(self.deliver_in_lane(url), meanwhile);
        told
    }
}

/// The code of what went wrong, and that it is a failure of the attempt.
pub(crate) fn code(verdict: &Verdict) -> String {
    match &verdict.job {
        JobVerdict::Complete => "complete".to_owned(),
        JobVerdict::Fail { cause, .. } => cause.code().into_owned(),
        JobVerdict::FailForGood { cause } => format!("for good: {}", cause.code()),
        JobVerdict::Snooze { cause, .. } => format!("snooze: {}", cause.code()),
    }
}

/// A receiver whose every connection is handled by the test.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    connections: mpsc::UnboundedReceiver<TcpStream>,
}

impl Receiver {
    pub(crate) async fn start() -> Receiver {
        Receiver::at("127.0.0.1:0").await
    }

    pub(crate) async fn at(address: &str) -> Receiver {
        let socket = TcpSocket::new_v4().unwrap();
        // So small that a write of a megabyte ends only when most of it was read by the other side.
        socket.set_send_buffer_size(16 * 1024).unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address.parse().unwrap()).unwrap();
        let listener: TcpListener = socket.listen(64).unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, connections) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if sender.send(stream).is_err() {
                    break;
                }
            }
        });
        Receiver { address, connections }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// The next connection.
    pub(crate) async fn accept(&mut self) -> Peer<TcpStream> {
        Peer::new(self.connections.recv().await.unwrap())
    }

    /// Whether nobody has connected.
    pub(crate) fn is_untouched(&mut self) -> bool {
        self.connections.try_recv().is_err()
    }

    /// Answers every request on every connection alike.
    pub(crate) fn answer_all(mut self, answer: &'static str) -> mpsc::UnboundedReceiver<Request> {
        let (seen, requests) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(stream) = self.connections.recv().await {
                let seen = seen.clone();
                tokio::spawn(async move {
                    let mut peer = Peer::new(stream);
                    while let Some(request) = peer.request().await {
                        let _ = seen.send(request);
                        peer.write(answer).await;
                    }
                });
            }
        });
        requests
    }
}

/// A request as it came.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (given, value) = line.split_once(':')?;
            given.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

/// One connection, seen from the receiver.
pub(crate) struct Peer<S> {
    pub(crate) stream: S,
    unread: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    pub(crate) fn new(stream: S) -> Peer<S> {
        Peer { stream, unread: Vec::new() }
    }

    /// The next request; `None` if the sender has gone.
    pub(crate) async fn request(&mut self) -> Option<Request> {
        let end = loop {
            if let Some(at) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if self.stream.read_buf(&mut self.unread).await.unwrap_or(0) == 0 {
                return None;
            }
        };
        let head = String::from_utf8(self.unread.drain(..end).collect()).unwrap();
        let mut request = Request { head, body: Vec::new() };
        let length: usize = request.header("content-length").map_or(0, |length| length.parse().unwrap());
        while self.unread.len() < length {
            if self.stream.read_buf(&mut self.unread).await.unwrap_or(0) == 0 {
                return None;
            }
        }
        request.body = self.unread.drain(..length).collect();
        Some(request)
    }

    /// Writes, if there is still somebody to write to.
    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok() && self.stream.flush().await.is_ok()
    }

    /// Writes `bytes` again and again until the sender has gone; how many were written.
    pub(crate) async fn write_without_end(&mut self, bytes: &[u8]) -> u64 {
        let mut written = 0;
        while let Ok(count) = self.stream.write(bytes).await {
            written += count as u64;
        }
        written
    }

    /// Waits until the sender has closed the connection.
    pub(crate) async fn gone(&mut self) {
        let mut rest = [0; 4096];
        while !matches!(self.stream.read(&mut rest).await, Ok(0) | Err(_)) {}
    }
}

impl Peer<TcpStream> {
    /// Ends the connection with a reset.
    pub(crate) fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }
}
