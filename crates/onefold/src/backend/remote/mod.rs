//! The backend over a server's HTTP API.

mod http;
mod lane;
mod problem;
mod read;
mod write;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use ::http::StatusCode;
use bytes::Bytes;
use onefold_core::schedule::ScheduleId;
use onefold_core::{
    Added, BoxFuture, DurationMs, EffectAction, EffectDone, EffectOp, JobEdit, JobId, Key, LeaseParams,
    QueueName, QueuePatch, Refusal, SettleOp, Settled, limits,
};
use onefold_wire as wire;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use self::http::{Call, Http};
use super::{Backend, JobResult, Leased, Outcome, ToAdd, ToSchedule};
use crate::check::Wants;
use crate::schedule::ScheduleView;
use crate::time::to_std;
use crate::view::{JobList, JobView, KeyView, ListQuery, QueueView, RedriveQuery, Redriven};
use crate::{Error, ErrorCode, Invalid};
use lane::Lane;

/// What stands for itself in a segment of a path and in a query.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// A request of an add of many stops growing beyond this; its first job always goes.
const ADD_BYTES: usize = 8 * 1024 * 1024;

pub(crate) struct RemoteBackend {
    remote: Arc<Remote>,
    lanes: Mutex<HashMap<QueueName, Arc<Lane>>>,
}

struct Remote {
    http: Http,
}

impl RemoteBackend {
    pub(crate) fn new(url: &str, token: Option<&str>) -> Result<RemoteBackend, Invalid> {
        let remote = Arc::new(Remote { http: Http::new(url, token)? });
        Ok(RemoteBackend { remote, lanes: Mutex::default() })
    }

    fn lane(&self, queue: QueueName) -> Arc<Lane> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(lanes.entry(queue).or_default())
    }
}

impl Remote {
    async fn body(&self, call: Call) -> Outcome<Bytes> {
        Ok(self.http.call(call).await?.body)
    }

    /// Sends an array of jobs, of which there are `count`.
    async fn send_jobs(&self, path: &str, body: Vec<u8>, count: usize) -> Outcome<Vec<Outcome<Added>>> {
        let body = self.body(Call::post(path, body)).await?;
        let answer: wire::AddedMany<'_> = parse(&body)?;
        if answer.jobs.len() != count {
            return Err(foreign(format!("it has {} outcomes for {count} jobs", answer.jobs.len())));
        }
        answer.jobs.into_iter().map(read::add_outcome).collect()
    }

    async fn job(&self, call: Call) -> Outcome<JobView> {
        let body = self.body(call).await?;
        read::job(&parse(&body)?, &body)
    }

    /// `None` where the server says that there is no such thing.
    async fn found(&self, call: Call, absent: &str) -> Outcome<Option<Bytes>> {
        match self.body(call).await {
            Ok(body) => Ok(Some(body)),
            Err(error) if error.code() == absent => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Reads an answer.
fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Outcome<T> {
    serde_json::from_slice(body).map_err(|error| foreign(error.to_string()))
}

/// The answer is none that a Onefold server gives.
fn foreign(why: impl std::fmt::Display) -> Error {
    let detail =
        format!("the server's answer cannot be read: {why}; is it a Onefold server of this version?");
    Error::Answered { code: ErrorCode::Internal.as_str().to_owned(), status: 500, detail }
}

/// Writes a request.
fn text(request: &impl Serialize) -> Outcome<Vec<u8>> {
    serde_json::to_vec(request).map_err(|error| Invalid::Unserializable(error.to_string()).into())
}

fn queue_path(queue: &QueueName, rest: &str) -> String {
    format!("/v1/queues/{}{rest}", queue.as_str())
}

fn schedule_path(id: &ScheduleId, rest: &str) -> String {
    format!("/v1/schedules/{id}{rest}")
}

fn job_path(id: JobId, rest: &str) -> String {
    format!("/v1/jobs/{id}{rest}")
}

fn key_path(queue: &QueueName, key: &Key) -> String {
    queue_path(queue, &format!("/keys/{}", utf8_percent_encode(key.as_str(), UNRESERVED)))
}

fn list_path(query: &ListQuery) -> String {
    let filter = &query.filter;
    let mut path = "/v1/jobs?".to_owned();
    let mut put = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            // Writing to a String cannot fail.
            let _ = write!(path, "{name}={}&", utf8_percent_encode(value, UNRESERVED));
        }
    };
    put("queue", filter.queue.as_ref().map(QueueName::as_str));
    for state in &filter.states {
        put("state", Some(state.as_str()));
    }
    put("kind", filter.kind.as_ref().map(onefold_core::Kind::as_str));
    put("label", filter.label.as_ref().map(onefold_core::Label::as_str));
    put("key", filter.key.as_ref().map(Key::as_str));
    put("group", filter.group.as_ref().map(onefold_core::Group::as_str));
    put("since", filter.since.map(|time| time.to_string()).as_deref());
    put("until", filter.until.map(|time| time.to_string()).as_deref());
    put("limit", query.limit.map(|limit| limit.to_string()).as_deref());
    put("cursor", query.cursor.as_deref());
    path.pop();
    path
}

impl Backend for RemoteBackend {
    /// The server knows its own limit.
    fn wants(&self) -> Wants {
        Wants { payload_bytes_max: limits::PAYLOAD_BYTES_MAX, fingerprints: false, targets: true }
    }

    fn add(&self, queue: QueueName, job: ToAdd) -> BoxFuture<'_, Outcome<Added>> {
        Box::pin(async move {
            let job = write::new_job(&job)?;
            let path = queue_path(&queue, "/jobs");
            self.lane(queue).add(Arc::clone(&self.remote), path, job).await
        })
    }

    fn add_many(
        &self,
        queue: QueueName,
        jobs: Vec<ToAdd>,
        atomic: bool,
    ) -> BoxFuture<'_, Outcome<Vec<Outcome<Added>>>> {
        Box::pin(async move {
            let path = queue_path(&queue, if atomic { "/jobs?atomic=true" } else { "/jobs" });
            let mut outcomes = Vec::with_capacity(jobs.len());
            let mut jobs = jobs.iter().peekable();
            while jobs.peek().is_some() {
                let (mut body, mut count) = (vec![b'['], 0);
                while count < limits::ADD_JOBS_MAX && (count == 0 || atomic || body.len() < ADD_BYTES) {
                    let Some(job) = jobs.next() else { break };
                    if count > 0 {
                        body.push(b',');
                    }
                    body.extend_from_slice(&write::new_job(job)?);
                    count += 1;
                }
                body.push(b']');
                outcomes.extend(self.remote.send_jobs(&path, body, count).await?);
            }
            Ok(outcomes)
        })
    }

    fn lease(&self, params: LeaseParams) -> BoxFuture<'_, Outcome<Vec<Leased>>> {
        Box::pin(async move {
            let call = Call::post("/v1/leases", text(&write::lease(&params))?);
            let body = self.remote.body(Call { wait: to_std(params.wait), ..call }).await?;
            let answer: wire::Leased<'_> = parse(&body)?;
            answer.jobs.iter().map(|job| read::leased(job, &params.queues, &body)).collect()
        })
    }

    fn repeats_polls(&self) -> bool {
        true
    }

    fn settle<'a>(&'a self, ops: &'a [SettleOp]) -> BoxFuture<'a, Outcome<Vec<Outcome<Settled>>>> {
        Box::pin(async move {
            let call = Call::post("/v1/leases/settle", write::settle(ops)?);
            let body = self.remote.body(call).await?;
            let answer: wire::Settled<'_> = parse(&body)?;
            if answer.results.len() != ops.len() {
                let (got, expected) = (answer.results.len(), ops.len());
                return Err(foreign(format!("it has {got} results for {expected} operations")));
            }
            answer.results.iter().map(read::settle_result).collect()
        })
    }

    fn effect<'a>(&'a self, op: &'a EffectOp) -> BoxFuture<'a, Outcome<EffectDone>> {
        Box::pin(async move {
            let (what, request) = write::effect(op)?;
            let scope = utf8_percent_encode(op.name.scope.as_str(), UNRESERVED);
            let body = self.remote.body(Call::post(format!("/v1/effects/{scope}/{what}"), request)).await?;
            if matches!(op.action, EffectAction::Begin(_)) {
                read::begun(&parse(&body)?, &body)
            } else {
                read::standing(&parse(&body)?)
            }
        })
    }

    fn get(&self, id: JobId) -> BoxFuture<'_, Outcome<Option<JobView>>> {
        Box::pin(async move {
            let found =
                self.remote.found(Call::get(job_path(id, "")), ErrorCode::JobNotFound.as_str()).await?;
            found.map(|body| read::job(&parse(&body)?, &body)).transpose()
        })
    }

    fn result(&self, id: JobId, wait: DurationMs) -> BoxFuture<'_, Outcome<JobResult>> {
        Box::pin(async move {
            let call = Call::get(job_path(id, &format!("/result?wait={wait}")));
            let answer = self.remote.http.call(Call { wait: to_std(wait), ..call }).await;
            match answer {
                Ok(answer) if answer.status == StatusCode::ACCEPTED => {
                    let pending: wire::JobPending<'_> = parse(&answer.body)?;
                    Ok(JobResult::Unfinished(read::state(&pending.state)?))
                }
                Ok(answer) => {
                    let finished: wire::JobResult<'_> = parse(&answer.body)?;
                    Ok(JobResult::Completed(finished.result.map(|text| read::slice(text, &answer.body))))
                }
                Err(error) => Err(self.gone(id, error).await),
            }
        })
    }

    fn cancel(&self, id: JobId, force: bool) -> BoxFuture<'_, Outcome<JobView>> {
        Box::pin(async move {
            let request = wire::CancelRequest { force: force.then_some(true) };
            self.remote.job(Call::post(job_path(id, "/cancel"), text(&request)?)).await
        })
    }

    fn retry(&self, id: JobId, accept_duplicates: bool) -> BoxFuture<'_, Outcome<JobView>> {
        Box::pin(async move {
            let request = wire::RetryRequest { accept_duplicates: accept_duplicates.then_some(true) };
            self.remote.job(Call::post(job_path(id, "/retry"), text(&request)?)).await
        })
    }

    fn edit(&self, id: JobId, edit: JobEdit) -> BoxFuture<'_, Outcome<JobView>> {
        Box::pin(async move {
            let request = text(&write::job_edit(&edit))?;
            self.remote.job(Call::patch(job_path(id, ""), request)).await
        })
    }

    fn delete(&self, id: JobId) -> BoxFuture<'_, Outcome<JobView>> {
        Box::pin(self.remote.job(Call::delete(job_path(id, ""))))
    }

    fn list(&self, query: ListQuery) -> BoxFuture<'_, Outcome<JobList>> {
        Box::pin(async move {
            let body = self.remote.body(Call::get(list_path(&query))).await?;
            let page: wire::JobList<'_> = parse(&body)?;
            let jobs = page.jobs.iter().map(|job| read::job(job, &body)).collect::<Outcome<_>>()?;
            Ok(JobList { jobs, cursor: page.cursor.map(wire::Text::into_owned) })
        })
    }

    fn redrive(&self, queue: QueueName, query: RedriveQuery) -> BoxFuture<'_, Outcome<Redriven>> {
        Box::pin(async move {
            let request = text(&write::redrive(&query))?;
            let body = self.remote.body(Call::post(queue_path(&queue, "/redrive"), request)).await?;
            read::redriven(parse(&body)?)
        })
    }

    fn queues(&self) -> BoxFuture<'_, Outcome<Vec<QueueView>>> {
        Box::pin(async move {
            let body = self.remote.body(Call::get("/v1/queues")).await?;
            let list: wire::QueueList<'_> = parse(&body)?;
            list.queues.iter().map(read::queue).collect()
        })
    }

    fn queue(&self, name: QueueName) -> BoxFuture<'_, Outcome<Option<QueueView>>> {
        Box::pin(async move {
            let call = Call::get(queue_path(&name, ""));
            let found = self.remote.found(call, ErrorCode::QueueNotFound.as_str()).await?;
            found.map(|body| read::queue(&parse(&body)?)).transpose()
        })
    }

    fn set_queue(&self, name: QueueName, patch: QueuePatch) -> BoxFuture<'_, Outcome<QueueView>> {
        Box::pin(async move {
            let request = text(&write::queue_patch(&patch))?;
            let body = self.remote.body(Call::put(queue_path(&name, ""), request)).await?;
            read::queue(&parse(&body)?)
        })
    }

    fn delete_queue(&self, name: QueueName, force: bool) -> BoxFuture<'_, Outcome<u64>> {
        Box::pin(async move {
            let path = queue_path(&name, if force { "?force=true" } else { "" });
            let body = self.remote.body(Call::delete(path)).await?;
            Ok(parse::<wire::DeletedQueue>(&body)?.jobs)
        })
    }

    fn put_schedule(&self, id: ScheduleId, schedule: ToSchedule) -> BoxFuture<'_, Outcome<ScheduleView>> {
        Box::pin(async move {
            let request = write::schedule(&schedule)?;
            let body = self.remote.body(Call::put(schedule_path(&id, ""), request)).await?;
            read::schedule(&parse(&body)?)
        })
    }

    fn schedule(&self, id: ScheduleId) -> BoxFuture<'_, Outcome<Option<ScheduleView>>> {
        Box::pin(async move {
            let call = Call::get(schedule_path(&id, ""));
            let found = self.remote.found(call, ErrorCode::ScheduleNotFound.as_str()).await?;
            found.map(|body| read::schedule(&parse(&body)?)).transpose()
        })
    }

    fn schedules(&self) -> BoxFuture<'_, Outcome<Vec<ScheduleView>>> {
        Box::pin(async move {
            let mut all = Vec::new();
            let mut from = String::new();
            loop {
                let path = format!("/v1/schedules?limit={}{from}", limits::LIST_JOBS_MAX);
                let body = self.remote.body(Call::get(path)).await?;
                let list: wire::ScheduleList<'_> = parse(&body)?;
                for schedule in &list.schedules {
                    all.push(read::schedule(schedule)?);
                }
                match list.cursor {
                    Some(cursor) => from = format!("&cursor={cursor}"),
                    None => return Ok(all),
                }
            }
        })
    }

    fn pause_schedule(&self, id: ScheduleId, paused: bool) -> BoxFuture<'_, Outcome<ScheduleView>> {
        Box::pin(async move {
            let path = schedule_path(&id, if paused { "/pause" } else { "/resume" });
            read::schedule(&parse(&self.remote.body(Call::post(path, "{}")).await?)?)
        })
    }

    fn run_schedule(&self, id: ScheduleId) -> BoxFuture<'_, Outcome<JobId>> {
        Box::pin(async move {
            let body = self.remote.body(Call::post(schedule_path(&id, "/run"), "{}")).await?;
            read::schedule_run(&parse(&body)?)
        })
    }

    fn delete_schedule(&self, id: ScheduleId) -> BoxFuture<'_, Outcome<ScheduleView>> {
        Box::pin(async move {
            read::schedule(&parse(&self.remote.body(Call::delete(schedule_path(&id, ""))).await?)?)
        })
    }

    fn key(&self, queue: QueueName, key: Key) -> BoxFuture<'_, Outcome<Option<KeyView>>> {
        Box::pin(self.held_key(Call::get(key_path(&queue, &key))))
    }

    fn release_key(&self, queue: QueueName, key: Key) -> BoxFuture<'_, Outcome<Option<KeyView>>> {
        Box::pin(self.held_key(Call::delete(key_path(&queue, &key))))
    }
}

impl RemoteBackend {
    async fn held_key(&self, call: Call) -> Outcome<Option<KeyView>> {
        let found = self.remote.found(call, ErrorCode::KeyNotFound.as_str()).await?;
        found.map(|body| read::key(&parse(&body)?)).transpose()
    }

    /// The error for a job that has no result: it needs the job's id and reason.
    async fn gone(&self, id: JobId, error: Error) -> Error {
        if error.code() == ErrorCode::JobCancelled.as_str() {
            return Error::JobCancelled { id };
        }
        if error.code() != ErrorCode::JobDead.as_str() {
            return error;
        }
        match self.get(id).await {
            Ok(Some(job)) => job.reason.map_or(error, |reason| Error::JobDead { id, reason }),
            Ok(None) => Refusal::JobNotFound.into(),
            Err(error) => error,
        }
    }
}
