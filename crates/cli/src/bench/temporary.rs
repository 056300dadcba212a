//! A server of our own on data that is thrown away.

use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::config::ServerUrl;
use crate::failure::Failure;

/// Killed, and its data deleted, when dropped.
pub(super) struct Temporary {
    server: Child,
    url: ServerUrl,
    dir: TempDir,
}

#[derive(Deserialize)]
struct Started {
    url: String,
}

impl Temporary {
    /// Starts this binary as a server on a free port, its data in a new directory inside `dir`.
    pub(super) async fn start(dir: &Path) -> Result<Temporary, Failure> {
        let refused = |error: std::io::Error| {
            Failure::failed(format!("no server can be started in {}: {error}", dir.display()))
        };
        let dir = tempfile::Builder::new().prefix("onefold-bench-").tempdir_in(dir).map_err(refused)?;
        let mut command = Command::new(std::env::current_exe().map_err(refused)?);
        command.args(["serve", "--json", "--listen", "127.0.0.1:0", "--log", "warn", "--data"]);
        command.arg(dir.path().join("data"));
        // Settings around us are for another server.
        let settings =
            crate::config::SETTINGS.iter().map(|setting| setting.env).chain([crate::config::CONFIG_ENV]);
        for name in settings {
            command.env_remove(name);
        }
        let mut server = command
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(refused)?;
        let stdout = server.stdout.take().ok_or_else(|| Failure::failed("the server has no output"))?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).await.map_err(refused)?;
        let started: Option<Started> = serde_json::from_str(&line).ok();
        let url = started.and_then(|started| started.url.parse().ok());
        let url = url.ok_or_else(|| Failure::failed("the server did not start; see above"))?;
        Ok(Temporary { server, url, dir })
    }

    pub(super) fn url(&self) -> &ServerUrl {
        &self.url
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Lets it end by itself.
    pub(super) async fn stop(mut self) {
        let pid = self.server.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if pid.is_some_and(|pid| kill_process(pid, Signal::TERM).is_ok()) {
            let _ = self.server.wait().await;
        }
    }
}
