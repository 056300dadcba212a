//! What happened, compared with what is promised.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use onefold::{EffectState, EvidenceKind, FencingToken, JobId, JobView, State};
use onefold_core::{Effect, ResolveOutcome};

use crate::operate::Seen;
use crate::{MAIL, PAYMENT, ROWS, Store, Way};

/// That a step happened, once.
#[derive(Debug, Clone, Copy)]
pub struct Did {
    /// Its number in the ledger.
    pub receipt: u64,
    /// Under which lease.
    pub token: FencingToken,
}

/// A file of the world outside, read.
#[derive(Debug, Default)]
pub struct Ledger {
    did: BTreeMap<(JobId, String), Vec<Did>>,
    kept: BTreeMap<(JobId, String), Vec<Kept>>,
}

/// That a handler was given a receipt by a record.
#[derive(Debug, Clone, Copy)]
pub struct Kept {
    /// Its own number in the ledger.
    pub number: u64,
    /// The receipt.
    pub receipt: u64,
}

impl Ledger {
    /// Reads one.
    pub fn read(file: &Path) -> Ledger {
        let mut ledger = Ledger::default();
        for (number, line) in (1..).zip(std::fs::read_to_string(file).unwrap().lines()) {
            let words: Vec<&str> = line.split(' ').collect();
            let [what, job, step, value] = words.as_slice() else { panic!("no line of ours: {line}") };
            let place = (job.parse().unwrap(), (*step).to_owned());
            let value: u64 = value.parse().unwrap();
            match *what {
                "did" => {
                    let token = FencingToken::new(value).unwrap();
                    ledger.did.entry(place).or_default().push(Did { receipt: number, token });
                }
                "kept" => ledger.kept.entry(place).or_default().push(Kept { number, receipt: value }),
                other => panic!("no line of ours: {other}"),
            }
        }
        ledger
    }

    /// When and how a step happened.
    pub fn did(&self, job: JobId, step: &str) -> &[Did] {
        self.did.get(&(job, step.to_owned())).map_or(&[], Vec::as_slice)
    }

    fn kept(&self, job: JobId, step: &str) -> &[Kept] {
        self.kept.get(&(job, step.to_owned())).map_or(&[], Vec::as_slice)
    }
}

/// What came out.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Jobs that were looked at.
    pub runs: usize,
    /// Promises that were broken.
    pub broken: Vec<String>,
    /// Executions of a step beyond its first, within the stated window: the one before them left no record.
    pub repeated: u64,
    /// Of these: by a holder that was stopped, and came back after another had the step recorded.
    pub returned: u64,
    /// Steps whose outcome somebody had to find out.
    pub doubts: u64,
    /// Times a stored result was given to a later attempt.
    pub replayed: u64,
    /// Writes with an old token that were refused.
    pub late: u64,
    /// Leases that were lost.
    pub lost: u64,
}

impl Verdict {
    /// Compares. `rows` is how often the user's rows of each job are there, where there are such rows.
    pub fn of(store: &Store, way: Way, seen: &Seen, ledger: &Ledger, rows: &BTreeMap<JobId, u64>) -> Verdict {
        let mut verdict = Verdict { runs: seen.jobs.len(), ..Verdict::default() };
        for job in &seen.jobs {
            if job.state != State::Completed {
                verdict.broken(job.id, "job", &format!("is {} in the end", job.state));
            }
            verdict.late += u64::from(job.late_writes);
            verdict.lost += u64::from(job.lost_leases);
            for step in [MAIL, PAYMENT] {
                verdict.external(job, step, ledger);
                if way == Way::Once {
                    verdict.record(job, step, seen.effects.get(&(job.id, step.to_owned())), ledger);
                }
            }
            let written = rows.get(&job.id).copied().unwrap_or(0);
            if !matches!(store, Store::Server(..)) && written != 1 {
                verdict.broken(job.id, ROWS, &format!("its rows were written {written} times"));
            }
        }
        verdict
    }

    fn broken(&mut self, job: JobId, step: &str, what: &str) {
        self.broken.push(format!("{job} {step}: {what}"));
    }

    /// What can be said by the ledger alone.
    fn external(&mut self, job: &JobView, step: &str, ledger: &Ledger) {
        let (did, kept) = (ledger.did(job.id, step), ledger.kept(job.id, step));
        if did.is_empty() {
            self.broken(job.id, step, "never happened");
        }
        if step == PAYMENT && did.len() > 1 {
            self.broken(job.id, step, &format!("at most once, and happened {} times", did.len()));
        }
        let leases: BTreeSet<FencingToken> = did.iter().map(|did| did.token).collect();
        if leases.len() < did.len() {
            self.broken(job.id, step, "happened twice under one lease");
        }
        let receipts: BTreeSet<u64> = kept.iter().map(|kept| kept.receipt).collect();
        if receipts.len() > 1 {
            self.broken(job.id, step, &format!("handlers were given different receipts: {receipts:?}"));
        }
        let Some(recorded) = kept.first().and_then(|k| did.iter().find(|did| did.receipt == k.receipt))
        else {
            self.broken(job.id, step, "handlers were given a receipt of something else");
            return;
        };
        // Tokens grow with leases: an older one was begun before what is recorded, a newer one after it.
        for again in did.iter().filter(|did| did.token > recorded.token) {
            self.broken(job.id, step, &format!("{again:?} was begun after the record of {recorded:?}"));
        }
        self.repeated += did.len() as u64 - 1;
        let first_kept = kept.first().map_or(u64::MAX, |kept| kept.number);
        self.returned += did.iter().filter(|did| did.receipt > first_kept).count() as u64;
    }

    /// What the store's record and history say of it: each repeat is counted, each doubt visible.
    fn record(&mut self, job: &JobView, step: &str, record: Option<&Effect>, ledger: &Ledger) {
        let Some(record) = record else { return self.broken(job.id, step, "there is no record") };
        let did = ledger.did(job.id, step);
        let noted = |kind| {
            let of_step = |note: &&str| note.split([' ', ',', ':']).next() == Some(step);
            job.history
                .iter()
                .filter(|e| e.kind == kind)
                .filter_map(|e| e.note.as_deref())
                .filter(of_step)
                .count()
        };
        if record.state != EffectState::Completed {
            self.broken(job.id, step, &format!("its record is {}", record.state));
        }
        if (record.executions as usize) < did.len() {
            self.broken(job.id, step, &format!("given out {} times: {did:?}", record.executions));
        }
        let resolved = noted(EvidenceKind::EffectResolved);
        if did.len() > 1 + noted(EvidenceKind::EffectTakenOver) + resolved {
            self.broken(job.id, step, "a repeat is not in the history");
        }
        if noted(EvidenceKind::EffectIndeterminate) != resolved {
            self.broken(job.id, step, "not every doubt was seen");
        }
        let by = record.resolution.as_ref().map(|resolution| resolution.outcome);
        let recorded = record.result.as_deref().and_then(|text| std::str::from_utf8(text).ok());
        let receipt = recorded.and_then(|text| text.parse().ok());
        let done = did.iter().find(|did| Some(did.receipt) == receipt);
        let own = done.is_some_and(|done| done.token == record.token);
        if !(own || done.is_some() && by == Some(ResolveOutcome::Completed)) {
            self.broken(job.id, step, &format!("the record {record:?} is none of {did:?}"));
        }
        self.doubts += resolved as u64;
        self.replayed += u64::from(record.replays);
    }
}
