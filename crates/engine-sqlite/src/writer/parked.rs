//! Polls that wait for jobs, found by queue and by their own id.

use onefold_core::{DurationMs, LeaseParams, LeasedJob};

use super::{Answer, Writer};

/// A poll that waits for jobs.
pub(super) struct Parked {
    pub(super) params: LeaseParams,
    /// On the monotonic clock: nobody waits longer because the wall clock was set.
    pub(super) until: DurationMs,
    pub(super) answer: Answer<Vec<LeasedJob>>,
}

impl Writer<'_> {
    pub(super) fn park(&mut self, params: LeaseParams, answer: Answer<Vec<LeasedJob>>) {
        self.end_poll(params.poll);
        let number = self.next_parked;
        self.next_parked += 1;
        for queue in &params.queues {
            self.parked_by_queue.entry(queue.clone()).or_default().insert(number);
        }
        if let Some(poll) = params.poll {
            self.parked_by_poll.insert(poll, number);
        }
        let until = self.clock.monotonic().saturating_add(params.wait);
        self.parked.insert(number, Parked { params, until, answer });
        // Polls whose clients went away are swept out as others come.
        if self.parked.len() >= 64 && self.parked.len().is_power_of_two() {
            let gone: Vec<u64> = self
                .parked
                .iter()
                .filter(|(_, p)| p.answer.is_abandoned())
                .map(|(number, _)| *number)
                .collect();
            for number in gone {
                self.unpark(number);
            }
        }
    }

    pub(super) fn unpark(&mut self, number: u64) -> Option<Parked> {
        let parked = self.parked.remove(&number)?;
        for queue in &parked.params.queues {
            if let Some(polls) = self.parked_by_queue.get_mut(queue) {
                polls.remove(&number);
                if polls.is_empty() {
                    self.parked_by_queue.remove(queue);
                }
            }
        }
        if let Some(poll) = parked.params.poll
            && self.parked_by_poll.get(&poll) == Some(&number)
        {
            self.parked_by_poll.remove(&poll);
        }
        Some(parked)
    }

    /// A repeat of a poll ends the first with an empty list.
    pub(super) fn end_poll(&mut self, poll: Option<u64>) {
        if let Some(number) = poll.and_then(|poll| self.parked_by_poll.get(&poll).copied()) {
            self.end_parked(number);
        }
    }

    pub(super) fn end_polls_due(&mut self) {
        let now = self.clock.monotonic();
        let over: Vec<u64> =
            self.parked.iter().filter(|(_, p)| p.until <= now).map(|(number, _)| *number).collect();
        over.into_iter().for_each(|number| self.end_parked(number));
    }

    pub(super) fn end_all_polls(&mut self) {
        let all: Vec<u64> = self.parked.keys().copied().collect();
        all.into_iter().for_each(|number| self.end_parked(number));
    }

    pub(super) fn end_parked(&mut self, number: u64) {
        if let Some(parked) = self.unpark(number) {
            let _ = parked.answer.resolve(Ok(Vec::new()));
        }
    }
}
