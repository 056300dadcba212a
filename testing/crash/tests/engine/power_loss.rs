use std::num::NonZeroUsize;

use onefold_crash::{Policy, Recorder, Sweep, scratch_dir};

use crate::scenario;

/// I1 to I4: whatever the disk does with what was not synced, at every sync and every answer of a
/// scripted life, nothing that was answered is lost or undone.
#[test]
fn nothing_acknowledged_is_lost_whenever_power_fails() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let dir = scratch_dir().unwrap();
    let recorder = Recorder::install(dir.path()).unwrap();
    let long = std::env::var_os("ONEFOLD_LONG").is_some();
    runtime.block_on(scenario::play(&recorder, if long { 60 } else { 14 }));
    let policies = if long {
        Policy::all(0..6)
    } else {
        vec![Policy::DropAll, Policy::KeepPrefix(1), Policy::Subset(2)]
    };
    let report = Sweep::over(recorder.log())
        .stride(NonZeroUsize::new(if long { 3 } else { 40 }).unwrap())
        .policies(policies)
        .run(|loss| runtime.block_on(scenario::check(loss.dir, loss.marks)));
    let report = report.unwrap_or_else(|failure| panic!("{failure}"));
    println!("{report}");
    assert!(report.syncs > 40 && report.images > 150, "{report}");
}
