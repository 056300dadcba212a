//! Every case of the suite is in the list that tests are made of, and says its rule.

#![allow(clippy::unwrap_used, reason = "in a test a broken expectation is a failed test")]

use std::path::Path;

const INVARIANTS: [&str; 11] = ["I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I9", "I10", "I11"];

struct Case {
    part: String,
    name: String,
    doc: String,
}

/// What stands in the files of the suite, as text: a case the list forgets would not be compiled
/// into any test, and nobody would notice.
fn cases() -> Vec<Case> {
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/suite");
    let mut cases = Vec::new();
    for file in std::fs::read_dir(suite).unwrap() {
        let path = file.unwrap().path();
        let part = path.file_stem().unwrap().to_string_lossy().into_owned();
        let mut doc = String::new();
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            if let Some(more) = line.strip_prefix("/// ") {
                doc = format!("{doc} {more}");
            } else {
                if let Some((name, _)) =
                    line.strip_prefix("pub async fn ").and_then(|rest| rest.split_once('('))
                {
                    cases.push(Case { part: part.clone(), name: name.to_owned(), doc: doc.clone() });
                }
                doc.clear();
            }
        }
    }
    cases
}

/// The names in the list, under their part.
fn listed() -> Vec<(String, String)> {
    let mut part = String::new();
    let mut listed = Vec::new();
    for line in include_str!("../src/cases.rs").lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("$crate::part_tests! { $harness; ") {
            part = rest.trim_end_matches(':').to_owned();
        } else if let Some(name) = line.strip_suffix(',').filter(|name| !name.contains(|c: char| !is_word(c)))
        {
            listed.push((part.clone(), name.to_owned()));
        }
    }
    listed
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

#[test]
fn every_case_is_listed_once() {
    let written: Vec<_> = cases().into_iter().map(|case| (case.part, case.name)).collect();
    let listed = listed();
    assert!(written.len() > 200, "the files of the suite were not found");
    let forgotten: Vec<_> = written.iter().filter(|case| !listed.contains(case)).collect();
    assert!(forgotten.is_empty(), "not in src/cases.rs: {forgotten:?}");
    assert_eq!(listed.len(), written.len(), "twice in src/cases.rs");
}

#[test]
fn every_case_says_its_rule() {
    for case in cases() {
        let sentence = case.doc.trim();
        assert!(sentence.contains(": ") && sentence.ends_with('.'), "{}::{}", case.part, case.name);
    }
}

#[test]
fn a_case_named_for_an_invariant_says_so_in_its_sentence() {
    for case in cases() {
        let of = case.name.split('_').next().unwrap().to_uppercase();
        if INVARIANTS.contains(&of.as_str()) {
            assert!(case.doc.contains(&of), "{}::{}", case.part, case.name);
        }
    }
}

#[test]
fn every_invariant_of_the_engine_has_cases() {
    let cases = cases();
    for invariant in INVARIANTS {
        let prefix = format!("{}_", invariant.to_lowercase());
        let count = cases.iter().filter(|case| case.name.starts_with(&prefix)).count();
        assert!(count >= 2, "{invariant} has {count}");
    }
}
