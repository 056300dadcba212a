//! Queues and their settings.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]

mod kit;

use std::time::Duration;

use kit::Server;
use serde_json::{Value, json};

#[tokio::test]
async fn a_queue_is_made_by_its_first_job_or_setting_and_shown_with_its_counts() {
    let server = Server::start().await;
    assert_eq!(server.get("/v1/queues").await.expect(200), json!({"queues": []}));
    assert_eq!(server.get("/v1/queues/q").await.refused(), (404, "queue-not-found".into()));
    server.add("q", "{}").await;
    server.add("q", r#"{"delay":"1h"}"#).await;
    server.put("/v1/queues/a", "{}").await.expect(200);
    server.advance(Duration::from_secs(90)).await;
    let listed = server.get("/v1/queues").await.expect(200);
    let names: Vec<&Value> =
        listed["queues"].as_array().unwrap().iter().map(|queue| &queue["name"]).collect();
    assert_eq!(names, ["a", "q"]);
    let queue = &listed["queues"][1];
    assert_eq!(queue["counts"]["available"], 1);
    assert_eq!(queue["counts"]["scheduled"], 1);
    assert_eq!(queue["oldest_available_at"], "2026-11-21T09:30:00.000Z");
    assert_eq!(queue["oldest_available_age_ms"], 90_000);
    assert_eq!(server.get("/v1/queues/q").await.expect(200), *queue);
}

#[tokio::test]
async fn settings_are_changed_one_by_one_and_reset_by_null() {
    let server = Server::start().await;
    let body = r#"{"concurrency":2,"group_policy":{"head":"skip","on_dead":"block"},
        "retry":{"max_attempts":3,"backoff":{"fixed":"1s"}},"dedup_window":"1d",
        "retention":{"completed":"1h","dead":"2d"}}"#;
    let queue = server.put("/v1/queues/q", body).await.expect(200);
    let expect = |queue: &Value, expected: Value| {
        for member in ["concurrency", "group_policy", "retry", "dedup_window", "retention", "paused"] {
            assert_eq!(queue.get(member), expected.get(member), "{member}");
        }
    };
    let all = json!({
        "paused": false, "concurrency": 2, "group_policy": {"head": "skip", "on_dead": "block"},
        "retry": {"max_attempts": 3, "backoff": {"fixed": "1s"}}, "dedup_window": "1d",
        "retention": {"completed": "1h", "dead": "2d"},
    });
    expect(&queue, all);
    let body =
        r#"{"concurrency":null,"group_policy":{"head":null},"retry":null,"retention":{"cancelled":"3d"}}"#;
    let queue = server.put("/v1/queues/q", body).await.expect(200);
    let rest = json!({
        "paused": false, "group_policy": {"on_dead": "block"}, "dedup_window": "1d",
        "retention": {"completed": "1h", "dead": "2d", "cancelled": "3d"},
    });
    expect(&queue, rest);
}

#[tokio::test]
async fn settings_apply_to_jobs_that_do_not_say() {
    let server = Server::start().await;
    server.put("/v1/queues/q", r#"{"concurrency":1,"retry":{"max_attempts":1}}"#).await.expect(200);
    server.add("q", "{}").await;
    let second = server.add("q", "{}").await;
    let job = server.lease("q").await;
    assert_eq!(job["max_attempts"], 1);
    assert_eq!(server.lease("q").await, Value::Null);
    assert_eq!(server.get(&format!("/v1/jobs/{second}")).await.expect(200)["waiting"], "concurrency");
    server.settle(&job, r#""op":"fail","error":{"message":"x"}"#).await;
    assert_eq!(server.lease("q").await["id"], second);
}

#[tokio::test]
async fn a_paused_queue_hands_out_nothing_until_it_is_resumed() {
    let server = Server::start().await;
    let id = server.add("q", "{}").await;
    assert_eq!(server.post("/v1/queues/q/pause", "{}").await.expect(200)["paused"], true);
    assert_eq!(server.lease("q").await, Value::Null);
    assert_eq!(server.get(&format!("/v1/jobs/{id}")).await.expect(200)["waiting"], "paused");
    assert_eq!(
        server.post("/v1/queues/q/pause", r#"{"now":1}"#).await.refused(),
        (422, "unknown-field".into())
    );
    server.post_nothing("/v1/queues/q/resume").await.expect(200);
    assert_eq!(server.lease("q").await["id"], id);
}

#[tokio::test]
async fn a_queue_with_unfinished_jobs_is_deleted_only_by_force() {
    let server = Server::start().await;
    let id = server.add("q", r#"{"key":"k"}"#).await;
    let refused = server.delete("/v1/queues/q").await;
    assert_eq!(refused.refused(), (409, "queue-not-empty".into()));
    assert_eq!(refused.json()["unfinished"], 1);
    assert_eq!(server.delete("/v1/queues/q?force=maybe").await.refused(), (422, "invalid-field".into()));
    assert_eq!(server.delete("/v1/queues/q?force=true").await.expect(200), json!({"jobs": 1}));
    assert_eq!(server.get(&format!("/v1/jobs/{id}")).await.refused(), (404, "job-not-found".into()));
    assert_eq!(server.delete("/v1/queues/q").await.refused(), (404, "queue-not-found".into()));
}

#[tokio::test]
async fn settings_that_cannot_be_are_named() {
    let server = Server::start().await;
    for (body, code, field) in [
        (r#"{"rate":{"limit":0,"per":"1s"}}"#, "invalid-field", "rate"),
        (r#"{"rate":{"limit":1,"per":"99ms"}}"#, "invalid-duration", "rate"),
        (r#"{"rate":{"limit":1,"per":"often"}}"#, "invalid-duration", "rate.per"),
        (r#"{"rate":{"limit":1}}"#, "missing-field", "rate.per"),
        (r#"{"concurrency":0}"#, "invalid-field", "concurrency"),
        (r#"{"concurrency":1000001}"#, "invalid-field", "concurrency"),
        (r#"{"group_policy":{"head":"wait"}}"#, "invalid-field", "group_policy.head"),
        (r#"{"group_policy":{"on_dead":1}}"#, "invalid-field", "group_policy.on_dead"),
        (r#"{"retry":{"max_attempts":0}}"#, "invalid-field", "retry.max_attempts"),
        (r#"{"retry":{"backoff":{"list":[]}}}"#, "invalid-backoff", "retry.backoff"),
        (r#"{"retry":{"tries":1}}"#, "unknown-field", "retry.tries"),
        (r#"{"dedup_window":"-1s"}"#, "invalid-duration", "dedup_window"),
        (r#"{"retention":{"completed":"x"}}"#, "invalid-duration", "retention.completed"),
        (r#"{"name":"q"}"#, "unknown-field", "name"),
    ] {
        let reply = server.put("/v1/queues/q", body).await;
        assert_eq!(reply.refused(), (422, code.into()), "{body}");
        assert_eq!(reply.json()["field"], field, "{body}");
    }
    assert_eq!(server.get("/v1/queues/q").await.refused(), (404, "queue-not-found".into()));
}
