//! Adding jobs, alone or in an array.

use axum::extract::State;
use http::{HeaderMap, StatusCode};
use onefold_core::{AddParams, NewJob, limits};
use onefold_wire::{self as wire, AddOutcome, AddedMany, Dedup, ErrorCode, ITEMS_MAX, RawValue, read};

use crate::answer::{json, ok};
use crate::extract::{InPath, JsonBody, Query, idempotency_key, queue_name, traceparent};
use crate::failure::{Answer, Failure};
use crate::state::AppState;
use crate::translate::add::{Around, added, echo, identify, new_job};

const _: () = assert!(ITEMS_MAX == limits::ADD_JOBS_MAX && ITEMS_MAX == limits::SETTLE_OPS_MAX);

/// Adds a job, or up to 10,000 in an array.
#[utoipa::path(
    post,
    operation_id = "addJobs",
    path = "/v1/queues/{queue}/jobs",
    tag = "Jobs",
    params(
        ("queue" = String, Path, description = "`[A-Za-z0-9._-]{1,128}`"),
        ("atomic" = Option<bool>, Query, description = "All jobs of an array or none"),
        (
            "Idempotency-Key" = Option<String>,
            Header,
            description = "The key of a single job, or beside its own key the identity of the request",
        ),
    ),
    request_body = AddBody<'static>,
    responses(
        (status = 201, description = "Accepted", body = wire::Added<'static>),
        (
            status = 200,
            description = "There already, or one outcome per job of an array, in order",
            body = AddAnswer<'static>,
        ),
    ),
)]
pub(crate) async fn add(
    State(app): State<AppState>,
    InPath(queue): InPath<String>,
    mut query: Query,
    headers: HeaderMap,
    body: JsonBody,
) -> Answer {
    let queue = queue_name(&queue)?;
    let atomic = query.flag("atomic")?;
    query.finish()?;
    let text = body.text();
    let around = Around {
        body: &body.bytes,
        traceparent: traceparent(&headers),
        payload_bytes_max: app.config().payload_bytes_max,
        delivers: app.delivers(),
    };
    let key = idempotency_key(&headers)?;
    if text.trim_ascii_start().starts_with('[') {
        if key.is_some() {
            let detail = "one Idempotency-Key cannot stand for many jobs: give each its own `key`";
            return Err(Failure::new(ErrorCode::IdempotencyKeyOnArray, detail));
        }
        let items = read_items(text, &around)?;
        return add_many(&app, queue, items, atomic).await;
    }
    let given: wire::NewJob<'_> = read(text)?;
    let echoed = given.dedup.is_some();
    let mut job = new_job(given, &around)?;
    if let Some(key) = key {
        identify(&mut job, key, text)?;
    }
    let echoed = echo(echoed, &job);
    let mut outcomes = app.engine().add(AddParams { queue, jobs: vec![job], atomic }).await?;
    match outcomes.pop() {
        Some(Ok(accepted)) => {
            let status = if accepted.duplicate { StatusCode::OK } else { StatusCode::CREATED };
            Ok(json(status, &added(&accepted, echoed)))
        }
        Some(Err(refusal)) => Err(refusal.into()),
        None => Err(Failure::internal("the store gave no outcome")),
    }
}

/// One job or up to 10,000.
#[derive(utoipa::ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "describes what is read by looking at its first character")]
enum AddBody<'a> {
    One(Box<wire::NewJob<'a>>),
    Many(Vec<wire::NewJob<'a>>),
}

/// The answer to one job or to an array.
#[derive(utoipa::ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "describes what is written")]
enum AddAnswer<'a> {
    One(wire::Added<'a>),
    Many(AddedMany<'a>),
}

/// A job of an array, and the options to echo.
type Item = Result<(NewJob, Option<Box<Dedup<'static>>>), Failure>;

/// Reads an array. What is wrong with one item is told of that item only.
fn read_items(text: &str, around: &Around<'_>) -> Result<Vec<Item>, Failure> {
    let translate = |given: wire::NewJob<'_>| -> Item {
        let echoed = given.dedup.is_some();
        let job = new_job(given, around)?;
        let echoed = echo(echoed, &job);
        Ok((job, echoed))
    };
    if let Ok(jobs) = read::<Vec<wire::NewJob<'_>>>(text) {
        return Ok(jobs.into_iter().map(translate).collect());
    }
    // Something is wrong somewhere: item by item.
    let items: Vec<&RawValue> = read(text)?;
    Ok(items.into_iter().map(|item| translate(crate::extract::read_item(item)?)).collect())
}

async fn add_many(app: &AppState, queue: onefold_core::QueueName, items: Vec<Item>, atomic: bool) -> Answer {
    let malformed = items.iter().position(Result::is_err);
    if let (true, Some(item)) = (atomic, malformed) {
        return Ok(ok(&AddedMany { jobs: none_of(items, item) }));
    }
    let mut jobs = Vec::with_capacity(items.len());
    let mut places: Vec<Result<Option<Box<Dedup<'static>>>, Failure>> = Vec::with_capacity(items.len());
    for item in items {
        places.push(item.map(|(job, echoed)| {
            jobs.push(job);
            echoed
        }));
    }
    let mut outcomes = if jobs.is_empty() {
        Vec::new().into_iter()
    } else {
        app.engine().add(AddParams { queue, jobs, atomic }).await?.into_iter()
    };
    let outcome = |place: Result<Option<Box<Dedup<'static>>>, Failure>| {
        let echoed = match place {
            Ok(echoed) => echoed,
            Err(failure) => return AddOutcome::Refused { error: failure.0 },
        };
        match outcomes.next() {
            Some(Ok(accepted)) => AddOutcome::Added(added(&accepted, echoed)),
            Some(Err(refusal)) => AddOutcome::Refused { error: Failure::from(refusal).0 },
            None => AddOutcome::Refused { error: Failure::internal("the store gave no outcome").0 },
        }
    };
    Ok(ok(&AddedMany { jobs: places.into_iter().map(outcome).collect() }))
}

/// All of an atomic request refused because of `refused`.
fn none_of(items: Vec<Item>, refused: usize) -> Vec<AddOutcome<'static>> {
    let because = || Failure::from(onefold_core::Refusal::AtomicBatch { item: refused });
    let outcome = |item: Item| AddOutcome::Refused { error: item.err().unwrap_or_else(because).0 };
    items.into_iter().map(outcome).collect()
}
