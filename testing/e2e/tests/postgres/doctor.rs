//! `onefold doctor` on PostgreSQL.

use super::*;

/// What it says, and how it ends.
pub(super) fn checks(room: &Room, address: &str) -> (Option<i32>, Value) {
    let ran = room.run(address, &["doctor", "--json"]);
    (ran.code, serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}")))
}

/// The worst verdict of a check.
pub(super) fn verdict(report: &Value, check: &str) -> String {
    let lines = report["checks"].as_array().unwrap().iter().filter(|line| line["check"] == check);
    let verdicts: Vec<&str> = lines.map(|line| line["verdict"].as_str().unwrap()).collect();
    let worst = ["fail", "warn", "ok"].into_iter().find(|verdict| verdicts.contains(verdict));
    worst.unwrap_or("missing").to_owned()
}

#[test]
fn each_thing_that_is_wrong_has_its_line() {
    let (room, postgres) = (Room::new(), Postgres::start(&[("idle_in_transaction_session_timeout", "60s")]));
    let address = address_of(&postgres);
    let (code, report) = checks(&room, &address);
    assert_eq!((code, verdict(&report, "schema").as_str()), (Some(0), "warn"), "{report}");
    drop(room.serve(&address));
    let (code, report) = checks(&room, &address);
    assert_eq!((code, &report["ok"]), (Some(0), &true.into()), "{report}");
    for check in [
        "database",
        "clock",
        "schema",
        "conservation",
        "tokens",
        "settings",
        "horizon",
        "tables",
        "wraparound",
    ] {
        assert_eq!(verdict(&report, check), "ok", "{check}: {report}");
    }
    let schema = &room.schema;
    for (check, breaks, mends) in [
        (
            "conservation",
            format!("INSERT INTO {schema}.counts SELECT 0, 9, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0"),
            format!("DELETE FROM {schema}.counts WHERE queue = 9"),
        ),
        (
            "schema",
            format!("UPDATE {schema}.schema_versions SET version = 99"),
            format!("UPDATE {schema}.schema_versions SET version = 1"),
        ),
        (
            "settings",
            "ALTER SYSTEM SET full_page_writes = off".to_owned(),
            "ALTER SYSTEM RESET full_page_writes".to_owned(),
        ),
        (
            "settings",
            "ALTER SYSTEM SET autovacuum = off".to_owned(),
            "ALTER SYSTEM RESET autovacuum".to_owned(),
        ),
    ] {
        postgres.psql(&breaks);
        postgres.psql("SELECT pg_reload_conf()");
        until(&format!("doctor to find {breaks}"), PATIENCE, || {
            let (code, report) = checks(&room, &address);
            (code == Some(1) && verdict(&report, check) == "fail").then_some(())
        });
        postgres.psql(&mends);
        postgres.psql("SELECT pg_reload_conf()");
        until(&format!("doctor to be content after {mends}"), PATIENCE, || {
            (checks(&room, &address).0 == Some(0)).then_some(())
        });
    }
    postgres.stop_immediately();
    let (code, report) = checks(&room, &address);
    assert_eq!((code, verdict(&report, "database").as_str()), (Some(1), "fail"), "{report}");
}

/// Without the right to see others it says that it knows less, and does not guess.
#[test]
fn a_role_that_sees_little_is_told_so() {
    let room = Room::new();
    SHARED.psql("CREATE ROLE blind LOGIN");
    let address = format!("host={} user=blind dbname={DATABASE}", SHARED.directory().display());
    let (_, report) = checks(&room, &address);
    assert_eq!(verdict(&report, "access"), "warn", "{report}");
}

/// Dead rows that vacuum may not take are told with who holds them.
#[test]
fn dead_rows_are_found() {
    let (room, postgres) = (Room::new(), Postgres::start(&[("autovacuum", "off")]));
    let address = address_of(&postgres);
    drop(room.serve(&address));
    let ready = format!("{}.ready", room.schema);
    postgres.psql(&format!(
        "INSERT INTO {ready} (queue, priority, seq, grouped) SELECT 1, 0, seq, false FROM generate_series(1, 30000) seq"
    ));
    postgres.psql(&format!("DELETE FROM {ready}"));
    until("the server to have counted", PATIENCE, || {
        let (_, report) = checks(&room, &address);
        let line =
            report["checks"].as_array().unwrap().iter().find(|line| line["check"] == "dead rows")?.clone();
        let detail = line["detail"].as_str().unwrap();
        assert!(detail.contains("ready has 30000") && detail.contains("VACUUM"), "{line}");
        Some(())
    });
    postgres.psql(&format!("VACUUM {ready}"));
    until("the server to have counted", PATIENCE, || {
        (verdict(&checks(&room, &address).1, "dead rows") == "missing").then_some(())
    });
}
