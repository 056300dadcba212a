//! Adding jobs and looking at them, over HTTP.

mod kit;

use kit::Server;
use serde_json::json;

#[tokio::test]
async fn a_job_is_added_shown_leased_and_completed() {
    let server = Server::start().await;
    let added = server
        .post("/v1/queues/emails/jobs", r#"{"kind":"welcome","payload":{ "to": "a@b",  "n": 1.0 }}"#)
        .await;
    let added = added.expect(201);
    assert_eq!(added["state"], "available");
    assert_eq!(added["duplicate"], false);
    assert_eq!(added["run_at"], "2026-11-21T09:30:00.000Z");
    let id = added["id"].as_str().unwrap();

    let job = server.lease("emails").await;
    assert_eq!(job["id"], id);
    assert_eq!((&job["attempt"], &job["lease_ms"]), (&json!(1), &json!(30_000)));
    let done = server.settle(&job, r#""op":"complete","result":{"sent":true}"#).await;
    assert_eq!(done, json!({"ok": true, "state": "completed"}));

    let shown = server.get(&format!("/v1/jobs/{id}")).await.expect(200);
    assert_eq!(shown["state"], "completed");
    assert_eq!(shown["result"], json!({"sent": true}));
    assert_eq!(shown["attempts"][0]["outcome"], "completed");
}

#[tokio::test]
async fn the_bytes_of_a_payload_are_delivered_as_they_were_sent() {
    let server = Server::start().await;
    server.add("q", r#"{"payload":{ "b": 1.0 , "a": [ 1E400 ],"é":"\u00e9" }}"#).await;
    let reply = server.post("/v1/leases", r#"{"queues":["q"]}"#).await;
    assert!(
        reply.text().contains(r#""payload":{ "b": 1.0 , "a": [ 1E400 ],"é":"\u00e9" }"#),
        "{}",
        reply.text()
    );
}
