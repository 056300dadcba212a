//! Server-sent events.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]

mod kit;

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use kit::{Server, patient, still_waits};
use onefold_runtime::Phase;
use serde_json::{Value, json};

/// A stream being read.
struct Stream {
    body: Incoming,
    unread: String,
}

/// One event: its id, type and data.
#[derive(Debug, PartialEq)]
struct Told {
    id: Option<u64>,
    kind: String,
    data: Value,
}

impl Stream {
    async fn open(server: &Server, path: &str, last_id: Option<&str>) -> Stream {
        patient(async {
            let stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            let mut request = server.request("GET", path);
            if let Some(id) = last_id {
                request = request.header("last-event-id", id);
            }
            let reply = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
            assert_eq!(reply.status(), 200);
            assert_eq!(reply.headers()["content-type"], "text/event-stream");
            Stream { body: reply.into_body(), unread: String::new() }
        })
        .await
    }

    /// The next event, `None` at the end of the stream.
    async fn next(&mut self) -> Option<Told> {
        loop {
            if let Some((event, rest)) = self.unread.split_once("\n\n") {
                let told = parse(event);
                self.unread = rest.to_owned();
                match told {
                    Some(told) => return Some(told),
                    None => continue,
                }
            }
            let frame = self.body.frame().await?.unwrap();
            self.unread.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
        }
    }

    async fn some(&mut self, count: usize) -> Vec<Told> {
        let mut told = Vec::new();
        while told.len() < count {
            told.push(patient(self.next()).await.expect("the stream ended"));
        }
        told
    }
}

fn parse(event: &str) -> Option<Told> {
    let field = |name: &str| {
        event.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim_start().to_owned())
    };
    Some(Told {
        id: field("id:").map(|id| id.parse().unwrap()),
        kind: field("event:")?,
        data: serde_json::from_str(&field("data:")?).unwrap(),
    })
}

fn kinds(told: &[Told]) -> Vec<&str> {
    told.iter().map(|event| &*event.kind).collect()
}

#[tokio::test]
async fn events_are_told_as_they_happen_from_now_on() {
    let server = Server::start().await;
    server.add("q", "{}").await;
    let mut stream = Stream::open(&server, "/v1/events", None).await;
    let job = server.lease("q").await;
    server.settle(&job, r#""op":"complete""#).await;
    let told = stream.some(2).await;
    assert_eq!(kinds(&told), ["job.leased", "job.completed"]);
    let expected = json!({
        "cursor": told[0].id, "type": "job.leased", "at": "2026-11-21T09:30:00.000Z", "queue": "q",
        "job": job["id"], "attempt": 1,
    });
    assert_eq!(told[0].data, expected);
    assert!(told[1].id > told[0].id);
}

#[tokio::test]
async fn a_stream_is_filtered_by_queue_and_type() {
    let server = Server::start().await;
    let mut stream = Stream::open(&server, "/v1/events?queue=a,b&type=job.added&type=job.dead", None).await;
    for queue in ["c", "a", "b"] {
        server.add(queue, "{}").await;
    }
    let job = server.lease("a").await;
    server.settle(&job, r#""op":"fail","error":{"message":"x","retryable":false}"#).await;
    let told = stream.some(3).await;
    assert_eq!(kinds(&told), ["job.added", "job.added", "job.dead"]);
    assert_eq!((&told[0].data["queue"], &told[1].data["queue"]), (&json!("a"), &json!("b")));
    assert_eq!(told[2].data["reason"], "permanent");
    assert!(still_waits(stream.next()).await);
}

#[tokio::test]
async fn a_stream_is_resumed_where_it_broke_off() {
    let server = Server::start().await;
    let mut stream = Stream::open(&server, "/v1/events", None).await;
    for _ in 0..3 {
        server.add("q", "{}").await;
    }
    let seen = stream.some(2).await;
    drop(stream);
    server.add("q", "{}").await;
    let last = seen[1].id.unwrap();
    let mut again = Stream::open(&server, "/v1/events", Some(&last.to_string())).await;
    let told = again.some(2).await;
    assert_eq!(told.iter().map(|event| event.id.unwrap()).collect::<Vec<_>>(), [last + 1, last + 2]);
    // More than a page.
    let jobs = format!("[{}]", vec!["{}"; 1000].join(","));
    server.post("/v1/queues/q/jobs", jobs).await.expect(200);
    let told = again.some(1000).await;
    assert_eq!(told[999].id.unwrap(), last + 1002);
    let mut sparse = Stream::open(&server, "/v1/events?type=job.leased", Some("0")).await;
    server.lease("q").await;
    assert_eq!(kinds(&sparse.some(1).await), ["job.leased"]);
}

#[tokio::test]
async fn who_missed_events_is_told_first() {
    let server = Server::start().await;
    for _ in 0..3 {
        server.add("q", "{}").await;
    }
    server.advance(Duration::from_secs(25 * 3600)).await;
    server.add("q", "{}").await;
    let mut stream = Stream::open(&server, "/v1/events", Some("1")).await;
    let told = stream.some(2).await;
    assert_eq!(kinds(&told), ["events.missed", "job.added"]);
    assert_eq!(told[0].data, json!({"after": 1, "oldest": told[1].id}));
    // Just before the oldest that is kept: nothing was missed.
    let before = (told[1].id.unwrap() - 1).to_string();
    let mut complete = Stream::open(&server, "/v1/events", Some(&before)).await;
    assert_eq!(kinds(&complete.some(1).await), ["job.added"]);
    // From the future, as after a restore.
    let mut ahead = Stream::open(&server, "/v1/events", Some("1000000")).await;
    assert_eq!(kinds(&ahead.some(1).await), ["events.missed"]);
    server.add("q", "{}").await;
    assert_eq!(kinds(&ahead.some(1).await), ["job.added"]);
}

#[tokio::test]
async fn a_stream_ends_when_the_server_drains() {
    let server = Server::start().await;
    let mut stream = Stream::open(&server, "/v1/events", None).await;
    assert!(still_waits(stream.next()).await);
    server.set_phase(Phase::Draining);
    assert_eq!(patient(stream.next()).await, None);
}

#[tokio::test]
async fn bad_filters_and_cursors_are_refused() {
    let server = Server::start().await;
    for (query, code) in [
        ("type=job.exploded", "invalid-field"),
        ("queue=a%20b", "invalid-queue-name"),
        ("after=1", "unknown-field"),
    ] {
        assert_eq!(server.get(&format!("/v1/events?{query}")).await.refused(), (422, code.into()), "{query}");
    }
    for id in ["x", "-1", "18446744073709551616"] {
        let request = server.request("GET", "/v1/events").header("last-event-id", id);
        let reply = server.send(request.body(Bytes::new()).unwrap()).await;
        assert_eq!(reply.refused(), (422, "invalid-cursor".into()), "{id}");
    }
}
