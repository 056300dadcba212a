//! What the engine's own tests share.
#![allow(dead_code, reason = "not every test uses all of it")]

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use bytes::Bytes;
use onefold_core::{
    AddParams, Added, Clock, DurationMs, End, Engine, EngineResult, Fingerprint, ItemResult, JobId, JobSpec,
    Key, LeaseParams, LeasedJob, ManualClock, NewJob, Payload, QueueName, SeededEntropy, SettleAction,
    SettleOp, Settled, Timestamp, When, WorkerName,
};
use onefold_engine_sqlite::{Options, SqliteEngine};

/// A clock whose reader can be held up: while the gate is shut, the writer waits at the start of
/// its next transaction, and whatever is asked meanwhile goes into the one after.
pub(crate) struct GatedClock {
    hands: ManualClock,
    shut: Mutex<Gate>,
    moved: Condvar,
}

#[derive(Default)]
struct Gate {
    shut: bool,
    waiting: bool,
}

impl GatedClock {
    pub(crate) fn new() -> Arc<GatedClock> {
        let start = Timestamp::from_unix_ms(1_795_253_400_000).unwrap();
        Arc::new(GatedClock { hands: ManualClock::at(start), shut: Mutex::default(), moved: Condvar::new() })
    }

    pub(crate) fn advance(&self, by: DurationMs) {
        self.hands.advance(by);
    }

    pub(crate) fn step_by(&self, by: DurationMs) {
        self.hands.step_to(self.hands.now().saturating_add(by));
    }

    pub(crate) fn set(&self, now: Timestamp) {
        self.hands.step_to(now);
    }

    pub(crate) fn shut(&self) {
        self.shut.lock().unwrap().shut = true;
    }

    /// Returns once the writer stands at the gate.
    pub(crate) fn wait_for_the_writer(&self) {
        let mut gate = self.shut.lock().unwrap();
        while !gate.waiting {
            gate = self.moved.wait(gate).unwrap();
        }
    }

    pub(crate) fn open(&self) {
        *self.shut.lock().unwrap() = Gate::default();
        self.moved.notify_all();
    }
}

impl Clock for GatedClock {
    fn now(&self) -> Timestamp {
        let mut gate = self.shut.lock().unwrap();
        while gate.shut {
            gate.waiting = true;
            self.moved.notify_all();
            gate = self.moved.wait(gate).unwrap();
        }
        self.hands.now()
    }

    fn monotonic(&self) -> DurationMs {
        self.hands.monotonic()
    }
}

pub(crate) fn open(dir: &Path, clock: &Arc<GatedClock>) -> SqliteEngine {
    SqliteEngine::open(dir, Options::new(clock.clone(), Arc::new(SeededEntropy::new(1)))).unwrap()
}

pub(crate) fn queue(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

pub(crate) fn keyed(key: &str) -> NewJob {
    let spec = JobSpec {
        key: Some(Key::new(key).unwrap()),
        fingerprint: Some(Fingerprint::custom("same").unwrap()),
        payload: Payload::Json(Bytes::from_static(b"{\"n\":1}")),
        ..JobSpec::default()
    };
    NewJob { spec, ..NewJob::default() }
}

pub(crate) fn after(delay: DurationMs) -> NewJob {
    NewJob { when: When::After(delay), ..NewJob::default() }
}

pub(crate) fn jobs(jobs: Vec<NewJob>) -> AddParams {
    AddParams { queue: queue("q"), jobs, atomic: false }
}

pub(crate) async fn add(engine: &SqliteEngine, job: NewJob) -> JobId {
    let added: ItemResult<Added> = engine.add(jobs(vec![job])).await.unwrap().remove(0);
    added.unwrap().id
}

pub(crate) fn call(max: u32) -> LeaseParams {
    LeaseParams {
        queues: vec![queue("q")],
        max,
        lease: DurationMs::from_ms(30_000),
        worker: WorkerName::new("w").unwrap(),
        fair: false,
        wait: DurationMs::ZERO,
        poll: None,
    }
}

pub(crate) fn waiting_call(max: u32) -> LeaseParams {
    LeaseParams { wait: DurationMs::from_ms(60_000), ..call(max) }
}

pub(crate) fn end(leased: &LeasedJob, end: End) -> SettleOp {
    SettleOp { id: leased.job.id, token: leased.attempt().unwrap().token, action: SettleAction::End(end) }
}

pub(crate) async fn settle(engine: &SqliteEngine, op: SettleOp) -> EngineResult<ItemResult<Settled>> {
    engine.settle(vec![op]).await.map(|mut outcomes| outcomes.remove(0))
}

pub(crate) fn ids(leased: &[LeasedJob]) -> Vec<JobId> {
    leased.iter().map(|leased| leased.job.id).collect()
}

/// Damages a job's row behind the engine's back, as a failing disk would.
pub(crate) fn damage(dir: &Path, id: JobId) {
    let conn = rusqlite::Connection::open(dir.join("onefold.db")).unwrap();
    conn.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
    let seq = id.seq().get() as i64;
    let flip = "UPDATE onefold_jobs SET body = CAST(substr(body, 1, 6) || x'ff' || substr(body, 8) AS BLOB) WHERE seq = ?1";
    assert_eq!(conn.execute(flip, [seq]).unwrap(), 1);
}

pub(crate) fn days(days: u64) -> DurationMs {
    DurationMs::from_ms(days * 86_400_000)
}

pub(crate) fn secs(secs: u64) -> DurationMs {
    DurationMs::from_ms(secs * 1_000)
}
