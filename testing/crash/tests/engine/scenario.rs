//! A scripted life of a store, and the check that everything it was told is still true.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use onefold_core::{
    AddParams, Clock, DurationMs, End, Engine, FencingToken, Fingerprint, JobError, JobId, JobSpec,
    JobStatus, Key, LeaseParams, LeasedJob, ManualClock, NewJob, Payload, QueueName, SeededEntropy,
    SettleAction, SettleOp, State, Timestamp, When, WorkerName,
};
use onefold_crash::{Mark, Recorder};
use onefold_engine_sqlite::inspect::Inspector;
use onefold_engine_sqlite::{Options, SqliteEngine};

pub(crate) fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp::from_unix_ms(1_795_253_400_000).unwrap()))
}

pub(crate) fn options(clock: &Arc<ManualClock>, vfs: Option<&str>) -> Options {
    let mut options = Options::new(clock.clone(), Arc::new(SeededEntropy::new(7)));
    options.vfs = vfs.map(str::to_owned);
    // The head-room file is not what these tests are about.
    options.free_space = Some(Arc::new(|| None));
    options
}

pub(crate) fn queue() -> QueueName {
    QueueName::new("q").unwrap()
}

pub(crate) fn job(key: &str) -> NewJob {
    let spec = JobSpec {
        key: Some(Key::new(key).unwrap()),
        fingerprint: Some(Fingerprint::custom(key).unwrap()),
        payload: Payload::Json(Bytes::from(format!("{{\"key\":\"{key}\"}}"))),
        ..JobSpec::default()
    };
    NewJob { spec, ..NewJob::default() }
}

pub(crate) fn lease_params(max: u32) -> LeaseParams {
    LeaseParams {
        queues: vec![queue()],
        max,
        lease: DurationMs::from_ms(30_000),
        worker: WorkerName::new("w").unwrap(),
        fair: false,
        wait: DurationMs::ZERO,
        poll: None,
    }
}

/// What a client was told, as it stands in the log of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// The job with this key was accepted.
    Added(u32, JobId),
    Leased(JobId, FencingToken),
    Completed(JobId, FencingToken),
    Failed(JobId, FencingToken),
    Cancelled(JobId),
    Deleted(JobId),
}

impl Told {
    fn write(self) -> String {
        match self {
            Told::Added(key, id) => format!("added {key} {id}"),
            Told::Leased(id, token) => format!("leased {token} {id}"),
            Told::Completed(id, token) => format!("completed {token} {id}"),
            Told::Failed(id, token) => format!("failed {token} {id}"),
            Told::Cancelled(id) => format!("cancelled 0 {id}"),
            Told::Deleted(id) => format!("deleted 0 {id}"),
        }
    }

    fn read(label: &[u8]) -> Told {
        let words: Vec<&str> = std::str::from_utf8(label).unwrap().split(' ').collect();
        let id: JobId = words[2].parse().unwrap();
        let number: u64 = words[1].parse().unwrap();
        let token = || FencingToken::new(number).unwrap();
        match words[0] {
            "added" => Told::Added(number as u32, id),
            "leased" => Told::Leased(id, token()),
            "completed" => Told::Completed(id, token()),
            "failed" => Told::Failed(id, token()),
            "cancelled" => Told::Cancelled(id),
            "deleted" => Told::Deleted(id),
            other => panic!("{other}"),
        }
    }
}

/// Runs the script against an engine on a recorded disk, marking every answer.
pub(crate) async fn play(recorder: &Recorder, rounds: u32) {
    let clock = clock();
    let engine = SqliteEngine::open(recorder.dir(), options(&clock, Some(recorder.vfs_name()))).unwrap();
    let tell = |told: Told| {
        recorder.mark(told.write());
    };
    let mut number = 0;
    for round in 0..rounds {
        let mut keys = Vec::new();
        let mut jobs = Vec::new();
        for n in 0..=(round % 5) {
            let mut new = job(&format!("key-{number}"));
            if n == 3 {
                new.when = When::After(DurationMs::from_ms(5_000));
            }
            new.spec.group = (n == 2).then(|| onefold_core::Group::new("g").unwrap());
            jobs.push(new);
            keys.push(number);
            number += 1;
        }
        let added = engine.add(AddParams { queue: queue(), jobs, atomic: false }).await.unwrap();
        for (key, added) in keys.into_iter().zip(added) {
            tell(Told::Added(key, added.unwrap().id));
        }
        let leased = engine.lease(lease_params(1 + round % 4)).await.unwrap();
        leased.iter().for_each(|job| tell(Told::Leased(job.job.id, job.attempt().unwrap().token)));
        settle(&engine, &leased, &tell).await;
        if round % 4 == 1 {
            let page =
                engine.list(onefold_core::ListParams { limit: 3, ..Default::default() }).await.unwrap();
            for summary in page.jobs.iter().filter(|summary| !summary.job.state.is_finished()).take(1) {
                engine.cancel(summary.job.id, true).await.unwrap().unwrap();
                tell(Told::Cancelled(summary.job.id));
            }
        }
        if round % 6 == 5 {
            let done = onefold_core::JobFilter { states: vec![State::Completed], ..Default::default() };
            let page =
                engine.list(onefold_core::ListParams { filter: done, limit: 1, before: None }).await.unwrap();
            for summary in page.jobs {
                engine.delete(summary.job.id).await.unwrap().unwrap();
                tell(Told::Deleted(summary.job.id));
            }
        }
        clock.advance(DurationMs::from_ms(2_000));
        engine.tick().await.unwrap();
    }
    engine.close().await.unwrap();
}

async fn settle(engine: &SqliteEngine, leased: &[LeasedJob], tell: &impl Fn(Told)) {
    for (n, job) in leased.iter().enumerate() {
        let token = job.attempt().unwrap().token;
        let end = match n % 3 {
            0 => End::Complete { result: Some(Bytes::from_static(b"\"done\"")) },
            1 => End::Fail {
                error: JobError { message: "no".to_owned(), kind: None },
                retryable: true,
                retry_in: Some(DurationMs::from_ms(3_000)),
            },
            _ => continue,
        };
        let told =
            if n % 3 == 0 { Told::Completed(job.job.id, token) } else { Told::Failed(job.job.id, token) };
        let op = SettleOp { id: job.job.id, token, action: SettleAction::End(end) };
        engine.settle(vec![op]).await.unwrap().remove(0).unwrap();
        tell(told);
    }
}

/// Opens what power loss left and compares it with what clients were told before.
pub(crate) async fn check(dir: &Path, marks: &[Mark]) -> Result<(), String> {
    let clock = clock();
    clock.advance(DurationMs::from_ms(3_600_000));
    let engine = SqliteEngine::open(dir, options(&clock, None)).map_err(|error| error.to_string())?;
    let told: Vec<Told> = marks.iter().map(|mark| Told::read(&mark.label)).collect();
    let deleted: Vec<JobId> =
        told.iter().filter_map(|t| if let Told::Deleted(id) = t { Some(*id) } else { None }).collect();
    let mut highest = 0;
    let mut last: HashMap<JobId, Told> = HashMap::new();
    for told in &told {
        let id = match *told {
            Told::Added(_, id) | Told::Cancelled(id) | Told::Deleted(id) => id,
            Told::Leased(id, token) | Told::Completed(id, token) | Told::Failed(id, token) => {
                highest = highest.max(token.get());
                id
            }
        };
        last.insert(id, *told);
    }
    for (id, told) in &last {
        let view = engine.get(*id).await.map_err(|error| error.to_string())?;
        check_job(*id, *told, view.as_ref().map(|view| &view.job), &deleted)?;
    }
    for told in &told {
        let Told::Added(key, id) = told else { continue };
        let params = AddParams { queue: queue(), jobs: vec![job(&format!("key-{key}"))], atomic: false };
        let again = engine.add(params).await.map_err(|error| error.to_string())?.remove(0);
        let again = again.map_err(|refusal| refusal.to_string())?;
        // A deletion may have happened before it was told.
        let may_be_gone = deleted.contains(id) || matches!(last.get(id), Some(Told::Completed(..)));
        if again.id != *id || !again.duplicate || (again.status == JobStatus::Purged && !may_be_gone) {
            return Err(format!("I3: key-{key} was told to be {id}, now it is {again:?}"));
        }
    }
    for leased in engine.lease(lease_params(1000)).await.map_err(|error| error.to_string())? {
        let token = leased.attempt().map_or(0, |attempt| attempt.token.get());
        if token <= highest {
            return Err(format!("I4: token {token} after {highest} was handed out"));
        }
    }
    for queue in engine.queues().await.map_err(|error| error.to_string())? {
        if !queue.counts.conserved() {
            return Err(format!("I2: {:?}", queue.counts));
        }
    }
    drop(engine);
    let inspector = Inspector::open(dir).map_err(|error| error.to_string())?;
    let checked = inspector.check(clock.now(), &mut |_| {}).map_err(|error| error.to_string())?;
    if checked.findings.is_empty() { Ok(()) } else { Err(format!("{:?}", checked.findings)) }
}

fn check_job(
    id: JobId,
    told: Told,
    job: Option<&onefold_core::Job>,
    deleted: &[JobId],
) -> Result<(), String> {
    let Some(job) = job else {
        // The deletion that was not acknowledged yet may have happened.
        let may_be_gone = deleted.contains(&id) || matches!(told, Told::Completed(..));
        return if may_be_gone { Ok(()) } else { Err(format!("I1: {id} is gone after {told:?}")) };
    };
    let token = job.attempt.as_ref().map(|attempt| attempt.token);
    let held = match told {
        Told::Added(..) => true,
        Told::Leased(_, told) => token >= Some(told),
        Told::Completed(_, told) => job.state == State::Completed && token == Some(told),
        Told::Failed(_, told) => {
            let ended = job.attempt.as_ref().is_some_and(|attempt| attempt.end.is_some());
            token > Some(told) || (token == Some(told) && ended)
        }
        Told::Cancelled(_) => job.state == State::Cancelled,
        Told::Deleted(_) => false,
    };
    if held { Ok(()) } else { Err(format!("I1: {told:?} was told, now it is {job:?}")) }
}
