//! Walks a table of suites: runs each, goes on after a failure, and ends with a table that says how to rerun.

use std::cell::OnceCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::Verdict;
use crate::binaries::{self, Binary, Kind};
use crate::process::{self, End, Show};
use crate::suites::{Step, Suite, packages_with_own_suite};
use crate::tools;
use crate::workspace::{Workspace, cargo};

struct Options {
    quick: bool,
    only: Vec<String>,
    list: bool,
    allow_missing: bool,
}

enum Outcome {
    Passed,
    Failed(Vec<String>),
    /// There is nothing to run yet, and the table allows that.
    NotYet(String),
    /// Tools it needs are not here.
    Missing(Vec<String>),
}

struct Row {
    suite: Suite,
    outcome: Outcome,
    tests: u64,
    took: Duration,
}

/// `cargo xtask test` and `cargo xtask long`.
pub(crate) fn test(table: &[Suite], arguments: &[&str]) -> Verdict {
    let options = parse(arguments)?;
    let chosen = choose(table, &options)?;
    if options.list {
        for suite in chosen {
            println!("{:<14} {} {}", suite.name, if suite.quick { "quick" } else { "     " }, suite.proves);
        }
        return Ok(true);
    }
    let runner = Runner::new(options.allow_missing, chosen.clone())?;
    let mut rows = Vec::new();
    for suite in chosen {
        println!("\n== {}: {}", suite.name, suite.proves);
        let row = runner.suite(suite)?;
        println!("== {}", line(&row));
        rows.push(row);
    }
    Ok(close(&rows, options.allow_missing))
}

fn parse(arguments: &[&str]) -> Result<Options, String> {
    let mut options = Options { quick: false, only: Vec::new(), list: false, allow_missing: false };
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match *argument {
            "--quick" => options.quick = true,
            "--list" => options.list = true,
            "--allow-missing" => options.allow_missing = true,
            "--only" => {
                let name = arguments.next().ok_or("--only needs the name of a suite")?;
                options.only.push((*name).to_owned());
            }
            other => {
                return Err(format!(
                    "unexpected argument `{other}`; `cargo xtask --help` shows what is understood"
                ));
            }
        }
    }
    Ok(options)
}

fn choose(table: &[Suite], options: &Options) -> Result<Vec<Suite>, String> {
    let names: Vec<&str> = table.iter().map(|suite| suite.name).collect();
    if let Some(unknown) = options.only.iter().find(|name| !names.contains(&name.as_str())) {
        return Err(format!("there is no suite `{unknown}`; there are: {}", names.join(", ")));
    }
    let wanted = |suite: &&Suite| {
        (options.only.is_empty() || options.only.iter().any(|name| name == suite.name))
            && (suite.quick || !options.quick)
    };
    let mut chosen: Vec<Suite> = table.iter().filter(wanted).copied().collect();
    // A suite asked for alone still gets the chance to have its tools installed.
    let needed: Vec<&str> = chosen.iter().flat_map(|suite| suite.tools).copied().collect();
    if !options.list
        && !chosen.iter().any(|suite| suite.name == "tools")
        && !tools::missing(&needed).is_empty()
    {
        chosen.splice(0..0, crate::suites::SUITES.iter().filter(|suite| suite.name == "tools").copied());
    }
    Ok(chosen)
}

struct Runner {
    workspace: Workspace,
    logs: PathBuf,
    /// Asked once: when cargo relinks this program during a run, the kernel calls the running file "(deleted)".
    xtask: PathBuf,
    allow_missing: bool,
    /// What is to be run.
    chosen: Vec<Suite>,
    /// Built when the first suite needs them.
    binaries: OnceCell<Result<Vec<Binary>, String>>,
}

/// What a step comes to.
enum Work {
    /// A command of cargo or of this program, shown as it stands.
    Command { command: Command, shown: String },
    /// Test binaries, all of which are run.
    Tests(Vec<Binary>),
}

impl Runner {
    fn new(allow_missing: bool, chosen: Vec<Suite>) -> Result<Self, String> {
        let workspace = Workspace::load()?;
        let logs = workspace.target.join("xtask");
        fs::create_dir_all(&logs).map_err(|error| format!("{}: {error}", logs.display()))?;
        let xtask = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
        Ok(Self { workspace, logs, xtask, allow_missing, chosen, binaries: OnceCell::new() })
    }

    fn suite(&self, suite: Suite) -> Result<Row, String> {
        let log = self.logs.join(format!("{}.log", suite.name));
        fs::write(&log, "").map_err(|error| format!("{}: {error}", log.display()))?;
        let missing = tools::missing(suite.tools);
        let mut row = Row { suite, outcome: Outcome::Passed, tests: 0, took: Duration::ZERO };
        if !missing.is_empty() {
            row.outcome = Outcome::Missing(missing);
            return Ok(row);
        }
        let mut absent = Vec::new();
        for step in suite.steps {
            let started = process::now();
            let work = self.work(step);
            row.took += started.elapsed();
            match work {
                Ok(Work::Command { command, shown }) => {
                    absent.extend(self.step(&mut row, step, command, &shown, &log)?);
                }
                Ok(Work::Tests(binaries)) => self.tests(&mut row, step, &binaries, &log)?,
                Err(why) => absent.push(why),
            }
            if !matches!(row.outcome, Outcome::Passed) {
                return Ok(row);
            }
        }
        let tests = suite.steps.iter().any(Step::runs_tests);
        if tests && row.tests == 0 && absent.is_empty() {
            absent.push("it ran no test at all".to_owned());
        }
        if !absent.is_empty() {
            row.outcome = not_yet(&suite, absent.join("; "));
        }
        Ok(row)
    }

    /// Runs every one of these, and fails if one does.
    fn tests(&self, row: &mut Row, step: &Step, binaries: &[Binary], log: &Path) -> Result<(), String> {
        let mut reasons = Vec::new();
        for binary in binaries {
            let shown = format!("{}   # {}", binary.shown(), binary.executable().display());
            self.step(row, step, binary.command(), &shown, log)?;
            if let Outcome::Failed(failed) = std::mem::replace(&mut row.outcome, Outcome::Passed) {
                reasons.extend(failed);
            }
        }
        if !reasons.is_empty() {
            row.outcome = Outcome::Failed(reasons);
        }
        Ok(())
    }

    /// Runs one command into `row`; answers what it said is not there yet.
    fn step(
        &self,
        row: &mut Row,
        step: &Step,
        mut command: Command,
        shown: &str,
        log: &Path,
    ) -> Result<Option<String>, String> {
        let mut variables = String::new();
        for (name, value) in row.suite.env {
            let value = value.replace("{target}", &self.workspace.target.to_string_lossy());
            variables.push_str(&format!("{name}='{value}' "));
            command.env(name, value);
        }
        println!("$ {variables}{shown}");

        let limit = Duration::from_secs(60 * row.suite.minutes).saturating_sub(row.took);
        let finished = process::run(command, log, &Show::Terminal, limit)?;
        row.took += finished.took;
        row.tests += counted(&finished.output, "passed") + counted(&finished.output, "failed");
        let mut reasons: Vec<String> = match finished.end {
            End::Success => Vec::new(),
            End::Failure if matches!(step, Step::Xtask("tools")) && self.allow_missing => Vec::new(),
            End::Failure => {
                let failed = process::tests(&finished.output, "FAILED");
                let named = failed.iter().map(|test| format!("test {test}")).collect::<Vec<_>>();
                if named.is_empty() {
                    let last = finished.output.lines().rfind(|line| !line.trim().is_empty());
                    vec![format!("{shown}: {}", last.unwrap_or("failed, and said nothing"))]
                } else {
                    named
                }
            }
            End::TimedOut => vec![format!("{shown}: killed after {} minutes", row.suite.minutes)],
            End::LeftProcess => {
                vec![format!("{shown}: a process it started still runs and holds its output")]
            }
        };
        if step.runs_tests() && counted(&finished.output, "ignored") > 0 {
            reasons
                .push(format!("{} tests ignored: fix or delete them", counted(&finished.output, "ignored")));
        }
        if !reasons.is_empty() {
            row.outcome = Outcome::Failed(reasons);
        }
        let said = finished.output.lines().find_map(|line| line.strip_prefix(crate::NOT_YET));
        Ok(said.filter(|_| matches!(step, Step::Xtask(_))).map(str::to_owned))
    }

    /// What a step comes to, or what is not there yet.
    fn work(&self, step: &Step) -> Result<Work, String> {
        let program = |mut command: Command, name: &str, words: &[&str]| {
            command.args(words).current_dir(&self.workspace.root);
            Ok(Work::Command { command, shown: format!("{name} {}", words.join(" ")) })
        };
        let package =
            |name: &str| self.workspace.member(name).ok_or_else(|| format!("there is no package {name}"));
        match step {
            Step::Cargo(words) => program(cargo(), "cargo", words),
            Step::Xtask(word) => program(Command::new(&self.xtask), "cargo xtask", &[word]),
            Step::OtherPackages => {
                let own = packages_with_own_suite();
                self.binaries(|binary| !own.contains(&binary.package.as_str()))
            }
            Step::Package { name, except } => {
                package(name)?;
                self.binaries(|binary| {
                    let elsewhere =
                        binary.kind == Kind::Integration && except.contains(&binary.target.as_str());
                    binary.package == *name && !elsewhere
                })
            }
            Step::Test { package: name, test } => {
                if !package(name)?.targets_of("test").any(|target| target == *test) {
                    return Err(format!("{name} has no integration test `{test}`"));
                }
                self.binaries(|binary| {
                    binary.package == *name && binary.kind == Kind::Integration && binary.target == *test
                })
            }
        }
    }

    fn binaries(&self, wanted: impl Fn(&Binary) -> bool) -> Result<Work, String> {
        let built = self.binaries.get_or_init(|| binaries::build(&self.workspace, &self.chosen));
        let built = built.as_ref().map_err(Clone::clone)?;
        Ok(Work::Tests(built.iter().filter(|binary| wanted(binary)).cloned().collect()))
    }
}

impl Step {
    fn runs_tests(&self) -> bool {
        matches!(self, Self::OtherPackages | Self::Package { .. } | Self::Test { .. })
    }
}

fn not_yet(suite: &Suite, why: String) -> Outcome {
    if suite.required {
        Outcome::Failed(vec![format!("{why}, and xtask/src/suites.rs says it is required")])
    } else {
        Outcome::NotYet(why)
    }
}

/// Sums a figure over all `test result:` lines of an output.
fn counted(output: &str, what: &str) -> u64 {
    output
        .lines()
        .filter(|line| line.starts_with("test result: "))
        .flat_map(|line| line.split([';', '.']))
        .filter_map(|part| part.trim().strip_suffix(what)?.trim().parse::<u64>().ok())
        .sum()
}

fn line(row: &Row) -> String {
    let (word, detail) = match &row.outcome {
        Outcome::Passed => ("ok", String::new()),
        Outcome::Failed(reasons) => ("FAILED", reasons.join("; ")),
        Outcome::NotYet(why) => ("NOT THERE YET", why.clone()),
        Outcome::Missing(tools) => ("NOT RUN", format!("missing: {}", tools.join(", "))),
    };
    let tests = if row.tests == 0 { String::new() } else { format!("{} tests", row.tests) };
    format!("{:<14} {word:<13} {tests:>11} {:>8.1} s  {detail}", row.suite.name, row.took.as_secs_f64())
        .trim_end()
        .to_owned()
}

/// Prints the closing table; true when the run as a whole passed.
fn close(rows: &[Row], allow_missing: bool) -> bool {
    println!("\n{:<14} {:<13} {:>11} {:>10}", "suite", "result", "tests", "time");
    for row in rows {
        println!("{}", line(row));
    }
    let failed = |row: &&Row| match row.outcome {
        Outcome::Failed(_) => true,
        Outcome::Missing(_) => !allow_missing,
        Outcome::Passed | Outcome::NotYet(_) => false,
    };
    let failures: Vec<&Row> = rows.iter().filter(failed).collect();
    let tests: u64 = rows.iter().map(|row| row.tests).sum();
    let time = rows.iter().map(|row| row.took).sum::<Duration>().as_secs();
    let ran = rows.iter().filter(|row| matches!(row.outcome, Outcome::Passed)).count();
    let absent: Vec<&str> = rows
        .iter()
        .filter(|row| !matches!(row.outcome, Outcome::Passed | Outcome::Failed(_)))
        .map(|row| row.suite.name)
        .collect();
    if !absent.is_empty() {
        println!("\nNOT RUN: {} (reasons above)", absent.join(", "));
    }
    let (minutes, seconds) = (time / 60, time % 60);
    if failures.is_empty() {
        println!(
            "\nok: {ran} of {} suites ran and passed, {tests} tests, {minutes} min {seconds} s",
            rows.len()
        );
        return true;
    }
    println!(
        "\nFAILED: {} of {} suites, {tests} tests, {minutes} min {seconds} s",
        failures.len(),
        rows.len()
    );
    for row in failures {
        let command = if row.suite.name.ends_with("-long") || row.suite.name.starts_with("bench") {
            "long"
        } else {
            "test"
        };
        println!(
            "  {:<14} again: cargo xtask {command} --only {}   log: target/xtask/{0}.log",
            row.suite.name, row.suite.name
        );
        if let Outcome::Failed(reasons) = &row.outcome {
            for reason in reasons {
                println!("    {reason}");
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suites::SUITES;

    fn names(arguments: &[&str]) -> Result<Vec<&'static str>, String> {
        let options = parse(&[arguments, &["--list"]].concat())?;
        Ok(choose(SUITES, &options)?.iter().map(|suite| suite.name).collect())
    }

    #[test]
    fn suites_are_chosen_by_name_or_by_being_quick() {
        assert_eq!(names(&[]).unwrap().len(), SUITES.len());
        assert_eq!(names(&["--only", "http", "--only", "fmt"]).unwrap(), ["fmt", "http"]);
        assert!(names(&["--quick"]).unwrap().contains(&"fmt"));
        assert!(!names(&["--quick"]).unwrap().contains(&"crash"));
    }

    /// A mistyped name must not pass as "nothing failed".
    #[test]
    fn an_unknown_suite_or_argument_is_refused() {
        assert!(names(&["--only", "htpp"]).unwrap_err().contains("there are: tools, fmt"));
        assert!(names(&["--only"]).is_err());
        assert!(names(&["--fast"]).is_err());
    }

    #[test]
    fn counts_are_summed_over_all_binaries() {
        let output = "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s\n\
                      noise: 9 passed\n\
                      test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s";
        assert_eq!(counted(output, "passed"), 7);
        assert_eq!(counted(output, "failed"), 2);
        assert_eq!(counted(output, "ignored"), 1);
    }

    fn row(outcome: Outcome) -> Row {
        Row { suite: SUITES[0], outcome, tests: 0, took: Duration::ZERO }
    }

    /// A run is green only if nothing failed, and a missing tool is a failure unless it was allowed.
    #[test]
    fn a_missing_tool_fails_unless_allowed() {
        assert!(close(&[row(Outcome::Passed)], false));
        assert!(!close(&[row(Outcome::Passed), row(Outcome::Failed(vec![]))], true));
        assert!(!close(&[row(Outcome::Missing(vec![]))], false));
        assert!(close(&[row(Outcome::Missing(vec![]))], true));
    }

    /// "Not there yet" is only for suites that the table says may be absent.
    #[test]
    fn a_required_suite_must_exist() {
        let required = |required| Suite { required, ..SUITES[0] };
        assert!(matches!(not_yet(&required(true), String::new()), Outcome::Failed(_)));
        assert!(matches!(not_yet(&required(false), String::new()), Outcome::NotYet(_)));
    }
}
