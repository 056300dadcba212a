//! `onefold job`: everything about one job, and why it is where it is.

use onefold_core::Timestamp;
use onefold_wire::{Job, Target};

use super::{JobArgs, exchange, explain};
use crate::config::Config;
use crate::failure::Failure;
use crate::output::Output;
use crate::table::cut;
use crate::time::{given, now, readable, relative};

/// Most characters of a payload or result that are shown; `--json` shows all.
const VALUE: usize = 400;

pub(crate) async fn job(args: JobArgs, config: &Config, output: Output) -> Result<(), Failure> {
    let client = args.source.client(config)?;
    let answer = client.get(&format!("/v1/jobs/{}", args.id)).await?;
    if output.json {
        return output.line(answer.text());
    }
    let job: Job<'_> = answer.read()?;
    for line in page(&job, now()) {
        output.line(line.replace(|c: char| c.is_control(), " "))?;
    }
    Ok(())
}

/// The whole page, line by line.
fn page(job: &Job<'_>, now: Timestamp) -> Vec<String> {
    let mut lines = vec![format!("{} in queue {}: {}", job.id, job.queue, headline(job))];
    lines.extend(facts(job, now).into_iter().map(|(name, value)| format!("  {name:<9} {value}")));
    lines.push(String::new());
    lines.push("What happened".to_owned());
    for (time, what) in explain::timeline(job) {
        lines.push(format!("  {}  {what}", readable(time)));
    }
    let deliveries = exchange::deliveries(job);
    if !deliveries.is_empty() {
        lines.push(String::new());
        lines.push("What was sent, and what came back".to_owned());
        lines.extend(deliveries.into_iter().map(|line| format!("  {line}")));
    }
    let again = explain::why_it_ran_again(job);
    if !again.is_empty() {
        lines.push(String::new());
        lines.push("Why it ran again".to_owned());
        lines.extend(again.into_iter().map(|why| format!("  {why}")));
    }
    lines.push(String::new());
    lines.push(explain::where_it_stands(job).to_owned());
    lines.extend(explain::why_it_stands_there(job, now).into_iter().map(|why| format!("  {why}")));
    lines
}

fn headline(job: &Job<'_>) -> String {
    match &job.reason {
        Some(reason) => format!("{} ({reason})", job.state),
        None => job.state.to_string(),
    }
}

fn facts(job: &Job<'_>, now: Timestamp) -> Vec<(&'static str, String)> {
    let time = |text: &str| format!("{} ({})", readable(given(text)), relative(given(text), now));
    let mut facts = Vec::new();
    let mut tell = |name, value: Option<String>| facts.extend(value.map(|value| (name, value)));
    tell("kind", job.kind.as_ref().map(ToString::to_string));
    tell("key", job.key.as_ref().map(ToString::to_string));
    tell("group", job.group.as_ref().map(ToString::to_string));
    tell("priority", (job.priority != 0).then(|| job.priority.to_string()));
    let labels: Vec<&str> = job.labels.iter().map(|label| &**label).collect();
    tell("labels", (!labels.is_empty()).then(|| labels.join(", ")));
    tell("accepted", Some(time(&job.created_at)));
    tell("finished", job.finished_at.as_ref().map(|at| time(at)));
    let budget = format!(
        "{} so far; {} failures and {} lost leases of at most {} together",
        job.attempt, job.failures, job.lost_leases, job.max_attempts
    );
    tell("attempts", Some(budget));
    tell(
        "retries",
        job.retry_until.as_ref().map(|until| format!("until {} at the latest", readable(given(until)))),
    );
    let target = |target: &Target<'_>| {
        let method = target.method.as_ref().map_or("POST", |method| method);
        format!("{method} {}", target.url)
    };
    tell("target", job.target.as_ref().map(target));
    tell("tells", job.on_success.as_ref().map(|told| format!("{} once it completed", target(told))));
    tell(
        "tells",
        job.on_failure.as_ref().map(|told| format!("{} once it is dead or cancelled", target(told))),
    );
    let payload = job.payload.map(|payload| cut(payload.get(), VALUE));
    let raw = job.payload_base64.as_ref().map(|text| {
        let kind = job.content_type.as_ref().map_or("bytes", |kind| kind);
        format!("{kind}, about {} bytes", text.len() / 4 * 3)
    });
    tell("payload", payload.or(raw));
    tell("checkpoint", job.checkpoint.map(|value| cut(value.get(), VALUE)));
    let effects: Vec<String> = job
        .effects
        .iter()
        .flatten()
        .map(|effect| match effect.executions {
            1 => format!("{} {}", effect.key, effect.state),
            times => format!("{} {}, executed {times} times", effect.key, effect.state),
        })
        .collect();
    tell("effects", (!effects.is_empty()).then(|| effects.join("; ")));
    tell("result", job.result.map(|value| cut(value.get(), VALUE)));
    facts
}
