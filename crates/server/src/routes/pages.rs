//! What a person sees in a browser: read-only pages without scripts.

use askama::Template;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, StatusCode};
use onefold_core::{JobFilter, JobSummary, ListParams, Payload, QueueCounts, QueueView, Timestamp};
use onefold_wire::ErrorCode;

use crate::answer::plain;
use crate::extract::{InPath, NoQuery, Query, job_id, queue_name};
use crate::failure::{Answer, Failure};
use crate::state::AppState;
use crate::timeline::{self, Line};

const RECENT_JOBS: u32 = 50;
/// More of a payload or result is not shown.
const TEXT_BYTES_SHOWN: usize = 64 * 1024;

/// Nothing but our own style sheet is loaded, and nobody may frame the page.
const POLICY: &str =
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[derive(Template)]
#[template(path = "overview.html")]
struct Overview {
    host: String,
    queues: Vec<QueueRow>,
    heading: String,
    jobs: Vec<JobRow>,
}

struct QueueRow {
    name: String,
    counts: QueueCounts,
    oldest: String,
    paused: bool,
}

struct JobRow {
    id: String,
    queue: String,
    kind: String,
    key: String,
    state: &'static str,
    why: String,
    attempt: u32,
    max_attempts: u32,
    created_at: String,
}

#[derive(Template)]
#[template(path = "job.html")]
struct JobPage {
    id: String,
    state: &'static str,
    summary: String,
    facts: Vec<(&'static str, String)>,
    timeline: Vec<Line>,
    texts: Vec<(&'static str, String)>,
}

/// `GET /`: queues and recent jobs.
pub(crate) async fn overview(State(app): State<AppState>, mut query: Query, headers: HeaderMap) -> Answer {
    let queue = query.one("queue")?.map(|name| queue_name(&name)).transpose()?;
    query.finish()?;
    let heading = queue.as_ref().map_or("Recent jobs".to_owned(), |queue| format!("Recent jobs of {queue}"));
    let filter = JobFilter { queue, ..JobFilter::default() };
    let (queues, now) = (app.engine().queues().await?, app.clock().now());
    let jobs = app.engine().list(ListParams { filter, limit: RECENT_JOBS, before: None }).await?.jobs;
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1:7717").to_owned();
    page(&Overview {
        host,
        queues: queues.iter().map(|queue| queue_row(queue, now)).collect(),
        heading,
        jobs: jobs.iter().map(job_row).collect(),
    })
}

/// `GET /jobs/{id}`: what happened to a job.
pub(crate) async fn job(State(app): State<AppState>, InPath(id): InPath<String>, _: NoQuery) -> Answer {
    let view = app.engine().get(job_id(&id)?).await?.ok_or_else(Failure::job_not_found)?;
    let mut texts = vec![("Payload", payload_text(&view.spec.payload))];
    texts.extend(view.result.as_deref().map(|result| ("Result", shortened(result))));
    texts.extend(view.checkpoint.as_deref().map(|checkpoint| ("Checkpoint", shortened(checkpoint))));
    page(&JobPage {
        id: view.job.id.to_string(),
        state: view.job.state.as_str(),
        summary: timeline::summary(&view, app.clock().now()),
        facts: timeline::facts(&view),
        timeline: timeline::lines(&view),
        texts,
    })
}

/// `GET /style.css`.
pub(crate) async fn style() -> Response {
    harden(plain(
        StatusCode::OK,
        "text/css; charset=utf-8",
        Body::from(include_str!("../../templates/style.css")),
    ))
}

fn page(template: &impl Template) -> Answer {
    let html = template.render().map_err(|error| Failure::new(ErrorCode::Internal, error.to_string()))?;
    Ok(harden(plain(StatusCode::OK, "text/html; charset=utf-8", Body::from(html))))
}

fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn queue_row(queue: &QueueView, now: Timestamp) -> QueueRow {
    QueueRow {
        name: queue.name.to_string(),
        counts: queue.counts,
        oldest: queue.oldest_available.map(|oldest| now.since(oldest).to_string()).unwrap_or_default(),
        paused: queue.settings.paused,
    }
}

fn job_row(summary: &JobSummary) -> JobRow {
    let JobSummary { job, spec, waiting } = summary;
    let reason = job.reason.map(|reason| reason.to_string());
    JobRow {
        id: job.id.to_string(),
        queue: job.queue.to_string(),
        kind: spec.kind.as_ref().map(ToString::to_string).unwrap_or_default(),
        key: spec.key.as_ref().map(ToString::to_string).unwrap_or_default(),
        state: job.state.as_str(),
        why: reason.or_else(|| waiting.map(|waiting| waiting.to_string())).unwrap_or_default(),
        attempt: job.attempts(),
        max_attempts: job.max_attempts,
        created_at: job.created_at().to_string(),
    }
}

fn payload_text(payload: &Payload) -> String {
    match payload {
        Payload::Absent => "(none)".to_owned(),
        Payload::Json(text) => shortened(text),
        Payload::Raw { bytes, content_type } => format!("({} bytes of {content_type})", bytes.len()),
    }
}

fn shortened(text: &[u8]) -> String {
    let shown = text.get(..TEXT_BYTES_SHOWN).unwrap_or(text);
    let mut shown_text = String::from_utf8_lossy(shown).into_owned();
    if shown.len() < text.len() {
        shown_text.push_str(&format!("\n… {} more bytes", text.len() - shown.len()));
    }
    shown_text
}
