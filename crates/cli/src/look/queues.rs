//! `onefold queues`: what each queue holds.

use onefold_core::DurationMs;
use onefold_wire::{Queue, QueueList};

use super::QueuesArgs;
use crate::config::Config;
use crate::failure::Failure;
use crate::output::Output;
use crate::table::{Align, Table};
use crate::time::rough;

pub(crate) async fn queues(args: QueuesArgs, config: &Config, output: Output) -> Result<(), Failure> {
    let client = args.source.client(config)?;
    let answer = client.get("/v1/queues").await?;
    if output.json {
        return output.line(answer.text());
    }
    let list: QueueList<'_> = answer.read()?;
    if list.queues.is_empty() {
        return output.line("no queues yet; the first `onefold add QUEUE` makes one");
    }
    let mut table = Table::new(&[
        ("QUEUE", Align::Left),
        ("SCHEDULED", Align::Right),
        ("AVAILABLE", Align::Right),
        ("RUNNING", Align::Right),
        ("RETRYING", Align::Right),
        ("COMPLETED", Align::Right),
        ("DEAD", Align::Right),
        ("CANCELLED", Align::Right),
        ("PURGED", Align::Right),
        ("OLDEST", Align::Right),
        ("NOTE", Align::Left),
    ]);
    for queue in &list.queues {
        table.row(row(queue));
    }
    for line in table.lines() {
        output.line(line)?;
    }
    Ok(())
}

fn row(queue: &Queue<'_>) -> Vec<String> {
    let counts = &queue.counts;
    let numbers = [
        counts.scheduled,
        counts.available,
        counts.running,
        counts.retrying,
        counts.completed,
        counts.dead,
        counts.cancelled,
        counts.purged,
    ];
    let oldest = queue.oldest_available_age_ms.map(|ms| rough(DurationMs::from_ms(ms)));
    let mut row = vec![queue.name.to_string()];
    row.extend(numbers.iter().map(u64::to_string));
    row.push(oldest.unwrap_or_default());
    row.push(note(queue));
    row
}

fn note(queue: &Queue<'_>) -> String {
    let mut notes = Vec::new();
    if queue.paused {
        notes.push("paused".to_owned());
    }
    if let Some(limit) = queue.concurrency {
        notes.push(format!("at most {limit} at once"));
    }
    if let Some(rate) = &queue.rate {
        notes.push(format!("at most {} in {}", rate.limit, rate.per));
    }
    for (count, what) in [
        (queue.counts.duplicates, "duplicate adds"),
        (queue.counts.mismatches, "reused keys"),
        (queue.counts.late_writes, "late writes"),
    ] {
        if count > 0 {
            notes.push(format!("{count} {what}"));
        }
    }
    notes.join(", ")
}
