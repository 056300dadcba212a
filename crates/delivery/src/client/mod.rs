//! One delivery from beginning to end, under one deadline.
//!
//! No redirects, no proxies from the environment, and no request is ever sent twice. The one thing done again behind the
//! caller's back is dialling: if an idle connection turns out to be closed before a byte of the request left.

mod dial;
mod meter;
mod pool;
mod record;

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http::header::{CONTENT_LENGTH, HeaderValue};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use onefold_core::{Clock, DurationMs};
use rustls::ClientConfig;

use self::pool::{Connection, Pool};
use self::record::Record;
use crate::{
    AddressPolicy, ConnectTo, ConnectionUsed, DeliveryHeaders, Failure, Lost, Report, Resolver, TargetMethod,
    TargetUrl, Timer, Trust,
};

/// Bytes of an answer's body that are kept.
pub const RESPONSE_KEPT: usize = 16 * 1024;

/// How much is read, and how long connections are kept.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of the head of an answer, interim answers included. Up to one read buffer more may be taken in.
    pub head_bytes: u64,
    /// Bytes of the body of an answer. A longer one is a failure, and its connection is closed.
    pub body_bytes: u64,
    /// How long an unused connection is kept. Short: many servers close theirs after 5 s, and a request that meets
    /// the closing is lost.
    pub idle: DurationMs,
    /// How long a connection is used at all, so that a name that points elsewhere is noticed.
    pub connection_age: DurationMs,
    /// Unused connections to one origin.
    pub idle_per_origin: usize,
    /// Unused connections altogether.
    pub idle_connections: usize,
}

impl Default for Limits {
    /// Heads of 64 KiB, bodies of 8 MiB; connections idle for 3 s and used for 60 s; 16 an origin, 512 altogether.
    fn default() -> Limits {
        Limits {
            head_bytes: 64 * 1024,
            body_bytes: 8 * 1024 * 1024,
            idle: DurationMs::from_ms(3_000),
            connection_age: DurationMs::from_ms(60_000),
            idle_per_origin: 16,
            idle_connections: 512,
        }
    }
}

/// What a [`Client`] is made of.
pub struct ClientParts {
    /// Which addresses may be dialled.
    pub policy: AddressPolicy,
    /// How names become addresses.
    pub resolver: Arc<dyn Resolver>,
    /// Connections that go elsewhere.
    pub connect_to: Vec<ConnectTo>,
    /// Whose certificates are believed.
    pub trust: Trust,
    /// How much is read, and how long connections are kept.
    pub limits: Limits,
    /// The time, for certificates, measurements and the age of connections.
    pub clock: Arc<dyn Clock>,
    /// How the deadline waits.
    pub timer: Arc<dyn Timer>,
}

/// Makes deliveries. Shared by all of them: it holds the idle connections.
pub struct Client {
    policy: AddressPolicy,
    resolver: Arc<dyn Resolver>,
    connect_to: Vec<ConnectTo>,
    tls: Result<Arc<ClientConfig>, String>,
    limits: Limits,
    clock: Arc<dyn Clock>,
    timer: Arc<dyn Timer>,
    pool: Pool,
}

/// One delivery to make.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Where to.
    pub url: TargetUrl,
    /// How it is asked.
    pub method: TargetMethod,
    /// What is said beside the body, signature included.
    pub headers: DeliveryHeaders,
    /// The body, as it was signed.
    pub body: Bytes,
    /// Over everything: looking up, connecting, TLS, sending, head and body of the answer.
    pub timeout: DurationMs,
    /// Over a connection of its own, which cannot be closed as idle at that moment: for a job that may not be
    /// tried again, since a delivery lost that way cannot be told from one that was made.
    pub fresh_connection: bool,
}

enum Sent {
    /// The answer was read to its end.
    Done,
    /// The connection had been closed; nothing of the request has left.
    Unsent(Box<Request<Full<Bytes>>>),
}

impl Client {
    /// A client. If there is no authority to believe, deliveries over TLS fail and say so; others work.
    pub fn new(parts: ClientParts) -> Client {
        let tls = parts.trust.client_config(Arc::clone(&parts.clock));
        Client {
            policy: parts.policy,
            resolver: parts.resolver,
            connect_to: parts.connect_to,
            tls,
            pool: Pool::new(parts.limits.clone()),
            limits: parts.limits,
            clock: parts.clock,
            timer: parts.timer,
        }
    }

    /// Makes a delivery and tells what happened. It always ends: at the latest with the timeout. Dropping the future
    /// closes its connection.
    pub async fn deliver(&self, delivery: Delivery) -> Report {
        let mut record = Record::new(Arc::clone(&self.clock));
        let deadline = self.timer.after(delivery.timeout);
        let ended = {
            let exchange = self.exchange(delivery, &mut record);
            tokio::select! { biased; result = exchange => Some(result), () = deadline => None }
        };
        record.into_report(ended)
    }

    /// Closes connections that have been idle for too long. Taking one does the same for its origin; this is for
    /// origins nobody delivers to any more.
    pub fn close_idle(&self) {
        self.pool.sweep(self.clock.monotonic());
    }

    /// How many connections are idle and, for all that is known, still open.
    pub fn idle_connections(&self) -> usize {
        self.pool.open()
    }

    async fn exchange(&self, delivery: Delivery, record: &mut Record) -> Result<(), Failure> {
        let Delivery { url, method, headers, body, timeout, fresh_connection } = delivery;
        let bare = body.is_empty() && method.carries_a_body();
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method.as_http();
        *request.uri_mut() = url.path_and_query().clone();
        *request.headers_mut() = headers.into_map();
        if bare {
            // Left out by hyper; some servers answer 411 without it.
            request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(0));
        }
        let idle = || match fresh_connection {
            true => None,
            false => self.pool.take(&url.origin(), self.clock.monotonic()),
        };
        while let Some(connection) = idle() {
            match self.send(connection, &url, request, true, record).await? {
                Sent::Done => return Ok(()),
                Sent::Unsent(unsent) => {
                    record.was_closed();
                    request = *unsent;
                }
            }
        }
        let connection = self.dial(&url, timeout, record).await?;
        match self.send(connection, &url, request, false, record).await? {
            Sent::Done => Ok(()),
            Sent::Unsent(_) => Err(Failure::Reset { lost: Lost::BeforeAnswer }),
        }
    }

    async fn send(
        &self,
        mut connection: Connection,
        url: &TargetUrl,
        request: Request<Full<Bytes>>,
        reused: bool,
        record: &mut Record,
    ) -> Result<Sent, Failure> {
        connection.meter.begin();
        record.sending(ConnectionUsed { address: connection.address, reused }, Arc::clone(&connection.meter));
        if connection.sender.ready().await.is_err() {
            return Ok(Sent::Unsent(Box::new(request)));
        }
        let response = match connection.sender.try_send_request(request).await {
            Ok(response) => response,
            Err(mut error) => {
                return match error.take_message() {
                    Some(unsent) => Ok(Sent::Unsent(Box::new(unsent))),
                    None => {
                        let lost = match (connection.meter.read(), reused) {
                            (0, true) => Lost::BeforeAnswerOnReused,
                            (0, false) => Lost::BeforeAnswer,
                            _ => Lost::InHead,
                        };
                        Err(Failure::in_head(&error.into_error(), lost))
                    }
                };
            }
        };
        connection.meter.head_done();
        let (head, body) = response.into_parts();
        if head.status.is_informational() {
            let why = format!("{} is not the end of an answer", head.status.as_u16());
            return Err(Failure::InvalidResponse { part: crate::Part::Head, why });
        }
        record.answered(head.status, head.headers);
        self.read(body, record).await?;
        if let Some(headers) = record.headers() {
            self.pool.put(url.origin(), connection, headers, self.clock.monotonic());
        }
        Ok(Sent::Done)
    }

    async fn read(&self, mut body: Incoming, record: &mut Record) -> Result<(), Failure> {
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Failure::in_body(&error))?;
            let Ok(data) = frame.into_data() else { continue };
            if record.read(&data, RESPONSE_KEPT) > self.limits.body_bytes {
                return Err(Failure::BodyTooLarge { limit: self.limits.body_bytes });
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("policy", &self.policy)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
