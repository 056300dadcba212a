//! The test binaries of the workspace, built together. Cargo builds a dependency anew for each set of features, and the
//! packages tested one by one would each have a set of their own; so all are built in one go, and run from here.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::suites::{Step, Suite};
use crate::workspace::{Workspace, cargo, with_clean_environment};

/// One test binary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Binary {
    pub(crate) package: String,
    pub(crate) target: String,
    pub(crate) kind: Kind,
    executable: PathBuf,
    /// Where `cargo test` runs it.
    directory: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Unit tests of a library or of a program.
    Unit,
    Integration,
}

/// A line of `--message-format=json`.
#[derive(Deserialize)]
struct Message {
    reason: String,
    package_id: Option<String>,
    target: Option<crate::workspace::Target>,
    profile: Option<Profile>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// Builds what the suites need; cargo's own progress goes to the terminal.
pub(crate) fn build(workspace: &Workspace, suites: &[Suite]) -> Result<Vec<Binary>, String> {
    let mut command = cargo();
    command.args(["test", "--workspace", "--no-run", "--message-format=json-render-diagnostics"]);
    command.args(filters(suites)).current_dir(&workspace.root);
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("cannot start cargo: {error}"))?;
    if !output.status.success() {
        return Err("the tests do not build; cargo said why above".to_owned());
    }
    let mut found: Vec<Binary> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| binary(workspace, serde_json::from_str(line).ok()?))
        .collect();
    found.sort_by(|a, b| (&a.package, a.kind, &a.target).cmp(&(&b.package, b.kind, &b.target)));
    Ok(found)
}

/// What keeps cargo from building more tests than the suites run; nothing if they run all.
fn filters(suites: &[Suite]) -> Vec<String> {
    let steps = || suites.iter().flat_map(|suite| suite.steps);
    if steps().any(|step| matches!(step, Step::OtherPackages | Step::Package { .. })) {
        return Vec::new();
    }
    let names = steps().filter_map(|step| match step {
        Step::Test { test, .. } => Some(["--test".to_owned(), (*test).to_owned()]),
        Step::OtherPackages | Step::Package { .. } | Step::Cargo(_) | Step::Xtask(_) => None,
    });
    names.flatten().collect()
}

fn binary(workspace: &Workspace, message: Message) -> Option<Binary> {
    let is_test = message.reason == "compiler-artifact" && message.profile?.test;
    let (target, id) = (message.target.filter(|_| is_test)?, message.package_id?);
    let package = workspace.members().find(|package| package.id == id)?;
    let kind = match target.kind.iter().any(|kind| kind == "test") {
        true => Kind::Integration,
        false => Kind::Unit,
    };
    Some(Binary {
        package: package.name.clone(),
        target: target.name,
        kind,
        executable: message.executable?,
        directory: package.manifest_path.parent()?.to_owned(),
    })
}

impl Binary {
    /// Runs it as `cargo test` would.
    pub(crate) fn command(&self) -> Command {
        let mut command = with_clean_environment(Command::new(&self.executable));
        command.current_dir(&self.directory).env("CARGO_MANIFEST_DIR", &self.directory);
        command
    }

    /// How a person runs it alone.
    pub(crate) fn shown(&self) -> String {
        match self.kind {
            Kind::Unit => format!("cargo test -p {} --lib --bins", self.package),
            Kind::Integration => format!("cargo test -p {} --test {}", self.package, self.target),
        }
    }

    pub(crate) fn executable(&self) -> &Path {
        &self.executable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suite(steps: &'static [Step]) -> Suite {
        Suite { steps, ..crate::suites::SUITES[0] }
    }

    /// A test that was filtered away when it was built would be missing when it is to run.
    #[test]
    fn only_named_tests_narrow_what_is_built() {
        const NAMED: &[Step] = &[Step::Xtask("tools"), Step::Test { package: "a", test: "b" }];
        const WHOLE: &[Step] = &[Step::Package { name: "a", except: &[] }];
        assert_eq!(filters(&[suite(NAMED)]), ["--test", "b"]);
        assert!(filters(&[suite(NAMED), suite(WHOLE)]).is_empty());
        assert!(filters(&[suite(&[Step::OtherPackages])]).is_empty());
    }

    /// Programs and libraries that are built on the way are no tests.
    #[test]
    fn tests_are_told_from_what_they_need() {
        let workspace = Workspace::load().unwrap();
        let package = workspace.member("xtask").unwrap();
        let message = |reason: &str, kind: &str, test: bool| Message {
            reason: reason.to_owned(),
            package_id: Some(package.id.clone()),
            target: Some(crate::workspace::Target { name: "it".to_owned(), kind: vec![kind.to_owned()] }),
            profile: Some(Profile { test }),
            executable: Some("/there".into()),
        };
        let kind = |message| binary(&workspace, message).map(|binary| binary.kind);
        assert_eq!(kind(message("compiler-artifact", "test", true)), Some(Kind::Integration));
        assert_eq!(kind(message("compiler-artifact", "bin", true)), Some(Kind::Unit));
        assert_eq!(kind(message("compiler-artifact", "bin", false)), None);
        assert_eq!(kind(message("build-finished", "bin", true)), None);
        let stranger = Message { package_id: None, ..message("compiler-artifact", "bin", true) };
        assert_eq!(kind(stranger), None);
    }
}
