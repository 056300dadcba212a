//! Which binary is tested.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The root of the project.
pub fn workspace() -> &'static Path {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_dir.parent().and_then(Path::parent).expect("the crate is two levels below the root")
}

/// The binary under test: `ONEFOLD_BIN`, or the release binary, built by cargo if it is not up to date.
pub fn onefold() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("ONEFOLD_BIN") {
        Some(path) => {
            let path = std::path::absolute(path).expect("ONEFOLD_BIN is a path");
            assert!(path.is_file(), "ONEFOLD_BIN is {}: there is no such file", path.display());
            path
        }
        None => built(),
    })
}

/// The binary, to be run in `dir`, without any setting of whoever runs the tests.
pub fn onefold_command(dir: &Path) -> Command {
    let mut command = Command::new(onefold());
    command.current_dir(dir);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ONEFOLD_") {
            command.env_remove(name);
        }
    }
    command
}

fn built() -> PathBuf {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Build scripts watch these: with ours in them, C libraries would be built again.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&name);
        }
    }
    cargo.args(["build", "--release", "--package", "onefold-cli", "--message-format", "json"]);
    let output = cargo
        .current_dir(workspace())
        .stderr(std::process::Stdio::inherit())
        .output()
        .expect("cargo can be started");
    assert!(output.status.success(), "the release binary does not build");
    let messages = String::from_utf8(output.stdout).expect("cargo prints UTF-8");
    let mut executables = messages.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().map(PathBuf::from)
    });
    executables.next_back().expect("cargo names the binary it built")
}
