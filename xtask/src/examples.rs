//! Builds every example and runs it to its end, each in an empty directory of its own.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::Verdict;
use crate::process::{self, End, Show};
use crate::workspace::{Workspace, cargo};

/// Examples that are built but not run, each with the reason.
const BUILT_ONLY: &[(&str, &str)] = &[];

/// An example shows something that ends; one that does not is a program.
const LIMIT: Duration = Duration::from_secs(120);

/// `cargo xtask examples`.
pub(crate) fn run(workspace: &Workspace) -> Verdict {
    let found: Vec<(&str, &str)> = workspace
        .members()
        .flat_map(|package| package.targets_of("example").map(|example| (package.name.as_str(), example)))
        .collect();
    if found.is_empty() {
        println!("{}no package has an example", crate::NOT_YET);
        return Ok(true);
    }
    let build = cargo().args(["build", "--workspace", "--examples"]).current_dir(&workspace.root).status();
    if !build.map_err(|error| format!("cannot start cargo: {error}"))?.success() {
        return Ok(false);
    }
    let mut fine = true;
    for (package, example) in found {
        if let Some((_, reason)) = BUILT_ONLY.iter().find(|(name, _)| *name == example) {
            println!("{example}: built, not run: {reason}");
            continue;
        }
        let room = workspace.target.join("xtask/examples").join(example);
        let _ = fs::remove_dir_all(&room);
        fs::create_dir_all(&room).map_err(|error| format!("{}: {error}", room.display()))?;
        let mut command = Command::new(workspace.target.join("debug/examples").join(example));
        command.current_dir(&room);
        let finished = process::run(command, &room.join("output.log"), &Show::LogOnly, LIMIT)?;
        println!("{package}, {example}: {:?} after {:.1} s", finished.end, finished.took.as_secs_f64());
        if finished.end != End::Success {
            fine = false;
            println!("{}\n  again: cargo run -p {package} --example {example}", finished.output.trim_end());
        }
    }
    Ok(fine)
}
