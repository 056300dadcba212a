//! The database goes away and comes back.

use super::*;

/// A node that is started before its database waits for it.
#[test]
fn a_node_waits_for_its_database_at_the_start() {
    let (room, postgres) = (Room::new(), Postgres::start(THROW_AWAY));
    let address = address_of(&postgres);
    postgres.stop_immediately();
    let serving = std::thread::scope(|threads| {
        let starting = threads.spawn(|| room.serve(&address));
        postgres.start_again();
        starting.join().unwrap()
    });
    assert_eq!(ready(&serving).0, 200);
    postgres.stop_immediately();
    let ran =
        room.run(&address, &["serve", "--listen", "127.0.0.1:0", "--postgres-wait", "1s", "--log", "warn"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("waiting up to 1s for it (--postgres-wait)"), "{ran:?}");
}

/// A node outlives its database: it says so, refuses what it cannot do, and goes on where it was as soon as it can.
#[test]
fn a_node_outlives_its_database_and_goes_on_by_itself() {
    let (room, postgres) = (Room::new(), Postgres::start(&[]));
    let server = room.serve(&address_of(&postgres));
    let pid = server.pid();
    let add = |key: &str| {
        server.client().try_post("/v1/queues/q/jobs", &serde_json::json!({ "key": key })).unwrap()
    };
    let before = add("before").ok()["id"].clone();
    postgres.stop_immediately();
    let told = until("the node to notice", PATIENCE, || {
        let (status, told) = ready(&server);
        (status == 503).then_some(told)
    });
    assert_eq!((&told["phase"], &told["ready"]), (&"unavailable".into(), &false.into()), "{told}");
    assert!(told["detail"].as_str().unwrap().contains("the store cannot be used now"), "{told}");
    let refused = add("meanwhile");
    assert_eq!(refused.refusal(), (503, "store-unavailable".to_owned()));
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(server.client().get("/healthz").status, 200);
    postgres.start_again();
    until("the node to go on", PATIENCE, || (ready(&server).0 == 200).then_some(()));
    add("after").ok();
    let leased = server
        .client()
        .try_post("/v1/leases", &serde_json::json!({"queues": ["q"], "wait": "10s"}))
        .unwrap()
        .ok();
    assert_eq!(leased["jobs"][0]["id"], before);
    assert_eq!(server.pid(), pid);
}

/// A missing standby is told, and is no reason not to be ready.
#[test]
fn readiness_and_doctor_tell_of_the_standby() {
    let room = Room::new();
    let primary = Postgres::start(&[("fsync", "off")]);
    let server = room.serve(&address_of(&primary));
    let standby_is = |word: &str| {
        until(&format!("the standby to be {word}"), PATIENCE, || {
            let (status, told) = ready(&server);
            assert_eq!(status, 200, "{told}");
            (told["standby"] == word).then_some(told)
        })
    };
    let verdict = || doctor::verdict(&doctor::checks(&room, &address_of(&primary)).1, "standby");
    let told = standby_is("none");
    assert!(told["notes"][0].as_str().unwrap().contains("there is no synchronous standby"), "{told}");
    assert_eq!(verdict(), "warn");
    let standby = Postgres::standby_of(&primary, "second", &[("fsync", "off")]);
    primary.psql("ALTER SYSTEM SET synchronous_standby_names = 'second'");
    primary.psql("SELECT pg_reload_conf()");
    let told = standby_is("synchronous");
    assert_eq!(told["notes"].as_array().unwrap().len(), 0, "{told}");
    assert_eq!(verdict(), "ok");
    drop(standby);
    standby_is("missing");
    assert_eq!(verdict(), "fail");
    primary.psql("ALTER SYSTEM RESET synchronous_standby_names");
    primary.psql("SELECT pg_reload_conf()");
    standby_is("none");
}
