//! The backend over an engine in this process.

use std::sync::Arc;

use onefold_core::schedule::{ListSchedules, NewSchedule, ScheduleId, Template};
use onefold_core::{
    AddParams, Added, BoxFuture, Clock, DurationMs, EffectDone, EffectOp, EffectRefusal, Engine, Job,
    JobEdit, JobId, JobSpec, JobStatus, Key, LeaseParams, LeasedJob, ListParams, QueueName, QueuePatch,
    RedriveParams, Refusal, Seq, SettleOp, Settled, State, Timestamp, limits,
};

use super::{Backend, JobResult, Leased, Outcome, ToAdd, ToSchedule};
use crate::check::Wants;
use crate::schedule::ScheduleView;
use crate::time::to_std;
use crate::view::{AttemptView, JobList, JobView, KeyView, ListQuery, QueueView, RedriveQuery, Redriven};
use crate::{Error, ErrorCode, Invalid, RawPayload};

pub(crate) struct EngineBackend {
    engine: Arc<dyn Engine>,
    clock: Arc<dyn Clock>,
}

impl EngineBackend {
    pub(crate) fn new(engine: Arc<dyn Engine>, clock: Arc<dyn Clock>) -> EngineBackend {
        EngineBackend { engine, clock }
    }

    async fn wait_for_result(&self, id: JobId) -> Outcome<JobResult> {
        loop {
            let result = self.result_now(id).await?;
            if !matches!(result, JobResult::Unfinished(_)) {
                return Ok(result);
            }
            self.engine.finished(id).await?;
        }
    }

    async fn result_now(&self, id: JobId) -> Outcome<JobResult> {
        let view = self.engine.get(id).await?.ok_or(Refusal::JobNotFound)?;
        match (view.job.state, view.job.reason) {
            (State::Completed, _) => Ok(JobResult::Completed(view.result)),
            (State::Cancelled, _) => Err(Error::JobCancelled { id }),
            (State::Dead, Some(reason)) => Err(Error::JobDead { id, reason }),
            (state, _) => Ok(JobResult::Unfinished(state)),
        }
    }

    fn queue_view(&self, view: onefold_core::QueueView) -> QueueView {
        let age = |since: Timestamp| {
            let ms = self.clock.now().as_unix_ms().saturating_sub(since.as_unix_ms());
            to_std(DurationMs::from_ms(u64::try_from(ms).unwrap_or(0)))
        };
        QueueView {
            name: view.name.as_str().to_owned(),
            settings: view.settings,
            counts: view.counts,
            oldest_age: view.oldest_available.map(age),
        }
    }
}

impl Backend for EngineBackend {
    fn wants(&self) -> Wants {
        Wants {
            payload_bytes_max: limits::PAYLOAD_BYTES_DEFAULT,
            fingerprints: true,
            targets: self.engine.capabilities().multi_process,
        }
    }

    fn add(&self, queue: QueueName, job: ToAdd) -> BoxFuture<'_, Outcome<Added>> {
        let adding = self.engine.add(AddParams { queue, jobs: vec![job.job], atomic: false });
        Box::pin(async {
            let added = adding.await?.pop().unwrap_or(Err(Refusal::JobNotFound));
            Ok(added?)
        })
    }

    fn add_many(
        &self,
        queue: QueueName,
        jobs: Vec<ToAdd>,
        atomic: bool,
    ) -> BoxFuture<'_, Outcome<Vec<Outcome<Added>>>> {
        Box::pin(async move {
            let mut added = Vec::with_capacity(jobs.len());
            let mut jobs: Vec<_> = jobs.into_iter().map(|job| job.job).collect();
            while !jobs.is_empty() {
                let rest = jobs.split_off(jobs.len().min(limits::ADD_JOBS_MAX));
                let params = AddParams { queue: queue.clone(), jobs, atomic };
                added
                    .extend(self.engine.add(params).await?.into_iter().map(|item| item.map_err(Error::from)));
                jobs = rest;
            }
            Ok(added)
        })
    }

    fn lease(&self, call: LeaseParams) -> BoxFuture<'_, Outcome<Vec<Leased>>> {
        let leasing = self.engine.lease(call);
        Box::pin(async { Ok(leasing.await?.into_iter().filter_map(leased).collect()) })
    }

    fn repeats_polls(&self) -> bool {
        false
    }

    fn settle<'a>(&'a self, ops: &'a [SettleOp]) -> BoxFuture<'a, Outcome<Vec<Outcome<Settled>>>> {
        let settling = self.engine.settle(ops.to_vec());
        Box::pin(async { Ok(settling.await?.into_iter().map(|item| item.map_err(Error::from)).collect()) })
    }

    fn effect<'a>(&'a self, op: &'a EffectOp) -> BoxFuture<'a, Outcome<EffectDone>> {
        let doing = self.engine.effects(vec![op.clone()]);
        Box::pin(async { Ok(doing.await?.pop().unwrap_or(Err(EffectRefusal::NotFound))?) })
    }

    fn get(&self, id: JobId) -> BoxFuture<'_, Outcome<Option<JobView>>> {
        Box::pin(async move { Ok(self.engine.get(id).await?.map(job_view)) })
    }

    fn result(&self, id: JobId, wait: DurationMs) -> BoxFuture<'_, Outcome<JobResult>> {
        Box::pin(async move {
            match tokio::time::timeout(to_std(wait), self.wait_for_result(id)).await {
                Ok(result) => result,
                Err(_elapsed) => self.result_now(id).await,
            }
        })
    }

    fn cancel(&self, id: JobId, force: bool) -> BoxFuture<'_, Outcome<JobView>> {
        Box::pin(async move { Ok(job_view(self.engine.cancel(id, force).await??)) })
    }

    fn retry(&self, id: JobId, accept_duplicates: bool) -> BoxFuture<'_, Outcome<JobView>> {
        Box::pin(async move { Ok(job_view(self.engine.retry(id, accept_duplicates).await??)) })
    }

    fn edit(&self, id: JobId, edit: JobEdit) -> BoxFuture<'_, Outcome<JobView>> {
        Box::pin(async move { Ok(job_view(self.engine.edit(id, edit).await??)) })
    }

    fn delete(&self, id: JobId) -> BoxFuture<'_, Outcome<JobView>> {
        Box::pin(async move { Ok(job_view(self.engine.delete(id).await??)) })
    }

    fn list(&self, query: ListQuery) -> BoxFuture<'_, Outcome<JobList>> {
        Box::pin(async move {
            let before = query.cursor.as_deref().map(parse_cursor).transpose()?;
            let limit = query.limit.unwrap_or(limits::LIST_JOBS_DEFAULT);
            let page = self.engine.list(ListParams { filter: query.filter, limit, before }).await?;
            let jobs = page
                .jobs
                .into_iter()
                .map(|summary| view(summary.job, summary.spec, Vec::new(), summary.waiting, None));
            Ok(JobList { jobs: jobs.collect(), cursor: page.next.map(|seq| seq.get().to_string()) })
        })
    }

    fn redrive(&self, queue: QueueName, query: RedriveQuery) -> BoxFuture<'_, Outcome<Redriven>> {
        let params = RedriveParams {
            filter: query.filter,
            queue,
            states: query.states,
            limit: query.limit.unwrap_or(limits::REDRIVE_JOBS_MAX),
            accept_duplicates: query.accept_duplicates,
        };
        Box::pin(async move {
            let done = self.engine.redrive(params).await??;
            Ok(Redriven { redriven: done.redriven, refused: done.refused })
        })
    }

    fn queues(&self) -> BoxFuture<'_, Outcome<Vec<QueueView>>> {
        Box::pin(async move {
            let queues = self.engine.queues().await?;
            Ok(queues.into_iter().map(|queue| self.queue_view(queue)).collect())
        })
    }

    fn queue(&self, name: QueueName) -> BoxFuture<'_, Outcome<Option<QueueView>>> {
        Box::pin(async move { Ok(self.engine.queue(name).await?.map(|queue| self.queue_view(queue))) })
    }

    fn set_queue(&self, name: QueueName, patch: QueuePatch) -> BoxFuture<'_, Outcome<QueueView>> {
        Box::pin(async move { Ok(self.queue_view(self.engine.set_queue(name, patch).await?)) })
    }

    fn delete_queue(&self, name: QueueName, force: bool) -> BoxFuture<'_, Outcome<u64>> {
        Box::pin(async move { Ok(self.engine.delete_queue(name, force).await??.jobs) })
    }

    fn put_schedule(&self, id: ScheduleId, schedule: ToSchedule) -> BoxFuture<'_, Outcome<ScheduleView>> {
        let ToSchedule { timing, queue, missed, overlap, job } = schedule;
        let job =
            Template { spec: job.job.spec, priority: job.job.priority, max_attempts: job.job.max_attempts };
        let new = NewSchedule { timing, queue, missed, overlap, job };
        Box::pin(async move { Ok((&self.engine.put_schedule(id, new).await?.view.schedule).into()) })
    }

    fn schedule(&self, id: ScheduleId) -> BoxFuture<'_, Outcome<Option<ScheduleView>>> {
        Box::pin(async move { Ok(self.engine.schedule(id).await?.map(|view| (&view.schedule).into())) })
    }

    fn schedules(&self) -> BoxFuture<'_, Outcome<Vec<ScheduleView>>> {
        Box::pin(async move {
            let mut all: Vec<ScheduleView> = Vec::new();
            let mut after = None;
            loop {
                let page =
                    self.engine.schedules(ListSchedules { after, limit: limits::LIST_JOBS_MAX }).await?;
                all.extend(page.schedules.iter().map(|view| ScheduleView::from(&view.schedule)));
                after = page.schedules.last().map(|view| view.schedule.id.clone());
                if !page.more {
                    return Ok(all);
                }
            }
        })
    }

    fn pause_schedule(&self, id: ScheduleId, paused: bool) -> BoxFuture<'_, Outcome<ScheduleView>> {
        Box::pin(async move { Ok((&self.engine.pause_schedule(id, paused).await??.schedule).into()) })
    }

    fn run_schedule(&self, id: ScheduleId) -> BoxFuture<'_, Outcome<JobId>> {
        Box::pin(async move { Ok(self.engine.run_schedule(id).await??) })
    }

    fn delete_schedule(&self, id: ScheduleId) -> BoxFuture<'_, Outcome<ScheduleView>> {
        Box::pin(async move { Ok((&self.engine.delete_schedule(id).await??.schedule).into()) })
    }

    fn key(&self, queue: QueueName, key: Key) -> BoxFuture<'_, Outcome<Option<KeyView>>> {
        Box::pin(async move { Ok(self.engine.key(queue, key).await?.map(key_view)) })
    }

    fn release_key(&self, queue: QueueName, key: Key) -> BoxFuture<'_, Outcome<Option<KeyView>>> {
        Box::pin(async move { Ok(self.engine.release_key(queue, key).await?.map(key_view)) })
    }
}

/// `None` for a job without an attempt, which no engine leases.
fn leased(leased: LeasedJob) -> Option<Leased> {
    let LeasedJob { job, spec, checkpoint } = leased;
    let created_at = job.created_at();
    let attempt = job.attempt?;
    Some(Leased {
        id: job.id,
        token: attempt.token,
        attempt: attempt.number,
        queue: job.queue,
        kind: spec.kind,
        payload: RawPayload(spec.payload),
        key: spec.key,
        group: spec.group,
        headers: spec.headers,
        labels: spec.labels,
        failures: job.failures,
        max_attempts: job.max_attempts,
        timeout: spec.timeout.unwrap_or(limits::ATTEMPT_TIMEOUT),
        created_at,
        retry_until: job.retry_until,
        checkpoint,
        traceparent: spec.traceparent,
    })
}

fn parse_cursor(text: &str) -> Result<Seq, Invalid> {
    let seq = text.parse().ok().and_then(Seq::new);
    seq.ok_or_else(|| {
        Invalid::coded(ErrorCode::InvalidCursor, "the cursor", "must be one that a list has given")
    })
}

fn job_view(full: onefold_core::JobView) -> JobView {
    let attempts = full.attempts.iter().map(attempt_view).collect();
    let view = view(full.job, full.spec, attempts, full.waiting, full.result);
    JobView { history: full.evidence, ..view }
}

fn view(
    job: Job,
    spec: JobSpec,
    attempts: Vec<AttemptView>,
    waiting: Option<onefold_core::Waiting>,
    result: Option<bytes::Bytes>,
) -> JobView {
    JobView {
        id: job.id,
        queue: job.queue.as_str().to_owned(),
        state: job.state,
        reason: job.reason,
        waiting,
        cancel_requested: job.cancel_requested,
        kind: spec.kind.map(|kind| kind.as_str().to_owned()),
        payload: RawPayload(spec.payload),
        key: spec.key.map(|key| key.as_str().to_owned()),
        group: spec.group.map(|group| group.as_str().to_owned()),
        priority: job.priority,
        headers: spec.headers,
        labels: spec.labels.iter().map(|label| label.as_str().to_owned()).collect(),
        created_at: job.created_at(),
        run_at: job.run_at,
        finished_at: job.finished_at,
        retry_until: job.retry_until,
        failures: job.failures,
        lost_leases: job.lost_leases,
        max_attempts: job.max_attempts,
        attempt: job.attempts(),
        error: job.attempt.as_ref().and_then(|attempt| attempt.end.as_ref()?.error.clone()),
        duplicates: job.duplicates,
        late_writes: attempts.iter().map(|attempt| attempt.late_success + attempt.late_failure).sum(),
        attempts,
        history: Vec::new(),
        result,
    }
}

fn attempt_view(attempt: &onefold_core::Attempt) -> AttemptView {
    AttemptView {
        number: attempt.number,
        fencing_token: attempt.token,
        worker: attempt.worker.as_str().to_owned(),
        started_at: attempt.started_at,
        ended_at: attempt.end.as_ref().map(|end| end.at),
        outcome: attempt.end.as_ref().map(|end| end.outcome),
        error: attempt.end.as_ref().and_then(|end| end.error.clone()),
        progress: attempt.progress.clone(),
        log: attempt.log.clone(),
        late_success: attempt.late_success.count,
        late_failure: attempt.late_failure.count,
    }
}

fn key_view(key: onefold_core::KeyView) -> KeyView {
    let state = match key.status {
        JobStatus::Known(state) => Some(state),
        JobStatus::Purged => None,
    };
    KeyView { job: key.job, state, until: key.until }
}
