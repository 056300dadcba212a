//! The tour of `docs/guide/tour.md`, typed as it is printed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

use std::collections::HashSet;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use onefold_e2e::{Process, onefold, onefold_command, shell_blocks, workspace};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(240);

/// A shell in the root of the project with our binary in its path, told to use a port nobody uses.
fn shell(script: &str, room: &Path) -> Command {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let path = std::env::var("PATH").unwrap_or_default();
    let binaries = onefold().parent().unwrap();
    // As `onefold_command`, without the settings of whoever runs the tests.
    let settings = onefold_command(room);
    let mut command = Command::new("bash");
    for (name, _) in settings.get_envs().filter(|(_, value)| value.is_none()) {
        command.env_remove(name);
    }
    command
        .args(["-e", "-u", "-o", "pipefail", "-c", script])
        .current_dir(workspace())
        .env("TMPDIR", room)
        .env("PATH", format!("{}:{path}", binaries.display()))
        .env("ONEFOLD_LISTEN", format!("127.0.0.1:{port}"))
        .env("ONEFOLD_URL", format!("http://127.0.0.1:{port}"));
    command
}

/// A thousand orders sent twice, a worker and the server killed in the middle: a thousand invoices, and an
/// explanation of every repeat.
#[test]
fn the_tour_ends_with_a_thousand_invoices() {
    let room = tempfile::tempdir().unwrap();
    let page = fs::read_to_string(workspace().join("docs/guide/tour.md")).unwrap();
    let script = shell_blocks(&page, "sh").concat();
    let (status, printed, errors) = Process::start_group(&mut shell(&script, room.path())).finish(PATIENCE);
    let said = printed.join("\n");
    assert!(status.success(), "{status}\n{said}\n{errors}");
    for summary in shell_blocks(&page, "text").iter().flat_map(|block| block.lines()) {
        assert!(printed.iter().any(|line| line == summary), "{summary:?} is printed nowhere:\n{said}");
    }
    let tour = only_directory(room.path());
    let orders = lines(&tour.join("orders.jsonl"));
    let invoices: Vec<PathBuf> =
        fs::read_dir(tour.join("invoices")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!((orders.len(), invoices.len()), (1_000, 1_000));
    let billed: HashSet<String> = invoices
        .iter()
        .map(|path| {
            let order: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
            order["order_id"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(billed.len(), 1_000, "an order has two invoices, and another none");
    let twice = lines(&tour.join("twice.txt"));
    assert!(!twice.is_empty(), "nobody was killed with an invoice in hands:\n{said}");
    assert!(said.contains("Why it ran again"), "{said}");
    for (id, story) in twice.iter().zip(stories(&said)) {
        assert!(story.starts_with(&format!("{id} in queue invoices: completed")), "{story}");
        assert!(story.contains("leased to bob") && story.contains("lost its lease"), "{story}");
        assert!(story.contains("added again with the same key"), "{story}");
    }
}

fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(str::to_owned).collect()
}

fn only_directory(room: &Path) -> PathBuf {
    fs::read_dir(room).unwrap().next().unwrap().unwrap().path()
}

/// What was said of each job.
fn stories(said: &str) -> Vec<String> {
    let lines: Vec<&str> = said.lines().skip_while(|line| !line.contains(" in queue invoices: ")).collect();
    let mut stories: Vec<String> = Vec::new();
    for line in lines {
        if line.contains(" in queue invoices: ") {
            stories.push(String::new());
        }
        let story = stories.last_mut().unwrap();
        story.push_str(line);
        story.push('\n');
    }
    stories
}
