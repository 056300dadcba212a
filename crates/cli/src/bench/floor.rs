//! What the disk allows: writes to a plain file, one behind the other, each followed by fdatasync.
//! Into space that is there already, as in a log that is used again: growing a file costs more.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

use super::measure::{Latencies, Stopwatch};
use super::{ARRAY, ARRAYS, HELD, SINGLES, load};
use crate::failure::Failure;

/// Bytes of metadata a queue has to write for a job beside its payload and key.
const METADATA: usize = 90;
/// Appends at the most for each size.
const APPENDS: usize = 2_000;
/// Bytes that are there before anything is measured.
const SPACE: u64 = 32 << 20;

/// How long an append of so many jobs takes.
pub(super) struct Floor {
    single: Latencies,
    /// Jobs to seconds.
    seconds: BTreeMap<usize, f64>,
}

impl Floor {
    /// Measures it in a directory, for as long as a part takes.
    pub(super) async fn of(dir: &Path, time: Duration) -> Result<Floor, Failure> {
        let path = dir.join("floor");
        let measured = tokio::task::spawn_blocking(move || Floor::measure(&path, time)).await;
        let measured = measured.map_err(Failure::failed)?;
        measured.map_err(|error| Failure::failed(format!("the disk cannot be measured: {error}")))
    }

    fn measure(path: &Path, time: Duration) -> std::io::Result<Floor> {
        let sizes = [1, SINGLES, HELD, ARRAY * ARRAYS];
        let share = time / sizes.len() as u32;
        let (mut single, mut seconds) = (Latencies::default(), BTreeMap::new());
        for jobs in sizes {
            let took = appends(path, jobs * (load::PAYLOAD_BYTES + load::KEY_BYTES + METADATA), share)?;
            let median = took.percentile_ms(50).unwrap_or(f64::INFINITY) / 1_000.0;
            seconds.insert(jobs, median);
            if jobs == 1 {
                single = took;
            }
        }
        Ok(Floor { single, seconds })
    }

    /// Jobs a second if `jobs` of them share each commit.
    pub(super) fn per_second(&self, jobs: usize) -> f64 {
        let seconds = self.seconds.get(&jobs).copied().unwrap_or(f64::INFINITY);
        jobs as f64 / seconds
    }

    /// How long commits of one job take.
    pub(super) fn single(&self) -> &Latencies {
        &self.single
    }
}

fn appends(path: &Path, bytes: usize, time: Duration) -> std::io::Result<Latencies> {
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(path)?;
    std::io::copy(&mut std::io::repeat(0).take(SPACE), &mut file)?;
    file.sync_all()?;
    file.rewind()?;
    let block = vec![0x5a; bytes];
    let (all, mut took) = (Stopwatch::start(), Latencies::default());
    while took.count() < APPENDS && (all.elapsed() < time || took.count() < 10) {
        if file.stream_position()? + bytes as u64 > SPACE {
            file.rewind()?;
        }
        let one = Stopwatch::start();
        file.write_all(&block)?;
        file.sync_data()?;
        took.record(one.micros());
    }
    std::fs::remove_file(path)?;
    Ok(took)
}
