//! `onefold bench`: that it measures and leaves nothing behind, not how fast anything is.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod kit;

use kit::Room;
use serde_json::Value;

fn names(report: &Value) -> Vec<&str> {
    report["parts"].as_array().unwrap().iter().map(|part| part["name"].as_str().unwrap()).collect()
}

#[test]
fn on_a_server_of_its_own_it_measures_beside_the_disk_and_leaves_nothing_behind() {
    let room = Room::new();
    let report = room.json(&["bench", "--time", "200ms"]);
    assert_eq!(names(&report).len(), 5, "{report}");
    let singles = &report["parts"][1];
    assert!(
        singles["per_second"].as_f64().unwrap() > 0.0 && singles["floor_per_second"].as_f64().unwrap() > 0.0
    );
    assert_eq!(std::fs::read_dir(room.path(".")).unwrap().count(), 0);
}

#[test]
fn on_a_running_server_it_uses_a_queue_of_its_own_and_deletes_it() {
    let (room, server) = Room::served();
    room.ok(&["add", "kept", "1"]);
    let report = room.json(&["bench", "--time", "200ms", "--url", &server.url]);
    assert_eq!(names(&report).len(), 4, "no floor: the disk may be elsewhere: {report}");
    let queues = room.json(&["queues"]);
    assert_eq!(queues["queues"].as_array().unwrap().len(), 1, "{queues}");
}
