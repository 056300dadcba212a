//! `onefold schedules`.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod kit;

use kit::Room;
use serde_json::json;

#[test]
fn a_schedule_is_set_shown_paused_run_and_deleted() {
    let (room, _server) = Room::served();
    assert!(room.ok(&["schedules"]).contains("no schedules yet"));
    let set = [
        "schedules",
        "set",
        "nightly",
        "--cron",
        "30 2 * * *",
        "--timezone",
        "Europe/Berlin",
        "--queue",
        "reports",
        "--kind",
        "report",
        "--overlap",
        "skip",
        "{\"of\":\"day\"}",
    ];
    assert!(room.ok(&set).starts_with("nightly ticks next at "));
    assert_eq!(room.json(&set)["job"], json!({"kind": "report", "payload": {"of": "day"}}));
    let listed = room.ok(&["schedules", "list"]);
    assert!(listed.contains("30 2 * * * Europe/Berlin") && listed.contains("reports"), "{listed}");
    let shown = room.ok(&["schedules", "show", "nightly"]);
    for words in [
        "into queue reports",
        "overlap   skip",
        "0 added a job",
        r#"{"kind":"report","payload":{"of":"day"}}"#,
    ] {
        assert!(shown.contains(words), "{words:?} is not in\n{shown}");
    }
    assert_eq!(room.ok(&["schedules", "next", "nightly", "-n", "3"]).lines().count(), 3);
    assert_eq!(room.json(&["schedules", "next", "nightly"])["ticks"].as_array().unwrap().len(), 10);
    assert!(room.ok(&["schedules", "pause", "nightly"]).contains("is paused"));
    assert!(room.ok(&["schedules"]).contains("paused"));
    let job = room.ok(&["schedules", "run", "nightly"]).trim().to_owned();
    assert_eq!(room.only_job("reports"), job);
    room.run(&["schedules", "run", "nightly"]).says(1, "schedule-job-unfinished");
    assert!(room.ok(&["schedules", "resume", "nightly"]).contains("ticks next in"));
    assert!(room.ok(&["schedules", "delete", "nightly"]).contains("is gone"));
    room.run(&["schedules", "show", "nightly"]).says(1, "schedule-not-found");
}

#[test]
fn what_would_tick_is_told_without_a_server() {
    let room = Room::new();
    let next = [
        "schedules",
        "next",
        "--cron",
        "30 2 * * *",
        "--timezone",
        "America/New_York",
        "--start",
        "2027-03-14T00:00:00Z",
        "-n",
        "2",
    ];
    let told = room.ok(&next);
    let days: Vec<_> = told.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(days, ["2027-03-14T03:00:00-04:00", "2027-03-15T02:30:00-04:00"]);
    assert_eq!(room.ok(&["schedules", "next", "--every", "90m", "-n", "4"]).lines().count(), 4);
    room.run(&["schedules", "next", "--cron", "0 0 30 2 *"]).says(2, "30 February");
    room.run(&["schedules", "next"]).says(2, "required");
    room.run(&["schedules", "set", "x", "--queue", "q"]).says(2, "say when it ticks");
    room.run(&["schedules", "set", "x", "--queue", "q", "--every", "1h", "--missed", "never"])
        .says(2, "once, skip or all");
    room.run(&["schedules", "next", "--cron", "@daily", "--timezone", "CET+1"]).says(2, "CET+1");
}
