//! A value handed over once, from an engine's thread to whoever awaits it, without a runtime.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

type Return<T> = Box<dyn FnOnce(T) + Send>;

struct Slot<T> {
    value: Option<T>,
    waker: Option<Waker>,
    resolver_gone: bool,
    promise_gone: bool,
}

type Shared<T> = Arc<Mutex<Slot<T>>>;

fn lock<T>(shared: &Shared<T>) -> MutexGuard<'_, Slot<T>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A pair of which one side gives a value and the other awaits it.
pub fn promise<T>() -> (Resolver<T>, Promise<T>) {
    let slot = Slot { value: None, waker: None, resolver_gone: false, promise_gone: false };
    let shared = Arc::new(Mutex::new(slot));
    (Resolver { shared: Arc::clone(&shared) }, Promise { shared, unclaimed: None })
}

/// Like [`promise`], but a value that was given and never taken, because the future was dropped
/// in between, goes to `unclaimed`.
pub fn promise_or_return<T>(unclaimed: impl FnOnce(T) + Send + 'static) -> (Resolver<T>, Promise<T>) {
    let (resolver, mut promise) = promise();
    promise.unclaimed = Some(Box::new(unclaimed));
    (resolver, promise)
}

/// The giving side.
pub struct Resolver<T> {
    shared: Shared<T>,
}

impl<T> Resolver<T> {
    /// Gives the value.
    ///
    /// # Errors
    /// The value, if nobody awaits it any more.
    pub fn resolve(self, value: T) -> Result<(), T> {
        let mut slot = lock(&self.shared);
        if slot.promise_gone {
            return Err(value);
        }
        slot.value = Some(value);
        let waker = slot.waker.take();
        drop(slot);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Whether nobody awaits it any more.
    pub fn is_abandoned(&self) -> bool {
        lock(&self.shared).promise_gone
    }
}

impl<T> Drop for Resolver<T> {
    fn drop(&mut self) {
        let mut slot = lock(&self.shared);
        slot.resolver_gone = true;
        let waker = slot.waker.take();
        drop(slot);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The awaiting side: `None` if the giving side was dropped without giving.
pub struct Promise<T> {
    shared: Shared<T>,
    unclaimed: Option<Return<T>>,
}

impl<T> Future for Promise<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut slot = lock(&self.shared);
        if let Some(value) = slot.value.take() {
            return Poll::Ready(Some(value));
        }
        if slot.resolver_gone {
            return Poll::Ready(None);
        }
        match &mut slot.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => slot.waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        let unread = {
            let mut slot = lock(&self.shared);
            slot.promise_gone = true;
            slot.value.take()
        };
        if let (Some(value), Some(unclaimed)) = (unread, self.unclaimed.take()) {
            unclaimed(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll<T>(promise: &mut Promise<T>) -> Poll<Option<T>> {
        Pin::new(promise).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_value_is_handed_over_once() {
        let (resolver, mut promise) = promise();
        assert!(poll(&mut promise).is_pending());
        assert_eq!(resolver.resolve(7), Ok(()));
        assert_eq!(poll(&mut promise), Poll::Ready(Some(7)));
    }

    #[test]
    fn neither_side_hangs_when_the_other_is_gone() {
        let (resolver, mut waiting) = promise::<u8>();
        drop(resolver);
        assert_eq!(poll(&mut waiting), Poll::Ready(None));
        let (resolver, abandoned) = promise();
        drop(abandoned);
        assert!(resolver.is_abandoned());
        assert_eq!(resolver.resolve(7), Err(7));
    }

    #[test]
    fn a_value_given_but_never_taken_comes_back() {
        let back = Arc::new(Mutex::new(None));
        let place = Arc::clone(&back);
        let (resolver, unread) = promise_or_return(move |value| *place.lock().unwrap() = Some(value));
        assert_eq!(resolver.resolve(7), Ok(()));
        drop(unread);
        assert_eq!(*back.lock().unwrap(), Some(7));
    }
}
