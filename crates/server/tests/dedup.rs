//! One job per key (I3) over HTTP: list I of `docs/guide/hostile-cases.md`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]

mod kit;

use std::time::Duration;

use futures_util::future::join_all;
use kit::Server;
use serde_json::{Value, json};

const DAY: Duration = Duration::from_secs(86_400);

/// Adds with an `Idempotency-Key` header as it is given.
async fn add_with(server: &Server, key: &str, body: &str) -> kit::Reply {
    let request = server.request("POST", "/v1/queues/q/jobs").header("idempotency-key", key);
    server
        .send(request.header("content-type", "application/json").body(body.to_owned().into()).unwrap())
        .await
}

async fn add(server: &Server, body: &str) -> kit::Reply {
    server.post("/v1/queues/q/jobs", body.to_owned()).await
}

async fn accepted(server: &Server) -> Value {
    server.get("/v1/queues/q").await.expect(200)["counts"]["accepted"].clone()
}

#[tokio::test]
async fn i_01_a_hundred_adds_at_once_with_one_key_are_one_job() {
    let server = Server::start().await;
    let body = r#"{"key":"k","payload":[1]}"#;
    let replies = join_all((0..100).map(|_| add(&server, body))).await;
    let created = replies.iter().filter(|reply| reply.status == 201).count();
    let ids: std::collections::HashSet<String> =
        replies.iter().map(|reply| reply.json()["id"].as_str().unwrap().to_owned()).collect();
    assert!(replies.iter().all(|reply| matches!(reply.status, 200 | 201)));
    assert_eq!((created, ids.len(), accepted(&server).await), (1, 1, json!(1)));
}

#[tokio::test]
async fn i_02_another_body_with_the_same_key_is_refused_at_once_even_while_the_first_runs() {
    let server = Server::start().await;
    let first = server.add("q", r#"{"key":"k","payload":"a"}"#).await;
    server.lease("q").await;
    let reply = add(&server, r#"{"key":"k","payload":"b"}"#).await;
    assert_eq!(reply.refused(), (422, "key-reused".into()));
    assert_eq!(reply.json()["existing_id"], first);
    let shown = server.get(&format!("/v1/jobs/{first}")).await.expect(200);
    assert_eq!((&shown["mismatches"], &shown["history"][0]["kind"]), (&json!(1), &json!("mismatch")));
}

/// Unlike the case's own expectation: JSON is compared in canonical form.
#[tokio::test]
async fn i_03_json_in_another_order_or_spacing_is_the_same_job_but_other_number_text_is_not() {
    let server = Server::start().await;
    let first = server.add("q", r#"{"key":"k","payload":{"a":1,"b":"é"}}"#).await;
    let again = add(&server, r#"{"payload":{ "b":"\u00e9", "a":1 },"key":"k"}"#).await.expect(200);
    assert_eq!((&again["id"], &again["duplicate"]), (&json!(first), &json!(true)));
    let reply = add(&server, r#"{"key":"k","payload":{"a":1.0,"b":"é"}}"#).await;
    assert_eq!(reply.refused(), (422, "key-reused".into()));
}

#[tokio::test]
async fn i_04_a_key_belongs_to_its_queue() {
    let server = Server::start().await;
    let here = server.add("q", r#"{"key":"k"}"#).await;
    let there = server.add("r", r#"{"key":"k"}"#).await;
    assert_ne!(here, there);
    let reply = add(&server, r#"{"key":"k","kind":"other"}"#).await;
    assert_eq!(reply.refused(), (422, "key-reused".into()), "the kind is part of the fingerprint");
}

#[tokio::test]
async fn i_08_a_quoted_and_a_bare_header_are_one_key_and_the_same_as_in_the_body() {
    let server = Server::start().await;
    let first = add_with(&server, "\"abc\"", "{}").await.expect(201);
    for key in ["abc", "\"abc\"", " abc "] {
        let again = add_with(&server, key, "{}").await.expect(200);
        assert_eq!(again["id"], first["id"]);
    }
    assert_eq!(add(&server, r#"{"key":"abc"}"#).await.expect(200)["id"], first["id"]);
    assert_eq!(add_with(&server, "abc", r#"{"key":"abc"}"#).await.expect(200)["id"], first["id"]);
    assert_eq!(accepted(&server).await, 1);
}

#[tokio::test]
async fn i_09_a_header_that_is_no_key_executes_nothing() {
    let server = Server::start().await;
    for (key, refused) in [
        ("", (422, "invalid-key")),
        ("\"\"", (422, "invalid-key")),
        (&*"k".repeat(256), (422, "invalid-key")),
        ("\"open", (400, "invalid-idempotency-key")),
        ("\"a\\n\"", (400, "invalid-idempotency-key")),
        ("\"a\";v=1", (400, "invalid-idempotency-key")),
        ("\u{1f600}", (400, "invalid-idempotency-key")),
    ] {
        let reply = add_with(&server, key, "{}").await;
        assert_eq!(reply.refused(), (refused.0, refused.1.into()), "{key}");
    }
    let head = "POST /v1/queues/q/jobs HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n";
    let two = format!("{head}idempotency-key: a\r\nidempotency-key: a\r\ncontent-length: 2\r\n\r\n{{}}");
    let reply = server.raw(two.as_bytes(), None).await;
    assert!(reply.starts_with("HTTP/1.1 400 ") && reply.contains("invalid-idempotency-key"), "{reply}");
    let nul = format!("{head}idempotency-key: a\0b\r\ncontent-length: 2\r\n\r\n{{}}");
    assert!(server.raw(nul.as_bytes(), None).await.starts_with("HTTP/1.1 400 "));
    assert_eq!(server.get("/v1/queues/q").await.refused(), (404, "queue-not-found".into()));
}

#[tokio::test]
async fn i_09_keys_in_the_body_have_their_limits() {
    let server = Server::start().await;
    for bad in ["", "  ", &"k".repeat(256), "a\\u0000", "a\\n", "\\u3000"] {
        let reply = add(&server, &format!(r#"{{"key":"{bad}"}}"#)).await;
        assert_eq!(reply.refused(), (422, "invalid-key".into()), "{bad}");
        assert_eq!(reply.json()["field"], "key");
    }
    server.add("q", &format!(r#"{{"key":"{}"}}"#, "\u{1f600}".repeat(255))).await;
    // Never normalised: composed and decomposed are two keys.
    let composed = server.add("q", r#"{"key":"\u00e9"}"#).await;
    assert_ne!(server.add("q", r#"{"key":"e\u0301"}"#).await, composed);
}

#[tokio::test]
async fn i_15_a_refused_add_does_not_use_up_its_key() {
    let server = Server::start().await;
    assert_eq!(add_with(&server, "k", r#"{"nope":1}"#).await.refused(), (422, "unknown-field".into()));
    assert_eq!(add(&server, r#"{"key":"k","delay":-1}"#).await.refused(), (422, "invalid-duration".into()));
    add_with(&server, "k", r#"{"payload":1}"#).await.expect(201);
}

#[tokio::test]
async fn i_17_a_late_repeat_after_cancel_and_delete_makes_no_second_job() {
    let server = Server::start().await;
    let body = r#"{"key":"k","payload":1}"#;
    let first = server.add("q", body).await;
    server.post_nothing(&format!("/v1/jobs/{first}/cancel")).await.expect(200);
    let again = add(&server, body).await.expect(200);
    assert_eq!((&again["id"], &again["state"]), (&json!(first), &json!("cancelled")));
    server.delete(&format!("/v1/jobs/{first}")).await.expect(200);
    let again = add(&server, body).await.expect(200);
    assert_eq!(again, json!({"id": first, "state": "purged", "duplicate": true}));
}

#[tokio::test]
async fn i_18_after_the_window_and_the_end_the_key_is_free() {
    let server = Server::start().await;
    let body = r#"{"key":"k","payload":1,"dedup":{"window":"1d"}}"#;
    let first = server.add("q", body).await;
    server.advance(2 * DAY).await;
    assert_eq!(add(&server, body).await.expect(200)["id"], first, "held while the job is unfinished");
    let job = server.lease("q").await;
    server.settle(&job, r#""op":"complete""#).await;
    let second = add(&server, r#"{"key":"k","payload":2}"#).await.expect(201);
    assert_ne!(second["id"], first);
}

#[tokio::test]
async fn i_20_a_batch_repeated_gives_the_same_outcomes() {
    let server = Server::start().await;
    let mut jobs: Vec<String> = (0..1000).map(|n| format!(r#"{{"key":"k{n}"}}"#)).collect();
    jobs[500] = r#"{"key":""}"#.to_owned();
    let body = format!("[{}]", jobs.join(","));
    let ids = |answer: &Value| -> Vec<Value> {
        answer["jobs"].as_array().unwrap().iter().map(|job| job["id"].clone()).collect()
    };
    let first = add(&server, &body).await.expect(200);
    let again = add(&server, &body).await.expect(200);
    assert_eq!(ids(&first), ids(&again));
    assert_eq!(ids(&first).iter().filter(|id| id.is_null()).count(), 1);
    assert_eq!(again["jobs"][500]["error"]["code"], "invalid-key");
    assert!(again["jobs"].as_array().unwrap().iter().all(|job| job["duplicate"] != json!(false)));
    assert_eq!(accepted(&server).await, 999);
}

#[tokio::test]
async fn i_21_a_client_that_goes_away_within_the_body_did_nothing() {
    let server = Server::start().await;
    let head = "POST /v1/queues/q/jobs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n";
    kit::half_a_request(&server, &format!("{head}{{\"key\":\"k\"")).await;
    assert_eq!(server.get("/v1/queues/q").await.refused(), (404, "queue-not-found".into()));
}

#[tokio::test]
async fn i_22_a_client_that_goes_away_after_the_body_finds_its_job_by_the_key() {
    let server = Server::start().await;
    let body = r#"{"key":"k"}"#;
    let whole = format!(
        "POST /v1/queues/q/jobs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    kit::half_a_request(&server, &whole).await;
    let again = add(&server, body).await;
    assert!(matches!(again.status, 200 | 201), "{}", again.text());
    assert_eq!(accepted(&server).await, 1);
}

#[tokio::test]
async fn i_24_a_request_of_its_own_identity_meets_the_job_of_its_key() {
    let server = Server::start().await;
    let body = r#"{"key":"order-1","payload":1,"dedup":{"free_on":["completed"]}}"#;
    let first = add_with(&server, "req-1", body).await.expect(201);
    let other_request = add_with(&server, "req-2", body).await.expect(200);
    assert_eq!((&other_request["id"], &other_request["duplicate"]), (&first["id"], &json!(true)));
}

#[tokio::test]
async fn a_request_is_answered_from_its_record_for_a_day_even_when_the_key_is_free_again() {
    let server = Server::start().await;
    let body = r#"{"key":"order-1","payload":1,"dedup":{"window":0}}"#;
    let first = add_with(&server, "req-1", body).await.expect(201);
    let job = server.lease("q").await;
    server.settle(&job, r#""op":"complete""#).await;
    let spaced = r#"{ "payload":1, "dedup":{"window":0}, "key":"order-1" }"#;
    let again = add_with(&server, "req-1", spaced).await.expect(200);
    assert_eq!((&again["id"], &again["state"]), (&first["id"], &json!("completed")));
    let reply = add_with(&server, "req-1", r#"{"key":"order-2","payload":1}"#).await;
    assert_eq!(reply.refused(), (422, "key-reused".into()), "all of the body is the request");
    server.advance(DAY + Duration::from_secs(1)).await;
    let later = add_with(&server, "req-1", body).await.expect(201);
    assert_ne!(later["id"], first["id"]);
}

#[tokio::test]
async fn one_header_cannot_stand_for_an_array() {
    let server = Server::start().await;
    for body in ["[{}]", "  [{}]"] {
        let reply = add_with(&server, "k", body).await;
        assert_eq!(reply.refused(), (422, "idempotency-key-on-array".into()));
    }
}

#[tokio::test]
async fn options_are_echoed_when_given() {
    let server = Server::start().await;
    let body = r#"{"key":"a","dedup":{"window":"2d","free_on":["dead"],"on_mismatch":"return"}}"#;
    let added = add(&server, body).await.expect(201);
    let expected =
        json!({"window": "2d", "free_on": ["dead"], "on_duplicate": "return", "on_mismatch": "return"});
    assert_eq!(added["dedup"], expected);
    let body =
        r#"{"key":"b","dedup":{"until":"done","on_duplicate":"replace","version":3,"max_delay":"1h"}}"#;
    let added = add(&server, body).await.expect(201);
    let expected = json!({
        "free_on": ["completed", "dead", "cancelled"], "on_duplicate": "replace", "on_mismatch": "reject",
        "version": 3, "max_delay": "1h",
    });
    assert_eq!(added["dedup"], expected);
    assert_eq!(add(&server, r#"{"key":"c"}"#).await.expect(201).get("dedup"), None);
}

#[tokio::test]
async fn reject_and_replace_do_what_they_say() {
    let server = Server::start().await;
    let first = server.add("q", r#"{"key":"k","payload":1}"#).await;
    let reply = add(&server, r#"{"key":"k","payload":1,"dedup":{"on_duplicate":"reject"}}"#).await;
    assert_eq!(reply.refused(), (409, "duplicate-key".into()));
    assert_eq!(reply.json()["existing_id"], first);

    let replace = |version: u32, payload: u32| {
        format!(
            r#"{{"key":"k","payload":{payload},"dedup":{{"on_duplicate":"replace","version":{version}}}}}"#
        )
    };
    let replaced = add(&server, &replace(5, 2)).await.expect(200);
    assert_eq!((&replaced["id"], &replaced["replaced"]), (&json!(first), &json!(true)));
    let stale = add(&server, &replace(4, 3)).await;
    assert_eq!(stale.refused(), (409, "version-stale".into()));
    let job = server.lease("q").await;
    assert_eq!(job["payload"], 2);
    let late = add(&server, &replace(6, 4)).await.expect(200);
    assert_eq!((&late["duplicate"], &late["replaced"]), (&json!(true), &json!(false)));
}

#[tokio::test]
async fn a_fingerprint_of_the_caller_s_own_is_compared_instead() {
    let server = Server::start().await;
    let first = server.add("q", r#"{"key":"k","payload":1,"fingerprint":"v1"}"#).await;
    let again = add(&server, r#"{"key":"k","payload":2,"fingerprint":"v1"}"#).await.expect(200);
    assert_eq!(again["id"], first);
    let reply = add(&server, r#"{"key":"k","payload":1,"fingerprint":"v2"}"#).await;
    assert_eq!(reply.refused(), (422, "key-reused".into()));
    for bad in ["\"\"", &format!("\"{}\"", "f".repeat(256))] {
        let reply = add(&server, &format!(r#"{{"key":"x","fingerprint":{bad}}}"#)).await;
        assert_eq!(reply.refused(), (422, "invalid-fingerprint".into()));
    }
}

#[tokio::test]
async fn bad_options_are_named() {
    let server = Server::start().await;
    for (dedup, code, field) in [
        (r#"{"windw":1}"#, "unknown-field", "dedup.windw"),
        (r#"{"window":-1}"#, "invalid-duration", "dedup.window"),
        (r#"{"window":"11y"}"#, "invalid-duration", "dedup.window"),
        (r#"{"free_on":["done"]}"#, "invalid-field", "dedup.free_on"),
        (r#"{"until":"later"}"#, "invalid-field", "dedup.until"),
        (r#"{"until":"done","free_on":["dead"]}"#, "conflicting-fields", "dedup.until"),
        (r#"{"on_duplicate":"ignore"}"#, "invalid-field", "dedup.on_duplicate"),
        (r#"{"on_mismatch":1}"#, "invalid-field", "dedup.on_mismatch"),
        (r#"{"version":1}"#, "conflicting-fields", "dedup.version"),
        (r#"{"max_delay":"1s"}"#, "conflicting-fields", "dedup.max_delay"),
        (r#"{"version":-1,"on_duplicate":"replace"}"#, "invalid-field", "dedup.version"),
        (r#"[]"#, "invalid-field", "dedup"),
    ] {
        let reply = add(&server, &format!(r#"{{"key":"k","dedup":{dedup}}}"#)).await;
        assert_eq!(reply.refused(), (422, code.into()), "{dedup}: {}", reply.text());
        assert_eq!(reply.json()["field"], field, "{dedup}");
    }
}

#[tokio::test]
async fn who_holds_a_key_is_told_and_freeing_it_is_audited() {
    let server = Server::start().await;
    let id = server.add("q", r#"{"key":"a/b %2F ü","dedup":{"free_on":["dead"]}}"#).await;
    // Decoded once: %252F is the text %2F, and %2F does not split the path.
    let path = "/v1/queues/q/keys/a%2Fb%20%252F%20%C3%BC";
    let held = server.get(path).await.expect(200);
    let expected = json!({
        "queue": "q", "key": "a/b %2F ü", "id": id, "state": "available",
        "held_until": "2026-11-28T09:30:00.000Z", "free_on": ["dead"],
    });
    assert_eq!(held, expected);
    assert_eq!(server.delete(path).await.expect(200), expected);
    assert_eq!(server.get(path).await.refused(), (404, "key-not-found".into()));
    assert_eq!(server.delete(path).await.refused(), (404, "key-not-found".into()));
    let shown = server.get(&format!("/v1/jobs/{id}")).await.expect(200);
    assert_eq!(shown["history"][0]["kind"], "key_released");
    assert_eq!(server.get("/v1/queues/q/keys/%20").await.refused(), (422, "invalid-key".into()));
    assert_eq!(server.get("/v1/queues/q/keys/%FF").await.refused(), (400, "invalid-url".into()));
}
