//! The floor: append the logical bytes of a batch, one `fdatasync`, nothing else.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What a job's whole life must at least write: its payload, key and fingerprint, and what changes
/// when it is leased and completed.
pub(crate) const LOGICAL_BYTES: usize = 200 + 36 + 33 + 90 + 60 + 40;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Jobs a batch.
    #[arg(long, default_value_t = 256)]
    batch: usize,
    /// How long.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Where; the directory is made.
    #[arg(long, default_value = "target/bench")]
    dir: PathBuf,
}

pub(crate) fn run(args: &Args) -> std::io::Result<()> {
    std::fs::create_dir_all(&args.dir)?;
    let rate = measure(&args.dir, args.batch, Duration::from_secs(args.seconds))?;
    println!("floor, one sync a batch of {}: {rate:.0} jobs/s", args.batch);
    Ok(())
}

/// Jobs per second of append + one fdatasync per batch in `dir`.
#[allow(clippy::disallowed_methods, reason = "a measurement")]
pub(crate) fn measure(dir: &Path, batch: usize, time: Duration) -> std::io::Result<f64> {
    let path = dir.join("floor.tmp");
    let mut file = File::create(&path)?;
    let block = vec![7_u8; batch * LOGICAL_BYTES];
    let (started, mut jobs) = (Instant::now(), 0);
    while started.elapsed() < time {
        file.write_all(&block)?;
        file.sync_data()?;
        jobs += batch;
    }
    let rate = jobs as f64 / started.elapsed().as_secs_f64();
    drop(file);
    std::fs::remove_file(path)?;
    Ok(rate)
}
