//! Who may use whom. The drawing is in ARCHITECTURE.md under "Rooms"; this table is what is checked.

use super::Finding;
use crate::workspace::{Package, Workspace};

/// Normal and build dependencies a crate under `crates/` may have on other members. A name in `optional` must be
/// behind a cargo feature. Dev-dependencies are free: tests may use anything.
struct Room {
    package: &'static str,
    uses: &'static [&'static str],
    optional: &'static [&'static str],
}

const ROOMS: &[Room] = &[
    Room { package: "onefold-core", uses: &[], optional: &[] },
    Room { package: "onefold-engine-sqlite", uses: &["onefold-core"], optional: &[] },
    Room { package: "onefold-engine-postgres", uses: &["onefold-core"], optional: &[] },
    Room { package: "onefold-runtime", uses: &["onefold-core"], optional: &[] },
    Room { package: "onefold-delivery", uses: &["onefold-core", "onefold-runtime"], optional: &[] },
    Room { package: "onefold-wire", uses: &[], optional: &[] },
    Room { package: "onefold-http-idempotency", uses: &["onefold-core", "onefold-delivery"], optional: &[] },
    Room {
        package: "onefold-server",
        uses: &["onefold-core", "onefold-runtime", "onefold-wire"],
        optional: &[],
    },
    Room {
        package: "onefold",
        uses: &["onefold-core", "onefold-runtime", "onefold-wire"],
        optional: &["onefold-engine-sqlite", "onefold-engine-postgres", "onefold-delivery"],
    },
    Room { package: "onefold-testkit", uses: &["onefold"], optional: &[] },
    Room {
        package: "onefold-cli",
        uses: &[
            "onefold",
            "onefold-core",
            "onefold-delivery",
            "onefold-engine-postgres",
            "onefold-engine-sqlite",
            "onefold-http-idempotency",
            "onefold-runtime",
            "onefold-server",
            "onefold-testkit",
            "onefold-wire",
        ],
        optional: &[],
    },
];

/// Everything else (testing, bench, xtask) is a consumer: it may use any crate under `crates/`, and each other
/// within `testing/` and `bench`; nothing under `crates/` may use it outside tests.
pub(super) fn check(workspace: &Workspace, drawing: Option<&str>) -> Vec<Finding> {
    let members: Vec<&str> = workspace.members().map(|package| package.name.as_str()).collect();
    let mut found = Vec::new();
    for package in workspace.members() {
        let directory = workspace.directory(package);
        if directory.starts_with("crates/") {
            let manifest = format!("{directory}/Cargo.toml");
            found.extend(
                room(package, &members).into_iter().map(|what| Finding::new("arrow", &manifest, 1, what)),
            );
            let name = directory.trim_start_matches("crates/");
            if drawing.is_some_and(|text| !super::code::has_word(text, name)) {
                let what = format!("the room `{name}` is not drawn here: add it under \"Rooms\"");
                found.push(Finding::new("arrow", "ARCHITECTURE.md", 1, what));
            }
        }
    }
    found
}

fn room(package: &Package, members: &[&str]) -> Vec<String> {
    let Some(room) = ROOMS.iter().find(|room| room.package == package.name) else {
        return vec![format!(
            "{} is a new room: draw it in ARCHITECTURE.md and add it to xtask/src/tidy/arrows.rs",
            package.name
        )];
    };
    let ours = package.dependencies.iter().filter(|dependency| members.contains(&dependency.name.as_str()));
    ours.filter(|dependency| dependency.kind.as_deref() != Some("dev"))
        .filter_map(|dependency| {
            let name = dependency.name.as_str();
            if room.uses.contains(&name) || (room.optional.contains(&name) && dependency.optional) {
                None
            } else if room.optional.contains(&name) {
                Some(format!("{} may use {name} only behind a feature: make it `optional = true`", room.package))
            } else {
                Some(format!(
                    "{} must not use {name} (ARCHITECTURE.md, Rooms): move what you need, or pass it in from above; \
                     a new arrow needs an ADR",
                    room.package
                ))
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;

    fn uses(package: &str, dependency: &str, kind: Option<&str>, optional: bool) -> Vec<String> {
        let dependency = Dependency { name: dependency.to_owned(), kind: kind.map(str::to_owned), optional };
        let package = Package {
            id: package.to_owned(),
            name: package.to_owned(),
            version: "0.1.0".to_owned(),
            license: None,
            source: None,
            manifest_path: "Cargo.toml".into(),
            dependencies: vec![dependency],
            targets: vec![],
        };
        room(&package, &["onefold-core", "onefold-server", "onefold-engine-sqlite", "onefold-conformance"])
    }

    #[test]
    fn drawn_arrows_pass() {
        assert_eq!(uses("onefold-runtime", "onefold-core", None, false), [""; 0]);
        assert_eq!(uses("onefold", "onefold-engine-sqlite", None, true), [""; 0]);
        assert_eq!(uses("onefold-runtime", "serde", None, false), [""; 0]);
        assert_eq!(uses("onefold-runtime", "onefold-engine-sqlite", Some("dev"), false), [""; 0]);
    }

    #[test]
    fn other_arrows_are_found() {
        assert_eq!(uses("onefold-runtime", "onefold-engine-sqlite", None, false).len(), 1);
        assert_eq!(uses("onefold-core", "onefold-conformance", Some("build"), false).len(), 1);
        assert!(uses("onefold", "onefold-engine-sqlite", None, false)[0].contains("optional = true"));
        assert!(uses("onefold-attic", "onefold-core", None, false)[0].contains("new room"));
    }

    /// Only the command line may start a server.
    #[test]
    fn only_the_command_line_uses_the_server() {
        let users: Vec<_> = ROOMS.iter().filter(|room| room.uses.contains(&"onefold-server")).collect();
        assert!(matches!(users[..], [Room { package: "onefold-cli", .. }]));
    }
}
