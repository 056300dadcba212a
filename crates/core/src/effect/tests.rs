//! The rules of effects, each by a table of what is asked and what is said, and by random histories.

use bytes::Bytes;

mod random;

use super::*;
use crate::{Seq, limits};

fn at(ms: i64) -> Timestamp {
    Timestamp::from_unix_ms(1_000_000 + ms).unwrap()
}

fn ms(ms: u64) -> DurationMs {
    DurationMs::from_ms(ms)
}

fn token(number: u64) -> FencingToken {
    FencingToken::new(number).unwrap()
}

fn id() -> JobId {
    JobId::new(at(0), Seq::new(7).unwrap())
}

fn name() -> EffectName {
    EffectName::of_step(id(), Key::new("charge").unwrap())
}

fn bytes(text: &str) -> Option<Bytes> {
    Some(Bytes::copy_from_slice(text.as_bytes()))
}

/// A begin of a step in the attempt with this token, or of a standalone effect.
fn begin(policy: EffectPolicy, claim: Option<u64>) -> BeginEffect {
    BeginEffect {
        fingerprint: None,
        policy,
        lease: ms(1_000),
        ttl: ms(10_000),
        key_valid_for: None,
        job: claim.map(|number| JobClaim { id: id(), token: token(number) }),
        call: None,
    }
}

/// A record and the job beside it, as an engine would keep them.
struct World {
    record: Option<Effect>,
    job: Option<HolderJob>,
    next_token: u64,
    notes: Vec<EffectNote>,
    died: bool,
    now: Timestamp,
}

impl World {
    /// With a job that runs in its first attempt under token 1.
    fn of_job() -> World {
        let job = HolderJob {
            id: id(),
            state: State::Running,
            token: Some(token(1)),
            attempt: 1,
            retry_until: Some(at(100_000)),
        };
        World { job: Some(job), ..World::standalone() }
    }

    fn standalone() -> World {
        World { record: None, job: None, next_token: 100, notes: Vec::new(), died: false, now: at(0) }
    }

    /// The next attempt, whose token is its number.
    fn next_attempt(&mut self) {
        let job = self.job.as_mut().unwrap();
        job.attempt += 1;
        job.token = Some(token(u64::from(job.attempt)));
        job.state = State::Running;
    }

    fn lose_lease(&mut self) {
        let job = self.job.as_mut().unwrap();
        (job.token, job.state) = (None, State::Available);
    }

    fn apply(&mut self, action: EffectAction) -> EffectResult {
        let next = &mut self.next_token;
        let take = || {
            *next += 1;
            FencingToken::new(*next)
        };
        let op = EffectOp { name: name(), action };
        let change = apply(self.record.clone(), op, self.job, take, self.now).unwrap();
        if change.record.is_some() {
            self.record = change.record;
        }
        self.notes.extend(change.note);
        if change.job_dies {
            self.died = true;
            let job = self.job.as_mut().unwrap();
            (job.token, job.state) = (None, State::Dead);
        }
        change.answer
    }

    fn begin(&mut self, params: BeginEffect) -> EffectResult {
        self.apply(EffectAction::Begin(params))
    }

    fn commit(&mut self, number: u64, result: &str) -> EffectResult {
        self.apply(EffectAction::Commit { token: token(number), result: bytes(result) })
    }

    fn extend(&mut self, number: u64) -> EffectResult {
        self.apply(EffectAction::Extend { token: token(number), lease: ms(5_000) })
    }

    fn release(&mut self, number: u64, outcome: ReleaseOutcome) -> EffectResult {
        self.apply(EffectAction::Release { token: token(number), outcome })
    }

    fn resolve(&mut self, outcome: ResolveOutcome) -> EffectResult {
        self.apply(EffectAction::Resolve { outcome, result: None, note: "asked them".to_owned() })
    }

    fn record(&self) -> &Effect {
        self.record.as_ref().unwrap()
    }

    fn noted(&self) -> Vec<EffectNoteKind> {
        self.notes.iter().map(|note| note.kind).collect()
    }
}

fn execute(number: u64) -> EffectResult {
    Ok(EffectDone::Execute { token: token(number), forgotten_early: None })
}

fn replay(result: &str) -> EffectResult {
    Ok(EffectDone::Replay { result: bytes(result) })
}

fn stands(state: EffectState) -> EffectResult {
    Ok(EffectDone::Standing { state, lease_until: None })
}

fn is_lost(outcome: &EffectResult) -> bool {
    matches!(outcome, Err(EffectRefusal::LeaseLost { .. }))
}

use EffectPolicy::{AtLeastOnce, AtMostOnce};

/// I7: begin, commit, and every later begin gets the bytes that were committed.
#[test]
fn i7_a_committed_result_is_replayed_byte_for_byte() {
    let mut world = World::of_job();
    assert_eq!(world.begin(begin(AtLeastOnce, Some(1))), execute(1));
    assert_eq!(world.commit(1, r#"{ "b":1.0 }"#), stands(EffectState::Completed));
    assert_eq!(world.begin(begin(AtLeastOnce, Some(1))), replay(r#"{ "b":1.0 }"#));
    assert!(world.noted().is_empty(), "within the attempt there is nothing to tell");
    world.next_attempt();
    assert_eq!(world.begin(begin(AtMostOnce, Some(2))), replay(r#"{ "b":1.0 }"#));
    assert_eq!(world.noted(), [EffectNoteKind::Replayed]);
    assert_eq!((world.record().executions, world.record().replays), (1, 1));
}

/// Mismatch is tested first: in whatever state the effect is, whoever means something else learns that.
#[test]
fn a_mismatch_is_told_in_every_state() {
    let other = BeginEffect {
        fingerprint: Some(Fingerprint::custom("other").unwrap()),
        ..begin(AtMostOnce, Some(1))
    };
    for state in EffectState::ALL {
        let mut world = World::of_job();
        world.begin(begin(AtLeastOnce, Some(1))).unwrap();
        world.record.as_mut().unwrap().state = *state;
        let before = world.record.clone();
        let reused = Err(EffectRefusal::KeyReused { job: Some(id()) });
        assert_eq!(world.begin(other.clone()), reused, "{state}");
        assert_eq!(world.begin(begin(AtLeastOnce, None)), reused, "a job's effect is nobody else's");
        assert_eq!((world.record, world.died), (before, false));
    }
}

/// A job's effect has no lease of its own: the next holder takes it over at once, and history says so.
#[test]
fn at_least_once_the_next_attempt_takes_over_at_once() {
    let mut world = World::of_job();
    world.begin(begin(AtLeastOnce, Some(1))).unwrap();
    world.next_attempt();
    assert_eq!(world.begin(begin(AtLeastOnce, Some(2))), execute(2));
    assert_eq!(world.noted(), [EffectNoteKind::TakenOver]);
    assert!(is_lost(&world.commit(1, "1")));
    assert_eq!(world.commit(2, "2"), stands(EffectState::Completed));
}

/// I7: under `at_most_once` nothing is executed twice; the doubt is visible, and the job dies of it.
#[test]
fn at_most_once_a_doubt_is_indeterminate_and_the_job_dies() {
    for (first, second) in [(AtMostOnce, AtMostOnce), (AtMostOnce, AtLeastOnce), (AtLeastOnce, AtMostOnce)] {
        let mut world = World::of_job();
        world.begin(begin(first, Some(1))).unwrap();
        world.next_attempt();
        assert_eq!(world.begin(begin(second, Some(2))), Err(EffectRefusal::Indeterminate));
        assert!(world.died);
        assert_eq!(world.noted(), [EffectNoteKind::Indeterminate]);
        // A redrive without an answer changes nothing.
        world.died = false;
        world.next_attempt();
        assert_eq!(world.begin(begin(second, Some(3))), Err(EffectRefusal::Indeterminate));
        assert!(world.died);
    }
}

/// What is said at the end of an execution, under both policies, and what the next begin makes of it.
#[test]
fn how_a_release_is_meant_decides_what_follows() {
    use ReleaseOutcome::{NotApplied, Unknown};
    let table = [
        (AtLeastOnce, NotApplied, EffectState::Released, false, execute(2)),
        (AtLeastOnce, Unknown, EffectState::Released, false, execute(2)),
        (AtMostOnce, NotApplied, EffectState::Released, false, execute(2)),
        (AtMostOnce, Unknown, EffectState::Indeterminate, true, Err(EffectRefusal::Indeterminate)),
    ];
    for (policy, outcome, state, dies, then) in table {
        let mut world = World::of_job();
        world.begin(begin(policy, Some(1))).unwrap();
        assert_eq!(world.release(1, outcome), stands(state), "{policy} {outcome}");
        assert_eq!(world.died, dies, "{policy} {outcome}");
        assert_eq!(world.release(1, outcome), stands(state), "the first answer again");
        world.next_attempt();
        assert_eq!(world.begin(begin(policy, Some(2))), then, "{policy} {outcome}");
    }
}

/// I5: every write compares tokens; an old one changes nothing but the evidence, and is never told all is well.
#[test]
fn i5_old_tokens_are_refused_and_counted() {
    let writes: [fn(&mut World) -> EffectResult; 4] = [
        |world| world.begin(begin(AtLeastOnce, Some(1))),
        |world| world.commit(1, "late"),
        |world| world.extend(1),
        |world| world.release(1, ReleaseOutcome::NotApplied),
    ];
    for write in writes {
        for committed in [false, true] {
            let mut world = World::of_job();
            world.begin(begin(AtLeastOnce, Some(1))).unwrap();
            world.next_attempt();
            world.begin(begin(AtLeastOnce, Some(2))).unwrap();
            if committed {
                world.commit(2, "2").unwrap();
            }
            let before = world.record.clone().unwrap();
            assert!(is_lost(&write(&mut world)));
            assert_eq!(world.notes.last().unwrap().kind, EffectNoteKind::LateWrite);
            let after = world.record();
            assert_eq!(after.late_writes.count, 1);
            assert_eq!(Effect { late_writes: before.late_writes, ..after.clone() }, before);
        }
    }
}

/// I5: the lease of the job counts, not who began last: after it is lost nothing is accepted, whoever comes next or not.
#[test]
fn i5_a_jobs_effect_ends_with_the_lease_of_its_job() {
    let mut world = World::of_job();
    world.begin(begin(AtLeastOnce, Some(1))).unwrap();
    world.lose_lease();
    assert!(is_lost(&world.commit(1, "1")));
    assert!(is_lost(&world.begin(begin(AtLeastOnce, Some(1)))));
    assert_eq!(world.record().state, EffectState::Executing);
}

/// A repeated commit gets its first answer, whatever happened to the job since; another one is refused.
#[test]
fn a_repeated_commit_gets_its_first_answer() {
    let mut world = World::of_job();
    world.begin(begin(AtLeastOnce, Some(1))).unwrap();
    world.commit(1, "1").unwrap();
    world.lose_lease();
    assert_eq!(world.commit(1, "1"), stands(EffectState::Completed));
    assert!(is_lost(&world.commit(1, "2")));
    assert_eq!(world.record().result, bytes("1"));
}

/// Within one attempt the step is executed by one at a time; a repeat of the same call is answered again.
#[test]
fn the_same_attempt_executes_once_at_a_time() {
    let mut world = World::of_job();
    let call = BeginEffect { call: Some(5), ..begin(AtMostOnce, Some(1)) };
    assert_eq!(world.begin(call.clone()), execute(1));
    assert_eq!(world.begin(call), execute(1));
    for other in [begin(AtMostOnce, Some(1)), BeginEffect { call: Some(6), ..begin(AtMostOnce, Some(1)) }] {
        let busy = Err(EffectRefusal::InProgress { retry_after: limits::EFFECT_RETRY_AFTER });
        assert_eq!(world.begin(other), busy);
    }
    assert_eq!(world.record().executions, 1);
}

/// I11: after `key_valid_for`, counted from the first begin, an unfinished effect is not executed again.
#[test]
fn i11_a_forgotten_key_is_never_used_again() {
    let valid = |number| BeginEffect { key_valid_for: Some(ms(1_000)), ..begin(AtLeastOnce, Some(number)) };
    let mut world = World::of_job();
    let forgotten_early = Some(ForgottenEarly { key_valid_until: at(1_000), retry_until: at(100_000) });
    assert_eq!(world.begin(valid(1)), Ok(EffectDone::Execute { token: token(1), forgotten_early }));
    world.now = at(999);
    world.next_attempt();
    assert_eq!(world.begin(valid(2)), Ok(EffectDone::Execute { token: token(2), forgotten_early }));
    world.now = at(1_000);
    world.next_attempt();
    // Leaving it out later does not help: the first begin counts.
    assert_eq!(world.begin(begin(AtLeastOnce, Some(3))), Err(EffectRefusal::Indeterminate));
    assert!(world.died);
}

/// I11: a committed effect is replayed however long ago; one that certainly did not happen has nothing to be forgotten.
#[test]
fn i11_only_doubt_is_forgotten() {
    let valid = |number| BeginEffect { key_valid_for: Some(ms(1_000)), ..begin(AtLeastOnce, Some(number)) };
    let mut world = World::of_job();
    world.begin(valid(1)).unwrap();
    world.release(1, ReleaseOutcome::NotApplied).unwrap();
    world.now = at(50_000);
    world.next_attempt();
    assert!(matches!(world.begin(valid(2)), Ok(EffectDone::Execute { .. })));
    assert_eq!(world.record().key_valid_until, Some(at(51_000)));
    world.commit(2, "2").unwrap();
    world.now = at(90_000);
    world.next_attempt();
    assert_eq!(world.begin(valid(3)), replay("2"));
}

/// I11: a certain failure of the second execution proves nothing about the first.
#[test]
fn i11_a_release_does_not_clear_an_earlier_doubt() {
    let valid = |number| BeginEffect { key_valid_for: Some(ms(1_000)), ..begin(AtLeastOnce, Some(number)) };
    let mut world = World::of_job();
    world.begin(valid(1)).unwrap();
    world.next_attempt();
    world.begin(valid(2)).unwrap();
    world.release(2, ReleaseOutcome::NotApplied).unwrap();
    world.now = at(1_000);
    world.next_attempt();
    assert_eq!(world.begin(valid(3)), Err(EffectRefusal::Indeterminate));
}

/// A standalone effect is held for its lease, may be committed past it, and is taken over after it.
#[test]
fn a_standalone_effect_has_its_own_lease() {
    let mut world = World::standalone();
    assert_eq!(world.begin(begin(AtLeastOnce, None)), execute(101));
    world.now = at(400);
    let busy = Err(EffectRefusal::InProgress { retry_after: ms(600) });
    assert_eq!(world.begin(begin(AtLeastOnce, None)), busy);
    let until = Some(at(5_400));
    assert_eq!(
        world.extend(101),
        Ok(EffectDone::Standing { state: EffectState::Executing, lease_until: until })
    );
    world.now = at(5_400);
    // Nobody took over: past the deadline its holder is still believed (I5).
    assert_eq!(world.commit(101, "1"), stands(EffectState::Completed));

    let mut world = World::standalone();
    world.begin(begin(AtLeastOnce, None)).unwrap();
    world.now = at(1_000);
    assert_eq!(world.begin(begin(AtLeastOnce, None)), execute(102));
    assert!(is_lost(&world.commit(101, "1")));
    assert_eq!(world.record().late_writes.count, 1);

    let mut world = World::standalone();
    world.begin(begin(AtMostOnce, None)).unwrap();
    world.now = at(1_000);
    assert_eq!(world.begin(begin(AtMostOnce, None)), Err(EffectRefusal::Indeterminate));
    assert!(is_lost(&world.commit(101, "1")));
}

/// Somebody finds out: it is replayed or executed; only an indeterminate effect is resolved, and that once.
#[test]
fn an_indeterminate_effect_is_resolved() {
    for (outcome, then) in [
        (ResolveOutcome::Completed, Ok(EffectDone::Replay { result: None })),
        (ResolveOutcome::Released, execute(2)),
    ] {
        let mut world = World::of_job();
        world.begin(begin(AtMostOnce, Some(1))).unwrap();
        let early = Err(EffectRefusal::NotIndeterminate { state: EffectState::Executing });
        assert_eq!(world.resolve(outcome), early);
        world.release(1, ReleaseOutcome::Unknown).unwrap();
        let resolved = world.resolve(outcome);
        assert!(matches!(resolved, Ok(EffectDone::Standing { .. })));
        assert_eq!(world.resolve(outcome), resolved, "the first answer again");
        assert_eq!(world.noted(), [EffectNoteKind::Indeterminate, EffectNoteKind::Resolved]);
        assert!(is_lost(&world.commit(1, "1")), "resolved is resolved");
        world.next_attempt();
        assert_eq!(world.begin(begin(AtMostOnce, Some(2))), then);
    }
}

/// What nobody began cannot be committed, and a job that is gone begins nothing.
#[test]
fn what_is_not_there_is_not_found() {
    let mut world = World::standalone();
    assert_eq!(world.commit(1, "1"), Err(EffectRefusal::NotFound));
    assert_eq!(world.begin(begin(AtLeastOnce, Some(1))), Err(EffectRefusal::JobNotFound));
    assert!(world.record.is_none());
}

/// Without a token nothing is begun.
#[test]
fn a_store_without_tokens_begins_nothing() {
    let action = EffectAction::Begin(begin(AtLeastOnce, None));
    assert_eq!(apply(None, EffectOp { name: name(), action }, None, || None, at(0)), None);
}

/// What time does to a standalone effect; to a job's it does nothing.
#[test]
fn time_ends_what_nobody_finishes() {
    let began = |policy, key_valid_for: Option<u64>| {
        let mut world = World::standalone();
        world.begin(BeginEffect { key_valid_for: key_valid_for.map(ms), ..begin(policy, None) }).unwrap();
        world
    };
    let due = |world: &World| world.record().due_at().unwrap();
    let turns = |record: &Effect, now| match come_due(record, now) {
        Some(Due::Indeterminate(record)) => record.state == EffectState::Indeterminate,
        Some(Due::Remove) | None => false,
    };
    let world = began(AtMostOnce, None);
    assert_eq!(due(&world), at(1_000));
    assert_eq!(come_due(world.record(), at(999)), None);
    assert!(turns(world.record(), at(1_000)));

    let world = began(AtLeastOnce, Some(3_000));
    assert_eq!(due(&world), at(3_000));
    assert!(turns(world.record(), at(3_000)));

    let world = began(AtLeastOnce, None);
    assert_eq!(due(&world), at(11_000));
    assert_eq!(come_due(world.record(), at(11_000)), Some(Due::Remove));

    let mut world = began(AtMostOnce, None);
    world.commit(101, "1").unwrap();
    assert_eq!(come_due(world.record(), at(10_000)), Some(Due::Remove));

    let mut world = began(AtMostOnce, None);
    world.release(101, ReleaseOutcome::Unknown).unwrap();
    assert_eq!(world.record().due_at(), None, "I10: a doubt waits for somebody");

    let mut world = World::of_job();
    world.begin(begin(AtMostOnce, Some(1))).unwrap();
    assert_eq!(world.record().due_at(), None);
}

/// A record survives being stored, but for its result, which is stored apart.
#[test]
fn a_record_reads_back() {
    let mut world = World::of_job();
    let params = BeginEffect {
        fingerprint: Some(Fingerprint::custom("x").unwrap()),
        key_valid_for: Some(ms(5)),
        call: Some(u64::MAX),
        ..begin(AtMostOnce, Some(1))
    };
    world.begin(params).unwrap();
    world.commit(1, "1").unwrap();
    let json = serde_json::to_string(world.record()).unwrap();
    let read: Effect = serde_json::from_str(&json).unwrap();
    assert_eq!(Effect { result: bytes("1"), ..read }, *world.record());
}
