//! The table of suites. This is the file to edit when a room appears; `runner.rs` only walks it.

/// One line of `cargo xtask test`.
#[derive(Clone, Copy)]
pub(crate) struct Suite {
    pub(crate) name: &'static str,
    /// What a green result proves.
    pub(crate) proves: &'static str,
    /// Part of `--quick`.
    pub(crate) quick: bool,
    /// Whether "not there yet" (its package or test is missing, or it ran no test) is a failure.
    pub(crate) required: bool,
    /// Outside tools it needs, by their name in `tools.rs`; `cc` is needed by everything that builds.
    pub(crate) tools: &'static [&'static str],
    /// `{target}` in a value stands for the target directory.
    pub(crate) env: &'static [(&'static str, &'static str)],
    /// Run in order; the first that fails ends the suite.
    pub(crate) steps: &'static [Step],
    /// After this many minutes the suite is killed and counts as failed.
    pub(crate) minutes: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// A cargo command as it stands.
    Cargo(&'static [&'static str]),
    /// A command of this program.
    Xtask(&'static str),
    /// Every unit and integration test of the packages that no suite names by a step below.
    OtherPackages,
    /// Unit tests and all integration tests of a package but those in `except`, which have a step of their own.
    Package { name: &'static str, except: &'static [&'static str] },
    /// One integration test of a package.
    Test { package: &'static str, test: &'static str },
}

const SUITE: Suite = Suite {
    name: "",
    proves: "",
    quick: false,
    required: true,
    tools: &[],
    env: &[],
    steps: &[],
    minutes: 30,
};

/// The release binary, for tests that use it as a stranger would.
const RELEASE: Step = Step::Cargo(&["build", "--release", "-p", "onefold-cli"]);
const ONEFOLD_BIN: (&str, &str) = ("ONEFOLD_BIN", "{target}/release/onefold");

/// `cargo xtask test`, in this order.
pub(crate) const SUITES: &[Suite] = &[
    Suite {
        name: "tools",
        proves: "the outside tools the tests use are here, or are installed where that is allowed",
        quick: true,
        steps: &[Step::Xtask("tools")],
        ..SUITE
    },
    Suite {
        name: "fmt",
        proves: "the code is formatted",
        quick: true,
        steps: &[Step::Cargo(&["fmt", "--all", "--check"])],
        ..SUITE
    },
    Suite {
        name: "clippy",
        proves: "no compiler or clippy warning in any target",
        quick: true,
        steps: &[Step::Cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])],
        ..SUITE
    },
    Suite {
        name: "tidy",
        proves: "the style guide: crate arrows, licences, injected time, no sleeps, links, a page for every code",
        quick: true,
        tools: &["git"],
        steps: &[Step::Xtask("tidy")],
        ..SUITE
    },
    Suite {
        name: "build",
        proves: "every test builds",
        quick: true,
        steps: &[Step::Cargo(&["test", "--workspace", "--no-run"])],
        ..SUITE
    },
    Suite {
        name: "unit",
        proves: "each crate's own rules: unit, property and integration tests next to the code",
        quick: true,
        tools: &["git"],
        steps: &[Step::OtherPackages, Step::Package { name: "onefold", except: &["postgres"] }],
        ..SUITE
    },
    Suite {
        name: "doc",
        proves: "examples in the documentation compile and run; no broken link inside it",
        steps: &[
            Step::Cargo(&["test", "--workspace", "--doc", "--no-fail-fast"]),
            Step::Cargo(&["doc", "--workspace", "--lib", "--no-deps"]),
        ],
        env: &[("RUSTDOCFLAGS", "-D warnings")],
        ..SUITE
    },
    Suite {
        name: "conformance",
        proves: "every engine keeps the contract: one suite, each rule by its invariant",
        quick: true,
        steps: &[Step::Package {
            name: "onefold-conformance",
            except: &["model", "postgres", "postgres_sql"],
        }],
        ..SUITE
    },
    Suite {
        name: "postgres",
        proves: "the contract, the model, several nodes and trouble with the server, on a PostgreSQL of its own",
        tools: &["postgres", "node", "npm", "python3"],
        steps: &[
            Step::Test { package: "onefold-conformance", test: "postgres" },
            Step::Test { package: "onefold-conformance", test: "postgres_sql" },
            Step::Package { name: "onefold-engine-postgres", except: &[] },
            Step::Test { package: "onefold", test: "postgres" },
        ],
        minutes: 60,
        ..SUITE
    },
    Suite {
        name: "model",
        proves: "random operations, crashes and clock steps: every engine answers like the reference engine",
        steps: &[Step::Test { package: "onefold-conformance", test: "model" }],
        ..SUITE
    },
    Suite {
        name: "http",
        proves: "every route: answers, codes, limits, bad input, deadlines, drain",
        steps: &[Step::Package { name: "onefold-server", except: &[] }],
        ..SUITE
    },
    Suite { name: "release-build", proves: "the release binary builds", steps: &[RELEASE], ..SUITE },
    Suite {
        name: "cli",
        proves: "the release binary as a stranger meets it: every command, the demo, and the README's tour as printed",
        tools: &["postgres", "node", "npm", "python3", "sqlite3"],
        env: &[ONEFOLD_BIN],
        steps: &[
            RELEASE,
            Step::Package {
                name: "onefold-e2e",
                except: &["deliver", "deliver_kill", "deliver_zoo", "kill", "postgres", "postgres_kill"],
            },
        ],
        ..SUITE
    },
    Suite {
        name: "deliveries",
        proves: "HTTP targets, on both engines: what they receive, receivers that misbehave, SIGKILL between answer and record",
        tools: &["postgres", "python3"],
        env: &[ONEFOLD_BIN],
        steps: &[
            RELEASE,
            Step::Test { package: "onefold-e2e", test: "deliver" },
            Step::Test { package: "onefold-e2e", test: "deliver_zoo" },
            Step::Test { package: "onefold-e2e", test: "deliver_kill" },
        ],
        ..SUITE
    },
    Suite {
        name: "nodes",
        proves: "the release binary on PostgreSQL: the demo, SIGKILL under load, limits over nodes, bad input, outages, TLS, doctor",
        tools: &["postgres"],
        env: &[ONEFOLD_BIN],
        steps: &[
            RELEASE,
            Step::Test { package: "onefold-e2e", test: "postgres" },
            Step::Test { package: "onefold-e2e", test: "postgres_kill" },
            Step::Test { package: "onefold-e2e", test: "limits" },
        ],
        ..SUITE
    },
    Suite {
        name: "crash",
        proves: "power loss at every sync, cut and corrupted files, and SIGKILL under load: nothing acknowledged is lost",
        env: &[ONEFOLD_BIN],
        steps: &[
            Step::Package { name: "onefold-crash", except: &[] },
            RELEASE,
            Step::Test { package: "onefold-e2e", test: "kill" },
        ],
        minutes: 45,
        ..SUITE
    },
    Suite {
        name: "effects",
        proves: "workers killed and stopped at any moment of a step, on every engine: what the world outside saw is what is promised",
        tools: &["postgres"],
        env: &[ONEFOLD_BIN],
        steps: &[RELEASE, Step::Package { name: "onefold-effects", except: &[] }],
        ..SUITE
    },
    Suite {
        name: "cluster",
        proves: "nodes killed, cut off and restarted, a primary lost, commits that break: nothing acknowledged is lost, and work resumes",
        tools: &["postgres"],
        env: &[ONEFOLD_BIN],
        steps: &[RELEASE, Step::Package { name: "onefold-cluster", except: &[] }],
        ..SUITE
    },
    Suite {
        name: "examples",
        proves: "every example builds and runs to its end",
        steps: &[Step::Xtask("examples")],
        ..SUITE
    },
    Suite {
        name: "mutants",
        proves: "the tests have teeth: each deliberate fault is caught by the test that guards its rule",
        tools: &["git"],
        steps: &[Step::Xtask("mutants")],
        minutes: 90,
        ..SUITE
    },
    Suite {
        name: "deny",
        proves: "licences, bans and sources of everything we depend on",
        steps: &[Step::Xtask("deny")],
        ..SUITE
    },
];

const LONG_RUN: (&str, &str) = ("ONEFOLD_LONG", "1");

/// `cargo xtask long`: the tests that look at `ONEFOLD_LONG` do more of the same.
pub(crate) const LONG: &[Suite] = &[
    Suite {
        name: "model-long",
        proves: "the model over many seeds",
        env: &[LONG_RUN],
        steps: &[Step::Test { package: "onefold-conformance", test: "model" }],
        minutes: 240,
        ..SUITE
    },
    Suite {
        name: "crash-long",
        proves: "power loss at every sync of longer scripts",
        env: &[LONG_RUN],
        steps: &[Step::Package { name: "onefold-crash", except: &[] }],
        minutes: 240,
        ..SUITE
    },
    Suite {
        name: "kill-long",
        proves: "many more SIGKILLs under load, also during recovery",
        env: &[LONG_RUN, ONEFOLD_BIN],
        steps: &[RELEASE, Step::Test { package: "onefold-e2e", test: "kill" }],
        minutes: 240,
        ..SUITE
    },
    Suite {
        name: "deliveries-long",
        proves: "many more SIGKILLs between a target's answer and our record",
        tools: &["postgres"],
        env: &[LONG_RUN, ONEFOLD_BIN],
        steps: &[RELEASE, Step::Test { package: "onefold-e2e", test: "deliver_kill" }],
        minutes: 60,
        ..SUITE
    },
    Suite {
        name: "effects-long",
        proves: "effects under ten times as many schedules of faults",
        tools: &["postgres"],
        env: &[LONG_RUN, ONEFOLD_BIN],
        steps: &[RELEASE, Step::Package { name: "onefold-effects", except: &[] }],
        minutes: 60,
        ..SUITE
    },
    Suite {
        name: "cluster-long",
        proves: "one failover after the other under load, each to a new standby",
        tools: &["postgres"],
        env: &[LONG_RUN, ONEFOLD_BIN],
        steps: &[RELEASE, Step::Test { package: "onefold-cluster", test: "storm" }],
        minutes: 60,
        ..SUITE
    },
    Suite {
        name: "bench",
        proves: "nothing: it measures, each figure beside the floor of the same disk",
        env: &[LONG_RUN],
        steps: &[
            RELEASE,
            Step::Cargo(&["run", "--release", "-p", "onefold-bench", "--", "engine", "--batch", "256"]),
            Step::Cargo(&["run", "--release", "-p", "onefold-bench", "--", "engine", "--batch", "32"]),
            Step::Cargo(&["run", "--release", "-p", "onefold-bench", "--", "http"]),
            Step::Cargo(&["run", "--release", "-p", "onefold-bench", "--", "schedules"]),
            Step::Cargo(&["run", "--release", "-p", "onefold-bench", "--", "deliveries"]),
        ],
        minutes: 240,
        ..SUITE
    },
    Suite {
        name: "bench-postgres",
        proves: "nothing: it measures, in turn with pg-boss and graphile-worker, and beside a transaction held open",
        tools: &["postgres", "node", "npm"],
        steps: &[
            Step::Cargo(&["run", "--release", "-p", "onefold-bench", "--", "postgres"]),
            Step::Cargo(&["run", "--release", "-p", "onefold-bench", "--", "xmin"]),
        ],
        minutes: 240,
        ..SUITE
    },
];

/// Packages with a step of their own, which `Step::OtherPackages` therefore leaves out.
pub(crate) fn packages_with_own_suite() -> Vec<&'static str> {
    let mut names: Vec<_> = SUITES
        .iter()
        .flat_map(|suite| suite.steps)
        .filter_map(|step| match step {
            Step::Package { name, .. } => Some(*name),
            Step::Test { package, .. } => Some(*package),
            Step::Cargo(_) | Step::Xtask(_) | Step::OtherPackages => None,
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps() -> impl Iterator<Item = &'static Step> {
        SUITES.iter().flat_map(|suite| suite.steps)
    }

    /// A test left out of one suite and forgotten in the others would never run.
    #[test]
    fn what_one_suite_leaves_out_another_runs() {
        for step in steps() {
            let Step::Package { name, except } = step else { continue };
            for left_out in *except {
                let runs = |step: &Step| matches!(step, Step::Test { package, test } if package == name && test == left_out);
                assert!(steps().any(runs), "{name}: nobody runs {left_out}");
            }
        }
    }

    /// A package that only has single tests named would lose its unit tests.
    #[test]
    fn a_package_with_its_own_suite_is_run_whole() {
        for package in packages_with_own_suite() {
            let whole = |step: &Step| matches!(step, Step::Package { name, .. } if *name == package);
            assert!(steps().any(whole), "{package} has no Step::Package");
        }
    }

    /// `--only NAME` must mean one suite.
    #[test]
    fn names_are_unique_and_tools_are_known() {
        for table in [SUITES, LONG] {
            for (index, suite) in table.iter().enumerate() {
                assert!(table[..index].iter().all(|other| other.name != suite.name), "{} twice", suite.name);
                for tool in suite.tools {
                    assert!(crate::tools::TOOLS.iter().any(|known| known.name == *tool), "{tool} is unknown");
                }
            }
        }
    }
}
