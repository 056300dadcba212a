//! What the writer is asked to do, and the answers held back until the commit.

use std::sync::Mutex;

use bytes::Bytes;
use onefold_core::promise::Resolver;
use onefold_core::schedule::{NewSchedule, PutSchedule, ScheduleId, ScheduleView};
use onefold_core::{
    AddParams, Added, DeletedQueue, DeliveryParams, EffectAction, EffectOp, EffectResult, End, EngineError,
    EngineResult, ItemResult, JobEdit, JobId, JobView, Key, KeyView, LeaseParams, LeasedJob, QueueName,
    QueuePatch, QueueView, RedriveParams, Redriven, Setting, SettleAction, SettleOp, Settled, StoreStats,
    Ticked,
};

use crate::local::{LocalDone, LocalStep, LocalWork};

/// The place an answer goes to.
pub(crate) type Answer<T> = Resolver<EngineResult<T>>;

/// What can be asked of the writer.
pub(crate) enum Command {
    Add(AddParams, Answer<Vec<ItemResult<Added>>>),
    Lease(LeaseParams, Answer<Vec<LeasedJob>>),
    LeaseDeliveries(DeliveryParams, Answer<Vec<LeasedJob>>),
    Settle(Vec<SettleOp>, Answer<Vec<ItemResult<Settled>>>),
    /// Jobs handed out to somebody who was gone by then.
    Unclaimed(Vec<SettleOp>),
    Cancel(JobId, bool, Answer<ItemResult<JobView>>),
    Retry(JobId, bool, Answer<ItemResult<JobView>>),
    Redrive(RedriveParams, Answer<ItemResult<Redriven>>),
    Edit(JobId, JobEdit, Answer<ItemResult<JobView>>),
    Delete(JobId, Answer<ItemResult<JobView>>),
    Queues(Answer<Vec<QueueView>>),
    Queue(QueueName, Answer<Option<QueueView>>),
    SetQueue(QueueName, QueuePatch, Answer<QueueView>),
    DeleteQueue(QueueName, bool, Answer<ItemResult<DeletedQueue>>),
    Key(QueueName, Key, Answer<Option<KeyView>>),
    ReleaseKey(QueueName, Key, Answer<Option<KeyView>>),
    SetSetting(String, Bytes, u64, Answer<Result<u64, Setting>>),
    Effects(Vec<EffectOp>, Answer<Vec<EffectResult>>),
    PutSchedule(ScheduleId, Box<NewSchedule>, Answer<PutSchedule>),
    PauseSchedule(ScheduleId, bool, Answer<ItemResult<ScheduleView>>),
    RunSchedule(ScheduleId, Answer<ItemResult<JobId>>),
    DeleteSchedule(ScheduleId, Answer<ItemResult<ScheduleView>>),
    Local(LocalStep, Mutex<LocalWork>, Answer<LocalDone>),
    Tick(Answer<Ticked>),
    TickSooner(Resolver<()>),
    Stats(Answer<StoreStats>),
    Drain(Answer<()>),
    Close(Answer<()>),
}

impl Command {
    /// How many things it asks for: what a group commit is limited by.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Command::Add(params, _) => params.jobs.len().max(1),
            Command::Settle(ops, _) | Command::Unclaimed(ops) => ops.len().max(1),
            Command::Lease(params, _) => params.max as usize,
            Command::Effects(ops, _) => ops.len().max(1),
            Command::LeaseDeliveries(params, _) => params.max as usize,
            _ => 1,
        }
    }

    /// Whether it is refused while the disk is full.
    pub(crate) fn needs_space(&self) -> bool {
        let begins = |op: &EffectOp| matches!(op.action, EffectAction::Begin(_));
        match self {
            Command::Add(..) | Command::Local(..) | Command::PutSchedule(..) | Command::RunSchedule(..) => {
                true
            }
            Command::Effects(ops, _) => ops.iter().any(begins),
            _ => false,
        }
    }

    /// Answers that it did not happen.
    pub(crate) fn fail(self, error: EngineError) {
        fn no<T>(answer: Answer<T>, error: EngineError) {
            // Nobody waits any more: nobody has to be told.
            let _ = answer.resolve(Err(error));
        }
        match self {
            Command::Add(_, answer) => no(answer, error),
            Command::Lease(_, answer) | Command::LeaseDeliveries(_, answer) => no(answer, error),
            Command::Settle(_, answer) => no(answer, error),
            Command::Cancel(_, _, answer)
            | Command::Retry(_, _, answer)
            | Command::Edit(_, _, answer)
            | Command::Delete(_, answer) => no(answer, error),
            Command::Redrive(_, answer) => no(answer, error),
            Command::Queues(answer) => no(answer, error),
            Command::Queue(_, answer) => no(answer, error),
            Command::SetQueue(_, _, answer) => no(answer, error),
            Command::DeleteQueue(_, _, answer) => no(answer, error),
            Command::Key(_, _, answer) | Command::ReleaseKey(_, _, answer) => no(answer, error),
            Command::SetSetting(_, _, _, answer) => no(answer, error),
            Command::Effects(_, answer) => no(answer, error),
            Command::PutSchedule(_, _, answer) => no(answer, error),
            Command::PauseSchedule(_, _, answer) | Command::DeleteSchedule(_, answer) => no(answer, error),
            Command::RunSchedule(_, answer) => no(answer, error),
            Command::Local(_, _, answer) => no(answer, error),
            Command::Tick(answer) => no(answer, error),
            Command::Stats(answer) => no(answer, error),
            Command::Drain(answer) | Command::Close(answer) => no(answer, error),
            // Leases that are not given back run out.
            Command::TickSooner(_) | Command::Unclaimed(_) => {}
        }
    }
}

/// What a command came to, until it is durable.
pub(crate) enum Outcome {
    Add(Vec<ItemResult<Added>>),
    Lease(Vec<LeasedJob>),
    /// The poll stays.
    Parked,
    Settle(Vec<ItemResult<Settled>>),
    View(ItemResult<Box<JobView>>),
    Redrive(ItemResult<Redriven>),
    Queues(Vec<QueueView>),
    Queue(Option<QueueView>),
    SetQueue(QueueView),
    DeleteQueue(ItemResult<DeletedQueue>),
    Key(Option<KeyView>),
    SetSetting(Result<u64, Setting>),
    Effects(Vec<EffectResult>),
    PutSchedule(Box<PutSchedule>),
    Schedule(ItemResult<Box<ScheduleView>>),
    RunSchedule(ItemResult<JobId>),
    Local(LocalDone),
    Tick(Ticked),
    Stats(StoreStats),
    Done,
}

impl Command {
    /// Answers with what it came to. Gives back leases nobody was there to take.
    pub(crate) fn answer(self, outcome: Outcome) -> Option<Vec<LeasedJob>> {
        fn ok<T>(answer: Answer<T>, value: T) -> Option<Vec<LeasedJob>> {
            let _ = answer.resolve(Ok(value));
            None
        }
        match (self, outcome) {
            (Command::Add(_, answer), Outcome::Add(value)) => ok(answer, value),
            (Command::Lease(_, answer) | Command::LeaseDeliveries(_, answer), Outcome::Lease(value)) => {
                match answer.resolve(Ok(value)) {
                    Ok(()) => None,
                    Err(unwanted) => unwanted.ok(),
                }
            }
            (Command::Settle(_, answer), Outcome::Settle(value)) => ok(answer, value),
            (
                Command::Cancel(_, _, answer)
                | Command::Retry(_, _, answer)
                | Command::Edit(_, _, answer)
                | Command::Delete(_, answer),
                Outcome::View(value),
            ) => ok(answer, value.map(|view| *view)),
            (Command::Redrive(_, answer), Outcome::Redrive(value)) => ok(answer, value),
            (Command::Queues(answer), Outcome::Queues(value)) => ok(answer, value),
            (Command::Queue(_, answer), Outcome::Queue(value)) => ok(answer, value),
            (Command::SetQueue(_, _, answer), Outcome::SetQueue(value)) => ok(answer, value),
            (Command::DeleteQueue(_, _, answer), Outcome::DeleteQueue(value)) => ok(answer, value),
            (Command::Key(_, _, answer) | Command::ReleaseKey(_, _, answer), Outcome::Key(value)) => {
                ok(answer, value)
            }
            (Command::SetSetting(_, _, _, answer), Outcome::SetSetting(value)) => ok(answer, value),
            (Command::Effects(_, answer), Outcome::Effects(value)) => ok(answer, value),
            (Command::PutSchedule(_, _, answer), Outcome::PutSchedule(value)) => ok(answer, *value),
            (
                Command::PauseSchedule(_, _, answer) | Command::DeleteSchedule(_, answer),
                Outcome::Schedule(value),
            ) => ok(answer, value.map(|view| *view)),
            (Command::RunSchedule(_, answer), Outcome::RunSchedule(value)) => ok(answer, value),
            (Command::Local(_, _, answer), Outcome::Local(value)) => ok(answer, value),
            (Command::Tick(answer), Outcome::Tick(value)) => ok(answer, value),
            (Command::Stats(answer), Outcome::Stats(value)) => ok(answer, value),
            (Command::Drain(answer) | Command::Close(answer), Outcome::Done) => ok(answer, ()),
            (Command::TickSooner(_) | Command::Unclaimed(_), _) => None,
            // A command and another's outcome: the answer's resolver is dropped, and its caller
            // is told that the store closed.
            (_, _) => None,
        }
    }
}

/// Gives leases back at no cost, but for those a repeat of the poll may have been given by now.
pub(crate) fn release_ops(unwanted: &[LeasedJob]) -> Vec<SettleOp> {
    let release = |leased: &LeasedJob| {
        let token = leased.attempt().filter(|attempt| attempt.poll.is_none())?.token;
        Some(SettleOp { id: leased.job.id, token, action: SettleAction::End(End::Release) })
    };
    unwanted.iter().filter_map(release).collect()
}
