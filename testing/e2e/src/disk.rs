//! A disk that is small, and can be made read-only.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A file system of its own in memory, gone when this is dropped.
pub struct SmallDisk {
    room: TempDir,
}

impl SmallDisk {
    /// One of so many MiB; `None`, and a line that says so, where mounting is not allowed.
    pub fn mount(mebibytes: u32) -> Option<SmallDisk> {
        let room = tempfile::tempdir().unwrap();
        let size = format!("size={mebibytes}m");
        match mount(&["-t", "tmpfs", "-o", &size, "tmpfs"], room.path()) {
            Ok(()) => Some(SmallDisk { room }),
            Err(why) => {
                eprintln!("SKIPPED: a small disk cannot be mounted, which needs root: {why}");
                None
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.room.path()
    }

    /// From now on nothing can be written.
    pub fn make_read_only(&self) {
        mount(&["-o", "remount,ro"], self.room.path()).unwrap();
    }

    /// Takes all the space there is left, in a file that is returned.
    pub fn fill(&self) -> PathBuf {
        let path = self.room.path().join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.room.path()).output();
    }
}

fn mount(arguments: &[&str], on: &Path) -> Result<(), String> {
    let output = Command::new("mount").args(arguments).arg(on).output().map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}
