//! Programs outside cargo that tests use: looked for by running them, installed by apt-get where that is allowed.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::Verdict;
use crate::suites::{LONG, SUITES, Suite};

pub(crate) struct Tool {
    /// As suites name it, and the program that is run with `--version`.
    pub(crate) name: &'static str,
    /// Oldest version that will do, major and minor.
    least: (u32, u32),
    /// Debian packages that bring it.
    debian: &'static [&'static str],
    /// Where they put it if not on PATH: in `VERSION/bin` below.
    below: Option<&'static str>,
}

pub(crate) const TOOLS: &[Tool] = &[
    Tool { name: "cc", least: (0, 0), debian: &["gcc", "libc6-dev"], below: None },
    Tool { name: "git", least: (2, 35), debian: &["git"], below: None },
    Tool { name: "node", least: (18, 0), debian: &["nodejs"], below: None },
    Tool { name: "npm", least: (7, 0), debian: &["npm"], below: None },
    Tool { name: "python3", least: (3, 9), debian: &["python3"], below: None },
    Tool { name: "sqlite3", least: (3, 0), debian: &["sqlite3"], below: None },
    Tool { name: "postgres", least: (14, 0), debian: &["postgresql"], below: Some("/usr/lib/postgresql") },
];

/// `cargo xtask tools`: true when nothing is missing at the end.
pub(crate) fn command() -> Verdict {
    let missing: Vec<&Tool> = TOOLS.iter().filter(|tool| report(tool).is_err()).collect();
    if missing.is_empty() {
        return Ok(true);
    }
    let packages: Vec<&str> = missing.iter().flat_map(|tool| tool.debian).copied().collect();
    if let Err(why) = install(&packages) {
        println!("\nnot installed: {why}");
    }
    let mut still = Vec::new();
    for tool in missing {
        if report(tool).is_err() {
            println!(
                "  install the package {} (Debian's name) and put `{}` on PATH\n  suites that need it: {}",
                tool.debian.join(" and "),
                tool.name,
                needed_by(tool.name).join(", "),
            );
            still.push(tool.name);
        }
    }
    if !still.is_empty() {
        println!("missing: {}", still.join(", "));
    }
    Ok(still.is_empty())
}

/// Those of `names` that cannot be used right now, each with the reason.
pub(crate) fn missing(names: &[&str]) -> Vec<String> {
    TOOLS
        .iter()
        .filter(|tool| names.contains(&tool.name))
        .filter_map(|tool| check(tool).err().map(|why| format!("{} ({why})", tool.name)))
        .collect()
}

fn report(tool: &Tool) -> Result<(), String> {
    let found = check(tool);
    match &found {
        Ok(version) => println!("{:<8} {version}", tool.name),
        Err(trouble) => println!("{:<8} MISSING: {trouble}", tool.name),
    }
    found.map(drop)
}

/// The newest of the versions that stand side by side.
fn newest(below: &str, name: &str) -> Option<PathBuf> {
    let versions = std::fs::read_dir(below).ok()?.flatten();
    let number = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    let newest = versions.map(|entry| entry.path()).max_by_key(number)?;
    Some(newest.join("bin").join(name))
}

/// Runs it rather than looking for a file: a shim on PATH may lead nowhere.
fn check(tool: &Tool) -> Result<String, String> {
    let ask = |program: &OsStr| Command::new(program).arg("--version").stdin(Stdio::null()).output();
    let elsewhere = || tool.below.and_then(|below| newest(below, tool.name));
    let output = match (ask(OsStr::new(tool.name)), elsewhere()) {
        (Err(_), Some(path)) => ask(path.as_os_str()),
        (found, _) => found,
    };
    let output = output.map_err(|_| "not found on PATH".to_owned())?;
    if !output.status.success() {
        return Err("`--version` fails".to_owned());
    }
    let said = String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned();
    match version(&said) {
        Some(found) if found < tool.least => {
            Err(format!("`{said}` is older than {}.{}", tool.least.0, tool.least.1))
        }
        _ => Ok(said),
    }
}

/// The first `MAJOR.MINOR` in a line.
fn version(line: &str) -> Option<(u32, u32)> {
    line.split(|c: char| !c.is_ascii_digit() && c != '.').find_map(|word| {
        let mut parts = word.split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    })
}

fn install(packages: &[&str]) -> Result<(), String> {
    let works = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
        output.is_ok_and(|output| output.status.success())
    };
    if !works("apt-get", &["--version"]) {
        return Err("this system has no apt-get".to_owned());
    }
    let prefix: &[&str] = if rustix::process::geteuid().is_root() {
        &["env"]
    } else if works("sudo", &["-n", "true"]) {
        &["sudo", "-n", "env"]
    } else {
        return Err("apt-get needs root or a sudo that asks for no password".to_owned());
    };
    apt(prefix, &["update"])?;
    apt(prefix, &[&["install", "-y", "--no-install-recommends"], packages].concat())
}

fn apt(prefix: &[&str], arguments: &[&str]) -> Result<(), String> {
    let line = [prefix, &["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"], arguments].concat();
    println!("$ {}", line.join(" "));
    let (program, rest) = line.split_first().ok_or("nothing to run")?;
    match Command::new(program).args(rest).stdin(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("apt-get {} ended with {status}", arguments.first().unwrap_or(&""))),
        Err(error) => Err(format!("cannot start {program}: {error}")),
    }
}

fn needed_by(tool: &str) -> Vec<&'static str> {
    let needs = |suite: &&Suite| suite.tools.contains(&tool) || tool == "cc";
    SUITES.iter().chain(LONG).filter(needs).map(|suite| suite.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_tools_print() {
        assert_eq!(version("v18.19.0"), Some((18, 19)));
        assert_eq!(version("Python 3.11.2"), Some((3, 11)));
        assert_eq!(version("cc (Debian 12.2.0-14) 12.2.0"), Some((12, 2)));
        assert_eq!(version("unknown"), None);
    }

    /// A missing tool must be named, never taken for present.
    #[test]
    fn a_program_that_does_not_exist_is_missing() {
        let tool = Tool { name: "onefold-no-such-program", least: (0, 0), debian: &[], below: None };
        assert_eq!(check(&tool), Err("not found on PATH".to_owned()));
    }

    #[test]
    fn a_too_old_program_is_missing() {
        let tool = Tool { name: "git", least: (999, 0), debian: &[], below: None };
        assert!(check(&tool).is_err_and(|why| why.contains("older than 999.0")));
    }
}
