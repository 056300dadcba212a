//! What a case is given: a fresh store, its clock and its dice.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use onefold_core::reference::ReferenceEngine;
use onefold_core::{BoxFuture, Engine, Entropy, ManualClock, SeededEntropy, Timestamp};

/// How long a case may take in real time before it counts as hanging.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// When every case starts: some time in 2026, to the millisecond.
pub const START_UNIX_MS: i64 = 1_795_253_400_123;

/// A store under test.
pub trait Harness: Send + 'static {
    /// Opens a fresh, empty store that lives in `world`.
    fn open(world: World) -> BoxFuture<'static, Self>
    where
        Self: Sized;

    /// The engine as it is open now. After a reopen it may be another one.
    fn engine(&self) -> Arc<dyn Engine>;

    /// Its clock and dice.
    fn world(&self) -> &World;

    /// Plays the end of the process without a goodbye, and opens what is durable again.
    fn reopen_after_crash(&mut self) -> BoxFuture<'_, ()>;

    /// Closes the store and opens it again.
    fn reopen_cleanly(&mut self) -> BoxFuture<'_, ()>;

    /// What this harness can play.
    fn flags(&self) -> Flags {
        Flags::default()
    }
}

/// What a harness can play. A case about what it cannot passes without looking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags {
    /// Closing and crashing.
    pub reopen: bool,
    /// Stepping the wall clock apart from the monotonic one.
    pub clock_steps: bool,
    /// Nobody but the engine writes to the store, so that it calls for no tick without need.
    pub alone: bool,
}

impl Default for Flags {
    fn default() -> Flags {
        Flags { reopen: true, clock_steps: true, alone: true }
    }
}

/// The clock and the dice an engine is given.
#[derive(Debug, Clone)]
pub struct World {
    /// Stands still until told otherwise.
    pub clock: Arc<ManualClock>,
    /// Rolls what the seed says, or what a case asks for.
    pub dice: Arc<Dice>,
}

impl World {
    /// A world at [`START_UNIX_MS`] whose dice start at `seed`.
    pub fn new(seed: u64) -> World {
        let start = Timestamp::from_unix_ms(START_UNIX_MS).expect("a time in this century");
        World { clock: Arc::new(ManualClock::at(start)), dice: Arc::new(Dice::new(seed)) }
    }
}

/// Randomness that can be told what to say.
#[derive(Debug)]
pub struct Dice {
    seeded: SeededEntropy,
    fixed: Mutex<Option<u64>>,
}

impl Dice {
    fn new(seed: u64) -> Dice {
        Dice { seeded: SeededEntropy::new(seed), fixed: Mutex::new(None) }
    }

    /// From now on every roll is `number`; `None` goes back to the seed.
    pub fn load(&self, number: Option<u64>) {
        *self.fixed.lock().unwrap_or_else(PoisonError::into_inner) = number;
    }
}

impl Entropy for Dice {
    fn next_u64(&self) -> u64 {
        let fixed = *self.fixed.lock().unwrap_or_else(PoisonError::into_inner);
        fixed.unwrap_or_else(|| self.seeded.next_u64())
    }
}

/// The reference engine. A crash is played inside it: it has no files.
pub struct ReferenceHarness {
    engine: ReferenceEngine,
    world: World,
}

impl Harness for ReferenceHarness {
    fn open(world: World) -> BoxFuture<'static, ReferenceHarness> {
        let engine = ReferenceEngine::new(world.clock.clone(), world.dice.clone());
        Box::pin(std::future::ready(ReferenceHarness { engine, world }))
    }

    fn engine(&self) -> Arc<dyn Engine> {
        Arc::new(self.engine.clone())
    }

    fn world(&self) -> &World {
        &self.world
    }

    fn reopen_after_crash(&mut self) -> BoxFuture<'_, ()> {
        self.engine.crash_and_reopen();
        Box::pin(std::future::ready(()))
    }

    fn reopen_cleanly(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.engine.close().await.expect("the store closes");
            self.engine.crash_and_reopen();
        })
    }
}

/// A case of the [suite](crate::suite), borrowed for one run.
pub type CaseFuture<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// Runs one case on a fresh store of `H`.
///
/// # Panics
/// If the case fails or hangs.
pub fn run_case<H: Harness>(case: for<'a> fn(&'a mut dyn Harness) -> CaseFuture<'a>) {
    block_on(async {
        let mut harness = H::open(World::new(1)).await;
        case(&mut harness).await;
    });
}

/// Runs `future` to its end on this thread, with timers for hints that never come.
///
/// # Panics
/// If it takes longer than [`PATIENCE`].
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime starts");
    runtime.block_on(async {
        tokio::time::timeout(PATIENCE, future)
            .await
            .expect("hangs: nothing came within the patience of a case")
    })
}
