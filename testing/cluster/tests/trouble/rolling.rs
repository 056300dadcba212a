//! Nodes that are restarted one after the other, as for an upgrade.

use std::time::Duration;

use onefold_cluster::{Cluster, Steps};
use onefold_e2e::{
    Gate, Habit, Load, Server, Told, counts, in_full, onefold_command, seed, sum_of_states, unfinished, until,
};

const PATIENCE: Duration = Duration::from_secs(120);
const NODES: usize = 3;
const PRODUCERS: u64 = 3;
const WORKERS: u64 = 4;
/// Jobs that wait at the most.
const BACKLOG: u64 = 300;
/// What is acknowledged between two things that happen.
const BETWEEN: u64 = 500;

/// Of three nodes two serve while the third is restarted, each in turn. Nobody's job is lost, and as every node takes its
/// leave properly, none is run twice.
#[test]
fn nodes_are_restarted_in_turn_and_every_job_runs_once() {
    let seed = seed("rolling");
    let steps = Steps::of("rolling");
    let mut cluster = Cluster::of_primary(NODES);
    let addresses = cluster.addresses();
    let (gate, told) = (Gate::new(), Told::new());
    let load = Load::new(&addresses, PATIENCE, &gate, &told, seed).with_backlog(BACKLOG);
    gate.set_serving(true);
    let goes_on = || {
        let before = told.acknowledged();
        until("clients to be told more", PATIENCE, || {
            (told.acknowledged() >= before + BETWEEN).then_some(())
        });
    };
    std::thread::scope(|threads| {
        let _at_last = gate.finish_at_last();
        let producers: Vec<_> =
            (0..PRODUCERS).map(|number| threads.spawn(move || load.produce(number, None))).collect();
        for number in 0..WORKERS {
            threads.spawn(move || load.work(number, Habit::Completing));
        }
        for number in 0..NODES {
            goes_on();
            let (status, errors) = cluster.server(number).terminate();
            assert_eq!(status.code(), Some(0), "{errors}");
            steps.log(&format!("node {number} has stopped"));
            goes_on();
            cluster.server(number).restart();
            steps.log(&format!("node {number} serves again"));
        }
        goes_on();
        load.stop_producing();
        producers.into_iter().for_each(|producer| producer.join().unwrap());
        let mut client = cluster.node(0).client();
        until("all jobs to be finished", PATIENCE, || {
            unfinished(&counts(&mut client, "load")).eq(&0).then_some(())
        });
        gate.finish();
    });
    told.compare(&in_full(addresses[1], "load"));
    let counts = counts(&mut cluster.node(2).client(), "load");
    assert_eq!((counts["accepted"].as_u64(), sum_of_states(&counts)), (Some(told.keys()), told.keys()), "I2");
    assert_eq!((told.leases(), told.completed(), told.stale()), (told.keys(), told.keys(), 0));
    steps.log(&format!("{} jobs were delivered once each", told.keys()));
}

/// Schema: nodes that serve go on while it is brought forward; a program that does not know it is not started on it, and
/// says what to do. A migration with nothing to do disturbs nobody.
#[test]
fn a_newer_schema_stops_no_node_and_starts_no_older_one() {
    let mut cluster = Cluster::of_primary(2);
    let add = |cluster: &Cluster| {
        let job = serde_json::json!({"kind": "k", "payload": 1});
        assert_eq!(cluster.node(0).client().post("/v1/queues/q/jobs", &job).status, 201);
    };
    let url = cluster.node(0).url();
    let migrated = onefold_command(cluster.dir()).args(["migrate", "--postgres", &url]).output().unwrap();
    assert!(migrated.status.success(), "{migrated:?}");
    assert!(String::from_utf8_lossy(&migrated.stdout).contains("there is nothing to do"), "{migrated:?}");
    add(&cluster);
    cluster.primary().psql("INSERT INTO onefold.schema_versions (version) VALUES (99)");
    add(&cluster);
    let refused = Server::start_on(&url, cluster.dir(), &[]).err().expect("the schema is newer");
    assert!(refused.contains("version 99") && refused.contains("run a newer onefold"), "{refused}");
    add(&cluster);
    let known = cluster.primary().psql("DELETE FROM onefold.schema_versions RETURNING version");
    let known = known.lines().find(|version| *version != "99").expect("there was a version before");
    let refused = Server::start_on(&url, cluster.dir(), &[]).err().expect("the schema is older");
    assert!(refused.contains("run `onefold migrate`"), "{refused}");
    cluster.primary().psql(&format!("INSERT INTO onefold.schema_versions (version) VALUES ({known})"));
    cluster.server(1).restart();
    add(&cluster);
}
