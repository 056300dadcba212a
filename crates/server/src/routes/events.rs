//! Server-sent events.

use std::collections::{HashSet, VecDeque};
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{Stream, unfold};
use http::{HeaderMap, HeaderName};
use onefold_core::{EventCursor, EventKind, EventsParams, QueueName, StoreEvent};
use onefold_wire::{self as wire, ErrorCode, EventsMissed};

use crate::extract::{Query, queue_name};
use crate::failure::Failure;
use crate::state::AppState;
use crate::translate::event::event;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const PAGE: u32 = 256;
/// A comment this often keeps proxies from closing a quiet stream.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Events as they happen, from now on or after `Last-Event-ID`.
#[utoipa::path(
    get,
    operation_id = "streamEvents",
    path = "/v1/events",
    tag = "Events",
    params(
        ("queue" = Option<String>, Query, description = "Only of these queues, repeated or with commas"),
        (
            "type" = Option<String>,
            Query,
            description = "Only of these types, such as `job.dead`, repeated or with commas",
        ),
        ("Last-Event-ID" = Option<u64>, Header, description = "Goes on after this event; kept for 24 h"),
    ),
    responses(
        (
            status = 200,
            description = "A stream; the data of each event is JSON",
            body = wire::Event<'static>,
            content_type = "text/event-stream",
        ),
    ),
)]
pub(crate) async fn events(
    State(app): State<AppState>,
    mut query: Query,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let wanted = Wanted {
        queues: query.list("queue").iter().map(|name| queue_name(name)).collect::<Result<_, _>>()?,
        kinds: query.list("type").iter().map(|word| kind(word)).collect::<Result<_, _>>()?,
    };
    query.finish()?;
    let resumed = headers.get(LAST_EVENT_ID).map(|id| cursor(id.as_bytes())).transpose()?;
    let (cursor, resumed) = match resumed {
        Some(cursor) => (cursor, true),
        None => (app.engine().events(EventsParams { after: EventCursor::MAX, limit: 1 }).await?.next, false),
    };
    let following = Following { app, wanted, cursor, resumed, ready: VecDeque::new() };
    let stream = unfold(following, |mut following| async move {
        let event = following.next().await?;
        Some((Ok::<_, Infallible>(event), following))
    });
    Ok(answer(stream))
}

fn answer(stream: impl Stream<Item = Result<Event, Infallible>> + Send + 'static) -> Response {
    Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

fn kind(word: &str) -> Result<EventKind, Failure> {
    EventKind::parse(word).ok_or_else(|| {
        let words: Vec<&str> = EventKind::ALL.iter().map(|kind| kind.as_str()).collect();
        Failure::field(ErrorCode::InvalidField, "type", format!("a type is one of {}", words.join(", ")))
    })
}

fn cursor(id: &[u8]) -> Result<EventCursor, Failure> {
    let id = std::str::from_utf8(id).ok().and_then(|id| id.trim().parse().ok());
    id.ok_or_else(|| {
        let why = "this is the id of an event: send the last one you saw, unchanged";
        Failure::field(ErrorCode::InvalidCursor, LAST_EVENT_ID.as_str(), why)
    })
}

struct Wanted {
    /// Empty: all.
    queues: HashSet<QueueName>,
    /// Empty: all.
    kinds: HashSet<EventKind>,
}

impl Wanted {
    fn matches(&self, event: &StoreEvent) -> bool {
        (self.queues.is_empty() || self.queues.contains(&event.queue))
            && (self.kinds.is_empty() || self.kinds.contains(&event.kind))
    }
}

struct Following {
    app: AppState,
    wanted: Wanted,
    cursor: EventCursor,
    /// The first page after a `Last-Event-ID` may have to tell of a gap.
    resumed: bool,
    ready: VecDeque<Event>,
}

impl Following {
    /// The next event; `None` ends the stream: the client comes back with the last id it saw.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            self.read_on().await?;
            if self.ready.is_empty() {
                tokio::select! {
                    more = self.app.engine().events_after(self.cursor) => more.ok()?,
                    () = self.app.drained() => return None,
                }
            }
        }
    }

    /// Reads on until something is ready or all has been read.
    async fn read_on(&mut self) -> Option<()> {
        loop {
            let params = EventsParams { after: self.cursor, limit: PAGE };
            let page = match self.app.engine().events(params).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::warn!("a stream of events ends: {error}");
                    return None;
                }
            };
            let gap = self.cursor.saturating_add(1) < page.oldest;
            // After a restore the store may have fewer events than this client has seen.
            let ahead = page.next < self.cursor;
            if std::mem::take(&mut self.resumed) && (gap || ahead) {
                let missed = EventsMissed { after: self.cursor, oldest: page.oldest };
                self.ready.push_back(Event::default().event("events.missed").data(text(&missed)));
            }
            self.ready.extend(page.events.iter().filter(|event| self.wanted.matches(event)).map(told));
            let all_read = page.next == self.cursor;
            self.cursor = page.next;
            if all_read || !self.ready.is_empty() {
                return Some(());
            }
        }
    }
}

fn told(given: &StoreEvent) -> Event {
    Event::default().id(given.cursor.to_string()).event(given.kind.as_str()).data(text(&event(given)))
}

fn text(value: &impl serde::Serialize) -> String {
    // Our own types, without maps: they have a JSON form.
    serde_json::to_string(value).unwrap_or_default()
}
