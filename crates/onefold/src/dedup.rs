//! What a repeat with the same key gets.

use std::time::Duration;

use onefold_core::{FreeOn, OnDuplicate, OnMismatch};

use crate::Invalid;
use crate::time::to_ms;

/// The dedup options of an add: until when the key is held and what a repeat gets (I3).
///
/// A key is held while its job is unfinished and for the window after it was accepted, whichever
/// is longer.
///
/// ```
/// use std::time::Duration;
/// use onefold::Dedup;
/// let a_day = Dedup::new().window(Duration::from_secs(86_400));
/// let one_at_a_time = Dedup::new().until_done();
/// let debounce = Dedup::new().replace().max_delay(Duration::from_secs(60));
/// # let _ = (a_day, one_at_a_time, debounce);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dedup {
    options: onefold_core::Dedup,
    window_given: bool,
    mistake: Option<Invalid>,
}

impl Dedup {
    /// The default: the key is held for the queue's window (7 days), a repeat gets the first job,
    /// and a repeat with other content is refused.
    pub fn new() -> Dedup {
        Dedup::default()
    }

    /// Holds the key at least this long from acceptance, instead of the queue's window.
    pub fn window(mut self, window: Duration) -> Dedup {
        match to_ms("dedup window", window) {
            Ok(window) => (self.options.window, self.window_given) = (window, true),
            Err(mistake) => self.mistake = Some(mistake),
        }
        self
    }

    /// Frees the key as soon as the job is finished, however it ended.
    pub fn until_done(self) -> Dedup {
        self.free_on(FreeOn::DONE)
    }

    /// Frees the key early on these ends.
    pub fn free_on(mut self, ends: FreeOn) -> Dedup {
        self.options.free_on = ends;
        self
    }

    /// Refuses a repeat with `duplicate-key` instead of answering with the first job.
    pub fn reject(mut self) -> Dedup {
        self.options.on_duplicate = OnDuplicate::Reject;
        self
    }

    /// A repeat replaces the first job while that has not started: payload, options and time, but
    /// not its id, key and group.
    pub fn replace(mut self) -> Dedup {
        self.options.on_duplicate = OnDuplicate::Replace;
        self
    }

    /// Under [`Dedup::replace`]: refuses this add if the job already has a newer version.
    pub fn version(mut self, version: u64) -> Dedup {
        self.options.version = Some(version);
        self
    }

    /// Under [`Dedup::replace`]: the job runs no later than this after it was first accepted.
    pub fn max_delay(mut self, delay: Duration) -> Dedup {
        match to_ms("dedup max_delay", delay) {
            Ok(delay) => self.options.max_delay = Some(delay),
            Err(mistake) => self.mistake = Some(mistake),
        }
        self
    }

    /// Answers a repeat with other content with the first job, instead of refusing it with
    /// `key-reused`.
    pub fn accept_other_content(mut self) -> Dedup {
        self.options.on_mismatch = OnMismatch::Return;
        self
    }

    /// The options, and whether a window was given.
    pub(crate) fn finish(self) -> Result<(onefold_core::Dedup, bool), Invalid> {
        match self.mistake {
            Some(mistake) => Err(mistake),
            None => Ok((self.options, self.window_given)),
        }
    }
}
