//! Leases, workers and acks over HTTP: list L of `docs/guide/hostile-cases.md`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]

mod kit;

use std::pin::pin;
use std::time::Duration;

use kit::{Server, patient, still_waits};
use onefold_core::DurationMs;
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

async fn poll(server: &Server, body: &str) -> Value {
    server.post("/v1/leases", body.to_owned()).await.expect(200)["jobs"].clone()
}

fn ids(jobs: &Value) -> Vec<String> {
    jobs.as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().to_owned()).collect()
}

/// Two leases of one job: the first was lost, the second is current.
async fn taken_over(server: &Server) -> (Value, Value) {
    server.add("q", "{}").await;
    let first = server.lease("q").await;
    server.advance(31 * SECOND).await;
    let second = server.lease("q").await;
    assert_eq!((&first["id"], &second["attempt"]), (&second["id"], &json!(2)));
    assert!(second["fencing_token"].as_u64() > first["fencing_token"].as_u64());
    (first, second)
}

#[tokio::test]
async fn l_01_an_ack_after_another_worker_finished_is_refused_and_kept_as_evidence() {
    let server = Server::start().await;
    let (first, second) = taken_over(&server).await;
    assert_eq!(server.settle(&second, r#""op":"complete","result":2"#).await["ok"], true);
    let late = server.settle(&first, r#""op":"complete","result":1"#).await;
    assert_eq!(
        (&late["ok"], &late["code"], &late["state"]),
        (&json!(false), &json!("lease-lost"), &json!("completed"))
    );
    assert!(late["detail"].as_str().unwrap().contains("stop working"));
    let shown = server.get(&format!("/v1/jobs/{}", first["id"].as_str().unwrap())).await.expect(200);
    assert_eq!((&shown["result"], &shown["late_writes"]), (&json!(2), &json!(1)));
    assert_eq!(shown["attempts"][0]["late_success"]["count"], 1);
    assert_eq!(server.get("/v1/queues/q").await.expect(200)["counts"]["late_writes"], 1);
}

#[tokio::test]
async fn l_02_and_03_a_stale_worker_neither_extends_nor_fails_the_new_attempt() {
    let server = Server::start().await;
    let (first, second) = taken_over(&server).await;
    for op in [
        r#""op":"extend","lease":"1m""#,
        r#""op":"fail","error":{"message":"x"}"#,
        r#""op":"snooze","delay":"1s""#,
        r#""op":"release""#,
        r#""op":"progress","percent":1"#,
        r#""op":"checkpoint","value":1"#,
        r#""op":"log","lines":["x"]"#,
    ] {
        let late = server.settle(&first, op).await;
        assert_eq!((&late["code"], &late["state"]), (&json!("lease-lost"), &json!("running")), "{op}");
    }
    assert_eq!(server.settle(&second, r#""op":"complete""#).await, json!({"ok": true, "state": "completed"}));
}

#[tokio::test]
async fn l_04_the_same_ack_again_gets_the_first_answer_another_one_does_not() {
    let server = Server::start().await;
    server.add("q", "{}").await;
    let job = server.lease("q").await;
    let ack = r#""op":"complete","result":{"a":1}"#;
    let first = server.settle(&job, ack).await;
    assert_eq!(server.settle(&job, ack).await, first);
    for other in [r#""op":"complete","result":{"a":2}"#, r#""op":"release""#] {
        assert_eq!(server.settle(&job, other).await["code"], "lease-lost");
    }
    let id = job["id"].as_str().unwrap();
    server.delete(&format!("/v1/jobs/{id}")).await.expect(200);
    assert_eq!(server.settle(&job, ack).await, first, "for a day, even without the row");
    server.advance(24 * 60 * MINUTE + SECOND).await;
    assert_eq!(server.settle(&job, ack).await["code"], "job-not-found");
}

#[tokio::test]
async fn l_06_forged_tokens_and_ids_change_nothing() {
    let server = Server::start().await;
    server.add("q", "{}").await;
    let job = server.lease("q").await;
    let (id, token) = (job["id"].as_str().unwrap(), job["fencing_token"].as_u64().unwrap());
    let unknown = "job_01a1fe047dc070008000000000000077";
    let ops = [
        (json!({"op": "complete", "id": id, "fencing_token": token + 1}), "lease-lost"),
        (json!({"op": "complete", "id": id, "fencing_token": 1}), "lease-lost"),
        (json!({"op": "complete", "id": unknown, "fencing_token": token}), "job-not-found"),
        (json!({"op": "complete", "id": "nonsense", "fencing_token": token}), "job-not-found"),
        (json!({"op": "complete", "id": id, "fencing_token": 0}), "invalid-field"),
        (json!({"op": "complete", "id": id, "fencing_token": 1_u64 << 53}), "invalid-field"),
        (json!({"op": "complete", "id": id, "fencing_token": token.to_string()}), "invalid-field"),
        (json!({"op": "complete", "id": id, "fencing_token": -1}), "invalid-field"),
        (json!({"op": "complete", "id": id, "fencing_token": token as f64 + 0.5}), "invalid-field"),
        (json!({"op": "complete", "id": id, "fencing_token": null}), "invalid-field"),
        (json!({"op": "complete", "id": id}), "missing-field"),
        (json!({"op": "complete", "fencing_token": token}), "missing-field"),
    ];
    let body = json!({"ops": ops.iter().map(|(op, _)| op).collect::<Vec<_>>()});
    let results = server.post("/v1/leases/settle", body.to_string()).await.expect(200)["results"].clone();
    for (index, (op, code)) in ops.iter().enumerate() {
        assert_eq!((&results[index]["ok"], &results[index]["code"]), (&json!(false), &json!(code)), "{op}");
    }
    assert_eq!(server.settle(&job, r#""op":"complete""#).await["ok"], true);
}

#[tokio::test]
async fn l_07_a_lost_reply_is_had_again_by_its_poll_id() {
    let server = Server::start().await;
    for _ in 0..3 {
        server.add("q", "{}").await;
    }
    let body = r#"{"queues":["q"],"max":2,"worker":"w","poll_id":"p-1"}"#;
    let first = poll(&server, body).await;
    assert_eq!(poll(&server, body).await, first);
    server.settle(&first[0], r#""op":"complete""#).await;
    assert_eq!(poll(&server, body).await, json!([first[1]]), "only what is still held");
    let other = poll(&server, r#"{"queues":["q"],"max":2,"worker":"v","poll_id":"p-1"}"#).await;
    assert_eq!(other.as_array().unwrap().len(), 1, "another worker's poll is another poll");
    server.settle(&first[1], r#""op":"complete""#).await;
    assert_eq!(poll(&server, body).await, json!([]), "with nothing held it is a new call");
}

#[tokio::test]
async fn a_poll_repeated_while_parked_ends_the_first() {
    let server = Server::start().await;
    let body = r#"{"queues":["q"],"wait":"60s","poll_id":"p"}"#;
    let mut first = pin!(server.post("/v1/leases", body));
    assert!(still_waits(first.as_mut()).await);
    server.parked(1).await;
    let mut second = pin!(server.post("/v1/leases", body));
    assert!(still_waits(second.as_mut()).await);
    assert_eq!(patient(first).await.expect(200), json!({"jobs": []}));
    server.add("q", "{}").await;
    assert_eq!(patient(second).await.expect(200)["jobs"][0]["attempt"], 1);
}

#[tokio::test]
async fn l_08_a_client_that_vanished_while_parked_is_given_nothing() {
    let server = Server::start().await;
    let body = r#"{"queues":["q"],"wait":"60s"}"#;
    {
        let mut gone = pin!(server.post("/v1/leases", body));
        assert!(still_waits(gone.as_mut()).await);
        server.parked(1).await;
    }
    // Its connection is closed: hyper drops the handler's future, and the engine notices.
    server.parked(0).await;
    let mut next = pin!(server.post("/v1/leases", body));
    assert!(still_waits(next.as_mut()).await);
    server.add("q", "{}").await;
    let jobs = patient(next).await.expect(200)["jobs"].clone();
    assert_eq!((&jobs[0]["attempt"], &jobs[0]["failures"]), (&json!(1), &json!(0)));
    let id = jobs[0]["id"].as_str().unwrap();
    let shown = server.get(&format!("/v1/jobs/{id}")).await.expect(200);
    assert_eq!(shown["attempts"].as_array().unwrap().len(), 1, "nobody else was given it before");
}

#[tokio::test]
async fn a_parked_poll_is_woken_by_an_add_and_ends_with_its_wait() {
    let server = Server::start().await;
    let mut parked = pin!(server.post("/v1/leases", r#"{"queues":["q"],"wait":"20s"}"#));
    assert!(still_waits(parked.as_mut()).await);
    server.add("q", "{}").await;
    assert_eq!(patient(parked).await.expect(200)["jobs"].as_array().unwrap().len(), 1);
    let mut parked = pin!(server.post("/v1/leases", r#"{"queues":["q"],"wait":"20s"}"#));
    assert!(still_waits(parked.as_mut()).await);
    server.advance(21 * SECOND).await;
    assert_eq!(patient(parked).await.expect(200), json!({"jobs": []}));
}

#[tokio::test]
async fn l_11_a_step_of_the_clock_costs_nobody_a_lease() {
    let server = Server::start().await;
    server.add("q", "{}").await;
    let job = server.lease("q").await;
    server.tick().await;
    let hour = DurationMs::from_ms(3_600_000);
    server.clock.step_to(onefold_core::Clock::now(&*server.clock).saturating_add(hour));
    server.tick().await;
    assert_eq!(server.settle(&job, r#""op":"extend","lease":"30s""#).await["ok"], true);
    server.clock.step_to(onefold_core::Clock::now(&*server.clock).saturating_sub(hour).saturating_sub(hour));
    server.tick().await;
    assert_eq!(server.settle(&job, r#""op":"complete""#).await["ok"], true);
}

#[tokio::test]
async fn l_13_a_job_that_kills_its_workers_ends_as_a_crash_loop() {
    let server = Server::start().await;
    let id = server.add("q", "{}").await;
    for attempt in 1..=6 {
        assert_eq!(server.lease("q").await["attempt"], attempt);
        server.advance(31 * SECOND).await;
    }
    let shown = server.get(&format!("/v1/jobs/{id}")).await.expect(200);
    assert_eq!((&shown["state"], &shown["reason"]), (&json!("dead"), &json!("crash_loop")));
    assert_eq!(server.lease("q").await, Value::Null);
}

#[tokio::test]
async fn l_14_snoozing_for_ever_is_ended_by_the_time_to_live() {
    let server = Server::start().await;
    let id = server.add("q", "{}").await;
    for _ in 0..7 {
        let job = server.lease("q").await;
        assert_eq!(server.settle(&job, r#""op":"snooze","delay":"1d""#).await["state"], "scheduled");
        server.advance(24 * 60 * MINUTE).await;
    }
    let job = server.lease("q").await;
    assert_eq!((&job["attempt"], &job["failures"]), (&json!(8), &json!(0)));
    assert_eq!(server.settle(&job, r#""op":"snooze","delay":"1d""#).await["state"], "dead");
    let shown = server.get(&format!("/v1/jobs/{id}")).await.expect(200);
    assert_eq!(shown["reason"], "expired");
}

#[tokio::test]
async fn l_15_a_draining_server_takes_acks_but_hands_out_nothing() {
    let server = Server::start().await;
    for _ in 0..50 {
        server.add("q", "{}").await;
    }
    let held = poll(&server, r#"{"queues":["q"],"max":50}"#).await;
    let mut parked = pin!(server.post("/v1/leases", r#"{"queues":["r"],"wait":"60s"}"#));
    assert!(still_waits(parked.as_mut()).await);
    server.drain().await;
    assert_eq!(patient(parked.as_mut()).await.expect(200), json!({"jobs": []}));
    server.add("q", "{}").await;
    assert_eq!(poll(&server, r#"{"queues":["q"],"wait":"10s"}"#).await, json!([]));
    let ops: Vec<Value> = held
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
        .map(|(n, job)| {
            let op = if n % 2 == 0 { "complete" } else { "release" };
            json!({"op": op, "id": job["id"], "fencing_token": job["fencing_token"]})
        })
        .collect();
    let results = server.post("/v1/leases/settle", json!({"ops": ops}).to_string()).await.expect(200);
    for result in results["results"].as_array().unwrap() {
        assert_eq!((&result["ok"], &result["drain"]), (&json!(true), &json!(true)));
    }
    let counts = server.get("/v1/queues/q").await.expect(200)["counts"].clone();
    assert_eq!((&counts["completed"], &counts["available"]), (&json!(25), &json!(26)));
}

#[tokio::test]
async fn l_18_a_cancel_is_heard_at_the_heartbeat_and_a_complete_still_wins() {
    let server = Server::start().await;
    let id = server.add("q", "{}").await;
    let job = server.lease("q").await;
    server.post_nothing(&format!("/v1/jobs/{id}/cancel")).await.expect(200);
    let heartbeat = server.settle(&job, r#""op":"extend","lease":"30s""#).await;
    let expected =
        json!({"ok": true, "state": "running", "cancel": true, "lease_until": "2026-11-21T09:30:30.000Z"});
    assert_eq!(heartbeat, expected);
    assert_eq!(server.settle(&job, r#""op":"complete""#).await["state"], "completed");
}

#[tokio::test]
async fn l_19_one_job_wakes_one_of_many_parked_polls() {
    let server = Server::start().await;
    let polls: Vec<_> =
        (0..100).map(|_| Box::pin(server.post("/v1/leases", r#"{"queues":["q"],"wait":"60s"}"#))).collect();
    let mut waiting = futures_util::future::select_all(polls);
    assert!(still_waits(&mut waiting).await);
    server.parked(100).await;
    server.add("q", "{}").await;
    let (reply, _, others) = patient(waiting).await;
    assert_eq!(reply.expect(200)["jobs"].as_array().unwrap().len(), 1);
    server.parked(99).await;
    assert!(still_waits(futures_util::future::select_all(others)).await);
}

#[tokio::test]
async fn l_23_a_group_is_one_at_a_time_and_in_order_while_its_head_retries() {
    let server = Server::start().await;
    let first = server.add("q", r#"{"group":"g","backoff":{"fixed":"1m"}}"#).await;
    let second = server.add("q", r#"{"group":"g"}"#).await;
    let jobs = poll(&server, r#"{"queues":["q"],"max":10}"#).await;
    assert_eq!(ids(&jobs), std::slice::from_ref(&first));
    server.settle(&jobs[0], r#""op":"fail","error":{"message":"x"}"#).await;
    assert_eq!(server.lease("q").await, Value::Null);
    let shown = server.get(&format!("/v1/jobs/{second}")).await.expect(200);
    assert_eq!(shown["waiting"], "group");
    server.advance(MINUTE).await;
    let again = server.lease("q").await;
    assert_eq!(again["id"], first);
    server.settle(&again, r#""op":"complete""#).await;
    assert_eq!(server.lease("q").await["id"], second);
}

#[tokio::test]
async fn failures_wait_their_backoff_or_what_the_holder_says() {
    let server = Server::start().await;
    let id = server.add("q", r#"{"backoff":{"list":["1s","5m"]},"max_attempts":3}"#).await;
    let job = server.lease("q").await;
    let failed = server.settle(&job, r#""op":"fail","error":{"message":"boom","kind":"io"}"#).await;
    assert_eq!(failed, json!({"ok": true, "state": "retrying"}));
    let shown = server.get(&format!("/v1/jobs/{id}")).await.expect(200);
    assert_eq!(shown["run_at"], "2026-11-21T09:30:01.000Z");
    assert_eq!(shown["error"], json!({"message": "boom", "kind": "io"}));
    server.advance(SECOND).await;
    let job = server.lease("q").await;
    server.settle(&job, r#""op":"fail","error":{"message":"again"},"retry_in":"2h""#).await;
    let shown = server.get(&format!("/v1/jobs/{id}")).await.expect(200);
    assert_eq!(shown["run_at"], "2026-11-21T11:30:01.000Z");
    server.advance(120 * MINUTE).await;
    let job = server.lease("q").await;
    assert_eq!((&job["attempt"], &job["failures"]), (&json!(3), &json!(2)));
    assert_eq!(server.settle(&job, r#""op":"fail","error":{"message":"x"}"#).await["state"], "dead");
}

#[tokio::test]
async fn progress_log_and_checkpoint_are_kept_and_handed_on() {
    let server = Server::start().await;
    let id = server.add("q", "{}").await;
    let job = server.lease("q").await;
    for op in [
        r#""op":"progress","percent":40,"message":"half way""#,
        r#""op":"log","lines":["one","two"]"#,
        r#""op":"checkpoint","value":{ "row": 17.0 }"#,
    ] {
        assert_eq!(server.settle(&job, op).await["ok"], true, "{op}");
    }
    let attempt = server.get(&format!("/v1/jobs/{id}")).await.expect(200)["attempts"][0].clone();
    assert_eq!(attempt["progress"], json!({"percent": 40, "message": "half way"}));
    assert_eq!(attempt["log"], json!(["one", "two"]));
    server.settle(&job, r#""op":"release""#).await;
    let again = server.post("/v1/leases", r#"{"queues":["q"]}"#).await;
    assert!(again.text().contains(r#""checkpoint":{ "row": 17.0 }"#), "{}", again.text());
}

#[tokio::test]
async fn queues_are_served_in_order_or_in_turn() {
    let server = Server::start().await;
    for queue in ["a", "b"] {
        for _ in 0..3 {
            server.add(queue, "{}").await;
        }
    }
    let queues = |jobs: Value| -> Vec<String> {
        jobs.as_array().unwrap().iter().map(|job| job["queue"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(queues(poll(&server, r#"{"queues":["b","a"],"max":2}"#).await), ["b", "b"]);
    let fair = poll(&server, r#"{"queues":["b","a"],"max":2,"fair":true}"#).await;
    assert_eq!(queues(fair).iter().collect::<std::collections::HashSet<_>>().len(), 2);
    assert_eq!(poll(&server, r#"{"queues":["unknown"]}"#).await, json!([]));
}

#[tokio::test]
async fn a_malformed_op_is_refused_alone() {
    let server = Server::start().await;
    server.add("q", "{}").await;
    let job = server.lease("q").await;
    let (id, token) = (&job["id"], &job["fencing_token"]);
    let with = |members: &str| format!(r#"{{"id":{id},"fencing_token":{token},{members}}}"#);
    let big = format!(r#""op":"checkpoint","value":"{}""#, "x".repeat((1 << 20) - 1));
    let huge = format!(r#""op":"complete","result":"{}""#, "x".repeat((1 << 20) - 1));
    let cases = [
        (r#""op":"finish""#, "invalid-field", "op"),
        (r#""op":7"#, "invalid-field", "op"),
        (r#""op":"complete","results":1"#, "unknown-field", "results"),
        (r#""op":"complete","delay":1"#, "unknown-field", "delay"),
        (r#""op":"release","result":null"#, "unknown-field", "result"),
        (r#""op":"fail""#, "missing-field", "error"),
        (r#""op":"fail","error":{}"#, "missing-field", "error.message"),
        (r#""op":"fail","error":{"message":"x","code":1}"#, "unknown-field", "error.code"),
        (r#""op":"fail","error":{"message":"x"},"retry_in":-1"#, "invalid-duration", "retry_in"),
        (r#""op":"extend""#, "missing-field", "lease"),
        (r#""op":"extend","lease":"99ms""#, "invalid-duration", "lease"),
        (r#""op":"extend","lease":"61m""#, "invalid-duration", "lease"),
        (r#""op":"snooze""#, "missing-field", "delay"),
        (r#""op":"snooze","delay":"-1s""#, "invalid-duration", "delay"),
        (r#""op":"progress","percent":101"#, "invalid-field", "percent"),
        (r#""op":"progress","percent":-1"#, "invalid-field", "percent"),
        (r#""op":"checkpoint""#, "missing-field", "value"),
        (r#""op":"checkpoint","value":{"a":1,"a":2}"#, "duplicate-member", ""),
        (&*big, "checkpoint-too-large", "value"),
        (&*huge, "result-too-large", "result"),
        (r#""op":"complete","result":"\ud800""#, "invalid-json", ""),
        (r#""op":"log""#, "missing-field", "lines"),
        (r#""op":"log","lines":[1]"#, "invalid-field", "lines[0]"),
    ];
    let mut ops: Vec<String> = cases.iter().map(|(members, ..)| with(members)).collect();
    ops.push("7".to_owned());
    ops.push("[]".to_owned());
    ops.push(with(r#""op":"complete","result":1"#));
    let body = format!(r#"{{"ops":[{}]}}"#, ops.join(","));
    let results = server.post("/v1/leases/settle", body).await.expect(200)["results"].clone();
    for (index, (members, code, field)) in cases.iter().enumerate() {
        let result = &results[index];
        assert_eq!((&result["ok"], &result["code"]), (&json!(false), &json!(code)), "{members}: {result}");
        assert_eq!(result["field"].as_str().unwrap_or_default(), *field, "{members}");
    }
    let last = results.as_array().unwrap().len() - 1;
    assert_eq!(results[last - 2]["code"], "invalid-field");
    assert_eq!(results[last], json!({"ok": true, "state": "completed"}));
}

#[tokio::test]
async fn a_settle_has_its_limits() {
    let server = Server::start().await;
    let op = r#"{"op":"release","id":"job_x","fencing_token":1}"#;
    let body = |count: usize| format!(r#"{{"ops":[{}]}}"#, vec![op; count].join(","));
    let answer = server.post("/v1/leases/settle", body(10_000)).await.expect(200);
    assert_eq!(answer["results"].as_array().unwrap().len(), 10_000);
    assert_eq!(
        server.post("/v1/leases/settle", body(10_001)).await.refused(),
        (413, "too-many-items".into())
    );
    assert_eq!(server.post("/v1/leases/settle", r#"{"ops":[]}"#).await.expect(200), json!({"results": []}));
    for (body, code) in [
        ("{}", (422, "missing-field")),
        (r#"{"ops":{}}"#, (422, "invalid-field")),
        (r#"{"op":[]}"#, (422, "unknown-field")),
        (r#"{"ops":[}"#, (400, "invalid-json")),
    ] {
        let reply = server.post("/v1/leases/settle", body).await;
        assert_eq!(reply.refused(), (code.0, code.1.into()), "{body}");
    }
}

#[tokio::test]
async fn a_call_for_jobs_has_its_limits() {
    let server = Server::start().await;
    let name = |length: usize| "w".repeat(length);
    let worker = format!(r#"{{"queues":["q"],"worker":"{}"}}"#, name(256));
    let poll_id = format!(r#"{{"queues":["q"],"poll_id":"{}"}}"#, name(65));
    let queues = json!({"queues": vec!["q"; 1001]}).to_string();
    for (body, code, field) in [
        ("{}", "missing-field", "queues"),
        (r#"{"queues":[]}"#, "invalid-field", "queues"),
        (r#"{"queues":"q"}"#, "invalid-field", "queues"),
        (r#"{"queues":["a b"]}"#, "invalid-queue-name", "queue"),
        (&*queues, "invalid-field", "queues"),
        (r#"{"queues":["q"],"max":0}"#, "invalid-field", "max"),
        (r#"{"queues":["q"],"max":1001}"#, "invalid-field", "max"),
        (r#"{"queues":["q"],"wait":"61s"}"#, "invalid-duration", "wait"),
        (r#"{"queues":["q"],"wait":-1}"#, "invalid-duration", "wait"),
        (r#"{"queues":["q"],"lease":"99ms"}"#, "invalid-duration", "lease"),
        (r#"{"queues":["q"],"lease":3600001}"#, "invalid-duration", "lease"),
        (&*worker, "invalid-field", "worker"),
        (r#"{"queues":["q"],"worker":" "}"#, "invalid-field", "worker"),
        (&*poll_id, "invalid-field", "poll_id"),
        (r#"{"queues":["q"],"poll_id":""}"#, "invalid-field", "poll_id"),
        (r#"{"queues":["q"],"fair":1}"#, "invalid-field", "fair"),
        (r#"{"queues":["q"],"queue":"q"}"#, "unknown-field", "queue"),
    ] {
        let reply = server.post("/v1/leases", body.to_owned()).await;
        assert_eq!(reply.refused(), (422, code.into()), "{body}");
        assert_eq!(reply.json()["field"], field, "{body}");
    }
    let most = format!(
        r#"{{"queues":["q"],"max":1000,"wait":60000,"lease":100,"worker":"{}","poll_id":"{}"}}"#,
        name(255),
        name(64)
    );
    server.add("q", "{}").await;
    assert_eq!(poll(&server, &most).await[0]["lease_ms"], 100);
}
