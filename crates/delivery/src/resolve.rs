//! From names to addresses.

use std::collections::HashMap;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use thiserror::Error;
use tokio::sync::{Semaphore, watch};

/// A name that has no address, in the resolver's words.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct ResolveError(pub String);

/// The addresses of a name, or why there are none.
pub type Resolved = Result<Vec<IpAddr>, ResolveError>;

/// A lookup on its way.
pub type Resolving = Pin<Box<dyn Future<Output = Resolved> + Send>>;

/// Looks names up. Every address it gives is vetted before it is dialled, each time.
pub trait Resolver: Send + Sync + 'static {
    /// The addresses of `name`, best first.
    fn resolve(&self, name: Arc<str>) -> Resolving;
}

/// The answer, once there is one.
type Lookup = watch::Receiver<Option<Resolved>>;

/// Names looked up at the same time.
const LOOKUPS_MAX: usize = 128;

/// The resolver of the system, `getaddrinfo`: names mean here what they mean to every other program of the machine, with
/// its hosts file, search domains and name service.
///
/// It blocks a thread and cannot be called off, so lookups of one name are made once for all that wait, and a name whose
/// servers are silent holds one of 128 threads, however many deliveries ask for it.
#[derive(Debug, Clone)]
pub struct SystemResolver {
    running: Arc<Mutex<HashMap<Arc<str>, Lookup>>>,
    permits: Arc<Semaphore>,
}

impl SystemResolver {
    /// A resolver.
    pub fn new() -> SystemResolver {
        SystemResolver { running: Arc::default(), permits: Arc::new(Semaphore::new(LOOKUPS_MAX)) }
    }

    /// The lookup of `name` on its way, begun now if there is none.
    fn lookup(&self, name: Arc<str>) -> Lookup {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lookup) = running.get(&name) {
            return lookup.clone();
        }
        let (done, lookup) = watch::channel(None);
        running.insert(Arc::clone(&name), lookup.clone());
        let this = self.clone();
        tokio::spawn(async move {
            let permit = this.permits.acquire().await;
            let found = tokio::net::lookup_host((&*name, 0)).await;
            drop(permit);
            this.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
            let addresses = match found {
                Ok(addresses) => Ok(addresses.map(|address| address.ip()).collect()),
                Err(error) => Err(ResolveError(error.to_string())),
            };
            // Nobody may be left who waits.
            let _ = done.send(Some(addresses));
        });
        lookup
    }
}

impl Default for SystemResolver {
    fn default() -> SystemResolver {
        SystemResolver::new()
    }
}

impl Resolver for SystemResolver {
    fn resolve(&self, name: Arc<str>) -> Resolving {
        let mut lookup = self.lookup(name);
        Box::pin(async move {
            match lookup.wait_for(Option::is_some).await {
                Ok(found) => found.clone().unwrap_or_else(|| Err(ResolveError("no answer".to_owned()))),
                Err(_) => Err(ResolveError("the lookup was given up".to_owned())),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_system_knows_this_machine() {
        let resolver = SystemResolver::new();
        let addresses = resolver.resolve("localhost".into()).await.unwrap();
        assert!(addresses.iter().all(IpAddr::is_loopback) && !addresses.is_empty(), "{addresses:?}");
        assert!(resolver.running.lock().unwrap().is_empty(), "nothing is kept");
    }

    #[tokio::test]
    async fn a_name_is_looked_up_once_for_all_that_wait() {
        let resolver = SystemResolver::new();
        // Not polled in between: the task of the first cannot have run.
        let (first, second) = (resolver.lookup("localhost".into()), resolver.lookup("localhost".into()));
        assert!(first.same_channel(&second));
    }
}
