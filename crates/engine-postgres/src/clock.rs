//! The database's time, which all nodes share, between two looks at it.

use std::sync::{Arc, Mutex, PoisonError};

use onefold_core::{Clock, DurationMs, Timestamp};

/// Shows what the database's clock showed last, carried on by this machine's monotonic clock: however wrong the wall clock of
/// a node is, it counts nowhere.
pub(crate) struct DatabaseClock {
    machine: Arc<dyn Clock>,
    /// The database's time, and when by the monotonic clock.
    last: Mutex<Option<(Timestamp, DurationMs)>>,
}

impl DatabaseClock {
    /// One that shows the machine's time until it is told the database's.
    pub(crate) fn new(machine: Arc<dyn Clock>) -> DatabaseClock {
        DatabaseClock { machine, last: Mutex::new(None) }
    }

    /// It has just shown this.
    pub(crate) fn set(&self, now: Timestamp) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, self.machine.monotonic()));
    }
}

impl Clock for DatabaseClock {
    fn now(&self) -> Timestamp {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match last {
            Some((then, at)) => then.saturating_add(self.machine.monotonic().saturating_sub(at)),
            None => self.machine.now(),
        }
    }

    fn monotonic(&self) -> DurationMs {
        self.machine.monotonic()
    }
}

#[cfg(test)]
mod tests {
    use onefold_core::ManualClock;

    use super::*;

    #[test]
    fn once_told_it_follows_no_wall_clock() {
        let at = |ms| Timestamp::from_unix_ms(ms).unwrap();
        let machine = Arc::new(ManualClock::at(at(9_000_000)));
        let clock = DatabaseClock::new(Arc::clone(&machine) as Arc<dyn Clock>);
        assert_eq!(clock.now(), at(9_000_000));
        clock.set(at(5_000));
        machine.advance(DurationMs::from_ms(250));
        machine.step_to(at(70_000_000));
        assert_eq!(clock.now(), at(5_250));
        clock.set(at(4_000));
        assert_eq!(clock.now(), at(4_000));
    }
}
