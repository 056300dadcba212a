//! What happened when.

use std::time::Duration;

use onefold_e2e::now;

/// Says what happens, each thing with the seconds since the beginning.
pub struct Steps {
    name: &'static str,
    start: Duration,
}

impl Steps {
    /// From now on.
    pub fn of(name: &'static str) -> Steps {
        Steps { name, start: now() }
    }

    /// Something happens.
    pub fn log(&self, what: &str) {
        eprintln!("{} {:6.2} s: {what}", self.name, (now() - self.start).as_secs_f64());
    }
}
