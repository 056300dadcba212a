//! Servers that are there and say nothing.

use std::time::Duration;

use onefold_cluster::{Cluster, Steps};
use onefold_e2e::{Client, Lease, until};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(120);
const ASK_AGAIN: Duration = Duration::from_secs(3);

/// A primary that keeps its connections open and says nothing any more, as behind a pooler whose server is gone: nodes
/// leave it for the standby that is promoted, nobody touches them, and nothing is answered twice.
#[test]
fn a_primary_that_falls_silent_is_left_for_the_new_one() {
    let steps = Steps::of("silence");
    let mut cluster = Cluster::of_primary_and_standby(2);
    let queue = "/v1/queues/q/jobs";
    let first =
        cluster.node(0).client().post(queue, &json!({"kind": "k", "payload": 1, "key": "before"})).ok();
    let poll = |worker: &str| json!({"queues": ["q"], "worker": worker, "poll_id": "p", "wait": "1s"});
    let lease = Lease::of(&cluster.node(1).client().post("/v1/leases", &poll("w")).ok()["jobs"][0]);
    cluster.cut_primary_off();
    steps.log("the primary fell silent");
    std::thread::scope(|threads| {
        for address in cluster.addresses() {
            let steps = &steps;
            threads.spawn(move || {
                let body = json!({"kind": "k", "payload": 1, "key": "meanwhile"});
                let mut client = Client::new(address);
                let reply = client.post(queue, &body);
                assert_eq!(reply.status, 503, "{}", reply.text());
                steps.log(&format!("a caller is told {}", reply.refusal().1));
            });
        }
    });
    cluster.promote_beside();
    steps.log("the standby was promoted");
    for node in cluster.nodes() {
        let address = node.server.address();
        let mut client = Client::patient(address, ASK_AGAIN);
        until("an add to be acknowledged", PATIENCE, || {
            let added = client.try_post(queue, &json!({"kind": "k", "payload": 1, "key": address})).ok()?;
            (added.status < 300).then_some(())
        });
        let later = until("a lease", PATIENCE, || {
            let leased = client.try_post("/v1/leases", &poll(&address.to_string())).ok()?;
            (leased.status == 200).then(|| leased.json()["jobs"].get(0).map(Lease::of)).flatten()
        });
        assert!(later.token > lease.token, "I4: {later:?} after {lease:?}");
        steps.log(&format!("{address} acknowledges adds and leases"));
    }
    let again =
        cluster.node(1).client().post(queue, &json!({"kind": "k", "payload": 1, "key": "before"})).ok();
    assert_eq!((&again["id"], &again["duplicate"]), (&first["id"], &json!(true)));
}
