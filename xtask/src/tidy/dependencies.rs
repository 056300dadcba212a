//! Licences, bans and sources of what we depend on, by the policy in `deny.toml`, without cargo-deny.

use std::collections::HashMap;

use serde::Deserialize;

use super::Finding;
use crate::workspace::{Node, Package, Workspace};

/// The parts of `deny.toml` that are checked here too.
#[derive(Deserialize)]
pub(super) struct Policy {
    licenses: Licences,
    bans: Bans,
}

#[derive(Deserialize)]
struct Licences {
    allow: Vec<String>,
    #[serde(default)]
    exceptions: Vec<Exception>,
}

#[derive(Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    package: String,
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Banned>,
    features: Vec<BannedFeatures>,
}

#[derive(Deserialize)]
struct Banned {
    #[serde(rename = "crate")]
    package: String,
    reason: String,
}

#[derive(Deserialize)]
struct BannedFeatures {
    #[serde(rename = "crate")]
    package: String,
    deny: Vec<String>,
    reason: String,
}

pub(super) fn policy(text: &str) -> Result<Policy, String> {
    toml::from_str(text).map_err(|error| format!("deny.toml: {error}"))
}

pub(super) fn check(workspace: &Workspace, policy: &Policy) -> Vec<Finding> {
    let nodes: HashMap<&str, &Node> =
        workspace.resolve.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
    let mut found = Vec::new();
    for package in workspace.packages.iter().filter(|package| package.source.is_some()) {
        let features = nodes.get(package.id.as_str()).map_or(&[][..], |node| &node.features);
        let troubles = [licence(package, policy), banned(package, features, policy), source(package)];
        found.extend(
            troubles.into_iter().flatten().map(|what| Finding::new("dependency", "Cargo.lock", 1, what)),
        );
    }
    found
}

fn licence(package: &Package, policy: &Policy) -> Option<String> {
    let who = format!("{} {}", package.name, package.version);
    let Some(expression) = &package.license else {
        return Some(format!(
            "{who} names no licence: do without it, or read its text and except it in deny.toml"
        ));
    };
    let exceptions = policy.licenses.exceptions.iter().filter(|exception| exception.package == package.name);
    let allowed: Vec<&str> = policy
        .licenses
        .allow
        .iter()
        .chain(exceptions.flat_map(|exception| &exception.allow))
        .map(String::as_str)
        .collect();
    match satisfied(expression, &allowed) {
        Some(true) => None,
        Some(false) => {
            Some(format!("{who} is under `{expression}`, which deny.toml does not allow: do without it"))
        }
        None => Some(format!("{who}: cannot read its licence `{expression}`")),
    }
}

fn banned(package: &Package, features: &[String], policy: &Policy) -> Option<String> {
    if let Some(ban) = policy.bans.deny.iter().find(|ban| ban.package == package.name) {
        return Some(format!(
            "{} is banned: {}; `cargo tree -i {0}` shows who wants it",
            package.name, ban.reason
        ));
    }
    let ban = policy.bans.features.iter().find(|ban| ban.package == package.name)?;
    let feature = ban.deny.iter().find(|feature| features.contains(feature))?;
    Some(format!(
        "{} has its feature `{feature}` on: {}; `cargo tree -e features -i {0}` shows who wants it",
        package.name, ban.reason
    ))
}

/// Only the one public registry, as cargo spells it in the lock file.
fn source(package: &Package) -> Option<String> {
    let source = package.source.as_deref()?;
    let public = source.starts_with("registry+") && source.ends_with("/crates.io-index");
    (!public).then(|| format!("{} comes from {source}: use a released version", package.name))
}

/// Whether a licence expression can be met with `allowed`; `None` if it cannot be read.
/// `OR` (or the old `/`) binds weaker than `AND`, `X WITH Y` is one licence.
fn satisfied(expression: &str, allowed: &[&str]) -> Option<bool> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let met = any_of(&words, &mut at, allowed)?;
    (at == words.len()).then_some(met)
}

fn any_of(words: &[&str], at: &mut usize, allowed: &[&str]) -> Option<bool> {
    let mut met = all_of(words, at, allowed)?;
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        met |= all_of(words, at, allowed)?;
    }
    Some(met)
}

fn all_of(words: &[&str], at: &mut usize, allowed: &[&str]) -> Option<bool> {
    let mut met = one(words, at, allowed)?;
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        met &= one(words, at, allowed)?;
    }
    Some(met)
}

fn one(words: &[&str], at: &mut usize, allowed: &[&str]) -> Option<bool> {
    let word = *words.get(*at)?;
    *at += 1;
    match word {
        "(" => {
            let met = any_of(words, at, allowed)?;
            let closed = words.get(*at) == Some(&")");
            *at += 1;
            closed.then_some(met)
        }
        ")" | "OR" | "AND" | "WITH" => None,
        _ if words.get(*at) == Some(&"WITH") => {
            let exception = *words.get(*at + 1)?;
            *at += 2;
            Some(allowed.contains(&format!("{word} WITH {exception}").as_str()))
        }
        _ => Some(allowed.contains(&word)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"
        [licenses]
        allow = ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"]
        exceptions = [{ crate = "odd", allow = ["Odd-1.0"] }]
        [bans]
        deny = [{ crate = "openssl", reason = "a C library of the system" }]
        features = [{ crate = "serde_json", deny = ["arbitrary_precision"], reason = "changes all numbers" }]
    "#;

    fn package(name: &str, license: Option<&str>, source: &str) -> Package {
        Package {
            id: name.to_owned(),
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            license: license.map(str::to_owned),
            source: Some(source.to_owned()),
            manifest_path: "Cargo.toml".into(),
            dependencies: vec![],
            targets: vec![],
        }
    }

    #[test]
    fn expressions_are_met_or_not() {
        let met = |expression| satisfied(expression, &["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"]);
        for good in [
            "MIT",
            "GPL-3.0 OR MIT",
            "MIT/GPL-3.0",
            "ISC AND (GPL-3.0 OR MIT)",
            "Apache-2.0 WITH LLVM-exception",
        ] {
            assert_eq!(met(good), Some(true), "{good}");
        }
        for bad in [
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "Apache-2.0",
            "ISC AND (GPL-3.0 OR Apache-2.0)",
            "GPL-3.0 AND MIT OR GPL-2.0",
        ] {
            assert_eq!(met(bad), Some(false), "{bad}");
        }
        for unreadable in ["", "MIT OR", "(MIT", "MIT)", "MIT MIT", "AND MIT"] {
            assert_eq!(met(unreadable), None, "{unreadable}");
        }
    }

    #[test]
    fn a_licence_outside_the_policy_is_found() {
        let policy = policy(POLICY).unwrap();
        assert_eq!(licence(&package("a", Some("MIT OR GPL-3.0"), ""), &policy), None);
        assert_eq!(licence(&package("odd", Some("Odd-1.0"), ""), &policy), None);
        assert!(licence(&package("b", Some("Odd-1.0"), ""), &policy).is_some());
        assert!(licence(&package("c", None, ""), &policy).is_some());
    }

    #[test]
    fn banned_crates_and_features_are_found() {
        let policy = policy(POLICY).unwrap();
        let json = package("serde_json", None, "");
        assert!(banned(&package("openssl", None, ""), &[], &policy).is_some());
        assert!(banned(&json, &["std".to_owned(), "arbitrary_precision".to_owned()], &policy).is_some());
        assert_eq!(banned(&json, &["std".to_owned()], &policy), None);
    }

    #[test]
    fn only_released_crates_pass() {
        assert_eq!(source(&package("a", None, "registry+https://host/crates.io-index")), None);
        assert!(source(&package("a", None, "git+https://host/a#1")).is_some());
        assert!(source(&package("a", None, "registry+https://host/other")).is_some());
    }
}
