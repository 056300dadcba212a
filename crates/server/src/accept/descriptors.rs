//! How many files, and so connections, the process may have open.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Lets the process open at least `wanted` files at once, as far as the system allows, and returns how many it
/// may now open; `u64::MAX` if there is no limit. A limit that is higher already stays.
///
/// # Errors
///
/// The system's, if it refuses although its own bound was kept.
pub fn raise_descriptor_limit(wanted: u64) -> io::Result<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = wanted.min(maximum.unwrap_or(u64::MAX));
    match current {
        Some(now) if now < raised => {
            setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum })?;
            Ok(raised)
        }
        Some(now) => Ok(now),
        None => Ok(u64::MAX),
    }
}

/// Connections there can be at once: `wanted`, or fewer so that `kept` descriptors are left.
pub(super) fn connections(wanted: usize, kept: u64) -> usize {
    bounded(wanted, kept, getrlimit(Resource::Nofile).current)
}

fn bounded(wanted: usize, kept: u64, limit: Option<u64>) -> usize {
    let free = limit.map_or(u64::MAX, |limit| limit.saturating_sub(kept));
    wanted.min(usize::try_from(free).unwrap_or(usize::MAX)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_to_the_rest_of_the_server() {
        assert_eq!(bounded(12_000, 256, Some(20_000)), 12_000);
        assert_eq!(bounded(12_000, 256, Some(1_024)), 768);
        assert_eq!(bounded(12_000, 256, None), 12_000);
        assert_eq!(bounded(12_000, 256, Some(100)), 1, "still one, to be looked at");
    }

    #[test]
    fn a_limit_is_never_lowered() {
        let before = raise_descriptor_limit(0).unwrap();
        assert_eq!(raise_descriptor_limit(1).unwrap(), before);
        assert_eq!(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX), before);
    }
}
