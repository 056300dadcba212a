//! What the machine gives.

use std::path::Path;

use onefold_core::{Timestamp, TokenSequence};
use onefold_engine_sqlite::inspect::Facts;

use super::Line;
use crate::config::Bytes;
use crate::time::{readable, relative};

/// Connections and the store's own files want at least this many.
const DESCRIPTORS_MIN: u64 = 4_096;
/// Below this much free space a server refuses new jobs.
const FREE_MIN: u64 = 64 << 20;
/// Below this much there should be more.
const FREE_LOW: u64 = 1 << 30;
/// A day of tokens' clock: more than that ahead and the clock was set back.
const TOKENS_AHEAD: u64 = 60 << 20;

pub(super) fn descriptors() -> Line {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    match limit {
        Some(limit) if limit < DESCRIPTORS_MIN => Line::warn(
            "open files",
            format!(
                "a process may open {limit}, so a server could run out of connections: raise the hard limit \
                 (ulimit -Hn, LimitNOFILE=) to {DESCRIPTORS_MIN} or more"
            ),
        ),
        Some(limit) => Line::ok("open files", format!("a process may open {limit}")),
        None => Line::ok("open files", "no limit"),
    }
}

pub(super) fn disk(dir: &Path) -> Line {
    let Ok(stat) = rustix::fs::statvfs(dir) else {
        return Line::warn("disk", "the free space cannot be told");
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    match free {
        0..FREE_MIN => Line::fail(
            "disk",
            format!("{} free: new jobs are refused until there is more; make space", Bytes(free)),
        ),
        FREE_MIN..FREE_LOW => {
            Line::warn("disk", format!("{} free: make space before it runs out", Bytes(free)))
        }
        _ => Line::ok("disk", format!("{} free", Bytes(free))),
    }
}

/// Time as the store knows it against time as it is now.
pub(super) fn clock(facts: &Facts, now: Timestamp) -> Line {
    let by_clock = TokenSequence::opened(0, now).high_water();
    if now < facts.created_at {
        return Line::fail(
            "clock",
            format!(
                "it shows {}, but the store was made {}: set the clock; leases and delays are wrong meanwhile",
                readable(now),
                relative(facts.created_at, now)
            ),
        );
    }
    if facts.next_token > by_clock.saturating_add(TOKENS_AHEAD) {
        return Line::warn(
            "clock",
            "the store once was opened by a clock ahead of this one; tokens stay safe, but after restoring an \
             older backup give `restore --token-at-least`",
        );
    }
    Line::ok("clock", format!("it shows {}", readable(now)))
}
