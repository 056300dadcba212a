//! The commands of README.md, typed as they are printed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use onefold_e2e::{Client, Process, counts, job, onefold, onefold_command, shell_blocks, until, workspace};
use rustix::process::Signal;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

fn readme() -> String {
    std::fs::read_to_string(workspace().join("README.md")).unwrap()
}

/// A newcomer's terminal: a directory, our binary in the path, and a port nobody uses in place of the default one.
struct Terminal {
    room: tempfile::TempDir,
    address: SocketAddr,
    /// What the answers so far named last, put where README leaves a gap.
    id: String,
    token: String,
}

impl Terminal {
    fn open() -> Terminal {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let room = tempfile::tempdir().unwrap();
        Terminal { room, address, id: String::new(), token: String::new() }
    }

    fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// The command in a shell.
    fn shell(&self, command: &str) -> Process {
        let (binaries, path) = (onefold().parent().unwrap(), std::env::var("PATH").unwrap_or_default());
        // Without the settings of whoever runs the tests.
        let settings = onefold_command(self.room.path());
        let mut bash = Command::new("bash");
        for (name, _) in settings.get_envs().filter(|(_, value)| value.is_none()) {
            bash.env_remove(name);
        }
        // The shell becomes the last command, so that a signal is for that.
        let command = command
            .replace("localhost:7717", &self.address.to_string())
            .replace("job_…", &self.id)
            .replace(TOKEN_OF_README, &self.token);
        assert!(!command.contains('…'), "what stands in the gap? {command}");
        bash.args(["-e", "-u", "-o", "pipefail", "-c", &command])
            .current_dir(self.room.path())
            .env("PATH", format!("{}:{path}", binaries.display()))
            .env("ONEFOLD_LISTEN", self.address.to_string())
            .env("ONEFOLD_URL", format!("http://{}", self.address));
        Process::start_group(&mut bash)
    }

    /// Runs a command to its end; what it printed.
    fn run(&mut self, command: &str) -> String {
        let (status, printed, errors) = self.shell(command).finish(PATIENCE);
        let printed = printed.join("\n");
        assert!(status.success(), "{command}: {printed}\n{errors}");
        if let Some(id) = word_after(&printed, "job_", |c| c.is_ascii_hexdigit()) {
            self.id = format!("job_{id}");
        }
        if let Some(token) = word_after(&printed, "\"fencing_token\":", |c| c.is_ascii_digit()) {
            self.token = token.to_owned();
        }
        printed
    }

    fn serve(&self) -> Process {
        let mut server = self.shell("onefold serve");
        server.wait_line(PATIENCE, |line| line.contains("serves http://")).unwrap();
        server
    }
}

/// Shown in README for a token.
const TOKEN_OF_README: &str = "1882466655666176";

fn word_after<'t>(text: &'t str, before: &str, of_word: fn(&char) -> bool) -> Option<&'t str> {
    let (_, rest) = text.split_once(before)?;
    let length = rest.chars().take_while(of_word).map(char::len_utf8).sum();
    rest.get(..length).filter(|word| !word.is_empty())
}

/// The commands of a block, those that go on after a `\` as one.
fn commands(block: &str) -> Vec<String> {
    let joined = block.replace("\\\n", " ");
    joined.lines().map(str::to_owned).collect()
}

fn json(printed: &str) -> Value {
    serde_json::from_str(printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
}

/// What is not run here is either too long, and tested elsewhere under these words, or runs the tests itself.
#[test]
fn nothing_to_type_is_left_out() {
    let page = readme();
    let typed = shell_blocks(&page, "console");
    // `demo.rs` runs the first, these tests the second, and the third runs these tests.
    assert_eq!(
        typed,
        ["cargo run --release -- demo\n", "cargo run --release -- serve\n", "cargo xtask test\n"]
    );
    let fences = page.lines().filter(|line| line.starts_with("```")).count();
    let others = shell_blocks(&page, "rust,ignore").len();
    assert_eq!(
        fences,
        2 * (typed.len() + shell_blocks(&page, "sh").len() + others),
        "a block of another language"
    );
    let manifest = std::fs::read_to_string(workspace().join("Cargo.toml")).unwrap();
    assert!(manifest.contains("default-members = [\"crates/cli\"]"), "`cargo run` runs the binary");
    assert!(page.contains("`cargo run --release -p onefold-bench -- --help`"));
    assert!(workspace().join("bench/src/main.rs").is_file());
}

/// The jobs of README go through a server started as README says, in its order.
#[test]
fn the_commands_do_what_is_said_of_them() {
    let blocks = shell_blocks(&readme(), "sh");
    let [curl, cli] = &blocks[..] else { panic!("{blocks:#?}") };
    let mut terminal = Terminal::open();
    let mut server = terminal.serve();
    assert!(terminal.room.path().join("onefold-data").is_dir());
    try_curl(&mut terminal, &mut server, &commands(curl));
    try_cli(&mut terminal, &commands(cli));
    server.signal(Signal::TERM);
    let (status, _, errors) = server.finish(PATIENCE);
    assert!(status.success(), "{errors}");
}

fn try_curl(terminal: &mut Terminal, server: &mut Process, commands: &[String]) {
    let [add, lease, settle] = commands else { panic!("{commands:#?}") };
    let added = json(&terminal.run(add));
    assert_eq!(added["duplicate"], false);
    let leased = json(&terminal.run(lease));
    assert_eq!((&leased["jobs"][0]["id"], &leased["jobs"][0]["kind"]), (&added["id"], &"welcome".into()));
    assert!(settle.contains("job_…") && settle.contains(TOKEN_OF_README), "{settle}");
    let settled = json(&terminal.run(settle));
    assert_eq!(
        (&settled["results"][0]["ok"], &settled["results"][0]["state"]),
        (&true.into(), &"completed".into())
    );
    let again = |terminal: &mut Terminal| {
        let printed = terminal.run(&format!("{add} -w '\\n%{{http_code}}'"));
        let (answer, status) = printed.rsplit_once('\n').unwrap();
        let answer = json(answer);
        assert_eq!((status, &answer["id"], &answer["duplicate"]), ("200", &added["id"], &true.into()));
    };
    again(terminal);
    server.kill();
    *server = terminal.serve();
    again(terminal);
}

fn try_cli(terminal: &mut Terminal, commands: &[String]) {
    let [add, work, jobs, story] = commands else { panic!("{commands:#?}") };
    terminal.run(add);
    let id = terminal.id.clone();
    write_script(&terminal.room.path().join("send.sh"), "#!/bin/sh\ncat > sent.json\n");
    let mut worker = terminal.shell(work);
    let mut client = terminal.client();
    until("the job to be completed", PATIENCE, || {
        (counts(&mut client, "emails")["completed"] == 2).then_some(())
    });
    worker.signal(Signal::TERM);
    let (status, _, errors) = worker.finish(PATIENCE);
    assert!(status.success(), "{errors}");
    let sent = std::fs::read_to_string(terminal.room.path().join("sent.json")).unwrap();
    assert_eq!(json(&sent), job(&mut client, &id)["payload"]);
    let listed = terminal.run(jobs);
    assert_eq!(listed.lines().filter(|line| line.contains("job_") && line.contains("completed")).count(), 2);
    terminal.id = id.clone();
    let told = terminal.run(story);
    assert!(told.starts_with(&format!("{id} in queue emails: completed")), "{told}");
}

fn write_script(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}
