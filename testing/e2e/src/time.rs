//! Waiting for something to happen, and never for time to pass.

use std::sync::{Condvar, LazyLock, Mutex, MutexGuard};
use std::time::Duration;

use onefold_core::Clock as _;
use onefold_runtime::SystemClock;

static CLOCK: LazyLock<SystemClock> = LazyLock::new(SystemClock::new);

/// Time that only goes forward, from some point of this process.
pub fn now() -> Duration {
    CLOCK.monotonic().into()
}

/// Asks until the answer is `Some`. For what tells nobody when it happens: another process's state.
///
/// # Panics
/// After `patience`, naming `what`.
pub fn until<T>(what: &str, patience: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = now();
    let never = Gate::new();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        let waited = now() - start;
        assert!(waited < patience, "waited {waited:?} in vain for: {what}");
        never.pause(Duration::from_millis(5));
    }
}

/// Tells threads whether the server serves, and when to stop.
#[derive(Default)]
pub struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    serving: bool,
    over: bool,
}

impl Gate {
    /// Nothing serves yet.
    pub fn new() -> Gate {
        Gate::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Says whether the server serves.
    pub fn set_serving(&self, serving: bool) {
        self.state().serving = serving;
        self.changed.notify_all();
    }

    /// Says that it is over.
    pub fn finish(&self) {
        self.state().over = true;
        self.changed.notify_all();
    }

    /// Says that it is over once this is dropped, also by a failed test: threads that wait would never end.
    pub fn finish_at_last(&self) -> impl Drop + use<'_> {
        struct AtLast<'a>(&'a Gate);
        impl Drop for AtLast<'_> {
            fn drop(&mut self) {
                self.0.finish();
            }
        }
        AtLast(self)
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        self.state().over
    }

    /// Waits until the server serves, or it is over.
    pub fn serving(&self) {
        drop(self.changed.wait_while(self.state(), |state| !state.serving && !state.over).unwrap());
    }

    /// Waits this long, or until it is over.
    pub fn pause(&self, most: Duration) {
        drop(self.changed.wait_timeout_while(self.state(), most, |state| !state.over).unwrap());
    }
}
