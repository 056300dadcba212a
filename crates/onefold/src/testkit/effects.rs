//! What stands for the world outside.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::rusqlite::{self, Connection};
use crate::{Embedded, LocalTx};

const TABLE: &str = "CREATE TABLE IF NOT EXISTS testkit_effects (effect TEXT NOT NULL)";

/// The world outside of a handler under test, and the store it runs on. Effects are told apart by the names they are given;
/// one that stands for a step best has the step's.
#[derive(Clone)]
pub struct Effects {
    store: Embedded,
    world: Arc<Mutex<World>>,
}

#[derive(Default)]
struct World {
    times: BTreeMap<String, u64>,
    keys: BTreeSet<(String, String)>,
}

impl Effects {
    pub(super) fn new(store: Embedded) -> Effects {
        Effects { store, world: Arc::default() }
    }

    /// The store, for [`Embedded::commit_with`].
    pub fn store(&self) -> &Embedded {
        &self.store
    }

    /// It happens, every time: a receiver that does not know idempotency keys.
    pub async fn happen(&self, effect: &str) {
        // A question and its answer, each of which may be lost.
        tokio::task::yield_now().await;
        self.count(effect);
        tokio::task::yield_now().await;
    }

    /// It happens unless it did with this key: a receiver that knows idempotency keys.
    pub async fn happen_with_key(&self, effect: &str, key: &str) {
        tokio::task::yield_now().await;
        if self.world().keys.insert((effect.to_owned(), key.to_owned())) {
            self.count(effect);
        }
        tokio::task::yield_now().await;
    }

    /// It happens if the transaction is committed: rows in the store's database.
    ///
    /// # Errors
    /// The database's.
    pub fn happen_in(&self, tx: &LocalTx<'_>, effect: &str) -> Result<(), rusqlite::Error> {
        tx.execute(TABLE, ())?;
        tx.execute("INSERT INTO testkit_effects (effect) VALUES (?1)", [effect]).map(drop)
    }

    /// Whether it happened, but for effects in transactions that are not committed: what a handler may ask of its receiver.
    pub async fn has_happened(&self, effect: &str) -> bool {
        tokio::task::yield_now().await;
        self.world().times.contains_key(effect)
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, effect: &str) {
        *self.world().times.entry(effect.to_owned()).or_default() += 1;
    }

    /// How often each happened, rows of a database beside the store's own connections included.
    pub(super) fn counted(&self, database: &Connection) -> BTreeMap<String, u64> {
        let mut times = self.world().times.clone();
        // Without effects in transactions there is no table.
        let Ok(mut statement) = database.prepare("SELECT effect FROM testkit_effects") else { return times };
        let rows = statement.query_map((), |row| row.get::<_, String>(0));
        for effect in rows.into_iter().flatten().flatten() {
            *times.entry(effect).or_default() += 1;
        }
        times
    }
}
