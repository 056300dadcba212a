//! What can be seen of a store, and what must always be true of it, whatever the reference says.

use std::collections::{BTreeMap, BTreeSet};

use onefold_core::schedule::{ListSchedules, Schedule};
use onefold_core::{
    Effect, EffectName, EffectPolicy, EffectState, EngineError, JobFilter, JobId, JobView, Key, KeyView,
    ListEffects, ListParams, QueueName, QueueView, State,
};

use super::ops::Op;
use super::roll::{KEYS, QUEUES};
use super::side::{Side, queue_of};
use crate::key;

/// Jobs of a page when lists are compared.
const PAGE: u32 = 3;

/// Everything that can be seen.
#[derive(Default)]
pub(super) struct Observation {
    /// What is compared: a name and comparable words.
    pub(super) said: Vec<(String, String)>,
    jobs: Vec<Option<JobView>>,
    queues: Vec<QueueView>,
    keys: BTreeMap<(QueueName, Key), Option<KeyView>>,
    /// With their results.
    effects: Vec<Effect>,
}

impl Side {
    pub(super) async fn observe(&self) -> Result<Observation, String> {
        self.try_observe().await.map_err(|failed: EngineError| format!("the engine failed: {failed:?}"))
    }

    async fn try_observe(&self) -> Result<Observation, EngineError> {
        let engine = self.harness.engine();
        let mut seen = Observation::default();
        let mut say = |what: String, words: String| seen.said.push((what, words));
        for (place, id) in self.names.jobs.iter().enumerate() {
            let view = engine.get(*id).await?;
            let canon = view.clone().map(|view| self.names.view(view));
            say(format!("job {}", place + 1), format!("{canon:?}"));
            seen.jobs.push(view);
        }
        seen.queues = engine.queues().await?;
        say("the queues".to_owned(), format!("{:?}", seen.queues));
        for queue in (0..QUEUES).map(queue_of) {
            for number in 0..KEYS {
                let key = key(&self.key_name(number));
                let view = engine.key(queue.clone(), key.clone()).await?;
                let canon = view.clone().map(|view| self.names.key(view));
                say(format!("key {key} of {queue}"), format!("{canon:?}"));
                seen.keys.insert((queue.clone(), key), view);
            }
        }
        let of_a_queue = JobFilter { queue: Some(queue_of(0)), ..JobFilter::default() };
        let waiting = JobFilter { states: vec![State::Available, State::Retrying], ..JobFilter::default() };
        for filter in [JobFilter::default(), of_a_queue, waiting] {
            say(format!("the list by {filter:?}"), self.list(filter).await?);
        }
        let schedules = engine.schedules(ListSchedules { after: None, limit: 1_000 }).await?.schedules;
        for view in schedules {
            say(format!("schedule {}", view.schedule.id), self.told(view));
        }
        seen.effects = self.effects().await?;
        for effect in &seen.effects {
            let result = effect.result.clone();
            let canon = self.names.effect(effect.clone());
            say(format!("effect {} of {}", canon.key, canon.scope), format!("{canon:?} {result:?}"));
        }
        say("how many effects".to_owned(), seen.effects.len().to_string());
        let mut attempts = engine.stats().await?.attempts;
        attempts.retain(|(_, count)| *count > 0);
        attempts.sort();
        say("attempts by outcome".to_owned(), format!("{attempts:?}"));
        Ok(seen)
    }

    async fn effects(&self) -> Result<Vec<Effect>, EngineError> {
        let engine = self.harness.engine();
        let (mut effects, mut after) = (Vec::new(), None);
        loop {
            let params = ListEffects { limit: PAGE, after: after.clone(), ..ListEffects::default() };
            let page = engine.list_effects(params).await?;
            for listed in page.effects {
                effects.extend(engine.effect(listed.name()).await?);
            }
            match page.next {
                Some(next) if after.as_ref() != Some(&next) => after = Some(next),
                Some(_) | None => return Ok(effects),
            }
        }
    }

    async fn list(&self, filter: JobFilter) -> Result<String, EngineError> {
        let mut words = Vec::new();
        let mut before = None;
        loop {
            let params = ListParams { filter: filter.clone(), limit: PAGE, before };
            let page = self.harness.engine().list(params).await?;
            words.extend(page.jobs.into_iter().map(|job| format!("{:?}", self.names.summary(job))));
            match page.next {
                Some(next) if before != Some(next) => before = Some(next),
                Some(_) | None => return Ok(words.join("\n")),
            }
        }
    }
}

/// What has to be remembered of a case to judge it.
#[derive(Default)]
pub(super) struct Invariants {
    completed: BTreeSet<JobId>,
    /// Keys an operator freed: a second unfinished job may have been added with them.
    freed: BTreeSet<(QueueName, Key)>,
    /// The jobs of ticks, by schedule and nominal time.
    ticks: BTreeMap<(String, String), JobId>,
    /// Effects that were committed.
    committed: BTreeMap<EffectName, Effect>,
}

fn ensure(holds: bool, broken: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(broken()) }
}

impl Invariants {
    pub(super) fn note(&mut self, op: &Op, side: &Side) {
        if let Op::ReleaseKey(queue, number) = op {
            self.freed.insert((queue_of(*queue), key(&side.key_name(*number))));
        }
    }

    pub(super) fn check(&mut self, seen: &Observation) -> Result<(), String> {
        let jobs: Vec<&JobView> = seen.jobs.iter().flatten().collect();
        for view in &jobs {
            self.check_job(view)?;
            self.check_tick(view)?;
        }
        self.check_keys(&jobs, seen)?;
        for effect in &seen.effects {
            self.check_effect(effect, &jobs)?;
        }
        check_groups(&jobs)?;
        check_counts(&jobs, seen)
    }

    fn check_job(&mut self, view: &JobView) -> Result<(), String> {
        let job = &view.job;
        let numbers: Vec<u32> = view.attempts.iter().map(|attempt| attempt.number).collect();
        let expected: Vec<u32> = (1..=job.attempts()).collect();
        ensure(numbers == expected, || format!("attempts of {} do not count up: {numbers:?}", job.id))?;
        let tokens = view.attempts.windows(2).all(|pair| pair[0].token < pair[1].token);
        ensure(tokens, || format!("I4: tokens of {} do not grow", job.id))?;
        let open = view.attempts.iter().filter(|attempt| attempt.end.is_none()).count();
        let runs = usize::from(job.state == State::Running);
        ensure(open == runs, || format!("I4: {} is {} with {open} open attempts", job.id, job.state))?;
        ensure(job.finished_at.is_some() == job.state.is_finished(), || {
            format!("{} is {} but finished_at is {:?}", job.id, job.state, job.finished_at)
        })?;
        ensure(job.reason.is_some() == (job.state == State::Dead), || {
            format!("I10: {} is {} with reason {:?}", job.id, job.state, job.reason)
        })?;
        ensure(job.retry_until.is_some() == (job.attempts() > 0), || {
            format!("I11: {} has {} attempts and retry_until {:?}", job.id, job.attempts(), job.retry_until)
        })?;
        let completed = job.state == State::Completed;
        ensure(completed || !self.completed.contains(&job.id), || {
            format!("{} was completed and is {} now", job.id, job.state)
        })?;
        self.completed.extend(completed.then_some(job.id));
        Ok(())
    }

    /// I7: what was committed is neither executed again nor forgotten while it is there, and under `at_most_once` a doubt
    /// waits for somebody.
    fn check_effect(&mut self, effect: &Effect, jobs: &[&JobView]) -> Result<(), String> {
        let name = effect.name();
        // The name of an effect that is no job's is free again when its time to live is over.
        let before = self.committed.get(&name).filter(|before| {
            before.job.is_some_and(|id| jobs.iter().any(|view| view.job.id == id))
                || before.token == effect.token
        });
        if let Some(before) = before {
            let same = |e: &Effect| (e.state, e.token, e.executions, e.result.clone(), e.ended_at);
            ensure(same(before) == same(effect), || {
                format!("I7: {before:?} was committed and is {effect:?}")
            })?;
        }
        if effect.state == EffectState::Completed {
            self.committed.insert(name, effect.clone());
        }
        let doubtful = effect.policy == EffectPolicy::AtMostOnce && effect.in_doubt;
        ensure(!doubtful || effect.state == EffectState::Indeterminate, || {
            format!("I7: a doubt that nobody sees: {effect:?}")
        })
    }

    /// I9: a tick has one job.
    fn check_tick(&mut self, view: &JobView) -> Result<(), String> {
        let header = |wanted: &str| {
            view.spec.headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone())
        };
        let (Some(id), Some(tick)) = (header(Schedule::ID_HEADER), header(Schedule::TICK_HEADER)) else {
            return Ok(());
        };
        let other = *self.ticks.entry((id.clone(), tick.clone())).or_insert(view.job.id);
        ensure(other == view.job.id, || format!("I9: {other} and {} are both of {id} at {tick}", view.job.id))
    }

    /// I3: an unfinished job holds its key, alone.
    fn check_keys(&self, jobs: &[&JobView], seen: &Observation) -> Result<(), String> {
        let mut holders: BTreeMap<(QueueName, Key), JobId> = BTreeMap::new();
        for view in jobs.iter().filter(|view| !view.job.state.is_finished()) {
            let Some(key) = view.spec.key.clone() else { continue };
            let place = (view.job.queue.clone(), key);
            if self.freed.contains(&place) {
                continue;
            }
            if let Some(held) = seen.keys.get(&place) {
                let holder = held.as_ref().map(|held| held.job);
                ensure(holder == Some(view.job.id), || {
                    format!("I3: {} is unfinished, but its key is held by {holder:?}", view.job.id)
                })?;
            }
            if let Some(other) = holders.insert(place, view.job.id) {
                return Err(format!("I3: {other} and {} are unfinished with one key", view.job.id));
            }
        }
        Ok(())
    }
}

/// I8: of a group at most one runs.
fn check_groups(jobs: &[&JobView]) -> Result<(), String> {
    let mut running = BTreeMap::new();
    for view in jobs.iter().filter(|view| view.job.state == State::Running) {
        let Some(group) = view.spec.group.clone() else { continue };
        if let Some(other) = running.insert((view.job.queue.clone(), group), view.job.id) {
            return Err(format!("I8: {other} and {} of one group run at once", view.job.id));
        }
    }
    Ok(())
}

/// I2: the counts add up, and are those of the jobs that are there.
fn check_counts(jobs: &[&JobView], seen: &Observation) -> Result<(), String> {
    for queue in &seen.queues {
        ensure(queue.counts.conserved(), || format!("I2: {} has lost jobs: {:?}", queue.name, queue.counts))?;
        for state in State::ALL {
            let of_state = |view: &&&JobView| view.job.queue == queue.name && view.job.state == *state;
            let there = jobs.iter().filter(of_state).count() as u64;
            let counted = queue.counts.of(*state);
            ensure(there == counted, || {
                format!("I2: {} counts {counted} {state}, but {there} are there", queue.name)
            })?;
        }
    }
    Ok(())
}
