//! `cargo xtask mutants`: deliberate faults. Each file in `xtask/mutants/` breaks one rule in a copy of the code;
//! the test it names must then fail, by that name. A fault that survives means the test guards nothing.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::process::{self, End, Finished, Show};
use crate::workspace::{Workspace, cargo, files, stdout};
use crate::{NOT_YET, Verdict};

/// How long one test command may take, build included.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// One fault, as its file says it. `xtask/mutants/README.md` explains the fields.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutant {
    name: String,
    breaks: String,
    invariant: String,
    /// `cargo test ...`, naming as little as possible.
    test: String,
    /// Names of tests that must fail, at least one; as `cargo test` prints them.
    expect: Vec<String>,
    #[serde(rename = "edit")]
    edits: Vec<Edit>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Edit {
    file: String,
    find: String,
    replace: String,
}

#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Caught,
    /// The tests passed although the rule is broken.
    Survived,
    /// The mutant proves nothing as it stands: it does not compile, or other tests failed, or it hung.
    Unclear(String),
}

/// `cargo xtask mutants [NAME...] [--list]`.
pub(crate) fn command(workspace: &Workspace, arguments: &[&str]) -> Verdict {
    let mut mutants = load(&workspace.root.join("xtask/mutants"))?;
    if mutants.is_empty() {
        println!("{NOT_YET}xtask/mutants/ holds no mutant");
        return Ok(true);
    }
    let (options, names): (Vec<&str>, Vec<&str>) =
        arguments.iter().partition(|argument| argument.starts_with('-'));
    if let Some(unknown) = names.iter().find(|name| mutants.iter().all(|mutant| mutant.name != **name)) {
        return Err(format!("there is no mutant `{unknown}`; `cargo xtask mutants --list` shows them"));
    }
    mutants.retain(|mutant| names.is_empty() || names.contains(&mutant.name.as_str()));
    match options[..] {
        [] => {}
        ["--list"] => {
            for mutant in mutants {
                println!(
                    "{:<28} {:<4} {}\n{:33} {}",
                    mutant.name, mutant.invariant, mutant.breaks, "", mutant.test
                );
            }
            return Ok(true);
        }
        _ => {
            return Err(format!(
                "unexpected {}; `cargo xtask --help` shows what is understood",
                options.join(" ")
            ));
        }
    }
    let lab = Lab::new(&workspace.root, &workspace.target.join("mutants"))?;
    run(&lab, &mutants)
}

fn run(lab: &Lab, mutants: &[Mutant]) -> Verdict {
    lab.healthy(mutants)?;
    let mut rows = Vec::new();
    let mut whole = true;
    for mutant in mutants {
        println!("mutant {}: {}", mutant.name, mutant.breaks);
        let (fate, took) = lab.try_one(mutant)?;
        let word = match &fate {
            Fate::Caught => format!("caught by {}", mutant.expect.join(", ")),
            Fate::Survived => "SURVIVED: its test passes although the rule is broken".to_owned(),
            Fate::Unclear(why) => format!("UNCLEAR: {why}"),
        };
        whole &= fate == Fate::Caught;
        rows.push(format!(
            "{:<28} {:<4} {:>7.1} s  {word}",
            mutant.name,
            mutant.invariant,
            took.as_secs_f64()
        ));
    }
    println!("\n{:<28} {:<4} {:>9}  fate\n{}", "mutant", "rule", "time", rows.join("\n"));
    if !whole {
        println!("\nthe output of each is in {}/NAME.log", lab.logs.display());
    }
    Ok(whole)
}

fn load(directory: &Path) -> Result<Vec<Mutant>, String> {
    let entries = fs::read_dir(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    paths.iter().map(|path| read(path).map_err(|error| format!("{}: {error}", path.display()))).collect()
}

fn read(path: &Path) -> Result<Mutant, String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let mutant: Mutant = toml::from_str(&text).map_err(|error| error.to_string())?;
    if path.file_stem().is_none_or(|stem| *stem != *mutant.name) {
        return Err(format!("the file must be called {}.toml", mutant.name));
    }
    if !mutant.test.starts_with("cargo test ") {
        return Err("`test` must be a `cargo test` command".to_owned());
    }
    if mutant.expect.is_empty() || mutant.edits.is_empty() {
        return Err("it needs a test in `expect` and an [[edit]]".to_owned());
    }
    Ok(mutant)
}

/// A copy of the workspace that may be broken, with a target directory of its own that is kept between runs.
struct Lab {
    tree: PathBuf,
    build: PathBuf,
    logs: PathBuf,
}

impl Lab {
    fn new(root: &Path, under: &Path) -> Result<Self, String> {
        let lab = Self { tree: under.join("tree"), build: under.join("build"), logs: under.join("logs") };
        fs::create_dir_all(&lab.logs).map_err(|error| format!("{}: {error}", lab.logs.display()))?;
        copy(root, &lab.tree)?;
        Ok(lab)
    }

    /// A test that fails without the fault catches nothing.
    fn healthy(&self, mutants: &[Mutant]) -> Result<(), String> {
        let mut expected: HashMap<&str, Vec<&str>> = HashMap::new();
        for mutant in mutants {
            expected.entry(&mutant.test).or_default().extend(mutant.expect.iter().map(String::as_str));
        }
        let log = self.logs.join("healthy.log");
        let _ = fs::remove_file(&log);
        for (test, expected) in expected {
            println!("without a fault: {test}");
            let finished = self.test(test, &log)?;
            if finished.end != End::Success {
                return Err(format!("without any fault `{test}` fails; see {}", log.display()));
            }
            let passed = process::tests(&finished.output, "ok");
            if let Some(absent) = expected.iter().find(|name| !passed.contains(name)) {
                return Err(format!("`{test}` runs no test called {absent}; correct the mutant's `expect`"));
            }
        }
        Ok(())
    }

    fn try_one(&self, mutant: &Mutant) -> Result<(Fate, Duration), String> {
        let log = self.logs.join(format!("{}.log", mutant.name));
        let _ = fs::remove_file(&log);
        let mut originals = Vec::new();
        let applied = mutant.edits.iter().try_for_each(|edit| {
            let path = self.tree.join(&edit.file);
            let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", edit.file))?;
            let edited = edited(&text, edit)?;
            fs::write(&path, edited).map_err(|error| format!("{}: {error}", edit.file))?;
            originals.push((path, text));
            Ok::<(), String>(())
        });
        let tried = match applied {
            Ok(()) => self.test(&mutant.test, &log).map(|finished| (fate(mutant, &finished), finished.took)),
            Err(why) => Ok((Fate::Unclear(why), Duration::ZERO)),
        };
        for (path, text) in originals.into_iter().rev() {
            fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        tried
    }

    /// Output goes to the log only: whoever reads the run's output must not take these failures for real ones.
    fn test(&self, line: &str, log: &Path) -> Result<Finished, String> {
        let mut command = cargo();
        // `load` has checked that the line starts with `cargo test`.
        command.args(["test", "--no-fail-fast"]).args(line.split_whitespace().skip(2));
        command.current_dir(&self.tree).env("CARGO_TARGET_DIR", &self.build);
        process::run(command, log, &Show::LogOnly, LIMIT)
    }
}

fn fate(mutant: &Mutant, finished: &Finished) -> Fate {
    let failed = process::tests(&finished.output, "FAILED");
    let slept = mutant.expect.iter().find(|name| !failed.contains(&name.as_str()));
    match (&finished.end, slept) {
        (End::TimedOut, _) => Fate::Unclear(format!("killed after {} minutes", LIMIT.as_secs() / 60)),
        (End::Success | End::LeftProcess, _) => Fate::Survived,
        (End::Failure, None) => Fate::Caught,
        (End::Failure, Some(_)) if finished.output.contains("error: could not compile") => {
            Fate::Unclear("it does not compile".to_owned())
        }
        (End::Failure, Some(name)) => {
            Fate::Unclear(format!("{name} did not fail; failed: {}", failed.join(", ")))
        }
    }
}

fn edited(text: &str, edit: &Edit) -> Result<String, String> {
    match text.matches(&edit.find).count() {
        1 => Ok(text.replacen(&edit.find, &edit.replace, 1)),
        count => Err(format!("`find` matches {count} times in {}; it must match once", edit.file)),
    }
}

/// Makes `tree` hold exactly the project's files. Equal files are left alone, so that cargo rebuilds only what
/// changed since the last run.
fn copy(root: &Path, tree: &Path) -> Result<(), String> {
    let trouble = |path: &Path| {
        let path = path.display().to_string();
        move |error: std::io::Error| format!("{path}: {error}")
    };
    let wanted = files(root)?;
    for path in &wanted {
        let (from, to) = (root.join(path), tree.join(path));
        let content = fs::read(&from).map_err(trouble(&from))?;
        if fs::read(&to).is_ok_and(|existing| existing == content) {
            continue;
        }
        if let Some(directory) = to.parent() {
            fs::create_dir_all(directory).map_err(trouble(directory))?;
        }
        // A copy, not a write: scripts stay executable.
        fs::copy(&from, &to).map_err(trouble(&to))?;
    }
    // A repository of its own: else git would take the copy for ignored files of the real one.
    if !tree.join(".git").exists() {
        stdout(std::process::Command::new("git").args(["init", "--quiet"]).arg(tree))?;
    }
    for path in files(tree)?.iter().filter(|path| !wanted.contains(path)) {
        let gone = tree.join(path);
        fs::remove_file(&gone).map_err(trouble(&gone))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIBRARY: &str = "pub fn accept(token: u64, current: u64) -> bool {\n    token == current\n}\n\
        #[cfg(test)]\nmod tests {\n    #[test]\n    fn an_old_token_is_refused() {\n        \
        assert!(!super::accept(1, 2));\n    }\n    #[test]\n    fn other() {}\n}\n";

    fn toy() -> (tempfile::TempDir, Lab) {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        fs::create_dir_all(root.join("src")).unwrap();
        fs::write(
            root.join("Cargo.toml"),
            "[package]\nname = \"toy\"\nversion = \"0.1.0\"\nedition = \"2024\"\n",
        )
        .unwrap();
        fs::write(root.join("src/lib.rs"), LIBRARY).unwrap();
        let lab = Lab::new(&root, &directory.path().join("lab")).unwrap();
        (directory, lab)
    }

    fn mutant(find: &str, replace: &str, expect: &str) -> Mutant {
        let edit = Edit { file: "src/lib.rs".to_owned(), find: find.to_owned(), replace: replace.to_owned() };
        Mutant {
            name: "toy".to_owned(),
            breaks: String::new(),
            invariant: "I5".to_owned(),
            test: "cargo test --offline --lib".to_owned(),
            expect: vec![format!("tests::{expect}")],
            edits: vec![edit],
        }
    }

    /// The whole of it, on a crate with one rule and one test: each fate, and the tree is whole again afterwards.
    #[test]
    fn a_fault_is_caught_survives_or_proves_nothing() {
        let (_directory, lab) = toy();
        let caught = mutant("token == current", "token <= current", "an_old_token_is_refused");
        lab.healthy(std::slice::from_ref(&caught)).unwrap();
        let fate = |mutant: &Mutant| lab.try_one(mutant).unwrap().0;
        assert_eq!(fate(&caught), Fate::Caught);
        assert_eq!(
            fate(&mutant("token == current", "token >= current", "an_old_token_is_refused")),
            Fate::Survived
        );
        let broken = fate(&mutant("token == current", "token ==", "an_old_token_is_refused"));
        assert_eq!(broken, Fate::Unclear("it does not compile".to_owned()));
        let other = fate(&mutant("token == current", "token <= current", "other"));
        assert!(matches!(other, Fate::Unclear(why) if why.contains("tests::other did not fail")));
        let twice = fate(&mutant("token", "", "other"));
        assert!(matches!(twice, Fate::Unclear(why) if why.contains("must match once")));
        assert_eq!(fs::read_to_string(lab.tree.join("src/lib.rs")).unwrap(), LIBRARY);
    }

    /// Else any failing test would "catch" every mutant.
    #[test]
    fn the_tests_must_pass_and_exist_without_the_fault() {
        let (_directory, lab) = toy();
        let misnamed = mutant("==", "!=", "no_such_test");
        assert!(lab.healthy(&[misnamed]).unwrap_err().contains("runs no test called tests::no_such_test"));
        fs::write(lab.tree.join("src/lib.rs"), LIBRARY.replace("==", "<=")).unwrap();
        let failing = mutant("<=", "!=", "an_old_token_is_refused");
        assert!(lab.healthy(&[failing]).unwrap_err().contains("without any fault"));
    }

    /// A stale copy would test yesterday's code.
    #[test]
    fn the_copy_follows_the_original() {
        let (directory, lab) = toy();
        let root = directory.path().join("root");
        fs::write(lab.tree.join("src/lib.rs"), "left mutated by a killed run").unwrap();
        fs::write(root.join("src/new.rs"), "new").unwrap();
        copy(&root, &lab.tree).unwrap();
        assert_eq!(fs::read_to_string(lab.tree.join("src/lib.rs")).unwrap(), LIBRARY);
        assert!(lab.tree.join("src/new.rs").exists());
        fs::remove_file(root.join("src/new.rs")).unwrap();
        copy(&root, &lab.tree).unwrap();
        assert!(!lab.tree.join("src/new.rs").exists());
    }

    #[test]
    fn a_mutant_file_says_everything_or_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("skip-compare.toml");
        let good = "name = \"skip-compare\"\nbreaks = \"b\"\ninvariant = \"I5\"\ntest = \"cargo test -p a\"\n\
                    expect = [\"t\"]\n[[edit]]\nfile = \"f\"\nfind = \"a\"\nreplace = \"b\"\n";
        let outcome = |text: &str| {
            fs::write(&path, text).unwrap();
            load(directory.path()).map(|mutants| mutants.len())
        };
        assert_eq!(outcome(good), Ok(1));
        for (from, to) in
            [("\"skip-compare\"", "\"other\""), ("cargo test", "rm"), ("[\"t\"]", "[]"), ("find", "search")]
        {
            assert!(outcome(&good.replace(from, to)).is_err(), "{to}");
        }
    }
}
