//! What `cargo metadata` says about the workspace and everything it resolves to.

use std::path::PathBuf;
use std::process::Command;

use serde::Deserialize;

/// The parts of `cargo metadata` the checks read.
#[derive(Deserialize)]
pub(crate) struct Workspace {
    pub(crate) packages: Vec<Package>,
    pub(crate) resolve: Resolve,
    #[serde(rename = "workspace_root")]
    pub(crate) root: PathBuf,
    #[serde(rename = "target_directory")]
    pub(crate) target: PathBuf,
}

#[derive(Deserialize)]
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
    /// `None` for members of this workspace.
    pub(crate) source: Option<String>,
    pub(crate) manifest_path: PathBuf,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) targets: Vec<Target>,
}

#[derive(Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// `None` is a normal dependency; else `dev` or `build`.
    pub(crate) kind: Option<String>,
    pub(crate) optional: bool,
}

#[derive(Deserialize)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) kind: Vec<String>,
}

#[derive(Deserialize)]
pub(crate) struct Resolve {
    pub(crate) nodes: Vec<Node>,
}

#[derive(Deserialize)]
pub(crate) struct Node {
    pub(crate) id: String,
    pub(crate) features: Vec<String>,
}

impl Workspace {
    /// Asks cargo, with every feature on, for this platform only (others would be downloaded for nothing).
    pub(crate) fn load() -> Result<Self, String> {
        let json = stdout(
            cargo()
                .args(["metadata", "--format-version", "1", "--all-features"])
                .args(["--filter-platform", &host()?]),
        )?;
        serde_json::from_str(&json)
            .map_err(|error| format!("cargo metadata said something unexpected: {error}"))
    }

    /// The workspace's own packages.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| package.source.is_none())
    }

    pub(crate) fn member(&self, name: &str) -> Option<&Package> {
        self.members().find(|package| package.name == name)
    }

    /// A package's directory relative to the root, with forward slashes: `crates/core`.
    pub(crate) fn directory(&self, package: &Package) -> String {
        let directory = package.manifest_path.parent().unwrap_or(&self.root);
        directory.strip_prefix(&self.root).unwrap_or(directory).to_string_lossy().into_owned()
    }
}

impl Package {
    pub(crate) fn targets_of(&self, kind: &str) -> impl Iterator<Item = &str> {
        self.targets
            .iter()
            .filter(move |target| target.kind.iter().any(|k| k == kind))
            .map(|target| target.name.as_str())
    }
}

/// A cargo that does not inherit what `cargo run` told *us* about our own package: build scripts watch these
/// variables, and a difference would rebuild C libraries between a plain `cargo test` and one started here.
pub(crate) fn cargo() -> Command {
    with_clean_environment(Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())))
}

/// The command without what `cargo run` told us about our own package.
pub(crate) fn with_clean_environment(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_")
            || text.starts_with("CARGO_MANIFEST_")
            || text == "CARGO_PRIMARY_PACKAGE"
        {
            command.env_remove(&name);
        }
    }
    command
}

/// Runs a helper command and returns its standard output, or an error that names the command.
pub(crate) fn stdout(command: &mut Command) -> Result<String, String> {
    let line = format!("{command:?}");
    let output = command
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|error| format!("cannot start {line}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{line} failed:\n{}", String::from_utf8_lossy(&output.stderr).trim_end()));
    }
    String::from_utf8(output.stdout).map_err(|_| format!("{line} printed invalid UTF-8"))
}

fn host() -> Result<String, String> {
    let version = stdout(Command::new("rustc").arg("-vV"))?;
    version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_owned)
        .ok_or_else(|| "rustc -vV names no host; is the toolchain whole?".to_owned())
}

/// Paths of the files that belong to the project, relative to the root, sorted: tracked ones and new ones that
/// are not ignored. A source tree without `.git` is walked instead.
pub(crate) fn files(root: &std::path::Path) -> Result<Vec<String>, String> {
    let mut paths = if root.join(".git").exists() {
        let list = ["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"];
        let listed = stdout(Command::new("git").arg("-C").arg(root).args(list))?;
        listed.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect()
    } else {
        let mut found = Vec::new();
        walk(root, "", &mut found)?;
        found
    };
    paths.retain(|path: &String| root.join(path).is_file());
    paths.sort();
    paths.dedup();
    Ok(paths)
}

fn walk(root: &std::path::Path, under: &str, found: &mut Vec<String>) -> Result<(), String> {
    let directory = root.join(under);
    let entries =
        std::fs::read_dir(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if under.is_empty() { name.clone() } else { format!("{under}/{name}") };
        match entry.file_type() {
            Ok(kind)
                if kind.is_dir() && matches!(name.as_str(), "target" | "node_modules" | "onefold-data") => {}
            Ok(kind) if kind.is_dir() => walk(root, &path, found)?,
            _ => found.push(path),
        }
    }
    Ok(())
}
