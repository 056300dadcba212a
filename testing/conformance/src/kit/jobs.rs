//! Building jobs to add.

use bytes::Bytes;
use onefold_core::{
    Backoff, DurationMs, Fingerprint, FreeOn, Group, Key, Kind, Label, NewJob, OnDuplicate, OnMismatch,
    Payload, RequestIdentity, When,
};

/// A key.
///
/// # Panics
/// If it is not one.
pub fn key(text: &str) -> Key {
    Key::new(text).expect("a key")
}

/// A group.
///
/// # Panics
/// If it is not one.
pub fn group(text: &str) -> Group {
    Group::new(text).expect("a group")
}

/// A kind.
///
/// # Panics
/// If it is not one.
pub fn kind(text: &str) -> Kind {
    Kind::new(text).expect("a kind")
}

/// A label.
///
/// # Panics
/// If it is not one.
pub fn label(text: &str) -> Label {
    Label::new(text).expect("a label")
}

/// The fingerprint of `content`, whatever content means to a case.
///
/// # Panics
/// If it is too long for one.
pub fn fingerprint(content: &str) -> Fingerprint {
    Fingerprint::custom(&format!("content: {content}")).expect("a fingerprint")
}

/// A job without anything.
pub fn job() -> NewJob {
    NewJob::default()
}

/// A job with a key, and a payload that is also its fingerprint.
pub fn keyed(key_text: &str, content: &str) -> NewJob {
    job().key(key_text).content(content)
}

/// What cases say about a job they build.
pub trait Build: Sized {
    /// With a key, and the fingerprint of its payload.
    fn key(self, text: &str) -> Self;
    /// With a JSON string as payload, and its fingerprint.
    fn content(self, text: &str) -> Self;
    /// Not before this long after acceptance.
    fn after(self, delay: DurationMs) -> Self;
    /// Lower first.
    fn priority(self, priority: i16) -> Self;
    /// In a group.
    fn group(self, text: &str) -> Self;
    /// Of a kind.
    fn kind(self, text: &str) -> Self;
    /// With a label.
    fn label(self, text: &str) -> Self;
    /// Failures plus lost leases that end it.
    fn max_attempts(self, n: u32) -> Self;
    /// With a backoff.
    fn backoff(self, backoff: Backoff) -> Self;
    /// With this hard limit of one attempt.
    fn timeout(self, timeout: DurationMs) -> Self;
    /// Kept this long once finished.
    fn retain(self, retain: DurationMs) -> Self;
    /// Its key held this long.
    fn window(self, window: DurationMs) -> Self;
    /// Ends that free its key.
    fn free_on(self, free_on: FreeOn) -> Self;
    /// What a repeat gets.
    fn on_duplicate(self, on_duplicate: OnDuplicate) -> Self;
    /// What a repeat with other content gets.
    fn on_mismatch(self, on_mismatch: OnMismatch) -> Self;
    /// Under `replace`, with this version.
    fn version(self, version: u64) -> Self;
    /// Under `replace`, never later than acceptance plus this.
    fn max_delay(self, max_delay: DurationMs) -> Self;
    /// With an identity of the request, over `content`.
    fn request(self, text: &str, content: &str) -> Self;
}

impl Build for NewJob {
    fn key(mut self, text: &str) -> NewJob {
        self.spec.key = Some(key(text));
        let content = String::from_utf8_lossy(self.spec.payload.bytes()).into_owned();
        self.spec.fingerprint = Some(fingerprint(&content));
        self
    }

    fn content(mut self, text: &str) -> NewJob {
        let json = format!("\"{text}\"");
        self.spec.fingerprint = self.spec.fingerprint.map(|_| fingerprint(&json));
        self.spec.payload = Payload::Json(Bytes::from(json));
        self
    }

    fn after(mut self, delay: DurationMs) -> NewJob {
        self.when = When::After(delay);
        self
    }

    fn priority(mut self, priority: i16) -> NewJob {
        self.priority = priority;
        self
    }

    fn group(mut self, text: &str) -> NewJob {
        self.spec.group = Some(group(text));
        self
    }

    fn kind(mut self, text: &str) -> NewJob {
        self.spec.kind = Some(kind(text));
        self
    }

    fn label(mut self, text: &str) -> NewJob {
        self.spec.labels.push(label(text));
        self
    }

    fn max_attempts(mut self, n: u32) -> NewJob {
        self.max_attempts = Some(n);
        self
    }

    fn backoff(mut self, backoff: Backoff) -> NewJob {
        self.spec.backoff = Some(backoff);
        self
    }

    fn timeout(mut self, timeout: DurationMs) -> NewJob {
        self.spec.timeout = Some(timeout);
        self
    }

    fn retain(mut self, retain: DurationMs) -> NewJob {
        self.spec.retain = Some(retain);
        self
    }

    fn window(mut self, window: DurationMs) -> NewJob {
        self.spec.dedup.window = window;
        self.window_given = true;
        self
    }

    fn free_on(mut self, free_on: FreeOn) -> NewJob {
        self.spec.dedup.free_on = free_on;
        self
    }

    fn on_duplicate(mut self, on_duplicate: OnDuplicate) -> NewJob {
        self.spec.dedup.on_duplicate = on_duplicate;
        self
    }

    fn on_mismatch(mut self, on_mismatch: OnMismatch) -> NewJob {
        self.spec.dedup.on_mismatch = on_mismatch;
        self
    }

    fn version(mut self, version: u64) -> NewJob {
        self.spec.dedup.version = Some(version);
        self
    }

    fn max_delay(mut self, max_delay: DurationMs) -> NewJob {
        self.spec.dedup.max_delay = Some(max_delay);
        self
    }

    fn request(mut self, text: &str, content: &str) -> NewJob {
        self.request = Some(RequestIdentity { key: key(text), fingerprint: fingerprint(content) });
        self
    }
}
