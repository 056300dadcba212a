//! The accept loop against clients that are slow, silent, hostile or many.
//!
//! Real sockets and real time. Limits a test is not about are so long that only the one it is about can close a
//! connection; what happens is awaited on the sockets and on signals of the handlers. Two tests sleep: they show
//! that time passes without a deadline.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use onefold_server::accept::{
    AcceptLimits, AcceptStats, BodyError, BodyPace, CloseReason, Drained, raise_descriptor_limit, serve,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, timeout};

/// Longer than any test takes.
const NEVER: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_millis(300);

fn lax() -> AcceptLimits {
    AcceptLimits {
        first_byte: NEVER,
        header_read: NEVER,
        body: BodyPace { idle: NEVER, min_rate: 0, grace: NEVER, total: NEVER },
        keep_alive_idle: NEVER,
        write_stall: NEVER,
        linger: SHORT,
        drain_timeout: NEVER,
        ..AcceptLimits::default()
    }
}

/// What handlers tell a test, and wait for.
#[derive(Clone)]
struct Handlers {
    calls: Arc<AtomicUsize>,
    entered: mpsc::UnboundedSender<()>,
    /// Dropped with every handler, or its answer, that was given one.
    ended: mpsc::UnboundedSender<()>,
    release: Arc<Semaphore>,
}

/// Tells that it was dropped.
struct Ended(mpsc::UnboundedSender<()>);

impl Drop for Ended {
    fn drop(&mut self) {
        // The test may be over.
        let _ = self.0.send(());
    }
}

struct Server {
    address: SocketAddr,
    stats: Arc<AcceptStats>,
    handlers: Handlers,
    entered: mpsc::UnboundedReceiver<()>,
    ended: mpsc::UnboundedReceiver<()>,
    drain: Option<oneshot::Sender<()>>,
    task: JoinHandle<Drained>,
}

impl Server {
    async fn start(limits: AcceptLimits) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stats = Arc::new(AcceptStats::default());
        let (entered_in, entered) = mpsc::unbounded_channel();
        let (ended_in, ended) = mpsc::unbounded_channel();
        let handlers = Handlers {
            calls: Arc::default(),
            entered: entered_in,
            ended: ended_in,
            release: Arc::new(Semaphore::new(0)),
        };
        let (drain, drained) = oneshot::channel::<()>();
        let drained = async move { drained.await.unwrap_or_default() };
        let task = tokio::spawn(serve(listener, app(handlers.clone()), limits, Arc::clone(&stats), drained));
        Server { address, stats, handlers, entered, ended, drain: Some(drain), task }
    }

    async fn connect(&self) -> Client {
        Client { stream: soon(TcpStream::connect(self.address)).await.unwrap() }
    }

    fn drain(&mut self) {
        self.drain.take().unwrap().send(()).unwrap();
    }

    fn calls(&self) -> usize {
        self.handlers.calls.load(SeqCst)
    }

    /// Ends the server, so that every count is final.
    async fn finish(mut self) -> Arc<AcceptStats> {
        self.drain();
        assert_eq!(soon(self.task).await.unwrap(), Drained { dropped: 0 });
        assert_eq!(self.stats.open(), 0);
        self.stats
    }
}

/// The test fails rather than hangs.
async fn soon<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(60), future).await.expect("this should have happened by now")
}

struct Client {
    stream: TcpStream,
}

impl Client {
    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        soon(self.stream.write_all(bytes.as_ref())).await.unwrap();
    }

    /// The next answer, head and body.
    async fn answer(&mut self) -> String {
        let mut answer = Vec::new();
        loop {
            let byte = soon(self.stream.read_u8()).await.expect("an answer, not the end");
            answer.push(byte);
            if answer.ends_with(b"\r\n\r\n") {
                break;
            }
        }
        let head = String::from_utf8(answer).unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        soon(self.stream.read_exact(&mut body)).await.unwrap();
        head + std::str::from_utf8(&body).unwrap()
    }

    /// Everything until the server closes the connection, in order and not by a reset.
    async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        soon(self.stream.read_to_end(&mut rest)).await.expect("the end, not a reset");
        String::from_utf8(rest).unwrap()
    }

    async fn get(&mut self, path: &str) -> String {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        self.answer().await
    }

    /// Sends `drop` by `drop` without end, and returns what the server says before it closes the connection.
    async fn drip(&mut self, drop: &[u8]) -> io::Result<String> {
        let (mut read, mut write) = self.stream.split();
        let mut rest = Vec::new();
        let mut tick = interval(Duration::from_millis(20));
        let said = async { read.read_to_end(&mut rest).await };
        let dripping = async {
            loop {
                tick.tick().await;
                // The server may be gone; reading will tell.
                let _ = write.write_all(drop).await;
            }
        };
        soon(async {
            tokio::select! {
                said = said => said.map(|_| ()),
                () = dripping => Ok(()),
            }
        })
        .await?;
        Ok(String::from_utf8(rest).unwrap())
    }
}

fn app(handlers: Handlers) -> Router {
    async fn count(
        State(handlers): State<Handlers>,
        request: Request<Body>,
        next: axum::middleware::Next,
    ) -> Response {
        handlers.calls.fetch_add(1, SeqCst);
        next.run(request).await
    }
    Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/peer", get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() }))
        .route("/read", post(async |body: Body| read(body).await))
        .route("/read-elsewhere", post(async |body: Body| tokio::spawn(read(body)).await.unwrap()))
        .route("/read-late", post(read_late))
        .route("/refuse", post(refuse))
        .route("/park", get(park))
        .route("/flood", get(flood))
        .route("/panic", get(async || -> &'static str { panic!("a handler's mistake, part of the test") }))
        .layer(axum::middleware::from_fn_with_state(handlers.clone(), count))
        .with_state(handlers)
}

async fn read(body: Body) -> Response {
    match axum::body::to_bytes(body, usize::MAX).await {
        Ok(bytes) => format!("{} bytes", bytes.len()).into_response(),
        Err(error) => match BodyError::find(&error) {
            Some(error) => (error.status(), format!("{error:?}")).into_response(),
            None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        },
    }
}

/// A handler that does something else before it reads.
async fn read_late(State(handlers): State<Handlers>, body: Body) -> Response {
    handlers.entered.send(()).unwrap();
    handlers.release.acquire().await.unwrap().forget();
    read(body).await
}

/// A handler that knows without reading that the body is too large.
async fn refuse(headers: HeaderMap, _body: Body) -> (StatusCode, String) {
    let length = headers.get("content-length").map(|length| length.to_str().unwrap().to_owned());
    (StatusCode::PAYLOAD_TOO_LARGE, format!("{} is too much", length.unwrap_or_default()))
}

async fn park(State(handlers): State<Handlers>) -> &'static str {
    let _ended = Ended(handlers.ended.clone());
    handlers.entered.send(()).unwrap();
    handlers.release.acquire().await.unwrap().forget();
    "released"
}

/// An answer without end.
async fn flood(State(handlers): State<Handlers>) -> Body {
    let chunks = futures_util::stream::unfold(Ended(handlers.ended), |ended| async {
        Some((Ok::<_, std::convert::Infallible>(Bytes::from_static(&[b'x'; 65536])), ended))
    });
    Body::from_stream(chunks)
}

const PARK: &str = "GET /park HTTP/1.1\r\nHost: x\r\n\r\n";

fn status(answer: &str) -> &str {
    answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).unwrap_or(answer)
}

/// What was said is one answer: a whole problem document of this status and code.
fn assert_problem(said: &str, status_and_code: (&str, &str), case: &str) {
    let (head, body) = said.split_once("\r\n\r\n").expect(case);
    let has = |field: &str| head.lines().any(|line| line.eq_ignore_ascii_case(field));
    assert!(has("connection: close") && has("content-type: application/problem+json"), "{case}: {said}");
    assert!(has(&format!("content-length: {}", body.len())), "{case}: {said}");
    let problem: serde_json::Value = serde_json::from_str(body).expect(case);
    let code = problem["code"].as_str().unwrap();
    assert_eq!((status(said), code), status_and_code, "{case}");
    assert_eq!(problem["status"].to_string(), status(said), "{case}");
    assert_eq!(problem["type"], format!("/errors/{code}"), "{case}");
    for member in ["title", "detail"] {
        assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{case}: {member}");
    }
}

#[tokio::test]
async fn a_silent_connection_is_closed_while_another_is_served() {
    let server = Server::start(AcceptLimits { first_byte: SHORT, ..lax() }).await;
    let mut worker = server.connect().await;
    let began = Instant::now();
    let mut silent = server.connect().await;
    let silence = tokio::spawn(async move { silent.rest().await });
    while !silence.is_finished() {
        assert!(worker.get("/").await.ends_with("hello"));
    }
    assert_eq!(silence.await.unwrap(), "");
    assert!(began.elapsed() >= SHORT, "closed before its time");
    assert!(worker.get("/").await.ends_with("hello"), "the worker's connection lives on");
    assert_eq!(server.finish().await.closed(CloseReason::FirstByte), 1);
}

/// A connection that only sends empty lines, which may precede a request, has not begun one.
#[tokio::test]
async fn empty_lines_do_not_end_the_silence() {
    let server = Server::start(AcceptLimits { first_byte: SHORT, ..lax() }).await;
    // Nothing was said that a reset could lose.
    assert_eq!(server.connect().await.drip(b"\r\n").await.unwrap_or_default(), "");
    assert_eq!(server.finish().await.closed(CloseReason::FirstByte), 1);
}

#[tokio::test]
async fn a_head_that_drips_is_answered_with_408_at_its_deadline() {
    let server = Server::start(AcceptLimits { header_read: SHORT, ..lax() }).await;
    let mut client = server.connect().await;
    for begun in ["GET / HTTP/1.1\r\nX-Drip: ", ""] {
        client.send(begun).await;
        let began = Instant::now();
        let said = client.drip(b"y").await.unwrap();
        assert_problem(&said, ("408", "request-timeout"), begun);
        assert!(began.elapsed() >= SHORT - Duration::from_millis(50), "closed before its time");
        // And so is the second head of a connection.
        client = server.connect().await;
        assert!(client.get("/").await.ends_with("hello"));
    }
    assert_eq!(server.calls(), 2);
    assert_eq!(server.finish().await.closed(CloseReason::HeaderRead), 2);
}

async fn slow_body(body: BodyPace, path: &str, error: &str) {
    let server = Server::start(AcceptLimits { body, ..lax() }).await;
    let mut client = server.connect().await;
    client.send(format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n{{")).await;
    let said = if error == "Stalled" { client.rest().await } else { client.drip(b"y").await.unwrap() };
    assert_eq!(status(&said), "408", "{said}");
    assert!(said.contains("\r\nconnection: close\r\n"), "{said}");
    assert!(said.ends_with(error), "{said}");
    let stats = server.finish().await;
    assert_eq!((stats.slow_bodies(), stats.closed(CloseReason::SlowBody)), (1, 1));
}

#[tokio::test]
async fn a_body_that_stops_ends_with_an_error_the_handler_answers() {
    let pace = BodyPace { idle: SHORT, ..lax().body };
    slow_body(pace.clone(), "/read", "Stalled").await;
    slow_body(pace, "/read-elsewhere", "Stalled").await;
}

#[tokio::test]
async fn a_body_that_drips_ends_with_an_error_the_handler_answers() {
    let pace = BodyPace { min_rate: 1024, grace: SHORT, ..lax().body };
    slow_body(pace.clone(), "/read", "TooSlow").await;
    slow_body(pace, "/read-elsewhere", "TooSlow").await;
}

#[tokio::test]
async fn a_body_that_never_ends_ends_with_an_error_the_handler_answers() {
    slow_body(BodyPace { total: SHORT, ..lax().body }, "/read", "TooLong").await;
}

#[tokio::test]
async fn a_body_that_keeps_the_pace_may_take_longer_than_the_grace() {
    let body = BodyPace { idle: NEVER, min_rate: 10, grace: Duration::from_millis(50), total: NEVER };
    let server = Server::start(AcceptLimits { body, ..lax() }).await;
    let mut client = server.connect().await;
    client.send("POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\n").await;
    let mut tick = interval(Duration::from_millis(20));
    for _ in 0..10 {
        tick.tick().await;
        client.send([b'y'; 1000]).await;
    }
    assert!(client.answer().await.ends_with("10000 bytes"));
    assert_eq!(server.finish().await.slow_bodies(), 0);
}

/// The handler waits, then reads a body that came meanwhile: its own time is not the client's.
#[tokio::test]
async fn the_time_a_handler_takes_is_not_counted_against_the_body() {
    let body = BodyPace { idle: SHORT, min_rate: 1 << 40, grace: SHORT, total: SHORT };
    let mut server = Server::start(AcceptLimits { body, ..lax() }).await;
    let mut client = server.connect().await;
    client.send("POST /read-late HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab").await;
    soon(server.entered.recv()).await.unwrap();
    tokio::time::sleep(2 * SHORT).await;
    client.send("cd").await;
    server.handlers.release.add_permits(1);
    assert!(client.answer().await.ends_with("4 bytes"));
    assert_eq!(server.finish().await.slow_bodies(), 0);
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_parked_request_is_not() {
    let limits = AcceptLimits { first_byte: SHORT, header_read: SHORT, keep_alive_idle: SHORT, ..lax() };
    let mut server = Server::start(limits).await;
    let mut client = server.connect().await;
    client.send(PARK).await;
    soon(server.entered.recv()).await.unwrap();
    tokio::time::sleep(2 * SHORT).await;
    server.handlers.release.add_permits(1);
    assert!(client.answer().await.ends_with("released"));
    let answered = Instant::now();
    assert_eq!(client.rest().await, "");
    assert!(answered.elapsed() >= SHORT - Duration::from_millis(50), "closed before its time");
    assert_eq!(server.finish().await.closed(CloseReason::Idle), 1);
}

#[tokio::test]
async fn a_client_that_does_not_take_its_answer_is_closed() {
    let mut server = Server::start(AcceptLimits { write_stall: SHORT, ..lax() }).await;
    let mut client = server.connect().await;
    client.send("GET /flood HTTP/1.1\r\nHost: x\r\n\r\n").await;
    soon(server.ended.recv()).await.unwrap();
    assert_eq!(server.finish().await.closed(CloseReason::WriteStall), 1);
}

#[tokio::test]
async fn two_thousand_silent_connections_do_not_disturb_a_client() {
    const SILENT: usize = 2_000;
    // Both ends are in this process.
    let descriptors = raise_descriptor_limit(6_000).unwrap();
    assert!(
        descriptors >= 5_000,
        "this test needs 5000 open files, and may have {descriptors}: raise ulimit -n"
    );
    let first_byte = Duration::from_secs(2);
    let server = Server::start(AcceptLimits { first_byte, ..lax() }).await;
    let mut worker = server.connect().await;
    let mut silence = Vec::with_capacity(SILENT);
    for _ in 0..SILENT {
        let mut silent = server.connect().await;
        silence.push(tokio::spawn(async move { silent.rest().await }));
    }
    let mut slowest = Duration::ZERO;
    while !silence.iter().all(JoinHandle::is_finished) {
        let asked = Instant::now();
        assert!(worker.get("/").await.ends_with("hello"));
        slowest = slowest.max(asked.elapsed());
    }
    assert!(slowest < first_byte, "an answer took {slowest:?}");
    for silent in silence {
        assert_eq!(silent.await.unwrap(), "");
    }
    assert_eq!(server.finish().await.closed(CloseReason::FirstByte), SILENT as u64);
}

#[tokio::test]
async fn the_longest_idle_connection_makes_room_for_a_new_one() {
    let server = Server::start(AcceptLimits { max_connections: 2, ..lax() }).await;
    let mut first = server.connect().await;
    assert!(first.get("/").await.ends_with("hello"));
    let mut second = server.connect().await;
    assert!(second.get("/").await.ends_with("hello"));
    // The other one is now the longest idle.
    assert!(first.get("/").await.ends_with("hello"));
    let mut third = server.connect().await;
    assert!(third.get("/").await.ends_with("hello"));
    assert_eq!(second.rest().await, "");
    assert!(first.get("/").await.ends_with("hello"));
    assert_eq!(server.finish().await.closed(CloseReason::Evicted), 1);
}

#[tokio::test]
async fn new_connections_wait_when_all_others_are_busy() {
    let mut server = Server::start(AcceptLimits { max_connections: 2, ..lax() }).await;
    let mut parked = [server.connect().await, server.connect().await];
    for client in &mut parked {
        client.send(PARK).await;
        soon(server.entered.recv()).await.unwrap();
    }
    let mut third = server.connect().await;
    third.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let early = timeout(SHORT, third.stream.readable()).await;
    assert!(early.is_err() && server.stats.accepted() == 2, "no request was given up for it");
    server.handlers.release.add_permits(2);
    for client in &mut parked {
        assert!(client.answer().await.ends_with("released"));
    }
    assert!(third.answer().await.ends_with("hello"));
    assert_eq!(server.finish().await.closed(CloseReason::Evicted), 1);
}

#[tokio::test]
async fn a_drain_answers_requests_in_progress_and_closes_the_rest() {
    let mut server = Server::start(lax()).await;
    let mut idle = server.connect().await;
    assert!(idle.get("/").await.ends_with("hello"));
    let mut silent = server.connect().await;
    let mut busy = server.connect().await;
    busy.send(PARK).await;
    soon(server.entered.recv()).await.unwrap();
    // All three were accepted, in order.
    assert_eq!(server.stats.open(), 3);

    server.drain();
    assert_eq!(idle.rest().await, "");
    assert_eq!(silent.rest().await, "");
    let refused = soon(TcpStream::connect(server.address)).await;
    assert!(refused.is_err(), "the listener is closed");
    assert!(!server.task.is_finished(), "a request is in progress");

    server.handlers.release.add_permits(1);
    let answer = busy.answer().await;
    assert!(answer.ends_with("released") && answer.contains("\r\nconnection: close\r\n"), "{answer}");
    assert_eq!(busy.rest().await, "");
    assert_eq!(soon(server.task).await.unwrap(), Drained { dropped: 0 });
    assert_eq!((server.stats.open(), server.stats.closed(CloseReason::Drained)), (0, 3));
}

#[tokio::test]
async fn a_drain_does_not_wait_forever() {
    let mut server = Server::start(AcceptLimits { drain_timeout: SHORT, ..lax() }).await;
    let mut busy = server.connect().await;
    busy.send(PARK).await;
    soon(server.entered.recv()).await.unwrap();
    server.drain();
    assert_eq!(soon(server.task).await.unwrap(), Drained { dropped: 1 });
    server.ended.try_recv().expect("the handler was dropped before the drain ended");
    assert_eq!(busy.rest().await, "");
    assert_eq!((server.stats.open(), server.stats.closed(CloseReason::Dropped)), (0, 1));
}

#[tokio::test]
async fn dropping_the_loop_drops_its_connections() {
    let mut server = Server::start(lax()).await;
    let mut silent = server.connect().await;
    let mut busy = server.connect().await;
    busy.send(PARK).await;
    soon(server.entered.recv()).await.unwrap();
    server.task.abort();
    assert_eq!(silent.rest().await, "");
    assert_eq!(busy.rest().await, "");
    soon(server.ended.recv()).await.unwrap();
}

/// Every request here is one that a proxy and the server could read differently, or that is no request.
#[tokio::test]
async fn what_can_be_read_in_two_ways_is_refused_and_closed() {
    let server = Server::start(lax()).await;
    let cases = [
        ("length, then coding", "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG"),
        ("coding, then length", "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nG"),
        ("length 0 and coding", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("two lengths", "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"),
        ("a list of lengths", "Content-Length: 5, 5\r\n\r\nhello"),
        ("a length with a sign", "Content-Length: +5\r\n\r\nhello"),
        ("a folded field", "X-A: a\r\n b\r\nContent-Length: 5\r\n\r\nhello"),
        ("a folded coding", "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
        ("space before the colon", "Content-Length : 5\r\n\r\nhello"),
        ("another coding", "Transfer-Encoding: gzip\r\n\r\nhello"),
        ("a coding after chunked", "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
        ("NUL in a value", "X-A: a\0b\r\n\r\n"),
        ("a bare CR in a value", "X-A: a\rContent-Length: 5\r\n\r\n"),
    ];
    for (case, rest) in cases {
        let mut client = server.connect().await;
        client.send(format!("POST /read HTTP/1.1\r\nHost: x\r\n{rest}")).await;
        assert_problem(&client.rest().await, ("400", "malformed-request"), case);
    }
    let mut client = server.connect().await;
    client.send("POST /read HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").await;
    assert_problem(&client.rest().await, ("400", "malformed-request"), "HTTP/1.0 with a coding");
    assert_eq!(server.calls(), 0, "no handler was asked");
    assert_eq!(server.finish().await.closed(CloseReason::Malformed), cases.len() as u64 + 1);
}

#[tokio::test]
async fn a_later_request_that_can_be_read_in_two_ways_is_refused_too() {
    let server = Server::start(lax()).await;
    let mut client = server.connect().await;
    let fine = "POST /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let both = "POST /read HTTP/1.1\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG";
    client.send(format!("{fine}{both}ET / HTTP/1.1\r\n\r\n")).await;
    assert!(client.answer().await.ends_with("5 bytes"));
    assert_problem(&client.rest().await, ("400", "malformed-request"), "the second");
    assert_eq!(server.calls(), 1);
    server.finish().await;
}

/// Neither the bytes before it nor those behind it change what is answered to a head that cannot be read.
#[tokio::test]
async fn a_head_that_cannot_be_read_is_answered_behind_the_answers_before_it() {
    let server = Server::start(lax()).await;
    let fine = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    for bad in [
        "GET / HTTP/9.9\r\n\r\n",
        "\u{1}\r\n\r\n",
        "GET / HTTP/1.1\r\nno colon\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    ] {
        let mut client = server.connect().await;
        client.send(format!("{fine}{fine}{bad}")).await;
        assert!(client.answer().await.ends_with("hello"));
        assert!(client.answer().await.ends_with("hello"));
        assert_problem(&client.rest().await, ("400", "malformed-request"), bad);
    }
    server.finish().await;
}

/// Longer than any address that hyper takes, and still under the limit of this server's heads.
#[tokio::test]
async fn an_address_that_is_too_long_is_a_head_that_is_too_large() {
    let server = Server::start(AcceptLimits { max_header_bytes: 1 << 20, ..lax() }).await;
    let mut client = server.connect().await;
    client.send(format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "y".repeat(70_000))).await;
    assert_problem(&client.rest().await, ("431", "head-too-large"), "70 kB");
    server.finish().await;
}

#[tokio::test]
async fn only_http_1_is_spoken() {
    let server = Server::start(lax()).await;
    let mut client = server.connect().await;
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert_eq!(client.rest().await, "");
    let mut client = server.connect().await;
    client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await;
    assert_problem(&client.rest().await, ("400", "malformed-request"), "a TLS handshake");
    assert_eq!(server.finish().await.closed(CloseReason::Malformed), 2);
}

#[tokio::test]
async fn a_body_of_chunks_that_cannot_be_read_ends_with_an_error_the_handler_answers() {
    let server = Server::start(lax()).await;
    for chunk in ["zz\r\nhello\r\n", "2\r\nhello\r\n", "11111111111111111\r\n", "-1\r\n\r\n"] {
        let mut client = server.connect().await;
        client.send("POST /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        client.send(chunk).await;
        let said = client.rest().await;
        assert_eq!(status(&said), "400", "{chunk}: {said}");
        assert!(said.contains("Broken"), "{chunk}: {said}");
    }
    server.finish().await;
}

#[tokio::test]
async fn a_head_over_the_limit_is_answered_with_431_and_closed() {
    let server = Server::start(AcceptLimits { max_header_bytes: 16 * 1024, ..lax() }).await;
    let value = "y".repeat(20 * 1024);
    let many = "X-A: b\r\n".repeat(101);
    let heads = [
        format!("GET / HTTP/1.1\r\nHost: x\r\nX-Long: {value}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: x\r\nX-Long: {value}"),
        format!("GET /{value} HTTP/1.1\r\nHost: x\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{many}\r\n"),
    ];
    for head in &heads {
        let mut client = server.connect().await;
        client.send(head).await;
        assert_problem(&client.rest().await, ("431", "head-too-large"), &head[..40]);
    }
    let mut client = server.connect().await;
    client.send(format!("GET / HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", &value[..15 * 1024])).await;
    assert!(client.answer().await.ends_with("hello"), "just below the limit");
    assert_eq!(server.calls(), 1);
    assert_eq!(server.finish().await.closed(CloseReason::Malformed), heads.len() as u64);
}

#[tokio::test]
async fn a_body_announced_as_too_large_is_refused_without_being_asked_for() {
    let server = Server::start(lax()).await;
    let mut client = server.connect().await;
    client
        .send("POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\nExpect: 100-continue\r\n\r\n")
        .await;
    let answer = client.answer().await;
    assert_eq!(status(&answer), "413", "and no 100 before it: {answer}");
    assert!(answer.ends_with("99999999 is too much"));
    assert_eq!(client.rest().await, "");

    let mut client = server.connect().await;
    client.send("POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n").await;
    assert_eq!(client.answer().await, "HTTP/1.1 100 Continue\r\n\r\n", "one that is wanted is asked for");
    client.send("{}").await;
    assert!(client.answer().await.ends_with("2 bytes"));
    server.finish().await;
}

/// Closing at once would reset the connection, and the client would never see the answer.
#[tokio::test]
async fn an_early_answer_reaches_a_client_that_is_still_sending() {
    let server = Server::start(AcceptLimits { linger: NEVER, ..lax() }).await;
    let mut client = server.connect().await;
    client.send("POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\n\r\n").await;
    client.send(vec![b'y'; 8_000_000]).await;
    assert_eq!(status(&client.rest().await), "413");
    drop(client);
    server.finish().await;
}

#[tokio::test]
async fn a_client_that_does_not_stop_sending_is_not_listened_to_forever() {
    let server = Server::start(AcceptLimits { linger: SHORT, ..lax() }).await;
    let mut client = server.connect().await;
    client.send("POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\n\r\n").await;
    assert_eq!(status(&client.answer().await), "413");
    assert_eq!(client.rest().await, "");
    // Without the end of the lingering this would last as long as the client sends.
    let mut tick = interval(Duration::from_millis(20));
    soon(async {
        while client.stream.write_all(b"y").await.is_ok() {
            tick.tick().await;
        }
    })
    .await;
    server.finish().await;
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_parked_request() {
    let mut server = Server::start(lax()).await;
    let mut client = server.connect().await;
    client.send(PARK).await;
    soon(server.entered.recv()).await.unwrap();
    drop(client);
    soon(server.ended.recv()).await.unwrap();
    assert_eq!(server.finish().await.closed(CloseReason::Client), 1);
}

#[tokio::test]
async fn a_handler_that_panics_costs_its_connection_only() {
    let server = Server::start(lax()).await;
    let mut client = server.connect().await;
    client.send("GET /panic HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(client.rest().await, "");
    assert!(server.connect().await.get("/").await.ends_with("hello"));
    assert_eq!(server.finish().await.closed(CloseReason::Panicked), 1);
}

#[tokio::test]
async fn requests_are_answered_in_order_and_know_their_peer() {
    let server = Server::start(lax()).await;
    let mut client = server.connect().await;
    let peer = client.stream.local_addr().unwrap().to_string();
    assert!(client.get("/peer").await.ends_with(&peer));
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\nPOST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET /pe").await;
    assert!(client.answer().await.ends_with("hello"));
    assert!(client.answer().await.ends_with("3 bytes"));
    client.send("er HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(client.rest().await.ends_with(&peer));
    assert_eq!(server.finish().await.closed(CloseReason::Answered), 1);
}
