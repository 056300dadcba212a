//! Adding jobs, looking at them and changing them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]

mod kit;

use std::pin::pin;
use std::time::Duration;

use kit::{Server, patient, still_waits};
use onefold_runtime::Phase;
use serde_json::{Value, json};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_job_is_added_shown_leased_and_completed() {
    let server = Server::start().await;
    let body = r#"{"kind":"welcome","payload":{ "to": "a@b",  "n": 1.0 }}"#;
    let added = server.post("/v1/queues/emails/jobs", body).await.expect(201);
    assert_eq!(added["state"], "available");
    assert_eq!(added["duplicate"], false);
    assert_eq!(added["run_at"], "2026-11-21T09:30:00.000Z");
    assert_eq!(added.as_object().unwrap().len(), 4, "{added}");
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
    assert_eq!(shown["payload"], json!({"to": "a@b", "n": 1.0}));
}

#[tokio::test]
async fn the_bytes_of_a_payload_are_delivered_as_they_were_sent() {
    let server = Server::start().await;
    let sent = r#"{ "b": 1.0 , "a": [ 1E400 ],"é":"\u00e9" }"#;
    let id = server.add("q", &format!(r#"{{"payload":{sent}}}"#)).await;
    let shown = server.get(&format!("/v1/jobs/{id}")).await.text();
    let leased = server.post("/v1/leases", r#"{"queues":["q"]}"#).await.text();
    for text in [shown, leased] {
        assert!(text.contains(&format!(r#""payload":{sent}"#)), "{text}");
    }
}

#[tokio::test]
async fn null_is_a_payload_and_none_is_none() {
    let server = Server::start().await;
    for (body, there) in [(r#"{"payload":null}"#, true), ("{}", false)] {
        server.add("q", body).await;
        assert_eq!(server.lease("q").await.as_object().unwrap().contains_key("payload"), there);
    }
}

#[tokio::test]
async fn a_body_whose_fields_are_all_optional_may_be_absent() {
    let server = Server::start().await;
    let added = server.post_nothing("/v1/queues/q/jobs").await.expect(201);
    let id = added["id"].as_str().unwrap();
    assert_eq!(server.post_nothing(&format!("/v1/jobs/{id}/cancel")).await.expect(200)["state"], "cancelled");
    assert_eq!(server.post_nothing(&format!("/v1/jobs/{id}/retry")).await.expect(200)["state"], "available");
    assert_eq!(server.post_nothing("/v1/queues/q/pause").await.expect(200)["paused"], true);
    assert_eq!(server.post_nothing("/v1/queues/q/redrive").await.expect(200)["redriven"], 0);
}

#[tokio::test]
async fn binary_payloads_travel_in_base64_with_their_type() {
    let server = Server::start().await;
    server.add("q", r#"{"payload_base64":"AP8=","content_type":"image/png"}"#).await;
    let job = server.lease("q").await;
    assert_eq!((&job["payload_base64"], &job["content_type"]), (&json!("AP8="), &json!("image/png")));
    server.add("q", r#"{"payload_base64":""}"#).await;
    let job = server.lease("q").await;
    assert_eq!(
        (&job["payload_base64"], &job["content_type"]),
        (&json!(""), &json!("application/octet-stream"))
    );
}

#[tokio::test]
async fn everything_a_job_is_given_is_handed_on() {
    let server = Server::start().await;
    let id = server
        .add(
            "q",
            r#"{"kind":"k","key":"a/b ü","group":"g","priority":-3,"max_attempts":4,"timeout":"2m",
                "headers":{"X-A":"1","x-b":"ä"},"labels":["l1","l2"],"retain":"1d",
                "backoff":{"expression":"1000 * (1 + retried)"},
                "traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}"#,
        )
        .await;
    let job = server.lease("q").await;
    let expected = json!({
        "id": id, "queue": "q", "kind": "k", "key": "a/b ü", "group": "g", "max_attempts": 4, "timeout": "2m",
        "headers": {"X-A": "1", "x-b": "ä"}, "labels": ["l1", "l2"], "attempt": 1, "failures": 0,
        "created_at": "2026-11-21T09:30:00.000Z", "lease_until": "2026-11-21T09:30:30.000Z", "lease_ms": 30000,
        "retry_until": "2026-11-28T09:30:00.000Z",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "fencing_token": job["fencing_token"],
    });
    assert_eq!(job, expected);
    let shown = server.get(&format!("/v1/jobs/{id}")).await.expect(200);
    assert_eq!(shown["backoff"], json!({"list": ["1s", "2s", "3s", "4s"]}));
    assert_eq!((&shown["priority"], &shown["retain"]), (&json!(-3), &json!("1d")));
}

#[tokio::test]
async fn the_request_s_traceparent_is_the_default_of_its_jobs() {
    let server = Server::start().await;
    let (header, own) = (
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
    );
    let add = |trace: &'static str, body: String| {
        let request = server.request("POST", "/v1/queues/q/jobs").header("traceparent", trace);
        server.send(request.header("content-type", "application/json").body(body.into()).unwrap())
    };
    add(header, format!(r#"[{{}},{{"traceparent":"{own}"}}]"#)).await.expect(200);
    assert_eq!(server.lease("q").await["traceparent"], header);
    assert_eq!(server.lease("q").await["traceparent"], own);
    // W3C: a header that is not one is ignored.
    add("nonsense", "{}".to_owned()).await.expect(201);
    assert_eq!(server.lease("q").await["traceparent"], Value::Null);
}

#[tokio::test]
async fn a_delayed_job_runs_in_its_time() {
    let server = Server::start().await;
    let added = server.post("/v1/queues/q/jobs", r#"{"delay":"1h30m"}"#).await.expect(201);
    assert_eq!(
        (&added["state"], &added["run_at"]),
        (&json!("scheduled"), &json!("2026-11-21T11:00:00.000Z"))
    );
    let added =
        server.post("/v1/queues/q/jobs", r#"{"run_at":"2026-11-21T12:00:00+01:00"}"#).await.expect(201);
    assert_eq!(added["run_at"], "2026-11-21T11:00:00.000Z");
    let past = server.post("/v1/queues/past/jobs", r#"{"run_at":"2001-01-01T00:00:00Z"}"#).await.expect(201);
    assert_eq!(past["state"], "available");
    assert_eq!(server.lease("q").await, Value::Null);
    server.advance(2 * HOUR).await;
    assert_ne!(server.lease("q").await, Value::Null);
}

#[tokio::test]
async fn an_array_gives_one_outcome_per_job_in_order() {
    let server = Server::start().await;
    let body = r#"[{"key":"a","payload":1},{"key":"  "},{"key":"a","payload":2},{"key":"a","payload":1},{"bogus":1},
                   {"key":"b","dedup":{"until":"done"}},"job",{"delay":-5},{"payload":[[1],{"x":1,"x":2}]}]"#;
    let answer = server.post("/v1/queues/q/jobs", body).await.expect(200);
    let jobs = answer["jobs"].as_array().unwrap();
    let told: Vec<&str> = jobs
        .iter()
        .map(|job| job["error"]["code"].as_str().unwrap_or_else(|| job["state"].as_str().unwrap()))
        .collect();
    let expected = [
        "available",
        "invalid-key",
        "key-reused",
        "available",
        "unknown-field",
        "available",
        "invalid-field",
        "invalid-duration",
        "duplicate-member",
    ];
    assert_eq!(told, expected);
    assert_eq!(jobs[3]["duplicate"], true, "a repeat inside one array duplicates the earlier item");
    assert_eq!(jobs[3]["id"], jobs[0]["id"]);
    assert_eq!(jobs[2]["error"]["existing_id"], jobs[0]["id"]);
    assert_eq!(jobs[4]["error"]["field"], "bogus");
    assert_eq!(jobs[5]["dedup"]["free_on"], json!(["completed", "dead", "cancelled"]));
    assert_eq!(server.get("/v1/queues/q").await.expect(200)["counts"]["accepted"], 2);
}

#[tokio::test]
async fn a_lone_surrogate_in_one_item_is_that_item_s_alone() {
    let server = Server::start().await;
    let body = r#"[{"key":"\ud800"},{"payload":"\udc00"},{}]"#;
    let answer = server.post("/v1/queues/q/jobs", body).await.expect(200);
    let codes = [0, 1].map(|item| answer["jobs"][item]["error"]["code"].clone());
    assert_eq!(codes, ["invalid-json", "invalid-json"]);
    assert_eq!(answer["jobs"][2]["state"], "available");
}

#[tokio::test]
async fn an_atomic_array_is_added_whole_or_not_at_all() {
    let server = Server::start().await;
    let first = server.add("q", r#"{"key":"a","payload":1}"#).await;
    for (body, code) in [
        (r#"[{"key":"b"},{"key":"a","payload":2},{}]"#, "key-reused"),
        (r#"[{"key":"b"},{"nope":1},{}]"#, "unknown-field"),
    ] {
        let answer = server.post("/v1/queues/q/jobs?atomic=true", body).await.expect(200);
        let codes = [0, 1, 2].map(|item| answer["jobs"][item]["error"]["code"].clone());
        assert_eq!(codes, ["atomic-batch", code, "atomic-batch"]);
        assert_eq!(answer["jobs"][0]["error"]["item"], 1);
    }
    assert_eq!(server.get("/v1/queues/q").await.expect(200)["counts"]["accepted"], 1);
    let body = r#"[{"key":"a","payload":1},{"key":"b"}]"#;
    let answer = server.post("/v1/queues/q/jobs?atomic=true", body).await.expect(200);
    assert_eq!(answer["jobs"][0]["id"], first);
    assert_eq!(answer["jobs"][1]["duplicate"], false);
}

#[tokio::test]
async fn ten_thousand_jobs_are_taken_at_once_and_one_more_is_not() {
    let server = Server::start().await;
    let array = |count: usize| format!("[{}]", vec!["{}"; count].join(","));
    let answer = server.post("/v1/queues/q/jobs", array(10_000)).await.expect(200);
    assert_eq!(answer["jobs"].as_array().unwrap().len(), 10_000);
    let refused = server.post("/v1/queues/q/jobs", array(10_001)).await;
    assert_eq!(refused.refused(), (413, "too-many-items".into()));
    assert_eq!(server.post("/v1/queues/q/jobs", "[]").await.expect(200), json!({"jobs": []}));
}

#[tokio::test]
async fn a_list_is_newest_first_filtered_and_paged() {
    let server = Server::start().await;
    let mut ids = Vec::new();
    for n in 0..5 {
        let kind = if n % 2 == 0 { "even" } else { "odd" };
        ids.push(
            server
                .add("q", &format!(r#"{{"kind":"{kind}","key":"k {n}","labels":["n{n}"],"group":"g"}}"#))
                .await,
        );
        server.advance(Duration::from_secs(1)).await;
    }
    server.add("other", "{}").await;
    let listed = |reply: &Value| -> Vec<String> {
        reply["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().to_owned()).collect()
    };
    let page = server.get("/v1/jobs?queue=q&limit=2").await.expect(200);
    assert_eq!(listed(&page), [ids[4].clone(), ids[3].clone()]);
    assert_eq!(page["jobs"][0].get("payload"), None);
    let cursor = page["cursor"].as_str().unwrap();
    let next = server.get(&format!("/v1/jobs?cursor={cursor}&limit=9&queue=q")).await.expect(200);
    assert_eq!(listed(&next), [ids[2].clone(), ids[1].clone(), ids[0].clone()]);
    assert_eq!(next.get("cursor"), None);
    let other = server.get(&format!("/v1/jobs?cursor={cursor}&queue=other")).await;
    assert_eq!(other.refused(), (422, "invalid-cursor".into()));

    for (query, expected) in [
        ("kind=odd", vec![3, 1]),
        ("label=n2", vec![2]),
        ("key=k%202", vec![2]),
        ("key=k+2", vec![2]),
        ("group=g&state=available,dead", vec![4, 3, 2, 1, 0]),
        ("group=g&state=dead&state=running", vec![]),
        ("since=2026-11-21T09:30:03Z&queue=q", vec![4, 3]),
        ("until=2026-11-21T09:30:01Z&queue=q", vec![0]),
        ("queue=unknown", vec![]),
    ] {
        let expected: Vec<String> = expected.into_iter().map(|n: usize| ids[n].clone()).collect();
        assert_eq!(listed(&server.get(&format!("/v1/jobs?{query}")).await.expect(200)), expected, "{query}");
    }
    for (query, code) in [
        ("state=done", "invalid-field"),
        ("limit=0", "invalid-field"),
        ("limit=1001", "invalid-field"),
        ("queue=a%20b", "invalid-queue-name"),
        ("since=yesterday", "invalid-time"),
        ("nope=1", "unknown-field"),
        ("kind=a&kind=b", "invalid-field"),
        ("cursor=x", "invalid-cursor"),
    ] {
        assert_eq!(server.get(&format!("/v1/jobs?{query}")).await.refused(), (422, code.into()), "{query}");
    }
}

#[tokio::test]
async fn a_result_is_waited_for() {
    let server = Server::start().await;
    let id = server.add("q", "{}").await;
    let path = format!("/v1/jobs/{id}/result");
    assert_eq!(server.get(&path).await.expect(202), json!({"state": "available"}));
    let job = server.lease("q").await;
    let waits = format!("{path}?wait=60s");
    let mut waiting = pin!(server.get(&waits));
    assert!(still_waits(waiting.as_mut()).await);
    server.settle(&job, r#""op":"complete","result":[ 1.0 ]"#).await;
    assert_eq!(patient(waiting).await.text(), r#"{"result":[ 1.0 ]}"#);
    let nothing = server.add("q", "{}").await;
    let job = server.lease("q").await;
    server.settle(&job, r#""op":"complete""#).await;
    assert_eq!(server.get(&format!("/v1/jobs/{nothing}/result")).await.expect(200), json!({"result": null}));
}

#[tokio::test]
async fn a_job_without_success_has_no_result_but_a_reason() {
    let server = Server::start().await;
    let id = server.add("q", "{}").await;
    let job = server.lease("q").await;
    server.settle(&job, r#""op":"fail","error":{"message":"no such user","retryable":false}"#).await;
    let reply = server.get(&format!("/v1/jobs/{id}/result?wait=5s")).await;
    assert_eq!(reply.refused(), (410, "job-dead".into()));
    assert_eq!(reply.json()["reason"], "permanent");
    let id = server.add("q", "{}").await;
    server.post_nothing(&format!("/v1/jobs/{id}/cancel")).await.expect(200);
    let reply = server.get(&format!("/v1/jobs/{id}/result")).await;
    assert_eq!(reply.refused(), (410, "job-cancelled".into()));
}

#[tokio::test]
async fn waiting_for_a_result_ends_by_itself_and_with_a_drain() {
    let server = Server::start().await;
    let id = server.add("q", "{}").await;
    let path = format!("/v1/jobs/{id}/result");
    assert_eq!(server.get(&format!("{path}?wait=20ms")).await.expect(202)["state"], "available");
    for bad in ["61s", "-1", "soon", "60001"] {
        let reply = server.get(&format!("{path}?wait={bad}")).await;
        assert_eq!(reply.refused(), (422, "invalid-duration".into()), "{bad}");
    }
    let waits = format!("{path}?wait=60s");
    let mut waiting = pin!(server.get(&waits));
    assert!(still_waits(waiting.as_mut()).await);
    server.set_phase(Phase::Draining);
    assert_eq!(patient(waiting).await.expect(202)["state"], "available");
}

#[tokio::test]
async fn a_job_that_has_not_started_is_edited() {
    let server = Server::start().await;
    let id = server.add("q", r#"{"labels":["old"]}"#).await;
    let path = format!("/v1/jobs/{id}");
    let body = r#"{"run_at":"2026-11-21T10:30:00Z","priority":7,"labels":["new"]}"#;
    let job = server.patch(&path, body).await.expect(200);
    assert_eq!(
        (&job["state"], &job["priority"], &job["labels"]),
        (&json!("scheduled"), &json!(7), &json!(["new"]))
    );
    assert_eq!(server.patch(&path, r#"{"payload":1}"#).await.refused(), (422, "unknown-field".into()));
    assert_eq!(server.patch(&path, r#"{"priority":40000}"#).await.refused(), (422, "invalid-field".into()));
    server.advance(HOUR).await;
    server.lease("q").await;
    let reply = server.patch(&path, r#"{"priority":1}"#).await;
    assert_eq!(reply.refused(), (409, "job-started".into()));
    assert_eq!(reply.json()["state"], "running");
}

#[tokio::test]
async fn cancel_retry_and_delete_follow_the_states() {
    let server = Server::start().await;
    let id = server.add("q", "{}").await;
    let path = format!("/v1/jobs/{id}");
    assert_eq!(server.delete(&path).await.refused(), (409, "job-not-finished".into()));
    let refused = server.post_nothing(&format!("{path}/retry")).await;
    assert_eq!(refused.refused(), (409, "job-not-retryable".into()));
    let job = server.lease("q").await;
    let asked = server.post_nothing(&format!("{path}/cancel")).await.expect(200);
    assert_eq!((&asked["state"], &asked["cancel_requested"]), (&json!("running"), &json!(true)));
    let forced = server.post(&format!("{path}/cancel"), r#"{"force":true}"#).await.expect(200);
    assert_eq!(forced["state"], "cancelled");
    let stale = server.settle(&job, r#""op":"complete""#).await;
    assert_eq!(
        (&stale["ok"], &stale["code"], &stale["state"]),
        (&json!(false), &json!("lease-lost"), &json!("cancelled"))
    );
    assert_eq!(server.delete(&path).await.expect(200)["state"], "cancelled");
    assert_eq!(server.get(&path).await.refused(), (404, "job-not-found".into()));

    let id = server.add("q", "{}").await;
    let job = server.lease("q").await;
    server.settle(&job, r#""op":"complete""#).await;
    for action in ["cancel", "retry"] {
        let code = if action == "cancel" { "job-finished" } else { "job-not-retryable" };
        let reply = server.post_nothing(&format!("/v1/jobs/{id}/{action}")).await;
        assert_eq!(reply.refused(), (409, code.into()));
    }
}

#[tokio::test]
async fn a_retry_after_its_time_needs_consent_to_duplicates() {
    let server = Server::start().await;
    let id = server.add("q", r#"{"max_attempts":1}"#).await;
    let job = server.lease("q").await;
    server.settle(&job, r#""op":"fail","error":{"message":"x"}"#).await;
    server.advance(24 * 8 * HOUR).await;
    let path = format!("/v1/jobs/{id}/retry");
    let refused = server.post_nothing(&path).await;
    assert_eq!(refused.refused(), (409, "retry-window-passed".into()));
    assert_eq!(refused.json()["retry_until"], "2026-11-28T09:30:00.000Z");
    let again = server.post(&path, r#"{"accept_duplicates":true}"#).await.expect(200);
    assert_eq!(again["state"], "available");
}

#[tokio::test]
async fn the_dead_letters_of_a_queue_run_again_by_filter_and_limit() {
    let server = Server::start().await;
    for kind in ["a", "a", "b"] {
        server
            .add("q", &format!(r#"{{"kind":"{kind}","key":"{kind}","dedup":{{"window":0,"until":"done"}}}}"#))
            .await;
        let job = server.lease("q").await;
        server.settle(&job, r#""op":"fail","error":{"message":"x","retryable":false}"#).await;
    }
    let cancelled = server.add("q", "{}").await;
    server.post_nothing(&format!("/v1/jobs/{cancelled}/cancel")).await;
    // One of the two jobs with key a claims it again; the other finds it taken.
    let body = r#"{"filter":{"kind":"a"}}"#;
    let done = server.post("/v1/queues/q/redrive", body).await.expect(200);
    assert_eq!(done["redriven"], 1);
    assert_eq!(done["refused"][0]["error"]["code"], "key-taken");
    let done = server
        .post("/v1/queues/q/redrive", r#"{"states":["cancelled","dead"],"limit":10}"#)
        .await
        .expect(200);
    assert_eq!(done["redriven"], 2);
    for (body, code) in [
        (r#"{"states":["running"]}"#, "invalid-field"),
        (r#"{"limit":0}"#, "invalid-field"),
        (r#"{"filter":{"nope":1}}"#, "unknown-field"),
        (r#"{"filter":{"key":" "}}"#, "invalid-key"),
    ] {
        assert_eq!(server.post("/v1/queues/q/redrive", body).await.refused(), (422, code.into()), "{body}");
    }
    let unknown = server.post_nothing("/v1/queues/unknown/redrive").await;
    assert_eq!(unknown.refused(), (404, "queue-not-found".into()));
}
