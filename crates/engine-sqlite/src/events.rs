//! Events as they are stored: all of one commit in one row, a few bytes each.

use onefold_core::schedule::ScheduleEvent;
use onefold_core::{DeadReason, EventKind, JobId, Seq, StoreEvent, Timestamp};

use crate::error::{StoreError, StoreResult};
use crate::rows::{event_code, event_of, reason_code, reason_of};
use crate::varint::{get, put, unzigzag, zigzag};

/// An event about to be stored.
#[derive(Debug, Clone)]
pub(crate) struct NewEvent {
    pub(crate) kind: EventKind,
    pub(crate) queue: i64,
    pub(crate) job: Option<JobId>,
    pub(crate) reason: Option<DeadReason>,
    pub(crate) attempt: u32,
    pub(crate) schedule: Option<ScheduleEvent>,
}

/// The events of one commit. Each: kind, queue, sequence (0: none), and for a job the age of its
/// id in milliseconds, attempt and reason; all as LEB128. One of a schedule has the length of a JSON text and that text.
#[derive(Debug, Default)]
pub(crate) struct EventLog {
    bytes: Vec<u8>,
    count: u32,
}

impl EventLog {
    pub(crate) fn push(&mut self, event: NewEvent, now: Timestamp) {
        self.count += 1;
        put(&mut self.bytes, event_code(event.kind) as u64);
        put(&mut self.bytes, event.queue as u64);
        put(&mut self.bytes, event.job.map_or(0, |job| job.seq().get()));
        if let Some(job) = event.job {
            put(&mut self.bytes, zigzag(now.as_unix_ms() - job.accepted_unix_ms()));
            put(&mut self.bytes, u64::from(event.attempt));
            put(&mut self.bytes, event.reason.map_or(0, reason_code) as u64);
        }
        if event.kind.is_of_schedule() {
            let about = event.schedule.as_ref().and_then(|about| serde_json::to_vec(about).ok());
            let about = about.unwrap_or_default();
            put(&mut self.bytes, about.len() as u64);
            self.bytes.extend(about);
        }
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }
}

/// Reads the events of a row. `queue_name` knows deleted queues too.
pub(crate) fn read(
    first: u64,
    at: Timestamp,
    bytes: &[u8],
    queue_name: impl Fn(i64) -> Option<onefold_core::QueueName>,
) -> StoreResult<Vec<StoreEvent>> {
    let mut rest = bytes;
    let mut events = Vec::new();
    while !rest.is_empty() {
        let kind = event_of(get(&mut rest).ok_or_else(damaged)? as i64)?;
        let queue = get(&mut rest).ok_or_else(damaged)? as i64;
        let seq = get(&mut rest).ok_or_else(damaged)?;
        let (mut job, mut attempt, mut reason) = (None, None, None);
        if seq > 0 {
            let created = at
                .as_unix_ms()
                .checked_sub(unzigzag(get(&mut rest).ok_or_else(damaged)?))
                .ok_or_else(damaged)?;
            let created = Timestamp::from_unix_ms(created).ok_or_else(damaged)?;
            job = Some(JobId::new(created, Seq::new(seq).ok_or_else(damaged)?));
            attempt = Some(get(&mut rest).ok_or_else(damaged)? as u32).filter(|number| *number > 0);
            let code = get(&mut rest).ok_or_else(damaged)?;
            reason = if code == 0 { None } else { Some(reason_of(code as i64)?) };
        }
        let mut schedule = None;
        if kind.is_of_schedule() {
            let length = usize::try_from(get(&mut rest).ok_or_else(damaged)?).map_err(|_| damaged())?;
            let (about, after) = rest.split_at_checked(length).ok_or_else(damaged)?;
            schedule = Some(serde_json::from_slice(about).map_err(|_| damaged())?);
            rest = after;
        }
        let queue = queue_name(queue).ok_or_else(damaged)?;
        events.push(StoreEvent {
            cursor: first + events.len() as u64,
            at,
            kind,
            queue,
            job,
            reason,
            attempt,
            schedule,
        });
    }
    Ok(events)
}

fn damaged() -> StoreError {
    StoreError::corrupt("a stored event cannot be read".to_owned())
}

#[cfg(test)]
mod tests {
    use onefold_core::QueueName;

    use super::*;

    #[test]
    fn events_read_back_as_written_and_damage_is_noticed() {
        let now = Timestamp::from_unix_ms(1_795_253_400_000).unwrap();
        let job = |created, seq| {
            Some(JobId::new(Timestamp::from_unix_ms(created).unwrap(), Seq::new(seq).unwrap()))
        };
        let written = [
            NewEvent {
                kind: EventKind::Added,
                queue: 1,
                job: job(1_795_253_400_000, 1),
                reason: None,
                attempt: 0,
                schedule: None,
            },
            NewEvent {
                kind: EventKind::QueueChanged,
                queue: 300,
                job: None,
                reason: None,
                attempt: 0,
                schedule: None,
            },
            NewEvent {
                kind: EventKind::Dead,
                queue: 2,
                job: job(1_795_253_999_999, 1 << 60),
                reason: Some(DeadReason::CrashLoop),
                attempt: 70_000,
                schedule: None,
            },
            NewEvent {
                kind: EventKind::TicksDropped,
                queue: 2,
                job: None,
                reason: None,
                attempt: 0,
                schedule: Some(ScheduleEvent { id: "nightly".parse().unwrap(), dropped: None }),
            },
        ];
        let mut log = EventLog::default();
        for event in written.clone() {
            log.push(event, now);
        }
        let name = |id: i64| QueueName::new(format!("q{id}")).ok();
        let read_back = read(10, now, log.bytes(), name).unwrap();
        assert_eq!(read_back.len(), 4);
        for (n, (read, written)) in read_back.iter().zip(written).enumerate() {
            assert_eq!(read.cursor, 10 + n as u64);
            assert_eq!(
                (
                    read.kind,
                    &read.queue,
                    read.job,
                    read.reason,
                    read.attempt.unwrap_or(0),
                    read.schedule.clone()
                ),
                (
                    written.kind,
                    &name(written.queue).unwrap(),
                    written.job,
                    written.reason,
                    written.attempt,
                    written.schedule
                )
            );
        }
        assert!(read(10, now, &log.bytes()[..log.bytes().len() - 1], name).is_err());
    }
}
