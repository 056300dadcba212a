//! Lease replies that do not arrive: case L-09 of `docs/guide/hostile-cases.md`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]

mod kit;

use kit::{Server, patient, still_waits};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;

/// Sends a poll, and goes away when the server has leased the jobs and has written what the sockets take of its answer.
async fn poll_and_go_away(server: &Server, body: &str, leased: u64) {
    patient(async {
        let socket = TcpSocket::new_v4().unwrap();
        // The two ends take less than a large answer.
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        let mut stream = socket.connect(server.address).await.unwrap();
        let head = "POST /v1/leases HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json";
        let request = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).await.unwrap();
        // It has begun to write, so the lease is done.
        stream.readable().await.unwrap();
        assert_eq!(server.get("/v1/queues/q").await.expect(200)["counts"]["running"], leased);
        // Closed with bytes unread: a reset, so that the next write fails.
    })
    .await;
}

/// A payload that no two socket buffers hold together.
fn large() -> String {
    format!(r#"{{"payload":"{}"}}"#, "x".repeat(1_000_000))
}

async fn add_large(server: &Server, jobs: usize) {
    for _ in 0..jobs {
        server.add("q", &large()).await;
    }
}

#[tokio::test]
async fn l_09_jobs_of_an_answer_that_was_not_taken_whole_are_released_at_no_cost() {
    let server = Server::start().await;
    add_large(&server, 12).await;
    poll_and_go_away(&server, r#"{"queues":["q"],"max":12}"#, 12).await;
    patient(server.counted("available", 12)).await;
    let job = server.lease("q").await;
    assert_eq!((&job["attempt"], &job["failures"]), (&json!(2), &json!(0)));
    let shown = server.get(&format!("/v1/jobs/{}", job["id"].as_str().unwrap())).await.expect(200);
    assert_eq!(shown["attempts"][0]["outcome"], "released");
}

#[tokio::test]
async fn l_09_jobs_of_an_answer_that_may_have_arrived_keep_their_leases() {
    let server = Server::start().await;
    server.add("q", "{}").await;
    poll_and_go_away(&server, r#"{"queues":["q"]}"#, 1).await;
    server.connections(0).await;
    // Nothing may be on its way to the engine either.
    assert!(still_waits(server.counted("available", 1)).await);
    assert_eq!(server.get("/v1/queues/q").await.expect(200)["counts"]["running"], 1);
}

#[tokio::test]
async fn l_09_jobs_of_a_poll_with_an_id_are_kept_for_its_repeat() {
    let server = Server::start().await;
    add_large(&server, 12).await;
    let body = r#"{"queues":["q"],"max":12,"poll_id":"p"}"#;
    poll_and_go_away(&server, body, 12).await;
    server.connections(0).await;
    assert!(still_waits(server.counted("available", 1)).await);
    let again = server.post("/v1/leases", body).await.expect(200)["jobs"].clone();
    assert_eq!(again.as_array().unwrap().len(), 12);
    assert_eq!(again[0]["attempt"], 1);
}
