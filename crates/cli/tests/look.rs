//! Looking at and changing jobs and queues, on a server and straight in its directory.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod kit;

use kit::Room;
use serde_json::json;

#[test]
fn a_job_explains_every_attempt_and_repeat() {
    let (room, _server) = Room::served();
    room.ok(&["add", "inv", "{\"n\":1}", "--key", "order-1", "--kind", "invoice"]);
    room.ok(&["add", "inv", "{\"n\":1}", "--key", "order-1", "--kind", "invoice"]);
    room.run(&["add", "inv", "{\"n\":2}", "--key", "order-1"]).says(1, "key-reused");
    let (id, first) = room.lease("inv", "ada");
    room.settle(&format!(
        r#"{{"op":"fail","id":"{id}","fencing_token":{first},"error":{{"message":"no paper"}},"retry_in":0}}"#
    ));
    let (_, second) = room.lease("inv", "bob");
    let late = room.settle(&format!(r#"{{"op":"complete","id":"{id}","fencing_token":{first}}}"#));
    assert_eq!(late["code"], "lease-lost");
    let page = room.ok(&["job", &id]);
    for words in [
        "in queue inv: running",
        "key       order-1",
        "attempt 1 leased to ada",
        "attempt 1 failed: no paper",
        "attempt 2 leased to bob",
        "a late complete of attempt 1 was refused",
        "added again with the same key: answered with this job, repeat 1",
        "another job with the same key was refused, refusal 1",
        "Attempt 2: attempt 1 failed: no paper",
        "bob has had it for",
    ] {
        assert!(page.contains(words), "{words:?} is not in\n{page}");
    }
    room.settle(&format!(r#"{{"op":"complete","id":"{id}","fencing_token":{second},"result":"sent"}}"#));
    let page = room.ok(&["job", &id]);
    assert!(page.contains("result    \"sent\"") && page.contains("never runs again"), "{page}");
    let job = room.json(&["job", &id]);
    assert_eq!((job["attempts"].as_array().unwrap().len(), &job["late_writes"]), (2, &json!(1)));
    room.run(&["job", "job_01a1fe047dc070008000000000000007"]).says(1, "(job-not-found)");
    room.run(&["job", "7"]).says(2, "job_");
}

#[test]
fn a_directory_shows_what_its_server_shows_beside_it_and_after_it() {
    let (room, server) = Room::served();
    room.ok(&["add", "a", "{\"n\":1}", "--key", "k", "--delay", "1h"]);
    room.ok(&["add", "b", "2"]);
    room.ok(&["pause", "b"]);
    let id = room.only_job("a");
    let data = ["--data", "onefold-data"];
    for command in [&["jobs"][..], &["job", &id], &["queues"]] {
        let mut there = room.json(command);
        let mut here = room.json(&[command, &data].concat());
        // How long ago something was goes on growing.
        for value in [&mut there, &mut here] {
            for queue in value["queues"].as_array_mut().into_iter().flatten() {
                queue["oldest_available_age_ms"].take();
            }
        }
        assert_eq!(here, there, "{command:?}");
    }
    let waiting = room.only_job("b");
    let page = room.ok(&["job", &waiting, "--data", "onefold-data"]);
    assert!(page.contains("Queue b is paused. `onefold resume b` lets it go on."), "{page}");
    server.stop();
    assert_eq!(room.json(&["jobs", "--data", "onefold-data"])["jobs"].as_array().unwrap().len(), 2);
    room.run(&["jobs", "--data", "elsewhere"]).says(1, "there is no store in elsewhere");
    room.run(&["jobs", "--data", "d", "--url", "http://localhost"]).says(2, "cannot be used with");
}

#[test]
fn a_list_is_filtered_and_goes_on_over_pages() {
    let (room, _server) = Room::served();
    let lines: String = (0..1_200).map(|n| format!("{n}\n")).collect();
    room.feed(&["add", "many", "-", "--kind", "count"], &lines);
    room.ok(&["add", "few", "1", "--label", "odd", "--group", "g"]);
    let count = |args: &[&str]| {
        let list = room.json(&[&["jobs"], args].concat());
        (list["jobs"].as_array().unwrap().len(), list["cursor"].is_string())
    };
    assert_eq!(count(&[]), (50, true));
    assert_eq!(count(&["--all"]), (1_201, false));
    assert_eq!(count(&["--limit", "1100"]), (1_100, true));
    assert_eq!(count(&["--label", "odd", "--group", "g"]), (1, false));
    assert_eq!(count(&["--kind", "count", "--limit", "1200", "--state", "available,dead"]), (1_200, false));
    assert_eq!(count(&["--state", "completed"]), (0, false));
    assert_eq!(count(&["--since", "1h", "--queue", "few"]), (1, false));
    assert_eq!(count(&["--until", "1h"]), (0, false));
    let page = room.json(&["jobs", "--queue", "many", "-n", "2"]);
    let next =
        room.json(&["jobs", "--queue", "many", "-n", "2", "--cursor", page["cursor"].as_str().unwrap()]);
    assert_ne!(page["jobs"][1]["id"], next["jobs"][0]["id"]);
    room.run(&["jobs", "--state", "done"]).says(2, "a state is one of scheduled, available");
    let table = room.ok(&["jobs", "--queue", "few"]);
    assert!(table.starts_with("ID ") && table.contains("  few    available"), "{table}");
}

#[test]
fn jobs_are_cancelled_retried_and_deleted_and_refusals_are_told_one_by_one() {
    let (room, _server) = Room::served();
    room.ok(&["add", "q", "1"]);
    let id = room.only_job("q");
    room.run(&["delete", &id]).says(1, "(job-not-finished)");
    assert_eq!(room.ok(&["cancel", &id]), format!("{id}: cancelled\n"));
    let unknown = "job_01a1fe047dc070008000000000000007";
    let ran = room.run(&["retry", unknown, &id]);
    ran.says(1, &format!("{unknown}: there is no such job"));
    assert_eq!(ran.out, format!("{id}: available\n"), "the other one is retried all the same");
    room.ok(&["cancel", &id]);
    room.ok(&["delete", &id]);
    room.run(&["job", &id]).says(1, "(job-not-found)");
}

#[test]
fn a_paused_queue_hands_out_nothing_until_it_goes_on() {
    let (room, _server) = Room::served();
    room.ok(&["add", "q", "1"]);
    assert!(room.ok(&["pause", "q"]).contains("q is paused"));
    assert!(room.ok(&["queues"]).contains("paused"));
    let table = room.ok(&["jobs"]);
    assert!(table.contains("waits: paused"), "{table}");
    assert_eq!(room.json(&["resume", "q"])["paused"], false);
    room.lease("q", "w");
}

#[test]
fn dead_jobs_are_counted_and_redriven_once_each() {
    let (room, _server) = Room::served();
    for n in ["1", "2", "3"] {
        room.ok(&["add", "q", n, "--max-attempts", "1", "--kind", if n == "3" { "other" } else { "same" }]);
        let (id, token) = room.lease("q", "w");
        room.settle(&format!(
            r#"{{"op":"fail","id":"{id}","fencing_token":{token},"error":{{"message":"m"}}}}"#
        ));
    }
    assert_eq!(room.ok(&["redrive", "q", "--dry-run"]), "3 jobs of q would run again\n");
    assert_eq!(room.json(&["redrive", "q", "--kind", "same", "--dry-run"]), json!({"would_redrive": 2}));
    assert_eq!(room.json(&["redrive", "q", "--kind", "same", "--limit", "1"])["redriven"], 1);
    assert_eq!(room.ok(&["redrive", "q"]), "run again: 2 jobs of q\n");
    assert_eq!(room.ok(&["redrive", "q"]), "run again: 0 jobs of q\n");
    room.run(&["redrive", "nowhere"]).says(1, "(queue-not-found)");
    room.run(&["redrive", "q", "--state", "completed"]).says(2, "only dead and cancelled");
}

#[test]
fn every_command_teaches_itself() {
    let room = Room::new();
    let help = room.ok(&["--help"]);
    for command in
        help.lines().filter_map(|line| line.strip_prefix("  ")?.split_once("  ").map(|(name, _)| name))
    {
        if command.is_empty() || command.starts_with(['-', ' ']) || command.contains(' ') {
            continue;
        }
        let text = room.ok(&[command, "--help"]);
        assert!(text.contains("Usage: onefold"), "{command}: {text}");
    }
    assert!(help.contains("Exit codes: 0 done, 1 failed, 2 asked for wrongly."), "{help}");
    room.run(&["nonsense"]).says(2, "unrecognized subcommand");
}

/// I7: what was recorded of a step is shown with its job; a doubt is shown, resolved, and the job then runs to its end.
#[test]
fn effects_are_shown_and_resolved() {
    let (room, _server) = Room::served();
    let id = {
        room.ok(&["add", "q", "1"]);
        room.only_job("q")
    };
    let url = room.url.clone().unwrap();
    let post = |what: &str, body: String| kit::http(&url, "POST", &format!("/v1/effects/{id}/{what}"), &body);
    let (_, token) = room.lease("q", "ada");
    let begin = |token: u64| {
        let body =
            json!({"key": "charge", "policy": "at_most_once", "job": {"id": id, "fencing_token": token}});
        post("begin", body.to_string())
    };
    assert_eq!(begin(token).0, 200);
    let unknown = json!({"key": "charge", "fencing_token": token, "outcome": "unknown"});
    assert_eq!(post("release", unknown.to_string()).0, 200);
    let page = room.ok(&["job", &id]);
    for words in
        ["dead (indeterminate)", "effects   charge indeterminate", "nobody knows whether an effect happened"]
    {
        assert!(page.contains(words), "{words:?} is not in\n{page}");
    }
    assert!(room.ok(&["effects", "--state", "indeterminate"]).contains("charge"));
    let page = room.ok(&["effects", "show", &id, "charge"]);
    assert!(page.contains("at_most_once") && page.contains("onefold effects resolve"), "{page}");
    let resolve = ["effects", "resolve", &id, "charge", "--outcome", "completed"];
    room.run(&resolve).says(2, "--note");
    let note = ["--note", "in their books", "--result", "{\"receipt\":7}"];
    assert!(room.ok(&[&resolve[..], &note].concat()).contains("it is replayed from now on"));
    room.ok(&["retry", &id]);
    let (_, token) = room.lease("q", "bob");
    assert_eq!(begin(token), (200, r#"{"state":"completed","result":{"receipt":7}}"#.to_owned()));
    let page = room.ok(&["job", &id]);
    assert!(page.contains("its stored result was replayed (charge in attempt 2"), "{page}");
    let shown = room.json(&["effects", "show", &id, "charge", "--data", "onefold-data"]);
    assert_eq!((&shown["resolution"]["note"], &shown["replays"]), (&json!("in their books"), &json!(1)));
    assert!(room.ok(&["effects"]).contains("completed"));
}
