//! Schedules over HTTP.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]

mod kit;

use std::time::Duration;

use kit::Server;
use serde_json::{Value, json};

const NIGHTLY: &str = r#"{"cron":"30 2 * * *","timezone":"Europe/Berlin","queue":"reports",
    "job":{"kind":"report","payload":{"of":"day"},"priority":-1,"headers":{"X-A":"1"},"timeout":"5m"}}"#;

#[tokio::test]
async fn a_schedule_is_made_shown_and_adds_its_job() {
    let server = Server::start().await;
    let made = server.put("/v1/schedules/nightly", NIGHTLY).await.expect(201);
    let expected = json!({
        "id": "nightly", "cron": "30 2 * * *", "timezone": "Europe/Berlin", "queue": "reports",
        "job": {"kind": "report", "payload": {"of": "day"}, "priority": -1, "headers": {"X-A": "1"},
            "timeout": "5m"},
        "missed": "once", "overlap": "allow", "paused": false,
        "created_at": "2026-11-21T09:30:00.000Z", "changed_at": "2026-11-21T09:30:00.000Z",
        "next_tick": "2026-11-22T01:30:00.000Z",
        "ticks": {"added": 0, "missed": 0, "overlapped": 0},
    });
    assert_eq!(made, expected);
    assert_eq!(server.get("/v1/schedules/nightly").await.expect(200), expected);
    server.advance(Duration::from_secs(16 * 3600)).await;
    let job = server.lease("reports").await;
    assert_eq!((&job["kind"], &job["payload"]), (&json!("report"), &json!({"of": "day"})));
    let headers = json!({
        "X-A": "1", "schedule-id": "nightly", "schedule-tick": "2026-11-22T01:30:00.000Z",
    });
    assert_eq!(job["headers"], headers);
    let shown = server.get("/v1/schedules/nightly").await.expect(200);
    assert_eq!((&shown["last_job"], &shown["ticks"]["added"]), (&job["id"], &json!(1)));
    assert_eq!(shown["last_tick"], "2026-11-22T01:30:00.000Z");
    // What was shown can be put again.
    let again: Value = serde_json::from_str(NIGHTLY).unwrap();
    let same = server.put("/v1/schedules/nightly", again.to_string()).await.expect(200);
    assert_eq!(same, shown);
}

#[tokio::test]
async fn the_guides_schedule_can_be_made() {
    let server = Server::start().await;
    let guide = include_str!("../../../docs/guide/schedules.md");
    let body = guide.split("```put\n").nth(1).unwrap().split("```").next().unwrap();
    server.put("/v1/schedules/nightly-report", body).await.expect(201);
}

#[tokio::test]
async fn a_schedule_is_listed_paused_resumed_run_and_deleted() {
    let server = Server::start().await;
    for id in ["b", "a", "c"] {
        let body = r#"{"every":"1h","queue":"q","job":{"payload":1},"overlap":"skip"}"#;
        server.put(&format!("/v1/schedules/{id}"), body).await.expect(201);
    }
    let page = server.get("/v1/schedules?limit=2").await.expect(200);
    let ids = |page: &Value| -> Vec<Value> {
        page["schedules"].as_array().unwrap().iter().map(|schedule| schedule["id"].clone()).collect()
    };
    assert_eq!((ids(&page), &page["cursor"]), (vec![json!("a"), json!("b")], &json!("b")));
    assert_eq!(page["schedules"][0]["job"], json!({}));
    assert_eq!(page["schedules"][0]["anchor"], "1970-01-01T00:00:00.000Z");
    let rest = server.get("/v1/schedules?limit=2&cursor=b").await.expect(200);
    assert_eq!((ids(&rest), rest.get("cursor")), (vec![json!("c")], None));

    let paused = server.post_nothing("/v1/schedules/a/pause").await.expect(200);
    assert_eq!((&paused["paused"], paused.get("next_tick")), (&json!(true), None));
    let run = server.post("/v1/schedules/a/run", "{}").await.expect(201);
    assert_eq!(server.lease("q").await["id"], run["id"]);
    let refused = server.post_nothing("/v1/schedules/a/run").await;
    assert_eq!(refused.json()["existing_id"], run["id"]);
    assert_eq!(refused.refused(), (409, "schedule-job-unfinished".into()));
    let resumed = server.post_nothing("/v1/schedules/a/resume").await.expect(200);
    assert_eq!(resumed["next_tick"], "2026-11-21T10:00:00.000Z");
    assert_eq!(server.delete("/v1/schedules/a").await.expect(200)["id"], "a");
    for (method, path) in
        [("GET", "/v1/schedules/a"), ("DELETE", "/v1/schedules/a"), ("GET", "/v1/schedules/a/next")]
    {
        let request = server.request(method, path).body(bytes::Bytes::new()).unwrap();
        assert_eq!(server.send(request).await.refused(), (404, "schedule-not-found".into()), "{path}");
    }
    for action in ["pause", "resume", "run"] {
        let refused = server.post_nothing(&format!("/v1/schedules/a/{action}")).await.refused();
        assert_eq!(refused, (404, "schedule-not-found".into()), "{action}");
    }
}

#[tokio::test]
async fn the_next_ticks_are_told_in_advance() {
    let server = Server::start().await;
    let body = r#"{"cron":"30 1 * * *","timezone":"America/New_York","queue":"q",
        "start":"2027-11-06T00:00:00Z","end":"2027-11-08T12:00:00Z"}"#;
    server.put("/v1/schedules/s", body).await.expect(201);
    server.post_nothing("/v1/schedules/s/pause").await.expect(200);
    let next = server.get("/v1/schedules/s/next").await.expect(200);
    let ticks = ["2027-11-06T05:30:00.000Z", "2027-11-07T05:30:00.000Z", "2027-11-08T06:30:00.000Z"];
    assert_eq!(next, json!({ "ticks": ticks }));
    let one = server.get("/v1/schedules/s/next?n=1").await.expect(200);
    assert_eq!(one, json!({ "ticks": [ticks[0]] }));
    for n in ["0", "1001", "x"] {
        let refused = server.get(&format!("/v1/schedules/s/next?n={n}")).await.refused();
        assert_eq!(refused, (422, "invalid-field".into()), "{n}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_schedule_is_told_with_its_place() {
    let server = Server::start().await;
    let cases = [
        (r#"{"queue":"q"}"#, "missing-field", "cron"),
        (r#"{"cron":"@daily"}"#, "missing-field", "queue"),
        (r#"{"cron":"@daily","every":"1h","queue":"q"}"#, "conflicting-fields", "cron"),
        (r#"{"cron":"@daily","anchor":"2026-01-01T00:00:00Z","queue":"q"}"#, "conflicting-fields", "anchor"),
        (r#"{"every":"1h","timezone":"UTC","queue":"q"}"#, "conflicting-fields", "timezone"),
        (r#"{"cron":"0 0 30 2 *","queue":"q"}"#, "invalid-cron", "cron"),
        (r#"{"cron":"*/90 * * * *","queue":"q"}"#, "invalid-cron", "cron"),
        (r#"{"cron":"@daily","timezone":"CET+1","queue":"q"}"#, "invalid-time-zone", "timezone"),
        (r#"{"cron":"TZ=Mars/Base @daily","queue":"q"}"#, "invalid-time-zone", "cron"),
        (r#"{"cron":"TZ=UTC @daily","timezone":"Asia/Tokyo","queue":"q"}"#, "conflicting-fields", "cron"),
        (r#"{"every":"1ms","queue":"q"}"#, "invalid-duration", "every"),
        (r#"{"every":"soon","queue":"q"}"#, "invalid-duration", "every"),
        (r#"{"every":"1h","anchor":"noon","queue":"q"}"#, "invalid-time", "anchor"),
        (
            r#"{"cron":"@daily","end":"1970-01-01T00:00:00Z","start":"2026-01-01T00:00:00Z","queue":"q"}"#,
            "invalid-schedule",
            "end",
        ),
        (r#"{"cron":"@daily","queue":"a b"}"#, "invalid-queue-name", "queue"),
        (r#"{"cron":"@daily","queue":"q","missed":"some"}"#, "invalid-field", "missed"),
        (r#"{"cron":"@daily","queue":"q","overlap":"never"}"#, "invalid-field", "overlap"),
        (r#"{"cron":"@daily","queue":"q","job":{"key":"k"}}"#, "invalid-schedule", "job.key"),
        (r#"{"cron":"@daily","queue":"q","job":{"fingerprint":"k"}}"#, "invalid-schedule", "job.fingerprint"),
        (r#"{"cron":"@daily","queue":"q","job":{"dedup":{}}}"#, "invalid-schedule", "job.dedup"),
        (r#"{"cron":"@daily","queue":"q","job":{"delay":"1s"}}"#, "invalid-schedule", "job.delay"),
        (
            r#"{"cron":"@daily","queue":"q","job":{"run_at":"2026-01-01T00:00:00Z"}}"#,
            "invalid-schedule",
            "job.run_at",
        ),
        (r#"{"cron":"@daily","queue":"q","job":{"timeout":"x"}}"#, "invalid-duration", "job.timeout"),
        (
            r#"{"cron":"@daily","queue":"q","job":{"headers":{"Schedule-Id":"x"}}}"#,
            "invalid-header",
            "job.headers.Schedule-Id",
        ),
        (
            r#"{"cron":"@daily","queue":"q","job":{"payload":{"a":1,"a":2}}}"#,
            "duplicate-member",
            "job.payload",
        ),
        (r#"{"cron":"@daily","queue":"q","color":"red"}"#, "unknown-field", "color"),
    ];
    for (body, code, field) in cases {
        let reply = server.put("/v1/schedules/s", body).await;
        assert_eq!((reply.problem().as_str(), &reply.json()["field"]), (code, &json!(field)), "{body}");
        assert!(reply.json()["detail"].as_str().unwrap().contains(field), "{}", reply.text());
    }
    assert_eq!(
        server.put("/v1/schedules/a%20b", NIGHTLY).await.refused(),
        (422, "invalid-schedule-id".into())
    );
    let refused = server.get("/v1/schedules?cursor=a%20b").await.refused();
    assert_eq!(refused, (422, "invalid-cursor".into()));
    assert_eq!(server.get("/v1/schedules").await.expect(200), json!({"schedules": []}));
}

/// I10: ticks without a job are told, by an event and on the schedule.
#[tokio::test]
async fn dropped_ticks_are_told() {
    let server = Server::start().await;
    let body = r#"{"every":"10m","queue":"q","missed":"skip"}"#;
    server.put("/v1/schedules/s", body).await.expect(201);
    server.advance(Duration::from_secs(1_900)).await;
    let shown = server.get("/v1/schedules/s").await.expect(200);
    assert_eq!(shown["ticks"], json!({"added": 0, "missed": 3, "overlapped": 0}));
    let lines =
        "GET /v1/events?type=schedule.ticks_dropped HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: 0\r\n\r\n";
    let told = server.raw(lines.as_bytes(), Some("10:00:00.000Z\"}}")).await;
    let wanted = r#""schedule":"s","dropped":{"reason":"missed","count":3,"first":"2026-11-21T09:40:00.000Z","last":"2026-11-21T10:00:00.000Z"}"#;
    assert!(told.contains(wanted), "{told}");
}
