//! What a node is refused with, each in a sentence that says what to do.

use super::*;

/// A role that has to give a password, and may nothing beyond.
fn with_password() -> Postgres {
    let postgres = Postgres::start(THROW_AWAY);
    postgres.psql("CREATE ROLE ada LOGIN PASSWORD 's3cret'");
    postgres.psql("COPY (SELECT 'local all ada scram-sha-256') TO PROGRAM 'cat - pg_hba.conf > new && mv new pg_hba.conf'");
    postgres.stop_immediately();
    postgres.start_again();
    postgres
}

fn as_role(postgres: &Postgres, role: &str) -> String {
    format!("host={} user={role} dbname={DATABASE}", postgres.directory().display())
}

#[test]
fn wrong_credentials_are_told_and_never_shown() {
    let (postgres, room) = (with_password(), Room::new());
    let directory = postgres.directory().display();
    for (address, words) in [
        (format!("host={directory} user=ada password=wr0ng dbname={DATABASE}"), "refused the credentials"),
        (format!("host={directory} user=nobody dbname={DATABASE}"), "refused the credentials"),
        (format!("host={directory} user={USER} password=wr0ng dbname=nowhere"), "there is no such database"),
    ] {
        let ran = room.run(&address, &["serve", "--listen", "127.0.0.1:0", "--log", "trace"]);
        // It does not wait for what does not come by itself.
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.err.contains(words) && !ran.err.contains("wr0ng"), "{address}: {ran:?}");
    }
    // A password in a place where none belongs is not shown either.
    let ran = room.run("postgres://ada:s3cret@host:s3cret/db", &["migrate"]);
    assert!(ran.code == Some(2) && !ran.err.contains("s3cret"), "{ran:?}");
    let ran = room.run("host=localhost s3cret=1", &["serve"]);
    assert!(ran.code == Some(2) && !ran.err.contains("s3cret"), "{ran:?}");
}

#[test]
fn missing_privileges_are_told_and_granting_them_is_enough() {
    let (postgres, room) = (with_password(), Room::new());
    let ada = as_role(&postgres, "ada password=s3cret");
    assert!(room.refused(&ada).contains("the role may not do this"), "{}", room.refused(&ada));
    let owner = room.run(&address_of(&postgres), &["migrate"]);
    assert_eq!(owner.code, Some(0), "{owner:?}");
    let told = room.refused(&ada);
    assert!(told.contains("the role may not do this") && told.contains("grant"), "{told}");
    let schema = &room.schema;
    postgres.psql(&format!("GRANT USAGE ON SCHEMA {schema} TO ada"));
    postgres.psql(&format!("GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO ada"));
    postgres.psql(&format!("GRANT ALL ON ALL SEQUENCES IN SCHEMA {schema} TO ada"));
    let server = room.serve(&ada);
    server.client().post("/v1/queues/q/jobs", &serde_json::json!({})).ok();
}

#[test]
fn a_server_that_is_not_there_is_told_at_once_if_nobody_wants_to_wait() {
    let room = Room::new();
    let told = room.refused(&format!("host=127.0.0.1 port={} user=ada", free_port()));
    assert!(
        told.contains("cannot reach the PostgreSQL server") && told.contains("check host and port"),
        "{told}"
    );
    let told = room.refused("host=/nowhere user=ada");
    assert!(told.contains("cannot reach the PostgreSQL server"), "{told}");
}

/// A standby is refused; beside its primary it is passed by. A role that reads by default is no hindrance.
#[test]
fn a_server_that_takes_no_writes_is_told_or_passed_by() {
    let room = Room::new();
    let primary = Postgres::start(&[("fsync", "off")]);
    let standby = Postgres::standby_of(&primary, "standby", &[("fsync", "off")]);
    let told = room.refused(&address_of(&standby));
    assert!(told.contains("the database is read-only") && told.contains("connect to the primary"), "{told}");
    let both = format!(
        "host={},{} user={USER} dbname={DATABASE} target_session_attrs=read-write",
        standby.directory().display(),
        primary.directory().display()
    );
    drop(room.serve(&both));
    let only_standby = format!("{} target_session_attrs=read-write", address_of(&standby));
    let told = room.refused(&only_standby);
    assert!(told.contains("the database is read-only"), "{told}");
    primary.psql("CREATE ROLE reader LOGIN SUPERUSER");
    primary.psql("ALTER ROLE reader SET default_transaction_read_only = on");
    let server = room.serve(&as_role(&primary, "reader"));
    server.client().post("/v1/queues/q/jobs", &serde_json::json!({})).ok();
}

/// More calls than the database gives connections: they are answered, or told to come again.
#[test]
fn too_few_connections_are_no_error() {
    let room = Room::new();
    assert_eq!(room.run(&address_of(&SHARED), &["migrate"]).code, Some(0));
    SHARED.psql("CREATE ROLE few LOGIN SUPERUSER");
    SHARED.psql("CREATE ROLE limited LOGIN CONNECTION LIMIT 4");
    SHARED.psql(&format!("GRANT USAGE ON SCHEMA {} TO limited", room.schema));
    SHARED.psql(&format!("GRANT ALL ON ALL TABLES IN SCHEMA {} TO limited", room.schema));
    SHARED.psql(&format!("GRANT ALL ON ALL SEQUENCES IN SCHEMA {} TO limited", room.schema));
    let server = room.serve(&as_role(&SHARED, "limited"));
    let accepted: usize = std::thread::scope(|threads| {
        let callers: Vec<_> = (0..16)
            .map(|_| {
                threads.spawn(|| {
                    let mut client = server.client();
                    let replies = (0..10).map(|_| {
                        let reply = client.try_post("/v1/queues/q/jobs", &serde_json::json!({})).unwrap();
                        let listed = client.get("/v1/queues");
                        assert!(
                            listed.status == 200 || listed.refusal() == (503, "busy".into()),
                            "{listed:?}"
                        );
                        match reply.status {
                            201 => 1,
                            _ => {
                                assert_eq!(reply.refusal(), (503, "busy".into()), "{}", reply.text());
                                assert_eq!(reply.header("retry-after"), Some("1"));
                                0
                            }
                        }
                    });
                    replies.sum::<usize>()
                })
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).sum()
    });
    assert!(accepted > 0);
    let counts = onefold_e2e::counts(&mut server.client(), "q");
    assert_eq!(counts["accepted"], accepted, "{counts}");
}

#[test]
fn a_schema_of_another_version_is_refused_and_migrate_says_what_it_does() {
    let (room, address) = (Room::new(), address_of(&SHARED));
    let ran = room.run(&address, &["migrate", "--json"]);
    let told: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&told["from"], &told["schema"]), (&0.into(), &room.schema.as_str().into()), "{ran:?}");
    let ran = room.run(&address, &["migrate"]);
    assert!(ran.code == Some(0) && ran.out.contains("there is nothing to do"), "{ran:?}");
    let set = |sql: &str| SHARED.psql(&format!("{sql} {}.schema_versions", room.schema));
    SHARED.psql(&format!("UPDATE {}.schema_versions SET version = version + 1", room.schema));
    let told = room.refused(&address);
    assert!(told.contains("newer than the") && told.contains("run a newer onefold"), "{told}");
    let ran = room.run(&address, &["migrate"]);
    assert!(ran.code == Some(1) && ran.err.contains("run a newer onefold"), "{ran:?}");
    set("TRUNCATE");
    SHARED.psql(&format!("INSERT INTO {}.schema_versions (version) VALUES (0)", room.schema));
    let told = room.refused(&address);
    assert!(told.contains("run `onefold migrate`"), "{told}");
    // Its tables are those of a later version: no migration ends like this, and none goes on from there.
    let ran = room.run(&address, &["migrate"]);
    assert!(ran.code == Some(1) && ran.err.contains("is not as any version left it"), "{ran:?}");
    set("DROP TABLE");
    let told = room.refused(&address);
    assert!(told.contains("holds tables that are not Onefold's"), "{told}");
}

/// However many programs migrate or start at once, the schema is made once.
#[test]
fn those_who_come_together_make_one_schema() {
    let (room, address) = (Room::new(), address_of(&SHARED));
    std::thread::scope(|threads| {
        for _ in 0..3 {
            threads.spawn(|| {
                let ran = room.run(&address, &["migrate"]);
                assert_eq!(ran.code, Some(0), "{ran:?}");
            });
            threads.spawn(|| drop(room.serve(&address)));
        }
    });
    let versions =
        SHARED.psql(&format!("SELECT count(*), max(version) FROM {}.schema_versions", room.schema));
    assert_eq!(versions, "1|1");
}

/// A store is in one place, and what is for directories says so.
#[test]
fn two_stores_are_one_too_many() {
    let (room, address) = (Room::new(), address_of(&SHARED));
    for arguments in [&["serve", "--data", "d"][..], &["doctor", "--data", "d"]] {
        let ran = room.run(&address, arguments);
        assert!(ran.code == Some(2) && ran.err.contains("take one away"), "{ran:?}");
        assert!(ran.err.contains("--data") && ran.err.contains("ONEFOLD_POSTGRES"), "{ran:?}");
    }
    let ran = room.run(&address, &["restore", "file"]);
    assert!(ran.code == Some(2) && ran.err.contains("pg_restore"), "{ran:?}");
    let server = room.serve(&address);
    let ran = room.run(&address, &["backup", "file", "--url", &server.url()]);
    assert!(ran.code == Some(1) && ran.err.contains("pg_dump"), "{ran:?}");
    let ran = room.run(&address, &["serve", "--postgres-schema", "pg_mine"]);
    assert!(ran.code == Some(2) && ran.err.contains("choose another schema"), "{ran:?}");
    let ran = room.run(&address, &["serve", "--postgres-connections", "0"]);
    assert!(ran.code == Some(2) && ran.err.contains("1 to 1000"), "{ran:?}");
}
