use std::fs;
use std::path::Path;

use onefold_core::Engine;
use onefold_crash::{Recorder, scratch_dir};
use onefold_engine_sqlite::SqliteEngine;

use crate::scenario::{clock, options, play};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Reads everything a user can reach. Every part is whole or refused with an error.
async fn read_all(dir: &Path) -> Result<usize, String> {
    let clock = clock();
    let engine = SqliteEngine::open(dir, options(&clock, None)).map_err(|error| error.to_string())?;
    let mut jobs = 0;
    let page = engine.list(onefold_core::ListParams { limit: 1000, ..Default::default() }).await;
    for summary in page.map_err(|error| error.to_string())?.jobs {
        engine.get(summary.job.id).await.map_err(|error| error.to_string())?;
        jobs += 1;
    }
    engine.tick().await.map_err(|error| error.to_string())?;
    engine.lease(crate::scenario::lease_params(1000)).await.map_err(|error| error.to_string())?;
    Ok(jobs)
}

/// A damaged byte anywhere in the database is refused with an error or changes nothing a user
/// sees: never a panic, never other data.
#[test]
fn a_damaged_byte_is_refused_or_harmless() {
    block_on(async {
        let dir = scratch_dir().unwrap();
        let recorder = Recorder::install(dir.path()).unwrap();
        play(&recorder, 12).await;
        let jobs = read_all(dir.path()).await.unwrap();
        let whole = fs::read(dir.path().join("onefold.db")).unwrap();
        let scratch = scratch_dir().unwrap();
        let (mut refused, mut harmless) = (0, 0);
        for place in (0..whole.len()).step_by(whole.len() / 150) {
            copy(dir.path(), scratch.path());
            let mut bytes = whole.clone();
            bytes[place] ^= 0x5a;
            fs::write(scratch.path().join("onefold.db"), bytes).unwrap();
            match read_all(scratch.path()).await {
                Ok(found) => {
                    assert_eq!(found, jobs, "byte {place}: jobs vanished in silence");
                    harmless += 1;
                }
                Err(error) => {
                    assert!(!error.is_empty());
                    refused += 1;
                }
            }
        }
        println!("{refused} refused, {harmless} harmless");
        assert!(refused > 20);
    });
}

/// A cut database or log is recovered to an earlier whole moment, or refused.
#[test]
fn a_cut_file_is_recovered_or_refused() {
    block_on(async {
        let dir = scratch_dir().unwrap();
        let recorder = Recorder::install(dir.path()).unwrap();
        play(&recorder, 6).await;
        let scratch = scratch_dir().unwrap();
        let whole = fs::read(dir.path().join("onefold.db")).unwrap();
        for keep in [0, 1, 99, 100, 4_095, 4_096, 8_192, whole.len() / 2, whole.len() - 1] {
            copy(dir.path(), scratch.path());
            fs::write(scratch.path().join("onefold.db"), &whole[..keep]).unwrap();
            let read = read_all(scratch.path()).await;
            assert!(read.is_err(), "cut to {keep} bytes: {read:?}");
        }
    });
}
