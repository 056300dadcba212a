//! Whether an answer left this process.

use std::sync::{Arc, Mutex, PoisonError};

/// Put among the extensions of an answer, it tells when that answer was certainly not delivered: dropped with the
/// handler's future or before hyper took it, or the system did not take every byte of it before the connection
/// ended. Of an answer the system took, nobody here knows what became.
#[derive(Clone)]
pub struct Receipt(Arc<Unsigned>);

struct Unsigned(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl Receipt {
    /// Calls `undelivered`, once, if the answer was certainly not delivered.
    pub fn new(undelivered: impl FnOnce() + Send + 'static) -> Receipt {
        Receipt(Arc::new(Unsigned(Mutex::new(Some(Box::new(undelivered))))))
    }

    /// The answer was taken to its end.
    pub(super) fn sign(self) {
        drop(self.0.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Drop for Unsigned {
    fn drop(&mut self) {
        if let Some(undelivered) = self.0.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            undelivered();
        }
    }
}
