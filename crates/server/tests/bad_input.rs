//! Hostile and mistaken requests: list H of `docs/guide/hostile-cases.md`. Each gets a clear error
//! with its code, and the server goes on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

mod kit;

use std::time::Duration;

use kit::{Reply, Server};
use onefold_server::Config;
use onefold_server::accept::{AcceptLimits, BodyPace};
use serde_json::json;

const JOBS: &str = "/v1/queues/q/jobs";

async fn sent(server: &Server, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    let mut request = server.request("POST", JOBS);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    server.send(request.body(body.to_vec().into()).unwrap()).await
}

async fn refused(server: &Server, body: &str) -> (u16, String) {
    server.post(JOBS, body.to_owned()).await.refused()
}

#[tokio::test]
async fn what_is_not_json_is_400() {
    let server = Server::start().await;
    for body in [
        "{",
        "{}x",
        "{'a':1}",
        "{\"payload\":01}",
        "{\"payload\":nul}",
        "{\"key\":\"\\ud800\"}",
        "[{},]",
        " ",
        "{\"payload\":[1,]}",
    ] {
        assert_eq!(refused(&server, body).await, (400, "invalid-json".into()), "{body}");
    }
    for body in [&b"\xff"[..], b"{\"key\":\"\xc3\"}", b"\xef\xbf\xbe\xff", &[b'{', 0xed, 0xa0, 0x80, b'}']] {
        let reply = server.post(JOBS, body.to_vec()).await;
        assert_eq!(reply.refused(), (400, "invalid-utf8".into()));
    }
}

#[tokio::test]
async fn h_07_json_bombs_end_in_an_error_not_in_a_stack_overflow() {
    let server = Server::start().await;
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    server.add("q", &format!(r#"{{"payload":{}}}"#, deep(128))).await;
    server.add("q", &format!(r#"{{"key":"k","payload":{}}}"#, deep(128))).await;
    for body in [
        format!(r#"{{"payload":{}}}"#, deep(129)),
        format!(r#"{{"key":"x","payload":{}}}"#, deep(129)),
        format!(r#"{{"payload":{}}}"#, deep(100_000)),
        format!(r#"{{"payload":{}"#, "[".repeat(100_000)),
        format!(r#"{{"payload":{}1{}}}"#, r#"{"a":"#.repeat(100_000), "}".repeat(100_000)),
    ] {
        let (status, code) = refused(&server, &body).await;
        assert_eq!(status, 400);
        assert!(matches!(&*code, "nesting-too-deep" | "invalid-json"), "{code}");
    }
    let items = server.post(JOBS, format!("[{}]", deep(100_000))).await.expect(200);
    assert_eq!(items["jobs"][0]["error"]["code"], "nesting-too-deep");
    assert_eq!(refused(&server, r#"{"payload":{"a":1,"\u0061":2}}"#).await, (400, "duplicate-member".into()));
    assert_eq!(refused(&server, r#"{"key":"a","key":"a"}"#).await, (400, "duplicate-member".into()));
    assert_eq!(refused(&server, r#"{"headers":{"a":"1","a":"1"}}"#).await, (400, "duplicate-member".into()));
    assert_eq!(refused(&server, r#"{"payload":"\udc00"}"#).await, (400, "invalid-json".into()));
    assert_eq!(refused(&server, r#"{"priority":1e400}"#).await, (400, "invalid-json".into()));
    server.add("q", r#"{"payload":1e400}"#).await;
}

#[tokio::test]
async fn h_12_unknown_fields_are_named_and_never_assigned() {
    let server = Server::start().await;
    for (body, field) in [
        (r#"{"tenant":"x"}"#, "tenant"),
        (r#"{"id":"job_1"}"#, "id"),
        (r#"{"attempts":9}"#, "attempts"),
        (r#"{"fencing_token":9}"#, "fencing_token"),
        (r#"{"Key":"a"}"#, "Key"),
        (r#"{"dedup":{"epoch":1}}"#, "dedup.epoch"),
        (r#"{"backoff":{"exponential":{"base":1,"max":2,"jitter":0}}}"#, "backoff.exponential.jitter"),
    ] {
        let reply = server.post(JOBS, body).await;
        assert_eq!(reply.refused(), (422, "unknown-field".into()), "{body}");
        assert_eq!(reply.json()["field"], field, "{body}");
        assert!(reply.json()["detail"].as_str().unwrap().contains(field), "{body}");
    }
    assert_eq!(server.post("/v1/queues/q/jobs?force=1", "{}").await.refused(), (422, "unknown-field".into()));
    assert_eq!(server.get("/v1/queues?x").await.refused(), (422, "unknown-field".into()));
}

#[tokio::test]
async fn values_that_cannot_be_are_named() {
    let server = Server::start().await;
    let many_labels = format!(r#"{{"labels":{}}}"#, json!(vec!["l"; 17]));
    let long_list = format!(r#"{{"backoff":{{"list":{}}}}}"#, json!(vec![1; 1001]));
    let long_kind = format!(r#"{{"kind":"{}"}}"#, "k".repeat(129));
    let long_label = format!(r#"{{"labels":["a","{}"]}}"#, "l".repeat(65));
    for (body, code, field) in [
        (r#""job""#, "invalid-field", ""),
        ("null", "invalid-field", ""),
        ("7", "invalid-field", ""),
        (r#"{"kind":7}"#, "invalid-field", "kind"),
        (r#"{"kind":" "}"#, "invalid-field", "kind"),
        (&*long_kind, "invalid-field", "kind"),
        (r#"{"key":["a"]}"#, "invalid-field", "key"),
        (r#"{"group":"a\nb"}"#, "invalid-field", "group"),
        (r#"{"priority":32768}"#, "invalid-field", "priority"),
        (r#"{"priority":1.5}"#, "invalid-field", "priority"),
        (r#"{"priority":"1"}"#, "invalid-field", "priority"),
        (r#"{"max_attempts":0}"#, "invalid-field", "max_attempts"),
        (r#"{"max_attempts":1001}"#, "invalid-field", "max_attempts"),
        (r#"{"max_attempts":-1}"#, "invalid-field", "max_attempts"),
        (r#"{"delay":-1}"#, "invalid-duration", "delay"),
        (r#"{"delay":"-1s"}"#, "invalid-duration", "delay"),
        (r#"{"delay":"soon"}"#, "invalid-duration", "delay"),
        (r#"{"delay":"11000d"}"#, "invalid-duration", "delay"),
        (r#"{"delay":18446744073709551615}"#, "invalid-duration", "delay"),
        (r#"{"delay":1.5}"#, "invalid-field", "delay"),
        (r#"{"delay":{}}"#, "invalid-field", "delay"),
        (r#"{"run_at":"tomorrow"}"#, "invalid-time", "run_at"),
        (r#"{"run_at":"2026-02-30T00:00:00Z"}"#, "invalid-time", "run_at"),
        (r#"{"run_at":1795253400}"#, "invalid-field", "run_at"),
        (r#"{"run_at":"2026-11-21T09:30:00Z","delay":1}"#, "conflicting-fields", "delay"),
        (r#"{"timeout":0}"#, "invalid-duration", "timeout"),
        (r#"{"retain":"x"}"#, "invalid-duration", "retain"),
        (r#"{"payload":1,"payload_base64":"AA=="}"#, "conflicting-fields", "payload"),
        (r#"{"payload":1,"content_type":"a/b"}"#, "conflicting-fields", "content_type"),
        (r#"{"content_type":"a/b"}"#, "missing-field", "payload_base64"),
        (r#"{"payload_base64":"A"}"#, "invalid-field", "payload_base64"),
        (r#"{"payload_base64":"AA==","content_type":"a\r\nb"}"#, "invalid-field", "content_type"),
        (r#"{"backoff":{}}"#, "invalid-field", "backoff"),
        (r#"{"backoff":{"fixed":1,"list":[1]}}"#, "invalid-field", "backoff"),
        (r#"{"backoff":{"list":[]}}"#, "invalid-backoff", "backoff"),
        (&*long_list, "invalid-backoff", "backoff"),
        (r#"{"backoff":{"list":[1,-1]}}"#, "invalid-duration", "backoff.list[1]"),
        (r#"{"backoff":{"exponential":{"base":2,"max":1}}}"#, "invalid-backoff", "backoff"),
        (r#"{"backoff":{"exponential":{"base":2}}}"#, "missing-field", "backoff.exponential.max"),
        (r#"{"backoff":{"expression":"1 +"}}"#, "invalid-backoff", "backoff"),
        (r#"{"labels":["a",""]}"#, "invalid-field", "labels[1]"),
        (&*long_label, "invalid-field", "labels[1]"),
        (&*many_labels, "invalid-field", "labels"),
        (r#"{"traceparent":"x"}"#, "invalid-field", "traceparent"),
        (r#"{"target":{"url":"http://x"}}"#, "no-deliverer", "target"),
        (r#"{"on_success":{"url":"http://x"}}"#, "no-deliverer", "on_success"),
        (r#"{"on_failure":{"url":"http://x"}}"#, "no-deliverer", "on_failure"),
        (r#"{"on_failure":{}}"#, "missing-field", "on_failure.url"),
        (r#"{"flow_key":"f"}"#, "not-yet", "flow_key"),
    ] {
        let reply = server.post(JOBS, body.to_owned()).await;
        assert_eq!(reply.refused(), (422, code.into()), "{body}: {}", reply.text());
        assert_eq!(reply.json()["field"].as_str().unwrap_or_default(), field, "{body}");
    }
    assert_eq!(
        server.get("/v1/queues/q").await.refused(),
        (404, "queue-not-found".into()),
        "nothing was added"
    );
}

#[tokio::test]
async fn h_08_headers_that_could_forge_others_are_refused() {
    let server = Server::start().await;
    for (headers, code) in [
        (json!({"a": "1\r\nx: 2"}), "invalid-header"),
        (json!({"a": "1\n"}), "invalid-header"),
        (json!({"a": "\u{0}"}), "invalid-header"),
        (json!({"a\r\n": "1"}), "invalid-header"),
        (json!({"a b": "1"}), "invalid-header"),
        (json!({"": "1"}), "invalid-header"),
        (json!({"ä": "1"}), "invalid-header"),
        (json!({"a": "1", "A": "2"}), "invalid-header"),
        (json!({"a": "x".repeat(8192)}), "invalid-header"),
        (json!({"a": 1}), "invalid-field"),
        (json!(["a"]), "invalid-field"),
        (
            json!((0..65).map(|n| (format!("h{n}"), "")).collect::<std::collections::HashMap<_, _>>()),
            "invalid-header",
        ),
    ] {
        let reply = server.post(JOBS, format!(r#"{{"headers":{headers}}}"#)).await;
        assert_eq!(reply.refused(), (422, code.into()), "{headers}");
    }
    server.add("q", &format!(r#"{{"headers":{{"a":"{}"}}}}"#, "x".repeat(8191))).await;
    let most: std::collections::HashMap<_, _> = (0..64).map(|n| (format!("h{n}"), "")).collect();
    server.add("q", &json!({ "headers": most }).to_string()).await;
}

#[tokio::test]
async fn sizes_have_limits_at_which_they_still_fit() {
    let server = Server::with(Config { payload_bytes_max: 1000, ..Config::default() }).await;
    let text = |bytes: usize| format!(r#"{{"payload":"{}"}}"#, "x".repeat(bytes - 2));
    server.add("q", &text(1000)).await;
    assert_eq!(refused(&server, &text(1001)).await, (413, "payload-too-large".into()));
    let items = server.post(JOBS, format!("[{},{}]", text(1001), text(1000))).await.expect(200);
    assert_eq!(items["jobs"][0]["error"]["code"], "payload-too-large");
    assert_eq!(items["jobs"][1]["state"], "available");
    use base64::Engine as _;
    let binary = |bytes: usize| {
        let encoded = base64::prelude::BASE64_STANDARD.encode(vec![0; bytes]);
        format!(r#"{{"payload_base64":"{encoded}"}}"#)
    };
    server.add("q", &binary(1000)).await;
    for bytes in [1001, 1003, 5000] {
        assert_eq!(refused(&server, &binary(bytes)).await, (413, "payload-too-large".into()));
    }
}

#[tokio::test]
async fn the_default_payload_limit_is_one_mebibyte() {
    let server = Server::start().await;
    let text = |bytes: usize| format!(r#"{{"payload":"{}"}}"#, "x".repeat(bytes - 2));
    server.add("q", &text(1 << 20)).await;
    assert_eq!(refused(&server, &text((1 << 20) + 1)).await, (413, "payload-too-large".into()));
}

#[tokio::test]
async fn a_request_over_the_limit_is_refused_announced_or_not() {
    let server = Server::start().await;
    let most = 16 << 20;
    let body = format!("{}{{}}", " ".repeat(most - 2));
    server.post(JOBS, body.clone()).await.expect(201);
    assert_eq!(refused(&server, &format!(" {body}")).await, (413, "request-too-large".into()));
    let head = "POST /v1/queues/q/jobs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n";
    let chunk = format!("{:x}\r\n{}\r\n", 1 << 20, " ".repeat(1 << 20));
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n{}0\r\n\r\n", chunk.repeat(17));
    let reply = server.raw(chunked.as_bytes(), Some("request-too-large")).await;
    assert!(reply.starts_with("HTTP/1.1 413 "), "{reply}");
}

#[tokio::test]
async fn h_03_a_body_that_stops_is_a_408() {
    let body = BodyPace { idle: Duration::from_millis(50), ..BodyPace::default() };
    let accept = AcceptLimits { body, ..AcceptLimits::default() };
    let server = Server::with(Config { accept, ..Config::default() }).await;
    let head = "POST /v1/queues/q/jobs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{";
    let reply = server.raw(head.as_bytes(), None).await;
    assert!(reply.starts_with("HTTP/1.1 408 ") && reply.contains("\"code\":\"request-timeout\""), "{reply}");
    assert_eq!(server.get("/v1/queues/q").await.refused(), (404, "queue-not-found".into()));
}

#[tokio::test]
async fn h_05_a_body_over_the_limit_is_not_asked_for() {
    let server = Server::start().await;
    let head = format!(
        "POST /v1/queues/q/jobs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        17 << 20
    );
    let reply = server.raw(head.as_bytes(), Some("request-too-large")).await;
    assert!(reply.starts_with("HTTP/1.1 413 "), "{reply}");
    assert!(!reply.contains("100 Continue"));
}

#[tokio::test]
async fn h_06_only_plain_json_is_a_body() {
    let server = Server::start().await;
    for headers in [
        &[][..],
        &[("content-type", "application/x-www-form-urlencoded")],
        &[("content-type", "text/plain")],
        &[("content-type", "application/jsonp")],
        &[("content-type", "application/json"), ("content-type", "text/plain")],
        &[("content-type", "application/json; charset=latin1")],
        &[("content-type", "application/json"), ("content-encoding", "gzip")],
    ] {
        let reply = sent(&server, headers, b"{}").await;
        assert_eq!(reply.refused(), (415, "unsupported-media-type".into()), "{headers:?}");
    }
    for good in [
        "application/json",
        "Application/JSON; charset=UTF-8",
        "application/json;charset=\"utf-8\"",
        "application/json; profile=x",
    ] {
        sent(&server, &[("content-type", good)], b"{}").await.expect(201);
    }
    let identity = [("content-type", "application/json"), ("content-encoding", "identity")];
    sent(&server, &identity, b"{}").await.expect(201);
}

#[tokio::test]
async fn h_04_a_request_that_can_be_read_in_two_ways_is_refused_and_closed() {
    let server = Server::start().await;
    let head = "POST /v1/queues/q/jobs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    for framing in [
        "content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "content-length: 2\r\ncontent-length: 3\r\n\r\n{} ",
        "x-a: 1\r\n folded: 2\r\ncontent-length: 2\r\n\r\n{}",
    ] {
        let reply = server.raw(format!("{head}{framing}").as_bytes(), None).await;
        assert!(reply.starts_with("HTTP/1.1 400 "), "{framing}: {reply}");
    }
    assert_eq!(server.get("/v1/queues/q").await.refused(), (404, "queue-not-found".into()));
}

#[tokio::test]
async fn h_11_path_tricks_lead_nowhere() {
    let server = Server::start().await;
    let id = server.add("q", "{}").await;
    for path in [
        "/v1/jobs/..%2f..%2fadmin",
        "/v1/jobs/%2e%2e",
        &format!("/v1/jobs/{id}%2F"),
        &format!("/v1/jobs/{}", id.to_uppercase()),
        &format!("/v1/jobs/{id};x=1"),
        "/v1/jobs/job_",
        "/v1/jobs/1",
    ] {
        assert_eq!(server.get(path).await.refused(), (404, "job-not-found".into()), "{path}");
    }
    for path in [
        "/v1//jobs",
        "/V1/jobs",
        "/v1/jobs/",
        &format!("/v1/jobs/{id}/"),
        "/v1/./jobs",
        "/v1/jobs/../queues",
        "/v2/x",
        "/nope",
    ] {
        assert_eq!(server.get(path).await.refused(), (404, "route-not-found".into()), "{path}");
    }
    assert_eq!(server.get("/v1/queues/a%2Fb").await.refused(), (422, "invalid-queue-name".into()));
    assert_eq!(server.get("/v1/queues/a%00b").await.refused(), (422, "invalid-queue-name".into()));
    assert_eq!(server.get("/v1/queues/%ff").await.refused(), (400, "invalid-url".into()));
    assert_eq!(
        server.post("/v1/queues/a%20b/jobs", "{}").await.refused(),
        (422, "invalid-queue-name".into())
    );
    let other_form = id.replace("job_", "msg_");
    server.get(&format!("/v1/jobs/{other_form}")).await.expect(200);
    server.get(&format!("/v1/jobs/job%5F{}", &id[4..])).await.expect(200);
}

#[tokio::test]
async fn wrong_methods_and_unknown_ids_are_problems_too() {
    let server = Server::start().await;
    let reply = server.get("/v1/leases").await;
    assert_eq!(reply.refused(), (405, "method-not-allowed".into()));
    assert_eq!(reply.headers["allow"], "POST");
    let unknown = "job_01a1fe047dc070008000000000000007";
    for reply in [
        server.get(&format!("/v1/jobs/{unknown}")).await,
        server.get(&format!("/v1/jobs/{unknown}/result")).await,
        server.patch(&format!("/v1/jobs/{unknown}"), "{}").await,
        server.delete(&format!("/v1/jobs/{unknown}")).await,
        server.post_nothing(&format!("/v1/jobs/{unknown}/cancel")).await,
        server.post_nothing(&format!("/v1/jobs/{unknown}/retry")).await,
    ] {
        assert_eq!(reply.refused(), (404, "job-not-found".into()));
    }
}

/// Every route, and every method it does not have, over a raw socket: what is refused is refused with a problem.
#[tokio::test]
async fn whatever_is_refused_is_refused_with_a_problem() {
    let server = Server::start().await;
    let paths = [
        "/",
        "*",
        "/nope",
        "/v1/leases",
        "/v1/leases/settle",
        "/v1/queues",
        "/v1/queues/q",
        "/v1/queues/q/jobs",
        "/v1/queues/q/pause",
        "/v1/jobs",
        "/v1/jobs/x",
        "/v1/jobs/x/cancel",
        "/v1/events",
        "/v1/backup",
        "/metrics",
        "/healthz",
        "/readyz",
        "/openapi.json",
        "/errors/x",
        "/jobs/x",
        "/style.css",
        "http://localhost/x",
        "/%ff",
    ];
    let methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW"];
    let mut refused = 0;
    for (path, method) in paths.iter().flat_map(|path| methods.map(|method| (path, method))) {
        let head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        // Endless answers, such as a stream of events, are read to the end of their head.
        let said = server.raw(head.as_bytes(), Some("text/event-stream")).await;
        let status = said.get(9..12).unwrap_or_else(|| panic!("{method} {path}: {said}"));
        if status.starts_with(['4', '5']) {
            refused += 1;
            assert!(
                said.contains("\r\ncontent-type: application/problem+json\r\n"),
                "{method} {path}: {said}"
            );
            let body = said.split_once("\r\n\r\n").unwrap().1;
            assert_eq!(method == "HEAD", body.is_empty(), "{method} {path}: {said}");
            assert!(
                method == "HEAD" || body.contains(&format!("\"status\":{status}")),
                "{method} {path}: {said}"
            );
        }
    }
    assert!(refused > 150, "{refused}");
}

#[tokio::test]
async fn a_problem_s_type_is_a_page_the_server_has() {
    let server = Server::start().await;
    let problem = server.get("/v1/queues/nope").await.json();
    let page = server.get(problem["type"].as_str().unwrap()).await;
    assert_eq!(page.status, 200);
    assert!(page.text().starts_with("# queue-not-found"), "{}", page.text());
    for code in onefold_wire::ErrorCode::ALL {
        let page = server.get(code.page()).await.text();
        assert!(page.starts_with(&format!("# {code}\n\nStatus {}.", code.status())), "{code}");
    }
    assert_eq!(server.get("/errors/nope").await.refused(), (404, "route-not-found".into()));
}
