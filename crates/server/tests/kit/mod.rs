//! A server over the reference engine on a loopback port, with a clock that stands still, and a
//! client that sends whatever it is told to.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]
#![allow(dead_code, unreachable_pub, reason = "each test file is a crate of its own and uses its part")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use onefold_core::reference::ReferenceEngine;
use onefold_core::{Clock, DurationMs, Engine, EngineError, ManualClock, SeededEntropy, Timestamp};
use onefold_runtime::{Health, Phase};
use onefold_server::{AppState, Config, Token, serve_app};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

/// No single step of a test may take longer.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Server {
    pub address: SocketAddr,
    pub engine: Arc<dyn Engine>,
    pub clock: Arc<ManualClock>,
    pub health: watch::Sender<Health>,
    pub token: Option<&'static str>,
    _stop: oneshot::Sender<()>,
}

pub struct Reply {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The problem's code; the reply must be a whole problem document of its status.
    pub fn problem(&self) -> String {
        let content_type = self.headers.get("content-type").map(|value| value.as_bytes());
        assert_eq!(content_type, Some(&b"application/problem+json"[..]), "{} {}", self.status, self.text());
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{problem}");
        for member in ["type", "title", "detail", "code"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member} of {problem}");
        }
        problem["code"].as_str().unwrap().to_owned()
    }

    /// Status and code.
    pub fn refused(&self) -> (u16, String) {
        (self.status, self.problem())
    }

    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        self.json()
    }
}

pub fn health(phase: Phase) -> Health {
    Health {
        phase,
        last_tick: None,
        ticks: 1,
        due: 0,
        expired: 0,
        purged: 0,
        clock_steps: 0,
        failing: 0,
        error: None,
    }
}

impl Server {
    pub async fn start() -> Server {
        Server::with(Config::default()).await
    }

    pub async fn guarded(token: &'static str) -> Server {
        let config = Config { token: Token::new(token), ..Config::default() };
        Server { token: Some(token), ..Server::with(config).await }
    }

    pub async fn with(config: Config) -> Server {
        let clock = Arc::new(ManualClock::at(Timestamp::from_unix_ms(1_795_253_400_000).unwrap()));
        let engine = ReferenceEngine::new(Arc::clone(&clock) as _, Arc::new(SeededEntropy::new(1)));
        Server::over(Arc::new(engine), clock, config).await
    }

    pub async fn over(engine: Arc<dyn Engine>, clock: Arc<ManualClock>, config: Config) -> Server {
        let health = watch::Sender::new(health(Phase::Serving));
        let state = AppState::new(Arc::clone(&engine), Arc::clone(&clock) as _, config, health.subscribe());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            serve_app(state, listener, stopped).await.unwrap();
        });
        Server { address, engine, clock, health, token: None, _stop: stop }
    }

    /// Sends one request over a connection of its own.
    pub async fn send(&self, request: http::Request<Bytes>) -> Reply {
        patient(async {
            let stream = TcpStream::connect(self.address).await.unwrap();
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
            // Dropped, it closes the connection: a client that goes away.
            let mut driver = tokio::task::JoinSet::new();
            driver.spawn(connection);
            let (parts, body) = sender.send_request(request.map(Full::new)).await.unwrap().into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            Reply { status: parts.status.as_u16(), headers: parts.headers, body }
        })
        .await
    }

    pub fn request(&self, method: &str, path: &str) -> http::request::Builder {
        let request =
            http::Request::builder().method(method).uri(path).header("host", self.address.to_string());
        match self.token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send(self.request("GET", path).body(Bytes::new()).unwrap()).await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        self.send(self.request("DELETE", path).body(Bytes::new()).unwrap()).await
    }

    /// Sends JSON as the text it is.
    pub async fn post(&self, path: &str, json: impl Into<Bytes>) -> Reply {
        self.with_body("POST", path, json).await
    }

    pub async fn put(&self, path: &str, json: impl Into<Bytes>) -> Reply {
        self.with_body("PUT", path, json).await
    }

    pub async fn patch(&self, path: &str, json: impl Into<Bytes>) -> Reply {
        self.with_body("PATCH", path, json).await
    }

    async fn with_body(&self, method: &str, path: &str, json: impl Into<Bytes>) -> Reply {
        let request = self.request(method, path).header("content-type", "application/json");
        self.send(request.body(json.into()).unwrap()).await
    }

    /// Posts to a route that needs no body.
    pub async fn post_nothing(&self, path: &str) -> Reply {
        self.send(self.request("POST", path).body(Bytes::new()).unwrap()).await
    }

    /// Adds a job that must be accepted; gives its id.
    pub async fn add(&self, queue: &str, json: &str) -> String {
        let added = self.post(&format!("/v1/queues/{queue}/jobs"), json.to_owned()).await.expect(201);
        added["id"].as_str().unwrap().to_owned()
    }

    /// Leases one job that must be there.
    pub async fn lease(&self, queue: &str) -> Value {
        let body = format!(r#"{{"queues":["{queue}"]}}"#);
        let leased = self.post("/v1/leases", body).await.expect(200);
        leased["jobs"][0].clone()
    }

    /// Settles one op given as its members; gives its result.
    pub async fn settle(&self, job: &Value, op: &str) -> Value {
        let (id, token) = (&job["id"], &job["fencing_token"]);
        let body = format!(r#"{{"ops":[{{"id":{id},"fencing_token":{token},{op}}}]}}"#);
        self.post("/v1/leases/settle", body).await.expect(200)["results"][0].clone()
    }

    /// Lets time pass and does what became due.
    pub async fn advance(&self, by: Duration) {
        self.clock.advance(DurationMs::from_ms(by.as_millis() as u64));
        self.tick().await;
    }

    pub async fn tick(&self) {
        while self.engine.tick().await.unwrap().next <= self.clock.now() {}
    }

    pub fn set_phase(&self, phase: Phase) {
        self.health.send_modify(|health| health.phase = phase);
    }

    /// The last tick failed.
    pub fn fail_tick(&self, error: EngineError) {
        self.health.send_modify(|health| health.error = Some(error));
    }

    /// Waits until that many polls are parked in the engine.
    pub async fn parked(&self, polls: u64) {
        patient(async {
            while self.engine.stats().await.unwrap().parked_polls != polls {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Waits until queue `q` counts that many jobs in a state.
    pub async fn counted(&self, state: &str, jobs: u64) {
        while self.get("/v1/queues/q").await.expect(200)["counts"][state] != jobs {
            tokio::task::yield_now().await;
        }
    }

    /// Waits until that many connections are open beside the one that asks.
    pub async fn connections(&self, open: u64) {
        let line = format!("onefold_http_connections_open {}", open + 1);
        patient(async {
            while !self.get("/metrics").await.text().lines().any(|told| told == line) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Sends bytes as they are and reads until the server closes or `until` is seen.
    pub async fn raw(&self, bytes: &[u8], until: Option<&str>) -> String {
        patient(exchange(self.address, bytes, until)).await
    }

    /// What a SIGTERM does first; the listener goes on until everybody was answered.
    pub async fn drain(&self) {
        self.set_phase(Phase::Draining);
        self.engine.drain().await.unwrap();
    }
}

/// Fails loudly instead of hanging.
pub async fn patient<T>(step: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, step).await.expect("a step of the test took too long")
}

/// Whether nothing came for long enough that anything on its way would have.
pub async fn still_waits<T>(step: impl Future<Output = T>) -> bool {
    tokio::time::timeout(Duration::from_millis(100), step).await.is_err()
}

/// Sends these bytes and goes away; returns once the server has noticed.
pub async fn half_a_request(server: &Server, bytes: &str) {
    patient(async {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    })
    .await;
}

/// Sends bytes as they are and reads until the server closes.
pub async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    exchange(address, bytes, None).await
}

async fn exchange(address: SocketAddr, bytes: &[u8], until: Option<&str>) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let (mut reading, mut writing) = stream.split();
    let mut seen = Vec::new();
    let write = async {
        // The server may close before it has read everything.
        let _ = writing.write_all(bytes).await;
    };
    let read = async {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = reading.read(&mut buffer).await {
            seen.extend_from_slice(&buffer[..read]);
            if until.is_some_and(|until| String::from_utf8_lossy(&seen).contains(until)) {
                break;
            }
        }
    };
    tokio::join!(write, read);
    String::from_utf8_lossy(&seen).into_owned()
}
