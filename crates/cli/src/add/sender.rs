//! Sending batches in order, over restarts of the server.
//!
//! One batch is on its way at a time: two could be accepted in the wrong order, and then a later
//! line would be the first with its key, or run before an earlier one of its group.

use bytes::Bytes;
use onefold_core::{Clock, DurationMs, JobId, QueueName, Timestamp};
use onefold_runtime::SystemClock;
use onefold_wire::{AddOutcome, AddedMany, ErrorCode};

use super::lines::{Batch, Line};
use super::tally::Tally;
use crate::client::{Answer, CallError, Client};
use crate::failure::Failure;
use crate::progress::Bar;

/// Between the first two tries; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: DurationMs = DurationMs::from_ms(100);
const LONGEST_PAUSE: DurationMs = DurationMs::from_ms(2_000);

/// How long to go on when nothing answers, and whether that is safe.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Also before anything answered.
    pub(super) from_the_start: bool,
    pub(super) retry_for: DurationMs,
    /// Every job has a key: a repeat is answered with the first one.
    pub(super) safe: bool,
}

pub(super) struct Sender {
    client: Client,
    path: String,
    pub(super) patience: Patience,
    answered: bool,
    clock: SystemClock,
}

/// What came of sending something, repeats included.
struct Sent {
    answer: Answer,
    /// When it was sent first, if it may have been accepted then already.
    since: Option<Timestamp>,
}

impl Sender {
    pub(super) fn new(client: Client, queue: &QueueName, patience: Patience) -> Sender {
        Sender {
            client,
            path: format!("/v1/queues/{queue}/jobs"),
            patience,
            answered: false,
            clock: SystemClock::new(),
        }
    }

    /// Adds one job.
    pub(super) async fn send_one(&mut self, job: Bytes) -> Result<Answer, CallError> {
        self.send_patiently(job).await.map(|sent| sent.answer)
    }

    /// Adds a batch and tells what became of each line.
    pub(super) async fn send(&mut self, batch: Batch, tally: &mut Tally, bar: &Bar) -> Result<(), Failure> {
        for (number, why) in batch.bad {
            tally.refused(number, None, why, bar);
        }
        // From the end, so that the first part is on top.
        let mut parts = vec![batch.jobs];
        while let Some(mut lines) = parts.pop() {
            if lines.is_empty() {
                continue;
            }
            match self.send_patiently(body(&lines)).await {
                Ok(sent) => count(&lines, &sent, tally, bar)?,
                Err(CallError::Refused(problem)) if is_about_a_line(problem.error_code()) => {
                    if let [line] = &lines[..] {
                        let code = problem.code.into_owned();
                        tally.refused(line.number, Some(code), problem.detail.into_owned(), bar);
                        continue;
                    }
                    // Something about one line spoils the whole: find it.
                    let second = lines.split_off(lines.len() / 2);
                    parts.extend([second, lines]);
                }
                Err(error) => return Err(self.gave_up(&error, &lines, tally)),
            }
        }
        Ok(())
    }

    /// What to say, and to do, about lines that could not be sent.
    fn gave_up(&self, error: &CallError, lines: &[Line], tally: &mut Tally) -> Failure {
        let first = lines.first().map_or(0, |line| line.number);
        let last = lines.last().map_or(0, |line| line.number);
        if self.patience.safe {
            return Failure::failed(format!(
                "{error}; run the same command again: lines that were added are only repeated"
            ));
        }
        if error.had_no_effect() {
            return Failure::failed(format!("{error}; nothing from line {first} on was added"));
        }
        tally.unknown(lines.len() as u64);
        Failure::failed(format!("{error} of lines {first} to {last}; nothing after line {last} was added"))
    }

    /// Sends until there is an answer that will not change, as long as that is safe.
    async fn send_patiently(&mut self, body: Bytes) -> Result<Sent, CallError> {
        let sent_at = self.clock.now();
        let mut since = None;
        let mut pause = FIRST_PAUSE;
        let mut give_up_at = None;
        loop {
            let error = match self.client.post_bytes(&self.path, body.clone()).await {
                Ok(answer) => {
                    self.answered = true;
                    return Ok(Sent { answer, since });
                }
                Err(error) => error,
            };
            let had_no_effect = error.had_no_effect();
            if !had_no_effect {
                since = Some(sent_at);
            }
            self.answered |= !matches!(error, CallError::Unreachable { .. });
            let may_retry = error.may_pass()
                && (had_no_effect || self.patience.safe)
                && (self.answered || self.patience.from_the_start);
            let now = self.clock.monotonic();
            let deadline = *give_up_at.get_or_insert_with(|| now.saturating_add(self.patience.retry_for));
            if !may_retry || now.saturating_add(pause) > deadline {
                return Err(error);
            }
            tokio::time::sleep(pause.into()).await;
            pause = DurationMs::from_ms(pause.as_ms() * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Refusals of a whole request that one of its lines may be the reason for.
fn is_about_a_line(code: Option<ErrorCode>) -> bool {
    matches!(
        code,
        Some(
            ErrorCode::InvalidJson
                | ErrorCode::InvalidUtf8
                | ErrorCode::NestingTooDeep
                | ErrorCode::DuplicateMember
                | ErrorCode::PayloadTooLarge
                | ErrorCode::RequestTooLarge
                | ErrorCode::UnknownField
                | ErrorCode::InvalidField
        )
    )
}

fn body(lines: &[Line]) -> Bytes {
    let mut body = String::with_capacity(lines.iter().map(|line| line.job.len() + 1).sum::<usize>() + 2);
    body.push('[');
    for (n, line) in lines.iter().enumerate() {
        if n > 0 {
            body.push(',');
        }
        body.push_str(&line.job);
    }
    body.push(']');
    body.into()
}

fn count(lines: &[Line], sent: &Sent, tally: &mut Tally, bar: &Bar) -> Result<(), Failure> {
    let added: AddedMany<'_> = sent.answer.read()?;
    if added.jobs.len() != lines.len() {
        return Err(Failure::failed("the server's answer has not one outcome for each line"));
    }
    for (line, outcome) in lines.iter().zip(added.jobs) {
        match outcome {
            AddOutcome::Added(added) => tally.added(!added.duplicate || is_ours(&added.id, sent.since)),
            AddOutcome::Refused { error } => {
                tally.refused(line.number, Some(error.code.into_owned()), error.detail.into_owned(), bar);
            }
        }
    }
    Ok(())
}

/// Whether a job that was there already came from this very batch, whose first answer was lost:
/// its id tells when it was accepted.
fn is_ours(id: &str, since: Option<Timestamp>) -> bool {
    let (Ok(id), Some(since)) = (id.parse::<JobId>(), since) else { return false };
    id.accepted_unix_ms() >= since.as_unix_ms()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Output;

    /// After a lost answer, a duplicate that was accepted since the first try is our own.
    #[test]
    fn a_repeat_of_what_was_lost_is_new_and_an_older_job_is_a_repeat() {
        let sent_at: Timestamp = "2026-11-21T09:30:00Z".parse().unwrap();
        let id = |ms: u64| {
            let at = sent_at.saturating_sub(DurationMs::from_ms(1)).saturating_add(DurationMs::from_ms(ms));
            JobId::new(at, onefold_core::Seq::new(7).unwrap())
        };
        let outcome = |id: JobId| format!(r#"{{"id":"{id}","state":"available","duplicate":true}}"#);
        let body = format!(r#"{{"jobs":[{},{}]}}"#, outcome(id(0)), outcome(id(1)));
        let lines = [1, 2].map(|number| Line { number, job: String::new() });
        let summary = |since| {
            let mut tally = Tally::default();
            let sent = Sent { answer: Answer { body: body.clone().into() }, since };
            count(&lines, &sent, &mut tally, &Bar::count(Output { json: true }, "")).unwrap();
            tally.in_short()
        };
        assert_eq!(summary(Some(sent_at)), "1 new, 1 repeated, 0 refused");
        assert_eq!(summary(None), "0 new, 2 repeated, 0 refused");
    }
}
