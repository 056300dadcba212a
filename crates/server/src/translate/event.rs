//! Events as they are told.

use onefold_core::StoreEvent;
use onefold_wire::{self as wire, Text};

use super::{shown, time_text, word};

/// Something that happened.
pub(crate) fn event(event: &StoreEvent) -> wire::Event<'_> {
    wire::Event {
        cursor: event.cursor,
        kind: word(event.kind.as_str()),
        at: time_text(event.at),
        queue: Text::from(event.queue.as_str()),
        job: event.job.map(shown),
        reason: event.reason.map(|reason| word(reason.as_str())),
        attempt: event.attempt,
    }
}
