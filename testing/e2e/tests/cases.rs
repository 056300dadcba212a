//! The tables of hostile cases: each case of the lists is there, and each test they name exists.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

use std::collections::BTreeSet;
use std::path::Path;

use onefold_e2e::workspace;

const PAGES: [&str; 3] = ["docs/delivery-cases.md", "docs/schedule-cases.md", "docs/guide/hostile-cases.md"];
/// The lists and how long they are.
const LISTS: [(char, usize); 6] = [('I', 24), ('L', 23), ('W', 24), ('S', 14), ('H', 12), ('T', 13)];

/// The names of all functions in the sources below a directory.
fn functions(dir: &Path, names: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let named = text.split("fn ").skip(1).map(|rest| {
                rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default()
            });
            names.extend(named.map(str::to_owned));
        }
    }
}

/// The cells of the rows of a page's tables.
fn rows() -> Vec<(String, String)> {
    let pages = PAGES.map(|page| std::fs::read_to_string(workspace().join(page)).unwrap());
    let rows = pages.iter().flat_map(|page| page.lines()).filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.splitn(3, " | ");
        let (case, _, test) = (cells.next()?, cells.next()?, cells.next()?);
        case.contains('-').then(|| (case.trim().to_owned(), test.trim_end_matches(" |").to_owned()))
    });
    rows.filter(|(case, _)| case.starts_with(|c: char| c.is_ascii_uppercase())).collect()
}

#[test]
fn every_case_has_a_test_that_is_there_or_a_reason() {
    let rows = rows();
    for (list, count) in LISTS {
        for number in 1..=count {
            let case = format!("{list}-{number:02}");
            assert!(rows.iter().any(|(given, _)| *given == case), "{case} is in no table");
        }
    }
    let mut there = BTreeSet::new();
    for room in ["crates", "testing"] {
        functions(&workspace().join(room), &mut there);
    }
    let mut named = 0;
    for (case, test) in &rows {
        assert!(!test.trim().is_empty(), "{case} has neither a test nor a reason");
        for quoted in test.split('`').skip(1).step_by(2) {
            let name = quoted.rsplit([':', ' ']).next().unwrap_or_default();
            let is_name = name.len() > 15
                && name.contains('_')
                && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            if is_name {
                named += 1;
                assert!(there.contains(name), "{case}: there is no test `{quoted}`");
            }
        }
    }
    assert!(named > 100, "only {named} tests were recognised in the tables");
}
