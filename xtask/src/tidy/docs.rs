//! Rules about documents: a page for every error code and crate, an index of decisions, links that lead somewhere.

use std::collections::{HashMap, HashSet};

use super::code::{test_lines, views};
use super::{File, Finding};

/// Error codes are the kebab-case strings that the variants of `ErrorCode` map to,
pub(super) const CODES: &str = "crates/wire/src/error_code.rs";
/// and those of the library for what no server answers.
const LOCAL_CODES: &str = "crates/onefold/src/local_code.rs";

/// Every code has `docs/errors/CODE.md` and every page there a code.
pub(super) fn error_pages(files: &[File]) -> Option<Vec<Finding>> {
    let file = |path: &str| files.iter().find(|file| file.path == path);
    let sources = std::iter::once(file(CODES)?).chain(file(LOCAL_CODES));
    let pages: HashSet<&str> = pages(files, "docs/errors/").collect();
    let index = file("docs/errors/README.md").map_or("", |file| file.text.as_str());
    let mut found = Vec::new();
    let mut known: HashSet<String> = HashSet::new();
    for source in sources {
        let codes = error_codes(&source.text);
        if codes.is_empty() {
            let what = "no error code found: is this check out of date?".to_owned();
            found.push(source.finding("error-page", 1, what));
        }
        for (code, line) in codes {
            if !pages.contains(code.as_str()) {
                let what = format!(
                    "`{code}` has no page: write docs/errors/{code}.md (what happened, why, what to do)"
                );
                found.push(source.finding("error-page", line, what));
            } else if !index.contains(&format!("({code}.md)")) {
                let what = format!("add a line that links ({code}.md) to docs/errors/README.md");
                found.push(source.finding("error-page", line, what));
            }
            known.insert(code);
        }
    }
    for page in pages.into_iter().filter(|page| !known.contains(*page)) {
        let what = "no error has this code: delete the page, or name it as the code is spelled".to_owned();
        found.push(Finding::new("error-page", &format!("docs/errors/{page}.md"), 1, what));
    }
    Some(found)
}

/// Names of the pages directly in a directory, without `README` and the ending.
fn pages<'a>(files: &'a [File], directory: &'a str) -> impl Iterator<Item = &'a str> {
    files
        .iter()
        .filter_map(move |file| file.path.strip_prefix(directory)?.strip_suffix(".md"))
        .filter(|name| *name != "README" && !name.contains('/'))
}

/// Kebab-case string literals outside attributes, comments and tests, with their line numbers.
fn error_codes(source: &str) -> Vec<(String, usize)> {
    let code = views(source).code;
    let tests = test_lines(&code);
    let mut offset = 0;
    let mut codes: Vec<(String, usize)> = Vec::new();
    for (index, line) in code.split_inclusive('\n').enumerate() {
        let quotes: Vec<usize> = line.match_indices('"').map(|(at, _)| offset + at).collect();
        offset += line.len();
        if line.trim_start().starts_with("#[") || tests.iter().any(|lines| lines.contains(&index)) {
            continue;
        }
        for pair in quotes.chunks_exact(2) {
            let literal = &source[pair[0] + 1..pair[1]];
            if is_code(literal) && !codes.iter().any(|(code, _)| code == literal) {
                codes.push((literal.to_owned(), index + 1));
            }
        }
    }
    codes
}

fn is_code(text: &str) -> bool {
    let word =
        |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    text.starts_with(|c: char| c.is_ascii_lowercase()) && text.split('-').all(word)
}

/// Every crate has its page of internals.
pub(super) fn internals(files: &[File]) -> Vec<Finding> {
    let crates = files.iter().filter_map(|file| {
        let name = file.path.strip_prefix("crates/")?.strip_suffix("/Cargo.toml")?;
        (!name.contains('/')).then_some((file, name))
    });
    let has_page = |name: &str| pages(files, "docs/internals/").any(|page| page == name);
    crates
        .filter(|(_, name)| !has_page(name))
        .map(|(file, name)| {
            let what = format!(
                "write docs/internals/{name}.md: what the crate decides, how, and what to read first"
            );
            file.finding("internals", 1, what)
        })
        .collect()
}

/// Decisions are `NNNN-title.md`, numbered once each, and linked from the index.
pub(super) fn decisions(files: &[File]) -> Vec<Finding> {
    const DIRECTORY: &str = "docs/decisions/";
    let index = files.iter().find(|file| file.path == format!("{DIRECTORY}README.md"));
    let index = index.map_or("", |file| file.text.as_str());
    let mut numbers: HashMap<&str, &str> = HashMap::new();
    let mut found = Vec::new();
    for name in pages(files, DIRECTORY) {
        let mut say =
            |what: String| found.push(Finding::new("decision", &format!("{DIRECTORY}{name}.md"), 1, what));
        let (number, title) = name.split_once('-').unwrap_or((name, ""));
        if number.len() != 4 || !number.bytes().all(|byte| byte.is_ascii_digit()) || !is_code(title) {
            say("call it NNNN-what-was-decided.md".to_owned());
        }
        if let Some(other) = numbers.insert(number, name) {
            say(format!("the number {number} is taken by {other}.md: take the next free one"));
        }
        if !index.contains(&format!("({name}.md)")) {
            say(format!("add a line that links ({name}.md) to {DIRECTORY}README.md"));
        }
    }
    found
}

/// Links in Markdown to files and headings of this repository lead somewhere.
pub(super) fn links(files: &[File]) -> Vec<Finding> {
    let mut places: HashSet<String> = HashSet::new();
    for file in files {
        // A directory exists if a file lies in it.
        places.extend(file.path.match_indices('/').map(|(at, _)| file.path[..at].to_owned()));
        places.insert(file.path.clone());
    }
    let pages: HashMap<&str, &File> = files
        .iter()
        .filter(|file| file.path.ends_with(".md"))
        .map(|file| (file.path.as_str(), file))
        .collect();
    let mut found = Vec::new();
    for page in pages.values() {
        for (link, line) in targets(&page.text) {
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let Some(place) = resolve(&page.path, path) else {
                found.push(page.finding("link", line, format!("`{link}` leads out of the repository")));
                continue;
            };
            if !place.is_empty() && !places.contains(&place) {
                found.push(page.finding(
                    "link",
                    line,
                    format!("`{link}` leads nowhere: there is no {place}"),
                ));
            } else if let Some(target) = pages.get(place.as_str())
                && !anchor.is_empty()
                && !anchors(&target.text).contains(anchor)
            {
                found.push(page.finding(
                    "link",
                    line,
                    format!("`{link}`: {place} has no heading `#{anchor}`"),
                ));
            }
        }
    }
    found
}

/// Where a link written on `page` leads, relative to the root; the page itself for a bare `#anchor`.
fn resolve(page: &str, link: &str) -> Option<String> {
    if link.is_empty() {
        return Some(page.to_owned());
    }
    let (base, link) = match link.strip_prefix('/') {
        Some(from_root) => ("", from_root),
        None => (page.rsplit_once('/').map_or("", |(directory, _)| directory), link),
    };
    let mut parts: Vec<&str> = base.split('/').filter(|part| !part.is_empty()).collect();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Local targets of `[text](target)` and `[label]: target`, with line numbers, outside code.
fn targets(text: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        let plain: String =
            line.split('`').enumerate().map(|(index, part)| if index % 2 == 0 { part } else { "" }).collect();
        let inline = plain.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
        let label =
            plain.strip_prefix('[').and_then(|rest| rest.split_once("]: ")).map(|(_, target)| target.trim());
        let local =
            |target: &&str| !target.contains("://") && !target.starts_with("mailto:") && !target.is_empty();
        found.extend(inline.chain(label).filter(local).map(|target| (target.to_owned(), number)));
    }
    found
}

/// Lines outside fenced code, numbered from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    (1..).zip(text.lines()).filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// The anchors that headings of a page get.
fn anchors(text: &str) -> HashSet<String> {
    let mut found = HashSet::new();
    for (_, line) in prose(text) {
        let Some(title) = line.strip_prefix('#').map(|rest| rest.trim_start_matches('#').trim()) else {
            continue;
        };
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        let slug: String =
            kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect();
        let repeats = (0..).map(|n| if n == 0 { slug.clone() } else { format!("{slug}-{n}") });
        found.extend(repeats.into_iter().find(|anchor| !found.contains(anchor)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> Vec<File> {
        list.iter().map(|(path, text)| File { path: (*path).to_owned(), text: (*text).to_owned() }).collect()
    }

    fn paths(found: &[Finding]) -> Vec<String> {
        found.iter().map(|finding| format!("{}:{}", finding.path, finding.line)).collect()
    }

    const SOURCE: &str = "#[serde(rename_all = \"kebab-case\")]\nmatch self {\n  Self::A => \"lease-lost\", // \"not-this\"\n  \
                          Self::B => \"unauthorized\",\n}\nlet s = \"A sentence.\";\n#[cfg(test)]\nmod tests { fn f() { \"in-test\"; } }";

    #[test]
    fn every_code_has_a_page_and_every_page_a_code() {
        let good = [
            (CODES, SOURCE),
            ("docs/errors/lease-lost.md", ""),
            ("docs/errors/unauthorized.md", ""),
            ("docs/errors/README.md", "[a](lease-lost.md) [b](unauthorized.md)"),
        ];
        assert_eq!(paths(&error_pages(&files(&good)).unwrap()), [""; 0]);
        let index = ("docs/errors/README.md", "[a](lease-lost.md)");
        let bad = [(CODES, SOURCE), ("docs/errors/lease-lost.md", ""), ("docs/errors/old-one.md", ""), index];
        assert_eq!(
            paths(&error_pages(&files(&bad)).unwrap()),
            ["crates/wire/src/error_code.rs:4", "docs/errors/old-one.md:1"]
        );
        let unlisted = [good[0], good[1], good[2], index];
        assert_eq!(paths(&error_pages(&files(&unlisted)).unwrap()), ["crates/wire/src/error_code.rs:4"]);
        let local = (LOCAL_CODES, "const A: &str = \"on-this-side\";");
        let with_local = [good[0], good[1], good[2], good[3], local];
        assert_eq!(paths(&error_pages(&files(&with_local)).unwrap()), ["crates/onefold/src/local_code.rs:1"]);
        assert_eq!(error_pages(&files(&[(CODES, "enum ErrorCode {}")])).unwrap().len(), 1);
        assert!(error_pages(&files(&[])).is_none());
    }

    #[test]
    fn every_crate_has_a_page() {
        let good = [("crates/core/Cargo.toml", ""), ("docs/internals/core.md", "")];
        assert_eq!(paths(&internals(&files(&good))), [""; 0]);
        assert_eq!(paths(&internals(&files(&good[..1]))), ["crates/core/Cargo.toml:1"]);
    }

    #[test]
    fn every_decision_is_numbered_and_in_the_index() {
        let good = [
            ("docs/decisions/README.md", "[1](0001-one-thing.md)"),
            ("docs/decisions/0001-one-thing.md", ""),
        ];
        assert_eq!(paths(&decisions(&files(&good))), [""; 0]);
        let bad = [good[0], good[1], ("docs/decisions/0001-other.md", ""), ("docs/decisions/late.md", "")];
        assert_eq!(decisions(&files(&bad)).len(), 4);
    }

    #[test]
    fn links_lead_somewhere() {
        let good = "# Top Of It\n[a](docs/b.md#two-words) [c](#top-of-it) [d](docs) [e](https://x.y) `[f](g)`\n```\n[h](i)\n```\n[j]: docs/b.md";
        let pages = |text| files(&[("README.md", text), ("docs/b.md", "## Two words!\n[up](../README.md)")]);
        assert_eq!(paths(&links(&pages(good))), [""; 0]);
        for bad in ["[a](docs/c.md)", "[a](docs/b.md#three)", "[a](../x.md)", "[a]: nowhere.md", "[a](#no)"] {
            assert_eq!(paths(&links(&pages(bad))), ["README.md:1"], "{bad}");
        }
    }
}
