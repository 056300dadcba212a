//! `onefold doctor`, `backup` and `restore`.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod kit;

use kit::Room;
use serde_json::{Value, json};

fn verdicts(report: &Value, verdict: &str) -> Vec<String> {
    let checks = report["checks"].as_array().unwrap();
    let of = checks.iter().filter(|check| check["verdict"] == verdict);
    of.map(|check| check["check"].as_str().unwrap().to_owned()).collect()
}

impl Room {
    fn sql(&self, sql: &str) {
        let database = self.path("onefold-data/onefold.db");
        rusqlite::Connection::open(database).unwrap().execute_batch(sql).unwrap();
    }

    fn doctor(&self) -> (Option<i32>, Value) {
        let ran = self.run(&["doctor", "--json"]);
        (ran.code, serde_json::from_str(&ran.out).unwrap())
    }
}

/// A room whose server was stopped: a running job with a key, a waiting one, a delayed one.
fn left_behind() -> Room {
    let (room, server) = Room::served();
    room.ok(&["add", "q", "1", "--key", "a"]);
    room.lease("q", "w");
    room.ok(&["add", "q", "2", "--key", "b"]);
    room.ok(&["add", "q", "3", "--delay", "1h"]);
    server.stop();
    room
}

#[test]
fn a_healthy_store_is_well_beside_its_server_and_after_it() {
    let (room, server) = Room::served();
    room.ok(&["add", "q", "1", "--key", "a"]);
    let text = room.ok(&["doctor"]);
    assert!(text.contains("OK    conservation") && text.contains("is serving"), "{text}");
    let (code, report) = room.doctor();
    assert_eq!((code, verdicts(&report, "fail").len()), (Some(0), 0), "{report}");
    server.stop();
    let (code, report) = room.doctor();
    // A server that was named must be there.
    assert_eq!((code, verdicts(&report, "fail")), (Some(1), vec!["server".to_owned()]), "{report}");
    let room = {
        let mut room = room;
        room.url = None;
        room
    };
    let (code, report) = room.doctor();
    assert_eq!((code, &report["ok"]), (Some(0), &json!(true)), "{report}");
    assert!(Room::new().ok(&["doctor"]).contains("WARN  directory"));
}

#[test]
fn each_broken_invariant_has_its_line() {
    let broken = [
        ("conservation", "UPDATE onefold_queues SET counts = json_set(counts, '$.accepted', 9)"),
        ("conservation", "UPDATE onefold_queues SET counts = json_set(counts, '$.accepted', 4, '$.dead', 1)"),
        ("rows", "UPDATE onefold_specs SET payload = CAST('7' AS BLOB) WHERE key = 'b'"),
        ("rows", "DELETE FROM onefold_specs WHERE key IS NULL"),
        ("keys", "DELETE FROM onefold_ledger WHERE key = 'a'"),
        ("tokens", "UPDATE onefold_meta SET next_token = 1"),
        ("sets", "DELETE FROM onefold_sets WHERE kind = 1"),
        ("sets", "DELETE FROM onefold_sets WHERE kind = 0"),
    ];
    for (check, sql) in broken {
        let mut room = left_behind();
        room.url = None;
        room.sql(sql);
        let (code, report) = room.doctor();
        let failed = verdicts(&report, "fail");
        assert_eq!(code, Some(1), "{sql}: {report}");
        assert_eq!(failed, [check], "{sql}: {report}");
    }
}

#[test]
fn a_database_that_is_gone_is_not_taken_for_none() {
    let mut room = left_behind();
    room.url = None;
    room.ok(&["backup", "good.db", "--data", "onefold-data"]);
    std::fs::remove_file(room.path("onefold-data/onefold.db")).unwrap();
    let (code, report) = room.doctor();
    assert_eq!((code, verdicts(&report, "fail")), (Some(1), vec!["store".to_owned()]), "{report}");
    room.run(&["jobs", "--data", "onefold-data"]).says(1, "missing or empty; restore a backup");
    room.ok(&["restore", "good.db"]);
    assert_eq!(room.doctor().0, Some(0));
}

#[test]
fn a_key_held_twice_is_found() {
    let mut room = left_behind();
    room.url = None;
    // The same entry a second time: its checksum covers its place, so it is told as damaged, too.
    room.sql("INSERT INTO onefold_ledger SELECT lid + 7, space, queue, key, seq, created_at, fingerprint, until, free_on, hash, crc FROM onefold_ledger WHERE key = 'a'");
    let (code, report) = room.doctor();
    assert_eq!((code, verdicts(&report, "fail")), (Some(1), vec!["rows".to_owned()]), "{report}");
}

#[test]
fn a_backup_is_whole_and_never_written_over_a_file() {
    let (room, _server) = Room::served();
    room.feed(&["add", "q", "-"], &"\"x\"\n".repeat(1_500));
    let told = room.json(&["backup", "a.db"]);
    assert_eq!(told["bytes"].as_u64().unwrap(), room.path("a.db").metadata().unwrap().len());
    room.run(&["backup", "a.db"]).says(1, "a.db exists already");
    room.ok(&["backup", "b.db", "--data", "onefold-data"]);
    for file in ["a.db", "b.db"] {
        let told = room.json(&["restore", file, "--data", &format!("from-{file}")]);
        assert_eq!((&told["jobs"], &told["queues"]), (&json!(1_500), &json!(1)));
    }
    let leftovers = std::fs::read_dir(room.path(".")).unwrap();
    let parts = leftovers
        .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|ending| ending == "part"));
    assert_eq!(parts.count(), 0);
    room.run(&["backup", "c.db", "--data", "elsewhere"]).says(1, "there is no store in elsewhere");
}

/// I4: a lease after a restore has a larger token than any lease before it.
#[test]
fn tokens_grow_over_a_restore() {
    let (mut room, server) = Room::served();
    room.feed(&["add", "q", "-"], &"1\n".repeat(4));
    room.lease("q", "w");
    room.ok(&["backup", "early.db"]);
    let (_, before) = room.lease("q", "w");
    room.run(&["restore", "early.db", "--force"]).says(1, "in use by another onefold process");
    server.stop();
    room.run(&["restore", "early.db"]).says(1, "give --force");
    room.ok(&["restore", "early.db", "--force"]);
    let server = room.serve(&[]);
    room.url = Some(server.url.clone());
    let (_, after) = room.lease("q", "w");
    assert!(after > before, "{after} after {before}");
    server.stop();
    let high = 9_000_000_000_000_000;
    let told = room.json(&["restore", "early.db", "--force", "--token-at-least", &high.to_string()]);
    assert_eq!(told["tokens_from"], high);
    let server = room.serve(&[]);
    room.url = Some(server.url.clone());
    let (_, after) = room.lease("q", "w");
    assert!(after >= high, "{after}");
    server.stop();
    // What is replaced is not forgotten: its tokens are not handed out again either.
    let told = room.json(&["restore", "early.db", "--force"]);
    assert!(told["tokens_from"].as_u64().unwrap() > after, "{told}");
    room.run(&["restore", "early.db", "--force", "--token-at-least", "9999999999999999"])
        .says(1, "below 2^53");
}

#[test]
fn what_is_no_good_backup_is_refused_and_the_directory_left_alone() {
    let room = left_behind();
    room.ok(&["backup", "good.db", "--data", "onefold-data"]);
    let good = std::fs::read(room.path("good.db")).unwrap();
    let mut torn = good.clone();
    torn.truncate(good.len() / 2);
    std::fs::write(room.path("torn.db"), torn).unwrap();
    std::fs::write(room.path("text.db"), "not a database".repeat(100)).unwrap();
    std::fs::write(room.path("changed.db"), &good).unwrap();
    rusqlite::Connection::open(room.path("changed.db"))
        .unwrap()
        .execute_batch("UPDATE onefold_specs SET payload = NULL")
        .unwrap();
    std::fs::write(room.path("newer.db"), &good).unwrap();
    rusqlite::Connection::open(room.path("newer.db"))
        .unwrap()
        .execute_batch("PRAGMA user_version = 99")
        .unwrap();
    let before = std::fs::read(room.path("onefold-data/onefold.db")).unwrap();
    for (file, words) in [
        ("missing.db", "missing.db"),
        ("torn.db", "torn.db"),
        ("text.db", "text.db"),
        ("changed.db", "changed.db is damaged"),
        ("newer.db", "newer onefold (schema 99"),
    ] {
        room.run(&["restore", file, "--force"]).says(1, words);
        assert_eq!(std::fs::read(room.path("onefold-data/onefold.db")).unwrap(), before, "{file}");
        assert!(!room.path("onefold-data/onefold.db.restoring").exists(), "{file}");
    }
}

#[test]
fn the_database_of_a_directory_in_use_is_not_a_backup() {
    let (room, server) = Room::served();
    room.ok(&["add", "q", "1"]);
    room.run(&["restore", "onefold-data/onefold.db", "--data", "copy"])
        .says(1, "make a backup of that directory");
    server.kill();
}
