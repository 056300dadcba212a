//! Effects over HTTP: I5, I7 and I11, and the cases L-20 to L-22 of `docs/guide/hostile-cases.md`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]

mod kit;

use std::time::Duration;

use kit::{Reply, Server};
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);

async fn effect(server: &Server, scope: &str, what: &str, body: Value) -> Reply {
    server.post(&format!("/v1/effects/{scope}/{what}"), body.to_string()).await
}

fn id(job: &Value) -> &str {
    job["id"].as_str().unwrap()
}

/// The body of a begin of a step under a job's lease.
fn begin(job: &Value, key: &str, policy: &str) -> Value {
    let holder = json!({"id": job["id"], "fencing_token": job["fencing_token"]});
    json!({"key": key, "policy": policy, "job": holder})
}

async fn leased(server: &Server) -> Value {
    server.add("q", "{}").await;
    server.lease("q").await
}

/// I7: begin, commit, replay: the bytes that were committed, whatever their spelling.
#[tokio::test]
async fn i7_a_step_is_executed_once_and_replayed_byte_for_byte() {
    let server = Server::start().await;
    let job = leased(&server).await;
    let begun = effect(&server, id(&job), "begin", begin(&job, "charge", "at_least_once")).await.expect(200);
    assert_eq!(begun, json!({"state": "execute", "fencing_token": job["fencing_token"]}));
    let commit =
        format!(r#"{{"key":"charge","fencing_token":{},"result":{{ "n": 1.0 }}}}"#, job["fencing_token"]);
    let path = format!("/v1/effects/{}", id(&job));
    for _ in 0..2 {
        let done = server.post(&format!("{path}/commit"), commit.clone()).await.expect(200);
        assert_eq!(done, json!({"state": "completed"}));
    }
    let replayed = effect(&server, id(&job), "begin", begin(&job, "charge", "at_most_once")).await;
    assert_eq!(replayed.text(), r#"{"state":"completed","result":{ "n": 1.0 }}"#);
    let shown = server.get(&format!("{path}/charge")).await;
    assert!(shown.text().contains(r#""result":{ "n": 1.0 }"#), "{}", shown.text());
    let shown = shown.expect(200);
    assert_eq!(
        (&shown["state"], &shown["executions"], &shown["job"]),
        (&json!("completed"), &json!(1), &job["id"])
    );
    let job = server.get(&format!("/v1/jobs/{}", id(&job))).await.expect(200);
    assert_eq!((&job["effects"][0]["key"], &job["effects"][0]["result"]), (&json!("charge"), &Value::Null));
}

/// A commit without a result replays `null`.
#[tokio::test]
async fn nothing_is_replayed_as_null() {
    let server = Server::start().await;
    let token = effect(&server, "s", "begin", json!({"key": "k"})).await.expect(200)["fencing_token"].clone();
    effect(&server, "s", "commit", json!({"key": "k", "fencing_token": token})).await.expect(200);
    let replayed = effect(&server, "s", "begin", json!({"key": "k"})).await;
    assert_eq!(replayed.text(), r#"{"state":"completed","result":null}"#);
}

/// L-22: at least once, a killed attempt's effect is run again under a larger token, and the timeline says so.
#[tokio::test]
async fn l_22_the_next_attempt_takes_over_with_a_larger_token() {
    let server = Server::start().await;
    let first = leased(&server).await;
    effect(&server, id(&first), "begin", begin(&first, "charge", "at_least_once")).await.expect(200);
    server.advance(31 * SECOND).await;
    let second = server.lease("q").await;
    let begun =
        effect(&server, id(&second), "begin", begin(&second, "charge", "at_least_once")).await.expect(200);
    assert!(begun["fencing_token"].as_u64() > first["fencing_token"].as_u64());
    let late = json!({"key": "charge", "fencing_token": first["fencing_token"], "result": 1});
    let late = effect(&server, id(&first), "commit", late).await;
    assert_eq!(late.refused(), (409, "lease-lost".into()));
    assert_eq!(late.json()["state"], "running");
    let job = server.get(&format!("/v1/jobs/{}", id(&first))).await.expect(200);
    let kinds: Vec<&str> =
        job["history"].as_array().unwrap().iter().map(|line| line["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["effect_taken_over", "late_effect"]);
    assert_eq!(server.get("/v1/queues/q").await.expect(200)["counts"]["late_writes"], 1);
}

/// L-21: at most once, a doubt is never executed again by itself: the job dies with it, visibly, and is resolvable.
#[tokio::test]
async fn l_21_a_doubt_is_indeterminate_and_resolved_by_somebody() {
    let server = Server::start().await;
    let first = leased(&server).await;
    let path = format!("/v1/effects/{}", id(&first));
    effect(&server, id(&first), "begin", begin(&first, "charge", "at_most_once")).await.expect(200);
    server.advance(31 * SECOND).await;
    let second = server.lease("q").await;
    let refused = effect(&server, id(&second), "begin", begin(&second, "charge", "at_most_once")).await;
    assert_eq!(refused.refused(), (409, "effect-indeterminate".into()));
    let job = server.get(&format!("/v1/jobs/{}", id(&first))).await.expect(200);
    assert_eq!((&job["state"], &job["reason"]), (&json!("dead"), &json!("indeterminate")));
    let unclear = server.get("/v1/effects?state=indeterminate").await.expect(200);
    assert_eq!(unclear["effects"][0]["key"], "charge");

    let found =
        json!({"key": "charge", "outcome": "completed", "note": "in their books", "result": {"receipt": 7}});
    for _ in 0..2 {
        let resolved = effect(&server, id(&first), "resolve", found.clone()).await.expect(200);
        assert_eq!(resolved, json!({"state": "completed"}));
    }
    let other = json!({"key": "charge", "outcome": "released", "note": "no"});
    let refused = effect(&server, id(&first), "resolve", other).await;
    assert_eq!(refused.refused(), (409, "effect-not-indeterminate".into()));
    let shown = server.get(&format!("{path}/charge")).await.expect(200);
    assert_eq!(shown["resolution"]["note"], "in their books");
    server.post_nothing(&format!("/v1/jobs/{}/retry", id(&first))).await.expect(200);
    let third = server.lease("q").await;
    let replayed = effect(&server, id(&third), "begin", begin(&third, "charge", "at_most_once")).await;
    assert_eq!(replayed.text(), r#"{"state":"completed","result":{"receipt":7}}"#);
}

/// L-20: a standalone effect has its own lease, TTL and ever larger tokens; "held elsewhere" says when to come back.
#[tokio::test]
async fn l_20_a_standalone_effect_has_its_own_lease_and_ttl() {
    let server = Server::start().await;
    let params = json!({"key": "order 7", "lease": "2500ms", "ttl": "1m", "begin_id": "one"});
    let first = effect(&server, "payments", "begin", params.clone()).await.expect(200);
    assert_eq!(
        effect(&server, "payments", "begin", params.clone()).await.expect(200),
        first,
        "a repeated call"
    );
    let busy = effect(&server, "payments", "begin", json!({"key": "order 7"})).await;
    assert_eq!(busy.refused(), (409, "effect-in-progress".into()));
    assert_eq!(
        (&busy.headers["retry-after"], &busy.json()["retry_after_ms"]),
        (&"3".parse().unwrap(), &json!(2500))
    );
    let token = first["fencing_token"].clone();
    let extend = json!({"key": "order 7", "fencing_token": token, "lease": "10s"});
    let extended = effect(&server, "payments", "extend", extend).await.expect(200);
    assert_eq!((&extended["state"], extended["lease_until"].is_string()), (&json!("executing"), true));
    let release = json!({"key": "order 7", "fencing_token": token});
    let released = effect(&server, "payments", "release", release).await.expect(200);
    assert_eq!(released, json!({"state": "released"}));
    let second = effect(&server, "payments", "begin", params.clone()).await.expect(200);
    assert!(second["fencing_token"].as_u64() > token.as_u64());
    let commit = json!({"key": "order 7", "fencing_token": second["fencing_token"], "result": 1});
    effect(&server, "payments", "commit", commit).await.expect(200);
    assert_eq!(server.get("/v1/effects/payments/order%207").await.expect(200)["result"], 1);
    server.advance(60 * SECOND).await;
    assert_eq!(
        server.get("/v1/effects/payments/order%207").await.refused(),
        (404, "effect-not-found".into())
    );
    let third = effect(&server, "payments", "begin", params).await.expect(200);
    assert!(third["fencing_token"].as_u64() > second["fencing_token"].as_u64());
}

/// Mismatch is told before everything else, as 422; I11: a short memory of the receiver is warned about.
#[tokio::test]
async fn a_mismatch_is_422_and_a_short_memory_is_warned_about() {
    let server = Server::start().await;
    let job = leased(&server).await;
    let mut params = begin(&job, "charge", "at_least_once");
    (params["fingerprint"], params["key_valid_for"]) = (json!("10 euro"), json!("24h"));
    let begun = effect(&server, id(&job), "begin", params.clone()).await.expect(200);
    assert!(begun["warning"].as_str().unwrap().contains("forgets the key"), "{begun}");
    params["fingerprint"] = json!("20 euro");
    let refused = effect(&server, id(&job), "begin", params).await;
    assert_eq!(refused.refused(), (422, "key-reused".into()));
    assert_eq!(refused.json()["existing_id"], job["id"]);
}

/// Every field is checked, by name.
#[tokio::test]
async fn what_cannot_be_is_refused_by_name() {
    let server = Server::start().await;
    let job = leased(&server).await;
    let large = format!("\"{}\"", "x".repeat(1024 * 1024 - 1));
    let (token, key) = (1, "k");
    let cases = [
        ("begin", json!({}), (422, "missing-field")),
        ("begin", json!({"key": ""}), (422, "invalid-key")),
        ("begin", json!({"key": key, "policy": "never"}), (422, "invalid-field")),
        ("begin", json!({"key": key, "lease": "99ms"}), (422, "invalid-duration")),
        ("begin", json!({"key": key, "lease": "61m"}), (422, "invalid-duration")),
        ("begin", json!({"key": key, "ttl": "999ms"}), (422, "invalid-duration")),
        ("begin", json!({"key": key, "fingerprint": ""}), (422, "invalid-fingerprint")),
        ("begin", json!({"key": key, "begin_id": "x".repeat(65)}), (422, "invalid-field")),
        ("begin", json!({"key": key, "attempt": 1}), (422, "unknown-field")),
        ("begin", json!({"key": key, "job": {"id": "nonsense", "fencing_token": 1}}), (404, "job-not-found")),
        ("begin", json!({"key": key, "job": {"id": job["id"], "fencing_token": 1}}), (409, "lease-lost")),
        ("commit", json!({"key": key, "fencing_token": 0}), (422, "invalid-field")),
        ("commit", json!({"key": key, "fencing_token": token}), (404, "effect-not-found")),
        ("commit", json!({"key": key, "fencing_token": token, "result": large}), (413, "result-too-large")),
        ("release", json!({"key": key, "fencing_token": token, "outcome": "maybe"}), (422, "invalid-field")),
        ("resolve", json!({"key": key, "outcome": "completed", "note": " "}), (422, "invalid-field")),
        ("resolve", json!({"key": key, "outcome": "completed"}), (422, "missing-field")),
        (
            "resolve",
            json!({"key": key, "outcome": "released", "note": "n", "result": 1}),
            (422, "conflicting-fields"),
        ),
    ];
    for (what, body, (status, code)) in cases {
        let told = body.to_string().chars().take(100).collect::<String>();
        let refused = effect(&server, "s", what, body).await.refused();
        assert_eq!(refused, (status, code.to_owned()), "{what} {told}");
    }
    for query in ["state=gone", "limit=0", "limit=1001", "cursor=x", "scope=", "x=1"] {
        assert_eq!(server.get(&format!("/v1/effects?{query}")).await.status, 422, "{query}");
    }
}

/// A result is stored and replayed up to 1 MiB.
#[tokio::test]
async fn a_result_of_1_mib_is_replayed() {
    let server = Server::start().await;
    let token = effect(&server, "s", "begin", json!({"key": "k"})).await.expect(200)["fencing_token"].clone();
    let result = "x".repeat(1024 * 1024 - 2);
    effect(&server, "s", "commit", json!({"key": "k", "fencing_token": token, "result": result}))
        .await
        .expect(200);
    let replayed = effect(&server, "s", "begin", json!({"key": "k"})).await.expect(200);
    assert_eq!(replayed["result"], result);
}

/// Lists are paged by scope and key; a cursor is good for its own filters.
#[tokio::test]
async fn effects_are_listed_in_pages() {
    let server = Server::start().await;
    for key in ["a", "b", "c"] {
        effect(&server, "s", "begin", json!({"key": key})).await.expect(200);
    }
    let page = server.get("/v1/effects?scope=s&limit=2").await.expect(200);
    let cursor = page["cursor"].as_str().unwrap();
    assert_eq!(page["effects"].as_array().unwrap().len(), 2);
    let rest = server.get(&format!("/v1/effects?scope=s&limit=2&cursor={cursor}")).await.expect(200);
    assert_eq!((&rest["effects"][0]["key"], &rest["cursor"]), (&json!("c"), &Value::Null));
    let other = server.get(&format!("/v1/effects?scope=t&cursor={cursor}")).await;
    assert_eq!(other.refused(), (422, "invalid-cursor".into()));
}
