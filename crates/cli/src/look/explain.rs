//! A job's life in sentences: what happened, why it ran again, why it is not running.

use std::collections::HashMap;

use onefold_core::{DeadReason, EvidenceKind, Outcome, State, Timestamp, Waiting};
use onefold_wire::{Attempt, Evidence, Job};

use crate::time::{given, readable, relative, rough};

/// Everything that happened to a job, in order.
pub(super) fn timeline(job: &Job<'_>) -> Vec<(Timestamp, String)> {
    let mut events = vec![(given(&job.created_at), "accepted".to_owned())];
    let mut seen: HashMap<&str, u32> = HashMap::new();
    for evidence in history(job) {
        let before = seen.insert(&evidence.kind, evidence.number).unwrap_or(0);
        let skipped = evidence.number.saturating_sub(before + 1);
        let more = if skipped == 0 { String::new() } else { format!(" (and {skipped} times before)") };
        events.push((given(&evidence.at), format!("{}{more}", happened(evidence))));
    }
    for attempt in attempts(job) {
        let start = format!(
            "attempt {} leased to {} with token {}",
            attempt.number, attempt.worker, attempt.fencing_token
        );
        events.push((given(&attempt.started_at), start));
        if let Some(ended) = &attempt.ended_at {
            events.push((given(ended), format!("attempt {} {}", attempt.number, ending(attempt))));
        }
        for (late, what) in [(&attempt.late_success, "complete"), (&attempt.late_failure, "failure")] {
            let Some(late) = late else { continue };
            let Some(last) = &late.last_at else { continue };
            let times =
                if late.count == 1 { String::new() } else { format!(", {} times by now", late.count) };
            let told =
                format!("a late {what} of attempt {} was refused, its lease was gone{times}", attempt.number);
            events.push((given(last), told));
        }
    }
    // Of one moment, what was asked for comes before what came of it.
    events.sort_by_key(|(time, _)| *time);
    events
}

fn attempts<'a, 'j>(job: &'j Job<'a>) -> &'j [Attempt<'a>] {
    job.attempts.as_deref().unwrap_or_default()
}

fn history<'a, 'j>(job: &'j Job<'a>) -> &'j [Evidence<'a>] {
    job.history.as_deref().unwrap_or_default()
}

fn outcome(attempt: &Attempt<'_>) -> Option<Outcome> {
    attempt.outcome.as_ref().and_then(|word| Outcome::parse(word))
}

fn error(attempt: &Attempt<'_>) -> String {
    let error = attempt.error.as_ref();
    error.map(|error| format!(": {}", error.message.trim_end())).unwrap_or_default()
}

fn ending(attempt: &Attempt<'_>) -> String {
    let Some(outcome) = outcome(attempt) else { return "ended".to_owned() };
    match outcome {
        Outcome::Completed => "completed".to_owned(),
        Outcome::Failed => format!("failed{}", error(attempt)),
        Outcome::TimedOut => "ran into its time limit".to_owned(),
        Outcome::Snoozed => "was put off by its handler".to_owned(),
        Outcome::Released => format!("was given back by {}", attempt.worker),
        Outcome::LeaseLost => format!("lost its lease: {} was not heard of in time", attempt.worker),
        Outcome::Revoked => "was revoked by a forced cancel".to_owned(),
    }
}

fn happened(evidence: &Evidence<'_>) -> String {
    let note = evidence.note.as_ref().map(|note| format!(" ({note})")).unwrap_or_default();
    let number = evidence.number;
    match EvidenceKind::ALL.iter().find(|kind| kind.as_str() == &*evidence.kind) {
        Some(EvidenceKind::DuplicateAdd) => {
            format!("added again with the same key: answered with this job, repeat {number}{note}")
        }
        Some(EvidenceKind::Mismatch) => {
            format!("another job with the same key was refused, refusal {number}{note}")
        }
        Some(EvidenceKind::Replaced) => format!("replaced by an add with the same key{note}"),
        Some(EvidenceKind::Edited) => format!("edited{note}"),
        Some(EvidenceKind::CancelRequested) => format!("a cancel was asked for{note}"),
        Some(EvidenceKind::Retried) => format!("an operator made it run again{note}"),
        Some(EvidenceKind::KeyReleased) => format!("an operator freed its key{note}"),
        Some(EvidenceKind::ForeignToken) => {
            format!("a write with a token that never was this job's was refused{note}")
        }
        Some(EvidenceKind::EffectTakenOver) => {
            format!("an effect was executed again, for nobody knows how the attempt before left it{note}")
        }
        Some(EvidenceKind::EffectReplayed) => {
            format!("an effect was not executed again: its stored result was replayed{note}")
        }
        Some(EvidenceKind::EffectIndeterminate) => {
            format!("nobody knows whether an effect happened, and it may not be executed again{note}")
        }
        Some(EvidenceKind::EffectResolved) => format!("somebody found out what became of an effect{note}"),
        Some(EvidenceKind::LateEffect) => {
            format!("a late write to an effect was refused, its lease was gone{note}")
        }
        None => format!("{}{note}", evidence.kind),
    }
}

/// One sentence for each attempt after the first.
pub(super) fn why_it_ran_again(job: &Job<'_>) -> Vec<String> {
    let pairs = attempts(job).windows(2).filter_map(|pair| match pair {
        [before, next] => Some((before, next)),
        _ => None,
    });
    pairs
        .map(|(before, next)| {
            let (started, ended) =
                (given(&next.started_at), before.ended_at.as_ref().map_or(Timestamp::EPOCH, |at| given(at)));
            let by_operator = history(job).iter().any(|evidence| {
                *evidence.kind == *EvidenceKind::Retried.as_str()
                    && (ended..=started).contains(&given(&evidence.at))
            });
            let waited = rough(started.since(ended));
            let why = match by_operator {
                true => {
                    format!("an operator made it run again, {waited} after attempt {} ended", before.number)
                }
                false => because(before, &waited),
            };
            format!("Attempt {}: {why}.", next.number)
        })
        .collect()
}

fn because(before: &Attempt<'_>, waited: &str) -> String {
    let (number, worker) = (before.number, &before.worker);
    match outcome(before) {
        Some(Outcome::Failed) => {
            format!("attempt {number} failed{}; its backoff was over {waited} later", error(before))
        }
        Some(Outcome::TimedOut) => {
            format!(
                "attempt {number} ran into its time limit, which is a failure; its backoff was over {waited} later"
            )
        }
        Some(Outcome::LeaseLost) => format!(
            "attempt {number} lost its lease, because {worker} was killed, cut off or stuck and sent no heartbeat \
             in time; whatever it still says with token {} is refused",
            before.fencing_token
        ),
        Some(Outcome::Snoozed) => format!("the handler of attempt {number} put it off, {waited} before"),
        Some(Outcome::Released) => {
            format!("{worker} gave attempt {number} back unfinished, as workers do when they stop")
        }
        Some(Outcome::Revoked) => format!("attempt {number} was revoked by a forced cancel"),
        Some(Outcome::Completed) | None => format!("attempt {number} had ended"),
    }
}

/// The heading of [`why_it_stands_there`].
pub(super) fn where_it_stands(job: &Job<'_>) -> &'static str {
    match State::parse(&job.state) {
        Some(State::Running) => "It is running",
        Some(State::Completed) => "It is done",
        _ => "Why it is not running",
    }
}

/// Why the job is not running now, or since when it is.
pub(super) fn why_it_stands_there(job: &Job<'_>, now: Timestamp) -> Vec<String> {
    let Some(state) = State::parse(&job.state) else {
        return vec![format!("Its state, {}, is not known to this version.", job.state)];
    };
    let when = |text: &str| format!("{} ({})", readable(given(text)), relative(given(text), now));
    let last = attempts(job).last();
    match state {
        State::Scheduled => match last.and_then(outcome) {
            Some(Outcome::Snoozed) => vec![format!("Its handler put it off until {}.", when(&job.run_at))],
            _ => vec![format!("It is to run at {}.", when(&job.run_at))],
        },
        State::Available => vec![why_it_waits(job)],
        State::Running => running(job, last, now),
        State::Retrying => {
            let after = last.map_or("its last attempt", |_| "its last attempt failed");
            let used = job.failures + job.lost_leases;
            vec![format!(
                "It waits for its backoff, because {after}; the next attempt starts at {}. {used} of {} failures and lost leases are used up.",
                when(&job.run_at),
                job.max_attempts
            )]
        }
        State::Completed => {
            let after =
                last.map_or(String::new(), |last| format!(" by {} in attempt {}", last.worker, last.number));
            vec![format!("It was completed{after} and never runs again.")]
        }
        State::Dead => dead(job, last),
        State::Cancelled => {
            vec![format!("It was cancelled. `onefold retry {}` makes it run after all.", job.id)]
        }
    }
}

fn why_it_waits(job: &Job<'_>) -> String {
    let queue = &job.queue;
    match job.waiting.as_ref().and_then(|word| Waiting::parse(word)) {
        Some(Waiting::Paused) => format!("Queue {queue} is paused. `onefold resume {queue}` lets it go on."),
        Some(Waiting::Concurrency) => {
            format!(
                "Queue {queue} already runs as many jobs at once as it may; this one is next when they end."
            )
        }
        Some(Waiting::Rate) => format!("Queue {queue} has used up its rate for now."),
        Some(Waiting::Group) => {
            let group = job.group.as_ref().map_or("", |group| group);
            format!(
                "An earlier job of its group {group:?} is not done, and jobs of a group run one at a time, in order. \
                 `onefold jobs --queue {queue} --group {group:?}` shows them."
            )
        }
        None if job.target.is_some() => {
            "Nothing in its queue holds it back: it is delivered once its target has a free slot. If it stays here, no server \
             delivers, or its target rests after failures, asked for a pause, or is parked (`onefold targets`)."
                .to_owned()
        }
        None => format!(
            "Nothing holds it back: it goes to the next worker that asks for jobs of queue {queue}. If it stays here, \
             no worker runs, or all are busy with jobs before it."
        ),
    }
}

fn running(job: &Job<'_>, last: Option<&Attempt<'_>>, now: Timestamp) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(last) = last {
        lines.push(format!(
            "{} has had it for {}; its lease runs until {} unless a heartbeat extends it.",
            last.worker,
            rough(now.since(given(&last.started_at))),
            readable(given(&last.lease_until))
        ));
        if let Some(progress) = &last.progress {
            let percent = progress.percent.map(|percent| format!("{percent} %"));
            let told: Vec<String> =
                percent.into_iter().chain(progress.message.as_ref().map(ToString::to_string)).collect();
            lines.push(format!("It said: {}.", told.join(", ")));
        }
    }
    if job.cancel_requested {
        lines.push("A cancel was asked for: its worker hears of it with its next heartbeat.".to_owned());
    }
    lines
}

fn dead(job: &Job<'_>, last: Option<&Attempt<'_>>) -> Vec<String> {
    let why = match job.reason.as_ref().and_then(|word| DeadReason::parse(word)) {
        Some(DeadReason::Attempts) => format!(
            "It is a dead letter: {} failures and {} lost leases used up its {} attempts.",
            job.failures, job.lost_leases, job.max_attempts
        ),
        Some(DeadReason::Permanent) => {
            "It is a dead letter: its handler said that trying again cannot help.".to_owned()
        }
        Some(DeadReason::CrashLoop) => {
            "It is a dead letter: more than 5 workers were lost over it within 24 hours, so it may be what kills them."
                .to_owned()
        }
        Some(DeadReason::Expired) => {
            "It is a dead letter: its next attempt would have started after its retry_until, when receivers may have forgotten its key."
                .to_owned()
        }
        Some(DeadReason::Indeterminate) => {
            "It is a dead letter: an effect that may happen at most once may or may not have happened.".to_owned()
        }
        None => "It is a dead letter.".to_owned(),
    };
    let mut lines = vec![why];
    if let Some(error) = last.map(error).filter(|error| !error.is_empty()) {
        lines.push(format!("Its last error{error}"));
    }
    lines.push(format!("Once the cause is mended, `onefold retry {}` makes it run again.", job.id));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(json: &str) -> Job<'_> {
        serde_json::from_str(json).unwrap()
    }

    const HEAD: &str = r#""id":"job_1","queue":"q","priority":0,"created_at":"2026-11-21T09:00:00.000Z",
        "run_at":"2026-11-21T09:00:00.000Z","failures":1,"lost_leases":1,"max_attempts":20,"duplicates":0,"mismatches":0"#;

    const ATTEMPTS: &str = r#""attempts":[
        {"number":1,"fencing_token":7,"worker":"w1","started_at":"2026-11-21T09:00:01.000Z","lease_until":"2026-11-21T09:00:31.000Z",
         "ended_at":"2026-11-21T09:00:31.000Z","outcome":"lease_lost","late_success":{"count":2,"last_at":"2026-11-21T09:05:00.000Z"}},
        {"number":2,"fencing_token":8,"worker":"w2","started_at":"2026-11-21T09:00:32.000Z","lease_until":"2026-11-21T09:01:02.000Z",
         "ended_at":"2026-11-21T09:00:33.000Z","outcome":"failed","error":{"message":"no paper"}},
        {"number":3,"fencing_token":9,"worker":"w2","started_at":"2026-11-21T09:00:37.000Z","lease_until":"2026-11-21T09:01:02.000Z",
         "ended_at":"2026-11-21T09:00:38.000Z","outcome":"completed"}]"#;

    #[test]
    fn the_timeline_has_every_attempt_repeat_and_late_write_in_order() {
        let text = format!(
            r#"{{{HEAD},"state":"completed","attempt":3,{ATTEMPTS},"history":[
                {{"kind":"duplicate_add","number":1,"at":"2026-11-21T09:00:34.000Z"}},
                {{"kind":"duplicate_add","number":40,"at":"2026-11-21T09:10:00.000Z"}}]}}"#
        );
        let told: Vec<String> = timeline(&job(&text)).into_iter().map(|(_, what)| what).collect();
        assert_eq!(
            told,
            [
                "accepted",
                "attempt 1 leased to w1 with token 7",
                "attempt 1 lost its lease: w1 was not heard of in time",
                "attempt 2 leased to w2 with token 8",
                "attempt 2 failed: no paper",
                "added again with the same key: answered with this job, repeat 1",
                "attempt 3 leased to w2 with token 9",
                "attempt 3 completed",
                "a late complete of attempt 1 was refused, its lease was gone, 2 times by now",
                "added again with the same key: answered with this job, repeat 40 (and 38 times before)",
            ]
        );
    }

    #[test]
    fn every_attempt_after_the_first_has_its_reason() {
        let text = format!(r#"{{{HEAD},"state":"completed","attempt":3,{ATTEMPTS}}}"#);
        let told = why_it_ran_again(&job(&text));
        assert_eq!(told.len(), 2);
        assert!(
            told[0].starts_with("Attempt 2: attempt 1 lost its lease, because w1 was killed"),
            "{}",
            told[0]
        );
        assert_eq!(told[1], "Attempt 3: attempt 2 failed: no paper; its backoff was over 4s later.");
        let retried = format!(
            r#"{{{HEAD},"state":"completed","attempt":3,{ATTEMPTS},"history":[{{"kind":"retried","number":1,"at":"2026-11-21T09:00:35.000Z"}}]}}"#
        );
        let told = why_it_ran_again(&job(&retried));
        assert_eq!(told[1], "Attempt 3: an operator made it run again, 4s after attempt 2 ended.");
    }

    #[test]
    fn a_job_that_does_not_run_says_why() {
        let now = given("2026-11-21T09:00:00Z");
        let told = |state: &str| {
            let text = format!(r#"{{{HEAD},"attempt":0,{state}}}"#);
            why_it_stands_there(&job(&text), now).join(" ")
        };
        assert!(told(r#""state":"available","waiting":"paused""#).contains("onefold resume q"));
        assert!(told(r#""state":"available","waiting":"group","group":"g""#).contains("--group \"g\""));
        assert!(told(r#""state":"available","waiting":"concurrency""#).contains("as many jobs at once"));
        assert!(told(r#""state":"available""#).contains("next worker"));
        let target = r#""state":"available","target":{"url":"http://a.example/"}"#;
        assert!(told(target).contains("no server delivers"), "{}", told(target));
        assert!(told(r#""state":"retrying""#).contains("2 of 20"));
        for reason in DeadReason::ALL {
            let told = told(&format!(r#""state":"dead","reason":"{reason}""#));
            assert!(told.contains("dead letter") && told.contains("onefold retry job_1"), "{told}");
        }
    }
}
