//! Events, which get their cursors after their commits.

use std::collections::BTreeMap;

use onefold_core::schedule::ScheduleEvent;
use onefold_core::{DeadReason, EventCursor, EventKind, EventPage, EventsParams, QueueName, StoreEvent};

use crate::error::{Outcome, corrupt};
use crate::rows::{Coded, QueueNumber, job_id, time};
use crate::work::Work;
use crate::{params, sql};

/// Rows, of many events each, that get their cursors at once.
const NUMBERED: i32 = 1_000;

/// Gives cursors to what was committed since. Gives the last cursor there is.
pub(crate) async fn number(work: &mut Work) -> Outcome<EventCursor> {
    let rows = work.rows(sql::NUMBER_EVENTS, params![NUMBERED]).await?;
    let row = rows.first().ok_or_else(|| corrupt("a cursor without a row"))?;
    Ok(row.try_get::<_, i64>(0)?.cast_unsigned())
}

pub(crate) async fn page(work: &mut Work, params: &EventsParams) -> Outcome<EventPage> {
    let last = number(work).await?;
    let after = i64::try_from(params.after).unwrap_or(i64::MAX);
    // Each row has at least one event: as many rows as events are wanted are enough.
    let rows = work.rows(sql::EVENTS_AFTER, params![after, i64::from(params.limit)]).await?;
    let mut found: Vec<(QueueNumber, StoreEvent)> = Vec::new();
    let mut names: BTreeMap<QueueNumber, Option<QueueName>> = BTreeMap::new();
    let unnamed = QueueName::new("unnamed").map_err(|_| corrupt("a name"))?;
    for row in &rows {
        let last: i64 = row.try_get(0)?;
        let at = time(row.try_get(1)?)?;
        let kinds: Vec<i16> = row.try_get(2)?;
        let queues: Vec<QueueNumber> = row.try_get(3)?;
        let (seqs, created): (Vec<i64>, Vec<i64>) = (row.try_get(4)?, row.try_get(5)?);
        let (reasons, attempts): (Vec<i16>, Vec<i32>) = (row.try_get(6)?, row.try_get(7)?);
        let about: Option<&str> = row.try_get(8)?;
        let mut about: BTreeMap<usize, ScheduleEvent> = match about {
            Some(text) => serde_json::from_str(text).map_err(|_| corrupt("events of schedules"))?,
            None => BTreeMap::new(),
        };
        let first = last - kinds.len() as i64 + 1;
        for (place, kind) in kinds.iter().enumerate() {
            let cursor = first + place as i64;
            if cursor <= after || found.len() >= params.limit as usize {
                continue;
            }
            let short = || corrupt("a row of events that is too short");
            let seq = *seqs.get(place).ok_or_else(short)?;
            let queue = *queues.get(place).ok_or_else(short)?;
            let reason = *reasons.get(place).ok_or_else(short)?;
            let attempt = *attempts.get(place).ok_or_else(short)?;
            let job = (seq > 0).then(|| job_id(*created.get(place).ok_or_else(short)?, seq)).transpose()?;
            let event = StoreEvent {
                cursor: cursor.cast_unsigned(),
                at,
                kind: <EventKind as Coded>::of(*kind)?,
                queue: unnamed.clone(),
                job,
                reason: if reason < 0 { None } else { Some(DeadReason::of(reason)?) },
                attempt: u32::try_from(attempt).ok().filter(|attempt| *attempt > 0),
                schedule: about.remove(&place),
            };
            names.insert(queue, None);
            found.push((queue, event));
        }
    }
    let queues = work.rows(sql::QUEUES_BY_NUMBER, params![names.into_keys().collect::<Vec<_>>()]).await?;
    work.read_queues(&queues)?;
    let mut events = Vec::with_capacity(found.len());
    for (queue, mut event) in found {
        event.queue = work.queue(queue)?.name.clone();
        events.push(event);
    }
    let ends = work.rows(sql::EVENT_ENDS, params![]).await?;
    let first: Option<i64> = ends.first().ok_or_else(|| corrupt("events without an end"))?.try_get(0)?;
    let oldest = first.map_or(last + 1, i64::cast_unsigned);
    let next = events.last().map_or(params.after.min(last), |event| event.cursor);
    Ok(EventPage { events, next, oldest })
}
