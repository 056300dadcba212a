//! Events as they are told.

use onefold_core::StoreEvent;
use onefold_core::schedule::DroppedTicks;
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
        schedule: event.schedule.as_ref().map(|about| Text::from(about.id.as_str())),
        dropped: event.schedule.as_ref().and_then(|about| about.dropped.as_ref()).map(dropped),
    }
}

fn dropped(dropped: &DroppedTicks) -> wire::DroppedTicks<'static> {
    wire::DroppedTicks {
        reason: word(dropped.reason.as_str()),
        count: dropped.count,
        more: dropped.more,
        first: time_text(dropped.first),
        last: time_text(dropped.last),
    }
}
