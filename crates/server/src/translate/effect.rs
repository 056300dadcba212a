//! Effects: what their holders say, and how they are shown.

use std::hash::Hasher;

use bytes::Bytes;
use onefold_core::{
    BeginEffect, Effect, EffectAction, EffectDone, EffectPolicy, EffectScope, EffectState, FencingToken,
    ForgottenEarly, JobClaim, ReleaseOutcome, ResolveOutcome, limits, rules,
};
use onefold_wire::{self as wire, ErrorCode, RawValue, Text};
use siphasher::sip::SipHasher13;

use super::job::late_writes;
use super::{duration_within, shown, some_duration, time_text, word};
use crate::answer::raw;
use crate::extract::job_id;
use crate::failure::Failure;
use crate::translate::add::own_fingerprint;
use crate::translate::settle::result;

pub(crate) fn scope(text: &str) -> Result<EffectScope, Failure> {
    EffectScope::new(text).map_err(|why| Failure::field(ErrorCode::InvalidField, "scope", why))
}

pub(crate) fn token(given: u64) -> Result<FencingToken, Failure> {
    FencingToken::new(given).ok_or_else(|| {
        let why = "a fencing token is an integer from 1 to 2^53 - 1";
        Failure::field(ErrorCode::InvalidField, "fencing_token", why)
    })
}

/// One of a few words.
fn one_of<T: Copy>(
    field: &'static str,
    given: &str,
    all: &'static [T],
    spelled: fn(T) -> &'static str,
) -> Result<T, Failure> {
    all.iter().copied().find(|one| spelled(*one) == given).ok_or_else(|| {
        let words: Vec<&str> = all.iter().map(|one| spelled(*one)).collect();
        Failure::field(ErrorCode::InvalidField, field, format!("this is one of {}", words.join(", ")))
    })
}

pub(crate) fn state(given: &str) -> Result<EffectState, Failure> {
    one_of("state", given, EffectState::ALL, EffectState::as_str)
}

pub(crate) fn begin(given: wire::BeginEffect<'_>) -> Result<EffectAction, Failure> {
    let policy =
        given.policy.map(|policy| one_of("policy", &policy, EffectPolicy::ALL, EffectPolicy::as_str));
    let lease = duration_within("lease", given.lease.as_ref(), limits::LEASE_MIN..=limits::LEASE_MAX)?;
    let ttl = some_duration("ttl", given.ttl.as_ref())?.unwrap_or(limits::EFFECT_TTL);
    if ttl < limits::EFFECT_TTL_MIN {
        let why = format!("this is at least {}", limits::EFFECT_TTL_MIN);
        return Err(Failure::field(ErrorCode::InvalidDuration, "ttl", why));
    }
    let claim = |job: wire::EffectJob<'_>| {
        Ok::<_, Failure>(JobClaim { id: job_id(&job.id)?, token: token(job.fencing_token)? })
    };
    Ok(EffectAction::Begin(BeginEffect {
        fingerprint: given.fingerprint.map(own_fingerprint).transpose()?,
        policy: policy.transpose()?.unwrap_or(EffectPolicy::AtLeastOnce),
        lease: lease.unwrap_or(limits::LEASE_DEFAULT),
        ttl,
        key_valid_for: some_duration("key_valid_for", given.key_valid_for.as_ref())?,
        job: given.job.map(claim).transpose()?,
        call: given.begin_id.map(|id| call(&id)).transpose()?,
    }))
}

/// The key of the hash is fixed: a repeat may come after a restart. It is compared only within one effect.
fn call(begin_id: &str) -> Result<u64, Failure> {
    if begin_id.len() > limits::BEGIN_ID_BYTES_MAX {
        let why = format!("this has at most {} bytes", limits::BEGIN_ID_BYTES_MAX);
        return Err(Failure::field(ErrorCode::InvalidField, "begin_id", why));
    }
    let mut hash = SipHasher13::new_with_keys(0x6f6e_6566_6f6c_6421, 0x6265_6769_6e2d_6964);
    hash.write(begin_id.as_bytes());
    Ok(hash.finish())
}

pub(crate) fn commit(given: &wire::CommitEffect<'_>, body: &Bytes) -> Result<EffectAction, Failure> {
    let result = given.result.map(|value| result(value, body)).transpose()?;
    Ok(EffectAction::Commit { token: token(given.fencing_token)?, result })
}

pub(crate) fn extend(given: &wire::ExtendEffect<'_>) -> Result<EffectAction, Failure> {
    let lease = duration_within("lease", given.lease.as_ref(), limits::LEASE_MIN..=limits::LEASE_MAX)?;
    let lease = lease.unwrap_or(limits::LEASE_DEFAULT);
    Ok(EffectAction::Extend { token: token(given.fencing_token)?, lease })
}

pub(crate) fn release(given: &wire::ReleaseEffect<'_>) -> Result<EffectAction, Failure> {
    let outcome = match &given.outcome {
        None => ReleaseOutcome::NotApplied,
        Some(outcome) => one_of("outcome", outcome, ReleaseOutcome::ALL, ReleaseOutcome::as_str)?,
    };
    Ok(EffectAction::Release { token: token(given.fencing_token)?, outcome })
}

pub(crate) fn resolve(given: &wire::ResolveEffect<'_>, body: &Bytes) -> Result<EffectAction, Failure> {
    let outcome = one_of("outcome", &given.outcome, ResolveOutcome::ALL, ResolveOutcome::as_str)?;
    if given.result.is_some() && outcome == ResolveOutcome::Released {
        let why = "what did not happen has no result";
        return Err(Failure::field(ErrorCode::ConflictingFields, "result", why));
    }
    if given.note.trim().is_empty() {
        let why = "say who found out, and how: it is kept with the effect";
        return Err(Failure::field(ErrorCode::InvalidField, "note", why));
    }
    let note = rules::cut(&given.note, limits::RESOLVE_NOTE_BYTES_MAX).to_owned();
    let result = given.result.map(|value| result(value, body)).transpose()?;
    Ok(EffectAction::Resolve { outcome, result, note })
}

/// What a begin is told. `result` is what is replayed, if anything is.
pub(crate) fn begun(done: &EffectDone) -> Result<wire::BegunEffect<'_>, Failure> {
    Ok(match done {
        EffectDone::Execute { token, forgotten_early } => wire::BegunEffect {
            state: word("execute"),
            fencing_token: Some(token.get()),
            warning: forgotten_early.as_ref().map(warning),
            ..wire::BegunEffect::default()
        },
        EffectDone::Replay { result } => wire::BegunEffect {
            state: word(EffectState::Completed.as_str()),
            result: Some(result.as_deref().map_or(Ok(RawValue::NULL), raw)?),
            ..wire::BegunEffect::default()
        },
        EffectDone::Standing { .. } => return Err(Failure::internal("a begin was answered with a state")),
    })
}

fn warning(early: &ForgottenEarly) -> Text<'static> {
    let ForgottenEarly { key_valid_until, retry_until } = early;
    Text::from(format!(
        "the receiver forgets the key at {key_valid_until}, but the job may be tried until {retry_until}: after the former, \
         an unfinished effect becomes indeterminate and the job dies"
    ))
}

/// What whoever commits, extends, releases or resolves is told.
pub(crate) fn standing(done: &EffectDone) -> Result<wire::EffectStanding<'static>, Failure> {
    match done {
        EffectDone::Standing { state, lease_until } => {
            Ok(wire::EffectStanding { state: word(state.as_str()), lease_until: lease_until.map(time_text) })
        }
        EffectDone::Execute { .. } | EffectDone::Replay { .. } => {
            Err(Failure::internal("what was not a begin was answered as one"))
        }
    }
}

pub(crate) fn view(effect: &Effect) -> Result<wire::Effect<'_>, Failure> {
    Ok(wire::Effect {
        scope: Text::from(effect.scope.as_str()),
        key: Text::from(effect.key.as_str()),
        job: effect.job.map(shown),
        state: word(effect.state.as_str()),
        policy: word(effect.policy.as_str()),
        fencing_token: effect.token.get(),
        attempt: effect.attempt,
        first_begun_at: time_text(effect.first_begun_at),
        begun_at: time_text(effect.begun_at),
        ended_at: effect.ended_at.map(time_text),
        lease_until: effect.lease_until.map(time_text),
        key_valid_until: effect.key_valid_until.map(time_text),
        in_doubt: effect.in_doubt,
        executions: effect.executions,
        replays: effect.replays,
        late_writes: late_writes(&effect.late_writes),
        resolution: effect.resolution.as_ref().map(|found| wire::EffectResolution {
            outcome: word(found.outcome.as_str()),
            note: Text::from(found.note.as_str()),
            at: time_text(found.at),
        }),
        result: effect.result.as_deref().map(raw).transpose()?,
    })
}
