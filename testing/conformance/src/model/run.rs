//! One case: both engines do each operation, and what they say and show is compared.

use std::time::Duration;

use onefold_core::Clock;

use super::invariants::Invariants;
use super::ops::Op;
use super::side::Side;
use crate::{Harness, ReferenceHarness, World, ms};

/// Everything that can be seen is compared after this many operations, and at the end.
const LOOK_EVERY: usize = 8;
/// In real time, for an answer the reference engine has already.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How a case failed.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    /// At which operation.
    pub(super) step: usize,
    /// How.
    pub(super) what: String,
    /// It took real time to notice: something that was expected did not come.
    pub(super) slow: bool,
}

/// What a case breaks on.
pub(super) enum Broken {
    /// What was said or seen.
    Said(String),
    /// What was waited for in vain.
    Missing(String),
}

impl From<String> for Broken {
    fn from(what: String) -> Broken {
        Broken::Said(what)
    }
}

/// Plays `ops` on fresh stores; `step` is where it stands.
pub(super) async fn run<H: Harness>(seed: u64, ops: &[Op], step: &mut usize) -> Result<(), Broken> {
    let world = World::new(seed);
    let mut reference = Side::new(Box::new(ReferenceHarness::open(world.clone()).await));
    let mut subject = Side::new(Box::new(H::open(world.clone()).await));
    let mut invariants = Invariants::default();
    for (number, op) in ops.iter().enumerate() {
        *step = number;
        // The same dice for both, however often each rolls.
        world.dice.load(Some((seed ^ number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        move_time(&world, op, [&mut reference, &mut subject]);
        compare("the answer", reference.apply(op).await?, subject.apply(op).await?)?;
        serve_polls(&mut reference, &mut subject).await?;
        if matches!(op, Op::Park { .. }) {
            parked(&subject).await?;
        }
        compare("the events", reference.events().await?, subject.events().await?)?;
        invariants.note(op, &subject);
        if number % LOOK_EVERY == LOOK_EVERY - 1 || number == ops.len() - 1 {
            look(&reference, &subject, &mut invariants).await?;
        }
    }
    Ok(())
}

fn move_time(world: &World, op: &Op, sides: [&mut Side; 2]) {
    match op {
        Op::Pass(time) | Op::Wait(time) => world.clock.advance(*time),
        Op::Step(by @ 0..) => world.clock.step_to(world.clock.now().saturating_add(ms(by.unsigned_abs()))),
        Op::Step(by) => {
            world.clock.step_to(world.clock.now().saturating_sub(ms(by.unsigned_abs())));
            for side in sides {
                side.generation += 1;
            }
        }
        _ => {}
    }
}

/// Parked calls the reference engine has answered must be answered by the other, and no others. The
/// latest comes first: looking at it is what sends it, and it may end an earlier one.
async fn serve_polls(reference: &mut Side, subject: &mut Side) -> Result<(), Broken> {
    for place in (0..reference.polls.len()).rev() {
        let Some(expected) = reference.polls[place].peek().await else {
            if let Some(answer) = subject.polls[place].peek().await {
                return Err(Broken::Said(format!("a parked call was answered too early: {answer:?}")));
            }
            continue;
        };
        reference.polls.remove(place);
        let answer = tokio::time::timeout(ANSWER_WITHIN, subject.polls.remove(place).result()).await;
        let missing = || Broken::Missing(format!("a parked call was not answered, expected: {expected:?}"));
        let answer = answer.map_err(|_| missing())?;
        let said = |side: &mut Side, answer| match answer {
            Ok(leased) => side.hand_out(leased),
            Err(failed) => Err(format!("a parked call failed: {failed:?}")),
        };
        compare("the answer of a parked call", said(reference, expected)?, said(subject, answer)?)?;
    }
    Ok(())
}

/// Waits until the engine has parked what waits: a call may be on its way, and its wait counts from
/// its arrival.
async fn parked(subject: &Side) -> Result<(), String> {
    let engine = subject.harness.engine();
    loop {
        let stats = engine.stats().await.map_err(|failed| format!("the engine failed: {failed:?}"))?;
        if stats.parked_polls >= subject.polls.len() as u64 {
            return Ok(());
        }
        tokio::task::yield_now().await;
    }
}

async fn look(reference: &Side, subject: &Side, invariants: &mut Invariants) -> Result<(), String> {
    let expected = reference.observe().await?;
    let seen = subject.observe().await?;
    for ((what, expected), (_, seen)) in expected.said.into_iter().zip(seen.said.iter()) {
        compare(&what, expected, seen.clone())?;
    }
    invariants.check(&seen)
}

fn compare(what: &str, expected: String, seen: String) -> Result<(), String> {
    if expected == seen {
        return Ok(());
    }
    let same = expected.chars().zip(seen.chars()).take_while(|(a, b)| a == b).count();
    let around = |text: &str| text.chars().skip(same.saturating_sub(80)).take(240).collect::<String>();
    Err(format!(
        "{what} differs\n  reference: {expected}\n  engine:    {seen}\n  from here:\n  reference: …{}\n  engine:    …{}",
        around(&expected),
        around(&seen)
    ))
}
