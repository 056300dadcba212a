//! Between rows and the words of the core.

mod job;
mod place;
mod schedule;
mod spec;

pub(crate) use job::*;
pub(crate) use place::RowPlace;
pub(crate) use schedule::*;
pub(crate) use spec::*;

use onefold_core::{
    DeadReason, DurationMs, EffectState, EventKind, EvidenceKind, JobId, OnDuplicate, OnMismatch,
    Outcome as AttemptOutcome, Seq, State, Timestamp,
};
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use crate::error::{Outcome, corrupt};

/// A word as its number, which is its place in the list of its kind and never changes.
pub(crate) trait Coded: Sized + Copy + PartialEq + 'static {
    /// All of them in order.
    const WORDS: &'static [Self];

    fn code(self) -> i16 {
        Self::WORDS.iter().position(|word| *word == self).map_or(-1, |place| place as i16)
    }

    fn of(code: i16) -> Outcome<Self> {
        let word = usize::try_from(code).ok().and_then(|place| Self::WORDS.get(place));
        word.copied().ok_or_else(|| corrupt("a number that stands for no word; a newer program wrote it"))
    }
}

macro_rules! coded {
    ($($word:ident)*) => { $(impl Coded for $word { const WORDS: &'static [Self] = Self::ALL; })* };
}
coded! { State DeadReason AttemptOutcome EvidenceKind EventKind OnDuplicate OnMismatch EffectState }

/// Reads a row from left to right.
pub(crate) struct Columns<'r> {
    row: &'r Row,
    next: usize,
}

impl<'r> Columns<'r> {
    pub(crate) fn of(row: &'r Row) -> Columns<'r> {
        Columns { row, next: 0 }
    }

    pub(crate) fn take<T: FromSql<'r>>(&mut self) -> Outcome<T> {
        let place = self.next;
        self.next += 1;
        self.row.try_get(place).map_err(|error| corrupt(&format!("column {place}: {error}")))
    }

    pub(crate) fn time(&mut self) -> Outcome<Timestamp> {
        time(self.take()?)
    }

    pub(crate) fn time_opt(&mut self) -> Outcome<Option<Timestamp>> {
        self.take::<Option<i64>>()?.map(time).transpose()
    }

    pub(crate) fn count(&mut self) -> Outcome<u32> {
        let value: i32 = self.take()?;
        u32::try_from(value).map_err(|_| corrupt("a negative count"))
    }
}

pub(crate) fn time(ms: i64) -> Outcome<Timestamp> {
    Timestamp::from_unix_ms(ms).ok_or_else(|| corrupt("a time out of range"))
}

pub(crate) fn seq(value: i64) -> Outcome<Seq> {
    let seq = u64::try_from(value).ok().and_then(Seq::new);
    seq.ok_or_else(|| corrupt("a sequence out of range"))
}

pub(crate) fn job_id(created_ms: i64, value: i64) -> Outcome<JobId> {
    Ok(JobId::new(time(created_ms)?, seq(value)?))
}

pub(crate) fn seq_code(id: JobId) -> i64 {
    id.seq().get().cast_signed()
}

pub(crate) fn duration_code(duration: DurationMs) -> i64 {
    i64::try_from(duration.as_ms()).unwrap_or(i64::MAX)
}

pub(crate) fn duration(ms: i64) -> Outcome<DurationMs> {
    u64::try_from(ms).map(DurationMs::from_ms).map_err(|_| corrupt("a negative duration"))
}

pub(crate) fn count_code(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers stand in databases: a word may only be added at the end.
    #[test]
    fn the_numbers_of_words_never_change() {
        let words = |all: &[&str]| all.join(" ");
        let states: Vec<&str> = State::ALL.iter().map(|w| w.as_str()).collect();
        assert_eq!(words(&states), "scheduled available running retrying completed dead cancelled");
        let reasons: Vec<&str> = DeadReason::ALL.iter().map(|w| w.as_str()).collect();
        assert_eq!(words(&reasons), "attempts permanent crash_loop expired indeterminate");
        let outcomes: Vec<&str> = AttemptOutcome::ALL.iter().map(|w| w.as_str()).collect();
        assert_eq!(words(&outcomes), "completed failed timed_out snoozed released lease_lost revoked");
        let evidence: Vec<&str> = EvidenceKind::ALL.iter().map(|w| w.as_str()).collect();
        assert_eq!(
            words(&evidence),
            "duplicate_add mismatch replaced edited cancel_requested retried key_released foreign_token \
             effect_taken_over effect_replayed effect_indeterminate effect_resolved late_effect"
        );
        let events: Vec<&str> = EventKind::ALL.iter().map(|w| w.as_str()).collect();
        assert_eq!(
            words(&events),
            "job.added job.duplicate job.mismatch job.edited job.available job.leased job.completed job.retrying \
             job.snoozed job.released job.lease_lost job.dead job.cancel_requested job.cancelled job.retried \
             job.deleted job.late_write key.released group.passed queue.changed queue.deleted \
             effect.taken_over effect.replayed effect.indeterminate effect.resolved \
             schedule.changed schedule.deleted schedule.ticks_dropped"
        );
        let duplicates: Vec<&str> = OnDuplicate::ALL.iter().map(|w| w.as_str()).collect();
        assert_eq!(words(&duplicates), "return reject replace");
        let mismatches: Vec<&str> = OnMismatch::ALL.iter().map(|w| w.as_str()).collect();
        assert_eq!(words(&mismatches), "reject return");
        let effects: Vec<&str> = EffectState::ALL.iter().map(|w| w.as_str()).collect();
        assert_eq!(words(&effects), "executing completed released indeterminate");
    }
}
