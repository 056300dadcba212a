//! Who is served, how the server says how it is, and what it shows people and machines.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]

mod kit;

use std::sync::Arc;

use bytes::Bytes;
use kit::{Reply, Server};
use onefold_core::{EngineError, ManualClock, SeededEntropy, Timestamp};
use onefold_engine_sqlite::{Options, SqliteEngine};
use onefold_runtime::Phase;
use onefold_server::accept::AcceptLimits;
use onefold_server::{AppState, Config, ServeError, StoreNotes, Token, serve_app};
use serde_json::json;
use tokio::sync::watch;

async fn get_with(server: &Server, headers: &[(&str, &str)]) -> Reply {
    let mut request = http::Request::builder().method("GET").uri("/v1/queues");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    server.send(request.body(Bytes::new()).unwrap()).await
}

#[tokio::test]
async fn a_token_opens_everything_and_nothing_is_open_without_it() {
    let server = Server::guarded("s3cret").await;
    server.get("/v1/queues").await.expect(200);
    for headers in [
        &[("host", "x")][..],
        &[("host", "x"), ("authorization", "Bearer s3cre")],
        &[("host", "x"), ("authorization", "Bearer s3cret2")],
        &[("host", "x"), ("authorization", "Bearer S3CRET")],
        &[("host", "x"), ("authorization", "Bearer")],
        &[("host", "x"), ("authorization", "s3cret")],
        &[("host", "x"), ("authorization", "Basic s3cret")],
        &[("host", "x"), ("authorization", "Bearer s3cret"), ("authorization", "Bearer s3cret")],
    ] {
        let reply = get_with(&server, headers).await;
        assert_eq!(reply.refused(), (401, "unauthorized".into()), "{headers:?}");
        assert_eq!(reply.headers["www-authenticate"], "Bearer realm=\"onefold\"");
    }
    // With a token the name and the site do not matter.
    let elsewhere =
        [("host", "queue.example"), ("origin", "https://a.example"), ("authorization", "bearer s3cret")];
    get_with(&server, &elsewhere).await.expect(200);
    for path in ["/", "/metrics", "/openapi.json", "/errors/key-reused", "/nope", "/v1/events"] {
        let request = http::Request::builder().uri(path).header("host", "x").body(Bytes::new()).unwrap();
        assert_eq!(server.send(request).await.refused(), (401, "unauthorized".into()), "{path}");
    }
    for path in ["/healthz", "/readyz"] {
        let request = http::Request::builder().uri(path).header("host", "x").body(Bytes::new()).unwrap();
        server.send(request).await.expect(200);
    }
}

#[tokio::test]
async fn a_browser_may_give_the_token_as_a_password_but_only_to_look() {
    let server = Server::guarded("s3cret").await;
    use base64::Engine as _;
    let basic = |pair: &str| format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(pair));
    let good = basic("me:s3cret");
    get_with(&server, &[("host", "x"), ("authorization", &good)]).await.expect(200);
    let bad = basic("s3cret:me");
    assert_eq!(get_with(&server, &[("host", "x"), ("authorization", &bad)]).await.status, 401);
    let request =
        http::Request::builder().method("POST").uri("/v1/queues/q/jobs").header("authorization", good);
    assert_eq!(
        server.send(request.body(Bytes::new()).unwrap()).await.refused(),
        (401, "unauthorized".into())
    );
}

#[tokio::test]
async fn without_a_token_only_this_machine_is_served_under_its_own_names() {
    let server = Server::start().await;
    for host in ["localhost", "localhost:1", "127.0.0.1", "127.8.9.1:7717", "[::1]:9"] {
        get_with(&server, &[("host", host)]).await.expect(200);
    }
    for host in ["evil.example", "localhost.evil.example", "192.168.1.1", "0.0.0.0", ""] {
        let reply = get_with(&server, &[("host", host)]).await;
        assert_eq!(reply.refused(), (403, "host-not-allowed".into()), "{host}");
    }
    assert_eq!(get_with(&server, &[]).await.refused(), (403, "host-not-allowed".into()));
    for origin in ["http://localhost:3000", "http://127.0.0.1", "https://[::1]:8"] {
        get_with(&server, &[("host", "localhost"), ("origin", origin)]).await.expect(200);
    }
    for origin in ["http://evil.example", "null", "http://localhost.evil.example", "localhost", ""] {
        let reply = get_with(&server, &[("host", "localhost"), ("origin", origin)]).await;
        assert_eq!(reply.refused(), (403, "origin-not-allowed".into()), "{origin}");
    }
    let proxied =
        "GET http://evil.example/v1/queues HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    assert!(server.raw(proxied.as_bytes(), None).await.starts_with("HTTP/1.1 403 "));
}

#[tokio::test]
async fn it_does_not_listen_to_other_machines_without_a_token() {
    let clock = Arc::new(ManualClock::at(Timestamp::EPOCH));
    let engine = onefold_core::reference::ReferenceEngine::new(
        Arc::clone(&clock) as _,
        Arc::new(SeededEntropy::new(1)),
    );
    let (_, health) = tokio::sync::watch::channel(kit::health(Phase::Serving));
    let state = |token| {
        let config = Config { token, ..Config::default() };
        AppState::new(Arc::new(engine.clone()), Arc::clone(&clock) as _, config, health.clone())
    };
    let everywhere = || tokio::net::TcpListener::bind("0.0.0.0:0");
    let refused = serve_app(state(None), everywhere().await.unwrap(), async {}).await;
    assert!(matches!(refused, Err(ServeError::TokenNeeded(_))));
    serve_app(state(Token::new("t")), everywhere().await.unwrap(), async {}).await.unwrap();
}

#[tokio::test]
async fn readiness_follows_the_engine_and_health_does_not() {
    let server = Server::start().await;
    let ready = server.get("/readyz").await.expect(200);
    assert_eq!(ready, json!({"ready": true, "phase": "serving", "notes": []}));
    for (phase, word) in [
        (Phase::Starting, "starting"),
        (Phase::Draining, "draining"),
        (Phase::Stopped, "stopped"),
        (Phase::Failed(EngineError::Poisoned("fsync".into())), "failed"),
    ] {
        server.set_phase(phase);
        let reply = server.get("/readyz").await;
        assert_eq!(reply.refused(), (503, "not-ready".to_owned()));
        assert_eq!((&reply.json()["phase"], &reply.json()["ready"]), (&word.into(), &false.into()));
        assert_eq!(server.get("/healthz").await.expect(200), json!({"alive": true}));
    }
}

/// A missing standby is told and takes nothing away; a store that cannot be reached does, until it can be.
#[tokio::test]
async fn readiness_tells_of_the_standby_and_goes_with_the_database() {
    let (tell, store) = watch::channel(StoreNotes::default());
    let server = Server::with(Config { store, ..Config::default() }).await;
    tell.send_replace(StoreNotes { standby: Some("missing"), notes: vec!["no standby".into()] });
    let told = json!({"ready": true, "phase": "serving", "standby": "missing", "notes": ["no standby"]});
    assert_eq!(server.get("/readyz").await.expect(200), told);
    server.fail_tick(EngineError::Busy);
    server.get("/readyz").await.expect(200);
    server.fail_tick(EngineError::Unavailable("the database is away".into()));
    let reply = server.get("/readyz").await;
    assert_eq!(reply.refused(), (503, "not-ready".to_owned()));
    let body = reply.json();
    assert_eq!((&body["phase"], &body["ready"]), (&"unavailable".into(), &false.into()));
    assert!(body["detail"].as_str().unwrap().contains("the database is away"), "{body}");
    server.get("/healthz").await.expect(200);
}

#[tokio::test]
async fn a_closed_store_is_503_and_the_server_stays_up() {
    let server = Server::start().await;
    server.engine.close().await.unwrap();
    for reply in [
        server.post("/v1/queues/q/jobs", "{}").await,
        server.post("/v1/leases", r#"{"queues":["q"]}"#).await,
        server.get("/v1/queues").await,
        server.get("/metrics").await,
    ] {
        assert_eq!(reply.refused(), (503, "closing".into()));
        assert_eq!(reply.headers["retry-after"], "1");
    }
    server.get("/healthz").await.expect(200);
}

#[tokio::test]
async fn metrics_tell_of_queues_attempts_and_connections() {
    let server = Server::with(Config { metrics_queues_max: 2, ..Config::default() }).await;
    for (queue, count) in [("a", 1), ("big", 5), ("c", 2), ("d", 3)] {
        for _ in 0..count {
            server.add(queue, r#"{"key":"k","dedup":{"window":0}}"#).await;
            let job = server.lease(queue).await;
            server.settle(&job, r#""op":"complete""#).await;
        }
    }
    for _ in 0..2 {
        server.add("big", "{}").await;
    }
    server.add("d", "{}").await;
    server.advance(std::time::Duration::from_millis(1500)).await;
    let reply = server.get("/metrics").await;
    assert!(reply.headers["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
    let text = reply.text();
    for line in [
        r#"onefold_jobs{queue="big",state="available"} 2"#,
        r#"onefold_jobs{queue="d",state="completed"} 3"#,
        r#"onefold_jobs{queue="(others)",state="completed"} 3"#,
        r#"onefold_oldest_available_age_seconds{queue="big"} 1.5"#,
        r#"onefold_jobs_accepted_total{queue="(others)"} 3"#,
        r#"onefold_attempts_total{outcome="completed"} 11"#,
        r#"onefold_duplicate_adds_total{queue="big"} 0"#,
        r#"onefold_mismatched_adds_total{queue="big"} 0"#,
        r#"onefold_late_writes_total{queue="big"} 0"#,
        "onefold_parked_polls 0",
        r#"onefold_commit_duration_seconds_bucket{le="+Inf"} 0"#,
        r#"onefold_commit_batch_ops_count 0"#,
        r#"onefold_http_connections_closed_total{reason="first-byte"} 0"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    assert!(
        text.contains("\nonefold_http_connections_open ")
            && text.contains("\nonefold_http_connections_total ")
    );
    assert!(!text.contains(r#"queue="a""#) && text.ends_with("# EOF\n"));
}

#[tokio::test]
async fn the_description_of_the_api_names_every_route_and_its_failures() {
    let server = Server::start().await;
    let api = server.get("/openapi.json").await.expect(200);
    assert!(api["openapi"].as_str().unwrap().starts_with("3.1"));
    for (path, methods) in [
        ("/v1/queues/{queue}/jobs", &["post"][..]),
        ("/v1/jobs", &["get"]),
        ("/v1/jobs/{id}", &["get", "patch", "delete"]),
        ("/v1/jobs/{id}/result", &["get"]),
        ("/v1/jobs/{id}/cancel", &["post"]),
        ("/v1/jobs/{id}/retry", &["post"]),
        ("/v1/queues/{queue}/redrive", &["post"]),
        ("/v1/queues/{queue}/keys/{key}", &["get", "delete"]),
        ("/v1/leases", &["post"]),
        ("/v1/leases/settle", &["post"]),
        ("/v1/queues", &["get"]),
        ("/v1/queues/{queue}", &["get", "put", "delete"]),
        ("/v1/queues/{queue}/pause", &["post"]),
        ("/v1/queues/{queue}/resume", &["post"]),
        ("/v1/events", &["get"]),
        ("/v1/backup", &["post"]),
        ("/metrics", &["get"]),
        ("/healthz", &["get"]),
        ("/readyz", &["get"]),
    ] {
        for method in methods {
            let operation = &api["paths"][path][method];
            assert!(operation["responses"]["default"].is_object(), "{method} {path}");
        }
    }
    let ids = api["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap().values());
    let ids: Vec<&str> = ids.map(|operation| operation["operationId"].as_str().unwrap()).collect();
    assert_eq!(ids.iter().collect::<std::collections::HashSet<_>>().len(), ids.len(), "{ids:?}");
    // Every reference leads somewhere.
    let text = api.to_string();
    let references = text.split("\"$ref\":\"#/components/schemas/").skip(1);
    for name in references.map(|rest| rest.split('"').next().unwrap()) {
        assert!(api["components"]["schemas"][name].is_object(), "{name}");
    }
    let job = &api["components"]["schemas"]["NewJob"]["properties"];
    assert!(job["payload"].is_object() && job["dedup"].is_object(), "{job}");
}

#[tokio::test]
async fn the_pages_show_jobs_and_never_run_what_is_in_them() {
    let server = Server::start().await;
    let empty = server.get("/").await;
    assert_eq!(empty.status, 200);
    assert!(empty.text().contains("curl"));
    let id = server
        .add("q", r#"{"kind":"<script>k","key":"\"><img>","payload":"<script>alert(1)</script>"}"#)
        .await;
    let job = server.lease("q").await;
    server.settle(&job, r#""op":"fail","error":{"message":"<b>boom</b>"}"#).await;
    let overview = server.get("/").await;
    assert!(overview.text().contains(&format!("/jobs/{id}")));
    let page = server.get(&format!("/jobs/{id}")).await;
    for reply in [&overview, &page] {
        let text = reply.text();
        assert!(!text.contains("<script") && !text.contains("<b>") && !text.contains("<img"), "{text}");
        let policy = reply.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"));
        assert_eq!(reply.headers["x-content-type-options"], "nosniff");
    }
    let text = page.text();
    for expected in ["attempt 1 failed", "boom", "attempt 1 leased to anonymous", "accepted", "&#60;script"] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    assert!(server.get("/style.css").await.text().contains("body"));
    assert!(server.get("/?queue=other").await.text().contains("None."));
    assert_eq!(server.get("/jobs/job_1").await.refused(), (404, "job-not-found".into()));
}

#[tokio::test]
async fn a_store_without_a_file_says_that_it_cannot_be_copied() {
    let server = Server::start().await;
    assert_eq!(server.post_nothing("/v1/backup").await.refused(), (501, "not-supported".into()));
}

#[tokio::test]
async fn a_backup_is_sent_whole_and_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(Timestamp::from_unix_ms(1_795_253_400_000).unwrap()));
    let options = || Options::new(Arc::clone(&clock) as _, Arc::new(SeededEntropy::new(1)));
    let engine = Arc::new(SqliteEngine::open(directory.path().join("data"), options()).unwrap());
    let temporary = directory.path().join("temporary");
    let left_behind = temporary.join("onefold-backup-killed");
    std::fs::create_dir_all(&left_behind).unwrap();
    std::fs::write(left_behind.join("onefold.db"), "half a copy").unwrap();
    let config = Config { backup_dir: Some(temporary.clone()), ..Config::default() };
    let server = Server::over(engine, Arc::clone(&clock), config).await;
    let id = server.add("q", r#"{"payload":"kept"}"#).await;
    let reply = server.post_nothing("/v1/backup").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.headers["content-type"], "application/octet-stream");
    assert!(reply.body.starts_with(b"SQLite format 3\0"));
    assert_eq!(reply.headers["content-length"], reply.body.len().to_string().as_str());
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0);

    let copy = directory.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    std::fs::write(copy.join("onefold.db"), &reply.body).unwrap();
    let restored = SqliteEngine::open(&copy, options()).unwrap();
    let jobs = onefold_core::Engine::get(&restored, id.parse().unwrap()).await.unwrap();
    assert!(jobs.is_some());
}

#[tokio::test]
async fn a_drain_answers_what_is_in_progress_and_ends() {
    let clock = Arc::new(ManualClock::at(Timestamp::from_unix_ms(1_795_253_400_000).unwrap()));
    let engine: Arc<dyn onefold_core::Engine> = Arc::new(onefold_core::reference::ReferenceEngine::new(
        Arc::clone(&clock) as _,
        Arc::new(SeededEntropy::new(1)),
    ));
    let runtime = onefold_runtime::Runtime::start(engine, Arc::clone(&clock) as _);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let config = Config { accept: AcceptLimits::default(), ..Config::default() };
    let served = onefold_server::serve(&runtime, Arc::clone(&clock) as _, config, listener, async {
        let _ = stopped.await;
    });
    let client = async {
        let body = r#"{"queues":["q"],"wait":"60s"}"#;
        let request = format!(
            "POST /v1/leases HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut reply = std::pin::pin!(kit::raw(address, request.as_bytes()));
        assert!(kit::still_waits(reply.as_mut()).await);
        stop.send(()).unwrap();
        kit::patient(reply).await
    };
    let (drained, reply) = tokio::join!(kit::patient(served), client);
    assert_eq!(drained.unwrap().dropped, 0);
    assert!(reply.starts_with("HTTP/1.1 200 ") && reply.ends_with(r#"{"jobs":[]}"#), "{reply}");
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
    runtime.stop().await.unwrap();
}
