//! `cargo xtask`: the one command that checks this project, and its parts.

mod binaries;
mod examples;
mod mutants;
mod process;
mod runner;
mod suites;
mod tidy;
mod tools;
mod workspace;

use std::process::ExitCode;

use workspace::Workspace;

/// What a command reports: `true` when everything it looked at is in order, `Err` when it could not look.
type Verdict = Result<bool, String>;

/// How a command of ours says that it had nothing to look at; the runner turns it into the suite's result.
const NOT_YET: &str = "NOT THERE YET: ";

const HELP: &str = "\
cargo xtask: everything this project checks about itself

  cargo xtask test                 run every suite: the same command here, in CI and before a release
  cargo xtask test --quick         only the quick suites: what to run before each commit
  cargo xtask test --only http     one suite by name (repeat --only for more)
  cargo xtask test --list          the suites, what each proves and whether it is quick
  cargo xtask test --allow-missing a suite whose tools are missing is reported but does not fail the run

  cargo xtask tidy                 the style guide as a test: crate arrows, licences, clocks, sleeps, links, pages
  cargo xtask mutants [NAME...]    put deliberate faults into a copy of the code; the named test must catch each
  cargo xtask mutants --list       the faults and the invariant each one breaks
  cargo xtask long                 the soak: more seeds, more kills, and the benchmarks (ONEFOLD_LONG=1)
  cargo xtask examples             build all examples and run each to its end
  cargo xtask tools                check the outside tools the tests use; install what apt-get may
  cargo xtask deny                 licences, bans and sources by cargo-deny, or by tidy where it is not installed

A run goes on after a failing suite. It ends with a table, the names of the failed tests and the command that
reruns each failed suite alone, and exits 1 if anything failed, 2 if the command line was wrong. Output also
goes to target/xtask/SUITE.log. Nothing reads standard input.

The tables to edit: xtask/src/suites.rs (suites), xtask/src/tools.rs (outside tools), xtask/src/tidy/arrows.rs
(who may use whom), xtask/tidy-allow.txt (exceptions, each with its reason), xtask/mutants/ (faults), deny.toml.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::from(2)
        }
    }
}

fn dispatch(arguments: &[&str]) -> Verdict {
    let (command, rest) = arguments.split_first().unwrap_or((&"help", &[]));
    if rest.iter().any(|argument| matches!(*argument, "--help" | "-h")) {
        return help();
    }
    match *command {
        "help" | "--help" | "-h" => help(),
        "test" => runner::test(suites::SUITES, rest),
        "long" => runner::test(suites::LONG, rest),
        "tidy" => none(rest).and_then(|()| tidy::run(&Workspace::load()?)),
        "mutants" => mutants::command(&Workspace::load()?, rest),
        "examples" => none(rest).and_then(|()| examples::run(&Workspace::load()?)),
        "tools" => none(rest).and_then(|()| tools::command()),
        "deny" => none(rest).and_then(|()| tidy::deny(&Workspace::load()?)),
        other => Err(format!("there is no command `{other}`; `cargo xtask --help` lists them")),
    }
}

fn help() -> Verdict {
    print!("{HELP}");
    Ok(true)
}

fn none(arguments: &[&str]) -> Result<(), String> {
    match arguments.first() {
        None => Ok(()),
        Some(argument) => {
            Err(format!("unexpected argument `{argument}`; `cargo xtask --help` shows what is understood"))
        }
    }
}
