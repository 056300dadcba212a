//! `cargo xtask tidy`: the style guide as a test. Each rule is a small function with a good and a bad sample.

mod arrows;
mod code;
mod dependencies;
mod docs;
mod text;

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::process::Command;

use crate::Verdict;
use crate::workspace::{Workspace, cargo, files};

const EXCEPTIONS: &str = "xtask/tidy-allow.txt";

/// Rules that can be excepted, one file at a time; the others have no exceptions.
const EXCUSABLE: [&str; 5] = ["long-file", "clock", "sleep", "marker", "machine-path"];

/// A text file of the project.
struct File {
    /// Relative to the root, with forward slashes.
    path: String,
    text: String,
}

impl File {
    fn finding(&self, check: &'static str, line: usize, what: String) -> Finding {
        Finding::new(check, &self.path, line, what)
    }
}

/// A broken rule: where, and what to do about it.
struct Finding {
    check: &'static str,
    path: String,
    line: usize,
    what: String,
}

impl Finding {
    fn new(check: &'static str, path: &str, line: usize, what: String) -> Self {
        Self { check, path: path.to_owned(), line, what }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: [{}] {}", self.path, self.line, self.check, self.what)
    }
}

/// `cargo xtask tidy`.
pub(crate) fn run(workspace: &Workspace) -> Verdict {
    let files = read(workspace)?;
    let text_of = |path: &str| files.iter().find(|file| file.path == path).map(|file| file.text.as_str());
    let drawing = text_of("ARCHITECTURE.md");
    if drawing.is_none() {
        println!("SKIPPED: there is no ARCHITECTURE.md, so nobody checks that every room is drawn in it");
    }
    let mut found: Vec<Finding> = files.iter().flat_map(text::check).collect();
    found.extend(arrows::check(workspace, drawing));
    found.extend(check_dependencies(workspace)?);
    found.extend(docs::internals(&files));
    found.extend(docs::decisions(&files));
    found.extend(docs::links(&files));
    match docs::error_pages(&files) {
        Some(pages) => found.extend(pages),
        None => println!("SKIPPED: there is no {}, so nobody checks the pages of error codes", docs::CODES),
    }
    let found = excuse(found, text_of(EXCEPTIONS).unwrap_or_default());
    Ok(report(found, &format!("{} files", files.len())))
}

/// `cargo xtask deny`: cargo-deny where it is installed (it is not installed by us: building it takes minutes).
pub(crate) fn deny(workspace: &Workspace) -> Verdict {
    let installed = cargo().args(["deny", "--version"]).output().is_ok_and(|output| output.status.success());
    if !installed {
        println!("cargo-deny is not installed; checking licences, bans and sources of deny.toml ourselves");
        return Ok(report(check_dependencies(workspace)?, &format!("{} packages", workspace.packages.len())));
    }
    let mut command: Command = cargo();
    command
        .args(["deny", "--all-features", "check", "bans", "licenses", "sources"])
        .current_dir(&workspace.root);
    let status = command.status().map_err(|error| format!("cannot start cargo deny: {error}"))?;
    Ok(status.success())
}

fn check_dependencies(workspace: &Workspace) -> Result<Vec<Finding>, String> {
    let path = workspace.root.join("deny.toml");
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(dependencies::check(workspace, &dependencies::policy(&text)?))
}

fn report(mut found: Vec<Finding>, looked_at: &str) -> bool {
    found.sort_by(|a, b| (&a.path, a.line, a.check).cmp(&(&b.path, b.line, b.check)));
    for finding in &found {
        println!("{finding}");
    }
    match found.len() {
        0 => println!("tidy: {looked_at}, nothing to say"),
        count => println!(
            "tidy: {looked_at}, {count} to mend; exceptions go to {EXCEPTIONS}, each with its reason"
        ),
    }
    found.is_empty()
}

/// All files of the project that are text.
fn read(workspace: &Workspace) -> Result<Vec<File>, String> {
    let read = |path: String| Some(File { text: fs::read_to_string(workspace.root.join(&path)).ok()?, path });
    Ok(files(&workspace.root)?.into_iter().filter_map(read).collect())
}

/// Takes out what is excepted, and adds what is wrong with the exceptions themselves: an exception that excuses
/// nothing any more would quietly excuse the next one.
fn excuse(found: Vec<Finding>, exceptions: &str) -> Vec<Finding> {
    let mut excused: HashSet<(&str, &str)> = HashSet::new();
    let mut wrong = Vec::new();
    for (line, text) in (1..).zip(exceptions.lines()) {
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let parts: Vec<&str> = text.split('|').map(str::trim).collect();
        let trouble = match parts[..] {
            [check, _, reason] if !EXCUSABLE.contains(&check) || reason.len() < 10 => {
                format!("the rule must be one of {} and the reason a sentence", EXCUSABLE.join(", "))
            }
            [check, path, _]
                if !found.iter().any(|finding| finding.check == check && finding.path == path) =>
            {
                format!("`{path}` no longer needs this exception: delete the line")
            }
            [check, path, _] => {
                excused.insert((check, path));
                continue;
            }
            _ => "write: rule | path | reason".to_owned(),
        };
        wrong.push(Finding::new("exception", EXCEPTIONS, line, trouble));
    }
    let excused = |finding: &Finding| excused.contains(&(finding.check, finding.path.as_str()));
    found.into_iter().filter(|finding| !excused(finding)).chain(wrong).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(exceptions: &str) -> Vec<String> {
        let found = vec![
            Finding::new("clock", "a.rs", 3, String::new()),
            Finding::new("clock", "a.rs", 9, String::new()),
            Finding::new("arrow", "b/Cargo.toml", 1, String::new()),
        ];
        excuse(found, exceptions).iter().map(|finding| format!("{}:{}", finding.path, finding.line)).collect()
    }

    #[test]
    fn an_exception_excuses_one_rule_in_one_file() {
        assert_eq!(after("# why\n\nclock | a.rs | measures a benchmark"), ["b/Cargo.toml:1"]);
        assert_eq!(after("").len(), 3);
    }

    /// Else the list only grows, and excuses what nobody looked at.
    #[test]
    fn a_stale_or_unexplained_exception_is_an_error() {
        for bad in [
            "sleep | a.rs | it was needed once",
            "clock | a.rs | x",
            "clock a.rs",
            "arrow | b/Cargo.toml | we like it",
        ] {
            let left = after(bad);
            assert_eq!(left.len(), 4, "{bad}");
            assert_eq!(left[3], "xtask/tidy-allow.txt:1", "{bad}");
        }
    }
}
