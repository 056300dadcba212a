//! A job's life in sentences: why it ran again, why it is not running.

use onefold_core::{
    Attempt, DeadReason, Evidence, EvidenceKind, JobView, LateWrites, Outcome, State, Timestamp, Waiting,
};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Line {
    pub(crate) at: Timestamp,
    pub(crate) what: String,
}

/// Everything that happened, in order.
pub(crate) fn lines(view: &JobView) -> Vec<Line> {
    let mut lines = vec![Line { at: view.job.created_at(), what: "accepted".to_owned() }];
    for attempt in &view.attempts {
        lines.extend(attempt_lines(attempt));
    }
    lines.extend(view.evidence.iter().map(evidence_line));
    if let (Some(at), None) = (view.job.finished_at, ending_attempt(view)) {
        lines.push(Line { at, what: format!("{}{}", view.job.state, reason(view)) });
    }
    // Stable: what happened in one millisecond stays in the order it was told.
    lines.sort_by_key(|line| line.at);
    lines
}

/// The attempt whose end was the job's.
fn ending_attempt(view: &JobView) -> Option<&Attempt> {
    let last = view.attempts.last()?;
    last.end.as_ref().filter(|end| Some(end.at) == view.job.finished_at).map(|_| last)
}

fn attempt_lines(attempt: &Attempt) -> Vec<Line> {
    let Attempt { number, token, worker, started_at, .. } = attempt;
    let mut lines = vec![Line {
        at: *started_at,
        what: format!("attempt {number} leased to {worker} (fencing token {token})"),
    }];
    if let Some(end) = &attempt.end {
        let error = end.error.as_ref().map(|error| format!(": {}", error.message)).unwrap_or_default();
        let how = match end.outcome {
            Outcome::Completed => "completed",
            Outcome::Failed => "failed",
            Outcome::TimedOut => "ran into its hard limit",
            Outcome::Snoozed => "was put off by its holder",
            Outcome::Released => "was given back by its holder",
            Outcome::LeaseLost => "lost its lease: nobody extended it in time",
            Outcome::Revoked => "was revoked by a forced cancel",
        };
        let then =
            if end.outcome == Outcome::Completed { String::new() } else { format!("; then {}", end.state) };
        lines.push(Line { at: end.at, what: format!("attempt {number} {how}{error}{then}") });
    }
    lines.extend(late_line(number, "complete", &attempt.late_success));
    lines.extend(late_line(number, "fail", &attempt.late_failure));
    lines
}

fn late_line(number: &u32, word: &str, late: &LateWrites) -> Option<Line> {
    let count = late.count;
    let what = format!("attempt {number} said {word} after its lease was gone ({count} times): refused");
    late.first_at.map(|at| Line { at, what })
}

fn evidence_line(evidence: &Evidence) -> Line {
    let Evidence { kind, number, at, note } = evidence;
    let note = note.as_ref().map(|note| format!(" ({note})")).unwrap_or_default();
    let what = match kind {
        EvidenceKind::DuplicateAdd => format!("added again: answered with this job (time {number})"),
        EvidenceKind::Mismatch => format!("added again with other content: refused (time {number})"),
        EvidenceKind::Replaced => "content replaced by a later add".to_owned(),
        EvidenceKind::Edited => "edited".to_owned(),
        EvidenceKind::CancelRequested => "cancel asked for".to_owned(),
        EvidenceKind::Retried => "made to run again by an operator".to_owned(),
        EvidenceKind::KeyReleased => "key freed by an operator".to_owned(),
        EvidenceKind::ForeignToken => {
            format!("a write came with a token that never was this job's: refused (time {number})")
        }
        EvidenceKind::EffectTakenOver => {
            "effect executed again: nobody knows how the attempt before left it".to_owned()
        }
        EvidenceKind::EffectReplayed => {
            "effect not executed again: its stored result was replayed".to_owned()
        }
        EvidenceKind::EffectIndeterminate => {
            "nobody knows whether an effect happened, and it may not be executed again".to_owned()
        }
        EvidenceKind::EffectResolved => "somebody found out what became of an effect".to_owned(),
        EvidenceKind::LateEffect => {
            format!("a write to an effect with an old token: refused (time {number})")
        }
    };
    Line { at: *at, what: format!("{what}{note}") }
}

fn reason(view: &JobView) -> String {
    let words = match view.job.reason {
        None => return String::new(),
        Some(DeadReason::Attempts) => "its attempts are used up",
        Some(DeadReason::Permanent) => "its handler said that trying again cannot help",
        Some(DeadReason::CrashLoop) => "its lease was lost too often in a day",
        Some(DeadReason::Expired) => "its time to live was over before the next attempt",
        Some(DeadReason::Indeterminate) => {
            "an effect may or may not have happened, and may happen at most once"
        }
    };
    format!(": {words}")
}

/// Where the job stands and why, in a sentence.
pub(crate) fn summary(view: &JobView, now: Timestamp) -> String {
    let job = &view.job;
    let asked = if job.cancel_requested { "; a cancel was asked for" } else { "" };
    match job.state {
        State::Scheduled => format!("scheduled for {}, in {}", job.run_at, job.run_at.since(now)),
        State::Available => match view.waiting {
            None => "available: the next free worker of its queue gets it".to_owned(),
            Some(Waiting::Group) => "available, but an earlier job of its group is not done".to_owned(),
            Some(Waiting::Paused) => "available, but its queue is paused".to_owned(),
            Some(Waiting::Concurrency) => "available, but its queue runs as many jobs as it may".to_owned(),
            Some(Waiting::Rate) => "available, but its rate is used up".to_owned(),
        },
        State::Running => {
            let holder = job.attempt.as_ref().map(|attempt| {
                format!(
                    ": attempt {} by {}, lease until {}",
                    attempt.number, attempt.worker, attempt.lease_until
                )
            });
            format!("running{}{asked}", holder.unwrap_or_default())
        }
        State::Retrying => format!(
            "failed {} times; tried again at {}, in {}",
            job.failures,
            job.run_at,
            job.run_at.since(now)
        ),
        State::Completed | State::Dead | State::Cancelled => format!("{}{}", job.state, reason(view)),
    }
}

/// What there is to know beside what happened.
pub(crate) fn facts(view: &JobView) -> Vec<(&'static str, String)> {
    let (job, spec) = (&view.job, &view.spec);
    let labels: Vec<&str> = spec.labels.iter().map(|label| label.as_str()).collect();
    let facts = [
        ("queue", Some(job.queue.to_string())),
        ("kind", spec.kind.as_ref().map(ToString::to_string)),
        ("key", spec.key.as_ref().map(ToString::to_string)),
        ("group", spec.group.as_ref().map(ToString::to_string)),
        ("labels", (!labels.is_empty()).then(|| labels.join(", "))),
        ("priority", (job.priority != 0).then(|| job.priority.to_string())),
        ("attempts", Some(format!("{} of {}", job.attempts(), job.max_attempts))),
        ("failures", Some(job.failures.to_string())),
        ("lost leases", Some(job.lost_leases.to_string())),
        ("repeated adds", Some(job.duplicates.to_string())),
        ("retried until", job.retry_until.map(|until| until.to_string())),
    ];
    facts.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}
