//! A local effect: the user's rows, the step's record and the job's completion in one transaction.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use onefold_core::{
    BeginEffect, EffectAction, EffectDone, EffectName, EffectOp, EffectPolicy, EffectRefusal, EffectResult,
    EffectState, End, JobClaim, SettleAction, SettleOp, limits,
};

use super::Writer;
use crate::effects;
use crate::error::{StoreError, StoreResult};
use crate::local::{BUDGET, LocalDone, LocalStep, LocalTx, LocalWork};

impl Writer<'_> {
    pub(super) fn local(&mut self, step: &LocalStep, work: &Mutex<LocalWork>) -> StoreResult<LocalDone> {
        let name = EffectName::of_step(step.job, step.step.clone());
        let known = effects::select(&mut self.store.stmts.effect_select, &name)?.map(|record| record.state);
        let held = match self.store.take_id(step.job)? {
            Some(entry) => {
                let held = entry.job.held_by(step.token);
                self.store.put(entry);
                held
            }
            None => false,
        };
        if !held || !matches!(known, None | Some(EffectState::Released)) {
            // Whatever there is to say about it is said as to any begin, and leaves the same evidence.
            return Ok(match self.effect(&name, begin(step))? {
                Ok(EffectDone::Replay { result }) => LocalDone::Done { result },
                Ok(EffectDone::Execute { .. } | EffectDone::Standing { .. }) => {
                    LocalDone::Refused(EffectRefusal::InProgress { retry_after: limits::EFFECT_RETRY_AFTER })
                }
                Err(refusal) => LocalDone::Refused(refusal),
            });
        }
        let result = match self.run_work(work)? {
            Ok(result) => result,
            Err(failed) => return Ok(failed),
        };
        if let Err(refusal) = self.effect(&name, begin(step))? {
            return Err(StoreError::corrupt(format!("a step that could be begun was refused: {refusal}")));
        }
        let commit = EffectAction::Commit { token: step.token, result: result.clone() };
        if let Err(refusal) = self.effect(&name, commit)? {
            return Err(StoreError::corrupt(format!(
                "a step that was begun could not be committed: {refusal}"
            )));
        }
        let action = SettleAction::End(End::Complete { result: result.clone() });
        let op = SettleOp { id: step.job, token: step.token, action };
        match self.store.settle(&[op])?.pop() {
            Some(Ok(settled)) => Ok(LocalDone::Committed { state: settled.state, result }),
            Some(Err(_)) | None => Err(StoreError::corrupt("a held job could not be completed".to_owned())),
        }
    }

    fn effect(&mut self, name: &EffectName, action: EffectAction) -> StoreResult<EffectResult> {
        let done = self.store.effects(&[EffectOp { name: name.clone(), action }])?.pop();
        done.ok_or_else(|| StoreError::corrupt("an effect without an outcome".to_owned()))
    }

    /// Runs the user's statements in a savepoint of their own.
    fn run_work(&mut self, work: &Mutex<LocalWork>) -> StoreResult<Result<Option<bytes::Bytes>, LocalDone>> {
        // The user's tables keep their CHECKs, which ours leave to the rules of core.
        self.conn.execute_batch("SAVEPOINT onefold_local; PRAGMA ignore_check_constraints = 0")?;
        let started = self.clock.monotonic();
        self.shared.users_statements.store(true, Ordering::Relaxed);
        let ran = catch_unwind(AssertUnwindSafe(|| {
            let mut work = work.lock().unwrap_or_else(PoisonError::into_inner);
            work(&LocalTx { conn: self.conn })
        }));
        self.shared.users_statements.store(false, Ordering::Relaxed);
        let took = self.clock.monotonic().saturating_sub(started);
        if took > BUDGET {
            tracing::warn!(%took, budget = %BUDGET, "a closure in the store's transaction held up everybody else");
        }
        if self.conn.is_autocommit() {
            self.conn.execute_batch("PRAGMA ignore_check_constraints = 1")?;
            // SQLite gave the whole transaction up, as it does on a full disk, or was asked to (`OR ROLLBACK`).
            return Err(StoreError::Abandoned);
        }
        self.conn.execute_batch("PRAGMA ignore_check_constraints = 1")?;
        let failed = match ran {
            Ok(Ok(result)) => {
                self.conn.execute_batch("RELEASE onefold_local")?;
                return Ok(Ok(result));
            }
            Ok(Err(error)) => LocalDone::Failed(error),
            Err(panic) => LocalDone::Panicked(told(panic.as_ref())),
        };
        self.conn.execute_batch("ROLLBACK TO onefold_local; RELEASE onefold_local")?;
        Ok(Err(failed))
    }
}

fn begin(step: &LocalStep) -> EffectAction {
    EffectAction::Begin(BeginEffect {
        fingerprint: None,
        policy: EffectPolicy::AtLeastOnce,
        lease: limits::LEASE_DEFAULT,
        ttl: limits::EFFECT_TTL,
        key_valid_for: None,
        job: Some(JobClaim { id: step.job, token: step.token }),
        call: None,
    })
}

fn told(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".to_owned())
}
