//! Rules about what stands in files: markers, clocks, sleeps, length, machine paths.

use super::code::{has_word, test_lines, views};
use super::{File, Finding};

/// A file longer than this needs a line in `tidy-allow.txt`.
const LONG: usize = 500;
const SOURCE: [&str; 9] = [".rs", ".sql", ".js", ".mjs", ".ts", ".py", ".sh", ".html", ".css"];

/// Assembled at compile time, so that this file does not break its own rule.
const MACHINE_PATHS: [&str; 4] =
    [concat!("/", "home/"), concat!("/", "root/"), concat!("/", "work/"), concat!("/", "Users/")];

const MARKERS: [&str; 4] = ["TODO", "FIXME", "XXX", "HACK"];

const MACROS: [&str; 3] = ["dbg!", "todo!", "unimplemented!"];

const CLOCKS: [&str; 4] = ["SystemTime::now", "Instant::now", "Timestamp::now", "Zoned::now"];

pub(super) fn check(file: &File) -> Vec<Finding> {
    let mut found = anywhere(file);
    if file.path.ends_with(".rs") {
        found.extend(rust(file));
    }
    found
}

fn anywhere(file: &File) -> Vec<Finding> {
    let mut found = Vec::new();
    let lines = file.text.lines().count();
    if lines > LONG && SOURCE.iter().any(|ending| file.path.ends_with(ending)) {
        let what = format!(
            "{lines} lines (more than {LONG}): split it by what it holds, or give the reason it stays whole"
        );
        found.push(file.finding("long-file", lines, what));
    }
    for (number, line) in (1..).zip(file.text.lines()) {
        if line.starts_with("<<<<<<< ") || line.starts_with(">>>>>>> ") {
            found.push(file.finding("marker", number, "a merge conflict was left in".to_owned()));
        }
        if let Some(path) = MACHINE_PATHS.iter().find(|path| names_path(line, path)) {
            let what = format!(
                "`{path}` is a path of one machine: use a relative path, an option or a temporary directory"
            );
            found.push(file.finding("machine-path", number, what));
        }
        if file.path.ends_with("package-lock.json") && line.trim_start().starts_with("\"resolved\": \"http") {
            let what = "a lock file must not name a registry: set omit-lockfile-registry-resolved=true in .npmrc and relock";
            found.push(file.finding("machine-path", number, what.to_owned()));
        }
        if !file.path.ends_with(".rs") {
            found.extend(marker(file, number, line));
        }
    }
    found
}

/// Whether `path` begins a path here, rather than being a part of a longer one such as a route.
fn names_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "._-~})*".contains(c))
    })
}

fn marker(file: &File, number: usize, text: &str) -> Option<Finding> {
    let word = MARKERS.iter().find(|word| has_word(text, word))?;
    Some(file.finding(
        "marker",
        number,
        format!("leftover `{word}`: do it now, or open an issue and drop the line"),
    ))
}

fn rust(file: &File) -> Vec<Finding> {
    let views = views(&file.text);
    let tests = test_lines(&views.code);
    let whole_file_tests = is_test_file(&file.path);
    let mut found = Vec::new();
    for (index, (code, comment)) in views.code.lines().zip(views.comments.lines()).enumerate() {
        let number = index + 1;
        found.extend(marker(file, number, comment));
        if code.contains("#[ignore") {
            let what = "an ignored test guards nothing: make it run, move the slow part behind ONEFOLD_LONG, or delete it";
            found.push(file.finding("marker", number, what.to_owned()));
        }
        if let Some(name) = MACROS.iter().find(|name| has_word(code, name)) {
            found.push(file.finding("marker", number, format!("leftover `{name}`: write the real thing")));
        }
        if let Some(clock) = CLOCKS.iter().find(|clock| code.contains(*clock)) {
            let what = format!(
                "`{clock}` reads a real clock: take a `Clock` (tests step a manual one); a pure measurement is \
                 listed with its reason"
            );
            found.push(file.finding("clock", number, what));
        }
        if (whole_file_tests || tests.iter().any(|lines| lines.contains(&index))) && sleeps(code) {
            let what = "a test must not sleep: step the manual clock, await a channel, Notify or watch, or wait for \
                        the line, port or file with a deadline";
            found.push(file.finding("sleep", number, what.to_owned()));
        }
    }
    found
}

fn is_test_file(path: &str) -> bool {
    path.starts_with("testing/")
        || path.split('/').any(|part| part == "tests" || part == "tests.rs")
        || path.split('/').any(|part| part == "benches")
}

/// A call, or an import that would let a bare `sleep(…)` through.
fn sleeps(code: &str) -> bool {
    let direct = code.contains("thread::sleep") || code.contains("time::sleep");
    let imported = (code.contains("thread::{") || code.contains("time::{")) && has_word(code, "sleep");
    direct || imported
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks(path: &str, text: &str) -> Vec<&'static str> {
        let file = File { path: path.to_owned(), text: text.to_owned() };
        check(&file).iter().map(|finding| finding.check).collect()
    }

    #[test]
    fn leftovers_are_found_in_code_and_comments_but_not_in_strings() {
        assert_eq!(checks("a.rs", "fn f() { todo!() }"), ["marker"]);
        assert_eq!(checks("a.rs", "#[ignore = \"slow\"]\nfn f() { dbg!(1); }"), ["marker", "marker"]);
        assert_eq!(checks("a.rs", "// FIXME later"), ["marker"]);
        assert_eq!(checks("a.md", "TODO: write this"), ["marker"]);
        assert_eq!(checks("a.rs", "let s = \"todo!() TODO\"; // a todo list"), [""; 0]);
    }

    #[test]
    fn a_real_clock_is_found() {
        assert_eq!(checks("crates/a/src/lib.rs", "let t = std::time::Instant::now();"), ["clock"]);
        assert_eq!(checks("crates/a/src/lib.rs", "let t = clock.now(); // not Instant::now"), [""; 0]);
    }

    #[test]
    fn a_sleep_is_found_in_tests_only() {
        let sleep = "use std::thread;\nfn f() { thread::sleep(d); }";
        assert_eq!(checks("testing/crash/src/lib.rs", sleep), ["sleep"]);
        assert_eq!(checks("crates/a/tests/b.rs", "use tokio::time::{Duration, sleep};"), ["sleep"]);
        assert_eq!(
            checks(
                "crates/a/src/lib.rs",
                "#[cfg(test)]\nmod tests {\n  async fn f() { tokio::time::sleep(d).await }\n}"
            ),
            ["sleep"]
        );
        assert_eq!(
            checks("crates/a/src/lib.rs", "fn wait() { tokio::time::sleep(d) }\n#[cfg(test)]\nmod tests {}"),
            [""; 0]
        );
    }

    #[test]
    fn a_long_source_file_is_found() {
        assert_eq!(checks("a.rs", &"//\n".repeat(LONG + 1)), ["long-file"]);
        assert_eq!(checks("a.rs", &"//\n".repeat(LONG)), [""; 0]);
        assert_eq!(checks("a.md", &"a\n".repeat(LONG + 1)), [""; 0]);
    }

    #[test]
    fn a_path_of_one_machine_is_found() {
        let [home, .., users] = MACHINE_PATHS;
        assert_eq!(checks("a.md", &format!("cd {home}me")), ["machine-path"]);
        assert_eq!(checks("a.json", &format!("\"{users}me\"")), ["machine-path"]);
        assert_eq!(checks("a.md", &format!("GET /v1{home}x and ~{users}")), [""; 0]);
    }
}
