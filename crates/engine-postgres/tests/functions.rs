//! SQL functions for users' own transactions: the same as the core wherever they compute the same, one SQLSTATE for each
//! error, locks on nobody else's rows. `testing/conformance/tests/postgres_sql.rs` has them answer like the reference
//! engine.

#![allow(clippy::unwrap_used, clippy::panic, reason = "in a test a broken expectation is a failed test")]

mod kit;

use std::sync::Arc;

use kit::*;
use onefold_core::{
    Backoff, DurationMs, End, Engine, Event, Fingerprint, FreeOn, JobError, JobId, NewJob, Outcome, Payload,
    Refusal, State, When, limits, transition,
};
use onefold_engine_postgres::user_tx::{self, UserTxError};
use onefold_engine_postgres::{PostgresConfig, PostgresEngine};
use serde_json::{Value, json};
use tokio_postgres::{Client, Error, IsolationLevel};

async fn store() -> (PostgresConfig, Arc<PostgresEngine>, Client) {
    let config = config();
    let node = node(&config).await;
    let client = other(&config).await;
    (config, node, client)
}

/// SQLSTATE, code of the detail, and the hint.
fn told(error: &Error) -> (String, String, String) {
    let db = error.as_db_error().unwrap_or_else(|| panic!("{error}"));
    let detail: Value = serde_json::from_str(db.detail().unwrap_or("{}")).unwrap_or_default();
    let code = detail["code"].as_str().unwrap_or_default().to_owned();
    (db.code().code().to_owned(), code, db.hint().unwrap_or_default().to_owned())
}

async fn sql_add(client: &Client, to: &str, payload: Option<&str>, opts: &Value) -> Result<Value, Error> {
    let row = client
        .query_one(
            "SELECT add($1, $2::text::json, $3::text::jsonb)::text",
            &[&to, &payload, &opts.to_string()],
        )
        .await?;
    Ok(serde_json::from_str(row.get(0)).unwrap())
}

fn id_of(answer: &Value) -> JobId {
    answer["id"].as_str().unwrap().parse().unwrap()
}

/// Fingerprints are those of the core: its own vectors.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fingerprints_are_those_of_the_core() {
    let (_, _, client) = store().await;
    let vectors: Value =
        serde_json::from_str(include_str!("../../../testing/conformance/vectors/fingerprint.json")).unwrap();
    for vector in vectors["computed"].as_array().unwrap() {
        let text = |name: &str| vector[name].as_str();
        let json = vector["payload"]["json"].as_str();
        let hex = vector["payload"]["hex"].as_str();
        let row = client
            .query_one(
                "SELECT encode(fingerprint($1, $2, CASE WHEN $3::text IS NULL THEN decode($4::text, 'hex') \
                 ELSE canonical($3::text::json, 'payload') END, $5, $6), 'hex')",
                &[
                    &text("kind"),
                    &text("content_type"),
                    &json,
                    &hex,
                    &text("target_method"),
                    &text("target_url"),
                ],
            )
            .await
            .unwrap();
        assert_eq!(row.get::<_, &str>(0), vector["fingerprint"], "{}", vector["name"]);
    }
    for vector in vectors["custom"].as_array().unwrap() {
        let asked = "SELECT encode(given_fingerprint($1), 'hex')";
        let row = client.query_one(asked, &[&vector["custom"].as_str()]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), vector["fingerprint"], "{}", vector["name"]);
    }
    for vector in vectors["refused"].as_array().unwrap() {
        let Some(json) = vector["payload"]["json"].as_str() else { continue };
        let refused =
            client.query_one("SELECT canonical($1::text::json, 'payload')", &[&json]).await.unwrap_err();
        let state = refused.code().unwrap().code();
        assert!(matches!(state, "22P02" | "OF031" | "OF032" | "OF033"), "{}: {refused:?}", vector["name"]);
    }
}

/// A JSON text as somebody might write it, often canonical in nothing.
fn some_json(dice: &mut u64, depth: usize) -> String {
    let mut roll = |sides: u64| {
        *dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*dice >> 33) % sides
    };
    let words = [
        "a",
        "b",
        "",
        "\\u0000",
        "\\u0001",
        "\\u0001\\u0002",
        "\\u0000\\u0001",
        "\\u0041",
        "é",
        "\\u00e9",
        "\\\\",
        "\\\\u0000",
        "\\\\\\u0000",
        "\\/",
        "\\ud83d\\ude00",
        "\\n\\t\\b\\f\\r",
        "\\u001F",
        "\\\"",
        "z\\u0000",
        "\u{7f}",
        "\\uD7FF",
        "\\uE000",
        "\u{fffd}",
    ];
    let word = |number: u64| words[number as usize % words.len()];
    let space = [" ", "", "\n", "\t\r", ""][roll(5) as usize];
    let kind = roll(if depth > 4 { 3 } else { 6 });
    match kind {
        0 => format!("{space}\"{}{}\"", word(roll(99)), word(roll(99))),
        1 => format!("{}{space}", ["1", "-0", "1.0", "1E400", "0.10e+5"][roll(5) as usize]),
        2 => ["true", "false", "null"][roll(3) as usize].to_owned(),
        3 => {
            let items: Vec<String> = (0..roll(4)).map(|_| some_json(dice, depth + 1)).collect();
            format!("[{space}{}{space}]", items.join(","))
        }
        _ => {
            let count = roll(5);
            let mut members = Vec::new();
            for _ in 0..count {
                let mut again = |sides: u64| {
                    *dice =
                        dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (*dice >> 33) % sides
                };
                let name = format!("\"{}{}\"", word(again(99)), word(again(99)));
                members.push(format!("{space}{name}{space}:{}", some_json(dice, depth + 1)));
            }
            format!("{{{}{space}}}", members.join(","))
        }
    }
}

/// Canonical JSON is the core's, or refused as the core refuses it, for whatever texts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn canonical_json_is_that_of_the_core() {
    let (_, _, client) = store().await;
    let asked = client.prepare("SELECT canonical($1::text::json, 'payload')").await.unwrap();
    let (mut dice, mut fine) = (7, 0);
    for _ in 0..3_000 {
        let text = some_json(&mut dice, 0);
        let expected = onefold_core::canonical::canonicalize(text.as_bytes(), limits::JSON_DEPTH_MAX);
        match (expected, client.query_one(&asked, &[&text]).await) {
            (Ok(expected), Ok(row)) => {
                fine += 1;
                assert_eq!(*expected, *row.get::<_, &[u8]>(0), "{text}");
            }
            (Err(_), Err(error)) => assert_eq!(told(&error).1, "duplicate-member", "{text}"),
            (expected, seen) => panic!("{text}: {expected:?}, but {seen:?}"),
        }
    }
    assert!(fine > 1_000, "most of them are JSON");
    for bad in [
        r#""\ud83d""#,
        r#""\ude00""#,
        r#""\ude00\ud83d""#,
        r#"{"\ud83d\\ude00":1}"#,
        r#""\ud83d\ud83d\ude00""#,
    ] {
        assert!(onefold_core::canonical::canonicalize(bad.as_bytes(), 128).is_err(), "{bad}");
        assert_eq!(told(&client.query_one(&asked, &[&bad]).await.unwrap_err()).0, "OF031", "{bad}");
    }
    for fine in [r#""\\ud83d""#, r#""\\\\ud83d""#, r#""\ud83d\ude00\ud83d\ude00""#] {
        assert!(client.query_one(&asked, &[&fine]).await.is_ok(), "{fine}");
    }
}

/// States: the functions go along the table of the core, for every state and every event.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transitions_are_those_of_the_core() {
    let (_, _, client) = store().await;
    let asked = client.prepare("SELECT transition($1, $2)").await.unwrap();
    for (from, state) in State::ALL.iter().enumerate() {
        let word = client.query_one("SELECT state_word($1)", &[&(from as i16)]).await.unwrap();
        assert_eq!(word.get::<_, &str>(0), state.as_str());
        for (number, event) in Event::ALL.iter().enumerate() {
            let row = client.query_one(&asked, &[&(from as i16), &(number as i16)]).await.unwrap();
            let reached: Option<i16> = row.get(0);
            let reached = reached.map(|place| State::ALL[usize::try_from(place).unwrap()]);
            assert_eq!(reached, transition(*state, *event).ok(), "{state} + {event}");
        }
    }
}

/// What tells ends apart (I6) is the same in SQL and in the core: an end said here is the same end there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_are_told_apart_as_by_the_core() {
    let (config, node, client) = store().await;
    let error = |kind: Option<&str>| JobError { message: "oöps\n\"".into(), kind: kind.map(str::to_owned) };
    let ends = [
        End::Complete { result: None },
        End::Complete { result: Some("[1, 2.0]".into()) },
        End::Fail { error: error(None), retryable: true, retry_in: None },
        End::Fail { error: error(Some("k")), retryable: false, retry_in: Some(DurationMs::from_ms(7)) },
        End::Snooze { delay: DurationMs::from_ms(90_000) },
    ];
    for end in ends {
        add(&node, "q", vec![NewJob::default()]).await;
        let leased = lease(&node, "q", 1).await.pop().unwrap();
        let (id, token) = (leased.job.id, leased.attempt().unwrap().token);
        let schema = &config.schema;
        let state = match &end {
            End::Complete { result } => {
                user_tx::complete(&client, schema, id, token, result.as_deref()).await.unwrap()
            }
            End::Fail { error, retryable, retry_in } => {
                user_tx::fail(&client, schema, id, token, error, *retryable, *retry_in).await.unwrap()
            }
            End::Snooze { delay } => user_tx::snooze(&client, schema, id, token, *delay).await.unwrap(),
            End::Release => panic!("not by SQL"),
        };
        let op = onefold_core::SettleOp { id, token, action: onefold_core::SettleAction::End(end) };
        assert_eq!(settle(&node, op).await.unwrap().state, state, "the same end again, of the engine");
    }
}

/// Every state and every operation: done, answered, or refused with the SQLSTATE that says why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_in_every_state() {
    let (config, node, client) = store().await;
    let schema = &config.schema;
    let mut seen = 0;
    for state in State::ALL {
        for operation in ["complete", "fail", "snooze", "cancel", "force"] {
            let queue_name = format!("{state}-{operation}");
            let mut job = NewJob { max_attempts: Some(2), ..NewJob::default() };
            job.spec.backoff = Some(Backoff::Fixed(DurationMs::from_ms(3_600_000)));
            if *state == State::Scheduled {
                job.when = When::After(DurationMs::from_ms(3_600_000));
            }
            let id = add_one(&node, &queue_name, job).await.id;
            let mut token = onefold_core::FencingToken::new(1).unwrap();
            if !matches!(state, State::Scheduled | State::Available) {
                let leased = lease(&node, &queue_name, 1).await.pop().unwrap();
                token = leased.attempt().unwrap().token;
            }
            let error = JobError { message: "first".into(), kind: None };
            match state {
                State::Scheduled | State::Available | State::Running => {}
                State::Retrying => {
                    user_tx::fail(&client, schema, id, token, &error, true, None).await.unwrap();
                }
                State::Completed => {
                    user_tx::complete(&client, schema, id, token, None).await.unwrap();
                }
                State::Dead => {
                    user_tx::fail(&client, schema, id, token, &error, false, None).await.unwrap();
                }
                State::Cancelled => {
                    user_tx::cancel(&client, schema, id, true).await.unwrap();
                }
            }
            let before = node.get(id).await.unwrap().unwrap();
            assert_eq!(before.job.state, *state);
            let second = JobError { message: "second".into(), kind: None };
            let outcome = match operation {
                "complete" => user_tx::complete(&client, schema, id, token, Some(b"1")).await,
                "fail" => user_tx::fail(&client, schema, id, token, &second, true, None).await,
                "snooze" => user_tx::snooze(&client, schema, id, token, DurationMs::from_ms(1)).await,
                "cancel" => user_tx::cancel(&client, schema, id, false).await,
                _ => user_tx::cancel(&client, schema, id, true).await,
            };
            let after = node.get(id).await.unwrap().unwrap();
            let is_end = !matches!(operation, "cancel" | "force");
            let event = match operation {
                "complete" => Event::Completed,
                "fail" => Event::Failed,
                "snooze" => Event::Snoozed,
                _ => Event::Cancelled,
            };
            match (state, is_end) {
                (State::Running, true) => {
                    assert_eq!(outcome.unwrap(), transition(*state, event).unwrap(), "{queue_name}");
                }
                (_, true) => {
                    let refused = outcome.unwrap_err();
                    assert!(
                        matches!(refused, UserTxError::Refused(Refusal::LeaseLost { state: s }) if s == *state),
                        "{queue_name}: {refused:?}"
                    );
                    assert_eq!(after, before, "{queue_name}: refused, but changed");
                }
                (State::Running, false) if operation == "cancel" => {
                    assert_eq!(outcome.unwrap(), State::Running);
                    assert!(after.job.cancel_requested);
                }
                (State::Cancelled, false) => {
                    assert_eq!(outcome.unwrap(), State::Cancelled);
                    assert_eq!(after, before, "cancelling again changes nothing");
                }
                (_, false) => match transition(*state, event) {
                    Ok(reached) => assert_eq!(outcome.unwrap(), reached, "{queue_name}"),
                    Err(_) => {
                        let refused = outcome.unwrap_err();
                        assert!(
                            matches!(refused, UserTxError::Refused(Refusal::JobFinished { state: s }) if s == *state),
                            "{queue_name}: {refused:?}"
                        );
                        assert_eq!(after, before, "{queue_name}: refused, but changed");
                    }
                },
            }
            seen += 1;
        }
    }
    assert_eq!(seen, State::ALL.len() * 5);
}

/// Options: all of them reach the job, in the words and units of the HTTP API, and the answer is that of HTTP.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_options_reach_the_job() {
    let (_, node, client) = store().await;
    let opts = json!({
        "kind": "invoice", "key": "ké\u{1f600}", "group": "g", "priority": -7, "delay": "1h30m", "max_attempts": 3,
        "backoff": {"exponential": {"base": "1s", "max": 60000}}, "timeout": "1m30s",
        "headers": {"X-a": "ä\t", "b": ""}, "labels": ["l1", "l 2"], "retain": "1w",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "dedup": {"window": "90m", "until": "done", "on_duplicate": "replace", "version": u64::MAX, "max_delay": "2d"},
    });
    let payload = " {\"b\": 1.0, \"a\" :\"\\u00e9\\u0000\"}\n";
    let answer = sql_add(&client, "q", Some(payload), &opts).await.unwrap();
    let view = node.get(id_of(&answer)).await.unwrap().unwrap();
    let (job, spec) = (view.job, view.spec);
    assert_eq!(spec.payload, Payload::Json(payload.into()), "as it was given");
    assert_eq!(spec.fingerprint.clone().unwrap(), spec.content_fingerprint().unwrap());
    assert_eq!((spec.kind.unwrap().as_str(), spec.key.unwrap().as_str()), ("invoice", "ké\u{1f600}"));
    assert_eq!((spec.group.unwrap().as_str(), job.priority, job.max_attempts), ("g", -7, 3));
    assert_eq!(job.state, State::Scheduled);
    assert_eq!(job.run_at, job.created_at().saturating_add(DurationMs::from_ms(5_400_000)));
    let expected =
        Backoff::Exponential { base: DurationMs::from_ms(1_000), max: DurationMs::from_ms(60_000) };
    assert_eq!((spec.backoff, spec.timeout), (Some(expected), Some(DurationMs::from_ms(90_000))));
    assert_eq!(spec.headers.len(), 2);
    assert!(spec.headers.contains(&("X-a".to_owned(), "ä\t".to_owned())));
    assert_eq!(spec.labels.iter().map(|label| label.as_str()).collect::<Vec<_>>(), ["l1", "l 2"]);
    assert_eq!(spec.retain, Some(DurationMs::from_ms(604_800_000)));
    assert_eq!(spec.traceparent.unwrap().as_str(), opts["traceparent"]);
    assert_eq!((spec.dedup.window.as_ms(), spec.dedup.free_on), (5_400_000, FreeOn::DONE));
    assert_eq!((spec.dedup.version, spec.dedup.max_delay.unwrap().as_ms()), (Some(u64::MAX), 172_800_000));
    assert_eq!(
        answer,
        json!({
            "id": job.id, "state": "scheduled", "run_at": job.run_at, "duplicate": false,
            "dedup": {"window": "1h30m", "free_on": ["completed", "dead", "cancelled"], "on_duplicate": "replace",
                      "on_mismatch": "reject", "version": u64::MAX, "max_delay": "2d"},
        })
    );
    let at = json!({"run_at": "2999-12-31T23:59:59.9994+00:30", "backoff": {"list": ["1s", 5]}});
    let answer = sql_add(&client, "q", None, &at).await.unwrap();
    assert_eq!(answer["run_at"], "2999-12-31T23:29:59.999Z");
    let spec = node.get(id_of(&answer)).await.unwrap().unwrap().spec;
    assert_eq!((spec.payload, spec.key, spec.fingerprint), (Payload::Absent, None, None));
    let waits = vec![DurationMs::from_ms(1_000), DurationMs::from_ms(5)];
    assert_eq!(spec.backoff, Some(Backoff::List(waits)));
    let answer = sql_add(&client, "q", Some("null"), &json!({"backoff": {"fixed": "0s"}})).await.unwrap();
    assert_eq!(node.get(id_of(&answer)).await.unwrap().unwrap().spec.payload, Payload::Json("null".into()));
    for (opts, expected) in
        [("{}", "application/octet-stream"), (r#"{"content_type": "image/png", "key": "b"}"#, "image/png")]
    {
        let row = client
            .query_one("SELECT add_bytes('q', '\\x00ff', $1::text::jsonb)::text", &[&opts])
            .await
            .unwrap();
        let id = id_of(&serde_json::from_str(row.get(0)).unwrap());
        let spec = node.get(id).await.unwrap().unwrap().spec;
        let bytes = vec![0, 255].into();
        assert_eq!(spec.payload, Payload::Raw { bytes, content_type: expected.to_owned() });
        let content = spec.content_fingerprint().unwrap();
        assert_eq!(spec.fingerprint, spec.key.map(|_| content));
    }
    let own = json!({"key": "own", "fingerprint": "v1"});
    let answer = sql_add(&client, "q", None, &own).await.unwrap();
    let spec = node.get(id_of(&answer)).await.unwrap().unwrap().spec;
    assert_eq!(spec.fingerprint, Some(Fingerprint::custom("v1").unwrap()));
}

/// Bad input: each thing that cannot be has the SQLSTATE of its code, says what it is about, and what to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_options_are_refused_each_with_its_sqlstate() {
    let (_, node, client) = store().await;
    let long = "x".repeat(256);
    let headers =
        |count: usize| (0..count).map(|n| (format!("a{n}"), json!("b"))).collect::<serde_json::Map<_, _>>();
    let wrong = [
        (json!({"kay": 1}), "unknown-field"),
        (json!([]), "invalid-field"),
        (json!({"dedup": {"windows": 1}}), "unknown-field"),
        (json!({"key": " "}), "invalid-key"),
        (json!({"key": "\u{3000}"}), "invalid-key"),
        (json!({"key": "a\u{85}"}), "invalid-key"),
        (json!({"key": long}), "invalid-key"),
        (json!({"key": 7}), "invalid-field"),
        (json!({"kind": ""}), "invalid-field"),
        (json!({"kind": "x".repeat(129)}), "invalid-field"),
        (json!({"group": "\t"}), "invalid-field"),
        (json!({"fingerprint": ""}), "invalid-fingerprint"),
        (json!({"fingerprint": long}), "invalid-fingerprint"),
        (json!({"fingerprint_hex": "01ff"}), "invalid-fingerprint"),
        (json!({"delay": "5"}), "invalid-duration"),
        (json!({"delay": "1m1h"}), "invalid-duration"),
        (json!({"delay": "0.5ms"}), "invalid-duration"),
        (json!({"delay": ""}), "invalid-duration"),
        (json!({"delay": -1}), "invalid-duration"),
        (json!({"delay": 315_360_000_001_u64}), "invalid-duration"),
        (json!({"delay": 1.5}), "invalid-field"),
        (json!({"delay": "1s", "run_at": "2026-11-21T09:30:00Z"}), "conflicting-fields"),
        (json!({"run_at": "2026-11-21"}), "invalid-time"),
        (json!({"run_at": "2026-02-29T09:30:00Z"}), "invalid-time"),
        (json!({"run_at": "1969-12-31T23:59:59Z"}), "invalid-time"),
        (json!({"run_at": "0000-01-01T00:00:00Z"}), "invalid-time"),
        (json!({"timeout": 0}), "invalid-duration"),
        (json!({"priority": 32_768}), "invalid-field"),
        (json!({"priority": "1"}), "invalid-field"),
        (json!({"max_attempts": 0}), "invalid-field"),
        (json!({"max_attempts": 1_001}), "invalid-field"),
        (json!({"backoff": {}}), "invalid-field"),
        (json!({"backoff": {"fixed": 1, "list": [1]}}), "invalid-field"),
        (json!({"backoff": {"list": []}}), "invalid-backoff"),
        (json!({"backoff": {"list": [null]}}), "invalid-field"),
        (json!({"backoff": {"list": vec![1; 1_001]}}), "invalid-backoff"),
        (json!({"backoff": {"exponential": {"base": 0, "max": 1}}}), "invalid-backoff"),
        (json!({"backoff": {"exponential": {"base": 1}}}), "missing-field"),
        (json!({"backoff": {"expression": "1000"}}), "not-yet"),
        (json!({"headers": headers(65)}), "invalid-header"),
        (json!({"headers": {"a b": ""}}), "invalid-header"),
        (json!({"headers": {"a": "\r\n"}}), "invalid-header"),
        (json!({"headers": {"a": "1", "A": "2"}}), "invalid-header"),
        (json!({"headers": {"a": "b".repeat(8_192)}}), "invalid-header"),
        (json!({"headers": {"a": 1}}), "invalid-field"),
        (json!({"labels": vec!["l"; 17]}), "invalid-field"),
        (json!({"labels": ["x".repeat(65)]}), "invalid-field"),
        (json!({"labels": "l"}), "invalid-field"),
        (json!({"traceparent": "00-xx"}), "invalid-field"),
        (json!({"dedup": {"on_duplicate": "drop"}}), "invalid-field"),
        (json!({"dedup": {"free_on": ["done"]}}), "invalid-field"),
        (json!({"dedup": {"until": "done", "free_on": ["dead"]}}), "conflicting-fields"),
        (json!({"dedup": {"version": 1}}), "conflicting-fields"),
        (json!({"dedup": {"version": -1, "on_duplicate": "replace"}}), "invalid-field"),
        (json!({"flow_key": "f"}), "not-yet"),
        (json!({"target": {"url": "http://a"}}), "no-deliverer"),
        (json!({"content_type": "a/b"}), "conflicting-fields"),
    ];
    for (opts, expected) in wrong {
        let error = sql_add(&client, "q", None, &opts).await.unwrap_err();
        let (state, code, hint) = told(&error);
        assert_eq!(code, expected, "{opts}: {error:?}");
        assert!(state.starts_with("OF") && !hint.is_empty(), "{opts}");
    }
    assert!(
        sql_add(
            &client,
            "q",
            None,
            &json!({"headers": headers(64), "labels": vec!["l"; 16], "key": "x".repeat(255),
        "backoff": {"list": vec![1; 1_000]}, "max_attempts": 1_000, "delay": "3650d", "kind": null})
        )
        .await
        .is_ok()
    );
    for bad in ["", "a b", "ä", "a/b", &"q".repeat(129)] {
        assert_eq!(told(&sql_add(&client, bad, None, &json!({})).await.unwrap_err()).0, "OF020");
    }
    let payload = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    assert!(sql_add(&client, "q", Some(&payload(limits::PAYLOAD_BYTES_DEFAULT)), &json!({})).await.is_ok());
    let large = payload(limits::PAYLOAD_BYTES_DEFAULT + 1);
    assert_eq!(
        told(&sql_add(&client, "q", Some(&large), &json!({})).await.unwrap_err()).1,
        "payload-too-large"
    );
    for bad in ["1 MiB", "1.5", "-1", "99999999999999999999"] {
        client.batch_execute(&format!("SET onefold.payload_bytes_max = '{bad}'")).await.unwrap();
        let refused = sql_add(&client, "q", Some("1"), &json!({})).await.unwrap_err();
        assert_eq!(told(&refused).1, "invalid-field", "{bad}");
        let sentence = refused.as_db_error().unwrap().message();
        assert!(sentence.contains("onefold.payload_bytes_max") && sentence.contains(bad), "{sentence}");
    }
    client.batch_execute("SET onefold.payload_bytes_max = 99999999999").await.unwrap();
    assert!(sql_add(&client, "q", Some("1"), &json!({})).await.is_ok(), "the most there can be");
    client.batch_execute("SET onefold.payload_bytes_max = 2000000").await.unwrap();
    assert!(sql_add(&client, "q", Some(&large), &json!({})).await.is_ok());
    assert_eq!(
        told(&sql_add(&client, "q", Some(r#"{"a":1,"\u0061":2}"#), &json!({})).await.unwrap_err()).0,
        "OF032"
    );
    let nothing = client.query_one("SELECT add_bytes('q', NULL)", &[]).await.unwrap_err();
    assert_eq!(told(&nothing).1, "missing-field");

    let leased = lease(&node, "q", 1).await.pop().unwrap();
    let (id, token) = (leased.job.id.to_string(), token_of(&leased).cast_signed());
    let calls = [
        (format!("complete('{id}', 0)"), "invalid-field"),
        (format!("complete('{id}', NULL)"), "invalid-field"),
        (format!("complete('{id}', {token}, NULL, '{{\"a\":1}}')"), "unknown-field"),
        (
            format!("complete('{id}', {token}, '\"{}\"')", "x".repeat(limits::RESULT_BYTES_MAX)),
            "result-too-large",
        ),
        (format!("complete('{id}', {token}, '{{\"a\":1,\"a\":1}}')"), "duplicate-member"),
        (format!("fail('{id}', {token}, NULL)"), "missing-field"),
        (format!("fail('{id}', {token}, 'x', '{{\"retry_in\":\"x\"}}')"), "invalid-duration"),
        (format!("fail('{id}', {token}, 'x', '{{\"retryable\":1}}')"), "invalid-field"),
        (format!("snooze('{id}', {token}, NULL)"), "missing-field"),
        (format!("snooze('{id}', {token}, '10')"), "invalid-duration"),
        ("complete('job_1', 1)".to_owned(), "job-not-found"),
        ("cancel('job_00000000000070008000000000000001')".to_owned(), "job-not-found"),
        (format!("cancel('{id}', '{{\"force\":1}}')"), "invalid-field"),
        (format!("complete('{id}', {})", token - 1), "lease-lost"),
    ];
    for (call, expected) in calls {
        let error = client.query_one(&format!("SELECT {call}"), &[]).await.unwrap_err();
        assert_eq!(told(&error).1, expected, "{:.100}: {error:?}", call);
    }
    let cut = format!("SELECT fail('{id}', {token}, repeat('é', 5000))");
    client.query_one(&cut, &[]).await.unwrap();
    let view = node.get(leased.job.id).await.unwrap().unwrap();
    let end = view.job.attempt.unwrap().end.unwrap();
    assert_eq!(
        (end.outcome, end.error.unwrap().message.len()),
        (Outcome::Failed, limits::ERROR_MESSAGE_BYTES_MAX)
    );
}

/// Errors: every SQLSTATE stands for one code that has a page, and is in the guide.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_sqlstate_is_documented() {
    let (_, _, client) = store().await;
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let guide = std::fs::read_to_string(format!("{root}/docs/guide/sql.md")).unwrap();
    let rows = client.query("SELECT code, sqlstate, hint FROM sqlstates()", &[]).await.unwrap();
    let mut states = std::collections::BTreeSet::new();
    for row in &rows {
        let (code, state): (&str, &str) = (row.get(0), row.get(1));
        assert!(states.insert(state), "{state} twice");
        assert!(std::fs::exists(format!("{root}/docs/errors/{code}.md")).unwrap(), "{code} has no page");
        assert!(guide.contains(&format!("| `{state}` | [{code}](../errors/{code}.md) |")), "{state} {code}");
    }
    assert!(rows.len() > 20);
}

/// Waits until somebody waits for a lock with this in his query. The server has other tests' queries, too.
async fn until_blocked(client: &Client, mark: &str) {
    let waits =
        "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND strpos(query, '-- ' || $1) > 0";
    while client.query(waits, &[&mark]).await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
}

/// I3: of two open transactions that add one key the second waits for the first, then gets the first job, or adds its own,
/// or is refused for other content, however the first ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_the_second_of_two_open_transactions_waits_for_the_first() {
    let (config, node, watcher) = store().await;
    add_one(&node, "q", NewJob::default()).await;
    for (round, (commits, same)) in [(true, true), (true, false), (false, true)].into_iter().enumerate() {
        let key = json!({"key": format!("k{round}")}).to_string();
        let (mut first, second) = (other(&config).await, other(&config).await);
        let open = first.transaction().await.unwrap();
        let row = open.query_one("SELECT add('q', '1', $1::text::jsonb)->>'id'", &[&key]).await.unwrap();
        let first_id: String = row.get(0);
        let text = format!(
            "SELECT add('q', '{}', $1::text::jsonb)::text -- second of two",
            if same { 1 } else { 2 }
        );
        let waiting = tokio::spawn(async move { second.query_one(&text, &[&key]).await });
        until_blocked(&watcher, "second of two").await;
        if commits {
            open.commit().await.unwrap()
        } else {
            open.rollback().await.unwrap()
        }
        let outcome = waiting.await.unwrap();
        if same {
            let answer: Value = serde_json::from_str(outcome.unwrap().get(0)).unwrap();
            assert_eq!(answer["duplicate"], commits);
            assert_eq!(answer["id"] == first_id, commits);
        } else {
            let error = outcome.unwrap_err();
            assert_eq!(told(&error).0, "OF010");
            assert!(error.as_db_error().unwrap().detail().unwrap().contains(&first_id));
        }
    }
    assert_eq!(node.queue(queue("q")).await.unwrap().unwrap().counts.accepted, 4);
}

/// I3: the same where a transaction sees only what was there as it began: never a second job, never a wrong answer, at
/// worst one more try.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i3_under_stricter_isolation_a_race_asks_for_another_try() {
    let (config, node, watcher) = store().await;
    add_one(&node, "q", NewJob::default()).await;
    for (round, level) in
        [IsolationLevel::RepeatableRead, IsolationLevel::Serializable].into_iter().enumerate()
    {
        let key = json!({"key": format!("k{round}")}).to_string();
        let (mut first, mut second) = (other(&config).await, other(&config).await);
        let open = first.transaction().await.unwrap();
        open.query_one("SELECT add('q', '1', $1::text::jsonb)", &[&key]).await.unwrap();
        let asked = key.clone();
        let waiting = tokio::spawn(async move {
            let tx = second.build_transaction().isolation_level(level).start().await.unwrap();
            let outcome = tx.query_one("SELECT add('q', '1', $1::text::jsonb) -- stricter", &[&asked]).await;
            tx.rollback().await.unwrap();
            (outcome, second)
        });
        until_blocked(&watcher, "stricter").await;
        open.commit().await.unwrap();
        let (outcome, second) = waiting.await.unwrap();
        assert_eq!(outcome.unwrap_err().code().unwrap().code(), "40001");
        let again =
            second.query_one("SELECT add('q', '1', $1::text::jsonb)->>'duplicate'", &[&key]).await.unwrap();
        assert_eq!(again.get::<_, &str>(0), "true");
    }
}

/// I3: a transaction that is open with a key, a queue's first job, a job it completes, delays only callers of these: each
/// is told what it waits for, by SQL and by the server, and everybody else goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_transaction_delays_only_callers_of_its_keys() {
    let (config, node, client) = store().await;
    add(&node, "q", vec![NewJob::default(), keyed("held"), NewJob::default()]).await;
    let leased = lease(&node, "q", 1).await.pop().unwrap();
    let mut idle = other(&config).await;
    let open = idle.transaction().await.unwrap();
    let schema = &config.schema;
    let token = leased.attempt().unwrap().token;
    user_tx::complete(&open, schema, leased.job.id, token, None).await.unwrap();
    user_tx::add(&open, schema, &queue("q"), &keyed("open")).await.unwrap();
    user_tx::add(&open, schema, &queue("new"), &NewJob::default()).await.unwrap();
    // A repeat locks neither the job nor its key.
    assert!(user_tx::add(&open, schema, &queue("q"), &keyed("held")).await.unwrap().duplicate);

    client.batch_execute("SET lock_timeout = '100ms'").await.unwrap();
    let refused = |outcome: Result<onefold_core::Added, UserTxError>| match outcome.unwrap_err() {
        UserTxError::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    };
    let by_sql = user_tx::add(&client, schema, &queue("q"), &keyed("open")).await;
    assert_eq!(refused(by_sql), Refusal::KeyInProgress);
    let ended = user_tx::complete(&client, schema, leased.job.id, token, None).await.unwrap_err();
    assert!(matches!(ended, UserTxError::Refused(Refusal::JobInProgress)), "{ended:?}");
    let made = user_tx::add(&client, schema, &queue("new"), &NewJob::default()).await.unwrap_err();
    assert!(matches!(made, UserTxError::Invalid { ref code, .. } if code == "busy"), "{made:?}");
    assert_eq!(add(&node, "q", vec![keyed("open")]).await, [Err(Refusal::KeyInProgress)]);
    assert!(
        !matches!(node.add(add_params("new", vec![NewJob::default()])).await, Ok(ref all) if all[0].is_ok())
    );

    for place in ["q", "other"] {
        assert!(!user_tx::add(&client, schema, &queue(place), &keyed("free")).await.unwrap().duplicate);
        assert!(!add_one(&node, place, keyed("free too")).await.duplicate);
    }
    assert!(add_one(&node, "q", keyed("held")).await.duplicate);
    let others = lease(&node, "q", 9).await;
    assert_eq!(others.len(), 4, "all that is not in the open transaction is leased");
    assert!(settle(&node, complete(&others[0])).await.is_ok());
    node.tick().await.unwrap();
    open.rollback().await.unwrap();
    assert!(settle(&node, complete(&leased)).await.is_ok());
    assert!(!add_one(&node, "q", keyed("open")).await.duplicate);
    assert!(!add_one(&node, "new", NewJob::default()).await.duplicate);
}

/// A repeat is noted on its job by the next tick, and counted at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeats_are_noted_by_the_next_tick() {
    let (config, node, client) = store().await;
    let first = add_one(&node, "q", keyed("k")).await.id;
    for _ in 0..50 {
        assert_eq!(user_tx::add(&client, &config.schema, &queue("q"), &keyed("k")).await.unwrap().id, first);
    }
    assert_eq!(node.queue(queue("q")).await.unwrap().unwrap().counts.duplicates, 50);
    node.tick().await.unwrap();
    let view = node.get(first).await.unwrap().unwrap();
    let numbers: Vec<u32> = view.evidence.iter().map(|e| e.number).collect();
    assert_eq!(view.job.duplicates, 50);
    assert_eq!(numbers, (1..=20).chain(31..=50).collect::<Vec<_>>(), "the first and the last are kept");
}

/// Privileges: a role needs the right to call the functions and none on the tables; without it, it may do nothing. What
/// the caller's search path or settings say makes no difference.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn functions_need_no_rights_on_tables_and_no_trust_in_the_session() {
    let (config, node, owner) = store().await;
    let role = format!("app_{}", std::process::id());
    let schema = format!("\"{}\"", config.schema);
    owner
        .batch_execute(&format!("CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA {schema} TO {role}"))
        .await
        .unwrap();
    let mut guest = config.clone();
    guest.server.user(&role);
    let app = other(&guest).await;
    let call = format!("SELECT {schema}.add('q', '1', '{{\"key\":\"k\"}}')->>'id'");
    assert_eq!(app.query_one(&call, &[]).await.unwrap_err().code().unwrap().code(), "42501");
    owner
        .batch_execute(&format!(
            "GRANT EXECUTE ON FUNCTION {schema}.add(text, json, jsonb), {schema}.complete(text, bigint, json, jsonb) TO {role}"
        ))
        .await
        .unwrap();
    app.batch_execute(
        "SET search_path = pg_temp; SET standard_conforming_strings = off; SET DateStyle = 'German, DMY'; \
         SET TimeZone = 'Asia/Kolkata'; SET IntervalStyle = sql_standard; SET bytea_output = escape; \
         CREATE TEMP TABLE jobs (x int); CREATE FUNCTION pg_temp.now_ms() RETURNS bigint LANGUAGE sql AS 'SELECT 1'; \
         CREATE FUNCTION pg_temp.sha256(bytea) RETURNS bytea LANGUAGE sql AS 'SELECT $1'",
    )
    .await
    .unwrap();
    let row = app.query_one(&call, &[]).await.unwrap();
    let id: JobId = row.get::<_, &str>(0).parse().unwrap();
    let spec = node.get(id).await.unwrap().unwrap().spec;
    assert_eq!(spec.fingerprint.clone(), Some(spec.content_fingerprint().unwrap()));
    let repeat = app
        .query_one(&format!("SELECT {schema}.add('q', ' 1 ', '{{\"key\":\"k\"}}')->>'duplicate'"), &[])
        .await
        .unwrap();
    assert_eq!(repeat.get::<_, &str>(0), "true");
    let leased = lease(&node, "q", 1).await.pop().unwrap();
    let done = format!("SELECT {schema}.complete('{id}', {}, '[1]')->>'state'", token_of(&leased));
    assert_eq!(app.query_one(&done, &[]).await.unwrap().get::<_, &str>(0), "completed");
    for forbidden in [
        format!("SELECT * FROM {schema}.jobs"),
        format!("SELECT {schema}.add_job('q', 0::smallint, NULL, NULL, '{{}}')"),
    ] {
        assert_eq!(app.query(&forbidden, &[]).await.unwrap_err().code().unwrap().code(), "42501");
    }
    drop(app);
    owner.batch_execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await.unwrap();
}

/// Plans: an add and an end read no table from end to end, however little is known about the tables.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_do_not_slow_down_as_the_store_grows() {
    let (_, node, client) = store().await;
    client
        .batch_execute(
            "INSERT INTO queues (name) VALUES ('q'); \
             INSERT INTO keys (queue, space, key, seq, created_ms, fingerprint, until_ms, free_on) \
             SELECT 1, 0, 'k' || n, 1000000 + n, 0, '\\x01', 9000000000000, 0 FROM generate_series(1, 50000) n; \
             SELECT add('q', '1', '{\"key\":\"warm\",\"group\":\"g\"}')",
        )
        .await
        .unwrap();
    let reads =
        "SELECT coalesce(sum(seq_tup_read), 0)::bigint FROM pg_stat_xact_user_tables WHERE schemaname = $1";
    let schema: String = client.query_one("SELECT current_schema()", &[]).await.unwrap().get(0);
    client.batch_execute("BEGIN").await.unwrap();
    for number in 0..20 {
        let opts = json!({"key": format!("new{number}"), "group": "g", "delay": number}).to_string();
        client.query_one("SELECT add('q', '1', $1::text::jsonb)", &[&opts]).await.unwrap();
    }
    let read: i64 = client.query_one(reads, &[&schema]).await.unwrap().get(0);
    client.batch_execute("COMMIT").await.unwrap();
    assert!(read < 1_000, "{read} rows were read in whole tables");
    let leased = lease(&node, "q", 1).await.pop().unwrap();
    client.batch_execute("BEGIN").await.unwrap();
    let done = format!("SELECT complete('{}', {})", leased.job.id, token_of(&leased));
    client.query_one(&done, &[]).await.unwrap();
    let read: i64 = client.query_one(reads, &[&schema]).await.unwrap().get(0);
    client.batch_execute("ROLLBACK").await.unwrap();
    assert!(read < 100, "{read} rows were read in whole tables");
}
