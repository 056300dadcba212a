//! What holders of leases say, and what they hear back.

use bytes::Bytes;
use onefold_core::canonical::validate;
use onefold_core::{
    DurationMs, End, FencingToken, JobError, Progress, SettleAction, SettleOp, Settled, limits, rules,
};
use onefold_wire::{self as wire, ErrorCode, RawValue, SettleResult, Text};

use super::{duration, duration_within, some_duration, time_text, word};
use crate::extract::job_id;
use crate::failure::Failure;

/// One thing a holder says. `body` is the whole request, which results are cut out of.
pub(crate) fn op(given: wire::SettleOp<'_>, body: &Bytes) -> Result<SettleOp, Failure> {
    let id = job_id(&given.id)?;
    let token = FencingToken::new(given.fencing_token).ok_or_else(|| {
        Failure::field(
            ErrorCode::InvalidField,
            "fencing_token",
            "a fencing token is an integer from 1 to 2^53 - 1",
        )
    })?;
    let mut given = given;
    let action = action(&mut given, body)?;
    refuse_rest(&given)?;
    Ok(SettleOp { id, token, action })
}

/// Takes what belongs to the operation out of `given`.
fn action(given: &mut wire::SettleOp<'_>, body: &Bytes) -> Result<SettleAction, Failure> {
    Ok(match &*given.op {
        "complete" => {
            let result = given.result.take().map(|value| result(value, body)).transpose()?;
            SettleAction::End(End::Complete { result })
        }
        "fail" => {
            let error = given.error.take().ok_or_else(|| Failure::missing("error"))?;
            let retryable = error.retryable.unwrap_or(true);
            let message = rules::cut(&error.message, limits::ERROR_MESSAGE_BYTES_MAX).to_owned();
            let kind = error.kind.map(|kind| rules::cut(&kind, limits::KIND_CHARS_MAX).to_owned());
            let retry_in = some_duration("retry_in", given.retry_in.take().as_ref())?;
            SettleAction::End(End::Fail { error: JobError { message, kind }, retryable, retry_in })
        }
        "snooze" => {
            let delay = given.delay.take().ok_or_else(|| Failure::missing("delay"))?;
            SettleAction::End(End::Snooze { delay: duration("delay", &delay)? })
        }
        "release" => SettleAction::End(End::Release),
        "extend" => {
            let allowed = limits::LEASE_MIN..=limits::LEASE_MAX;
            let lease: Option<DurationMs> = duration_within("lease", given.lease.take().as_ref(), allowed)?;
            SettleAction::Extend(lease.ok_or_else(|| Failure::missing("lease"))?)
        }
        "progress" => {
            let percent = given.percent.take();
            if percent.is_some_and(|percent| percent > 100) {
                return Err(Failure::field(ErrorCode::InvalidField, "percent", "this is 0 to 100"));
            }
            let cut = |message: Text<'_>| rules::cut(&message, limits::LOG_LINE_BYTES_MAX).to_owned();
            SettleAction::Progress(Progress { percent, message: given.message.take().map(cut) })
        }
        "checkpoint" => {
            let too_large = (ErrorCode::CheckpointTooLarge, limits::CHECKPOINT_BYTES_MAX);
            let value = given.value.take().ok_or_else(|| Failure::missing("value"))?;
            SettleAction::Checkpoint(json("value", value, too_large, body)?)
        }
        "log" => {
            let lines = given.lines.take().ok_or_else(|| Failure::missing("lines"))?;
            SettleAction::Log(lines.into_iter().map(Text::into_owned).collect())
        }
        _ => {
            let why = "an operation is complete, fail, snooze, release, extend, progress, checkpoint or log";
            return Err(Failure::field(ErrorCode::InvalidField, "op", why));
        }
    })
}

/// Refuses what belongs to another operation.
fn refuse_rest(given: &wire::SettleOp<'_>) -> Result<(), Failure> {
    let rest = [
        ("result", given.result.is_some()),
        ("error", given.error.is_some()),
        ("retry_in", given.retry_in.is_some()),
        ("lease", given.lease.is_some()),
        ("delay", given.delay.is_some()),
        ("percent", given.percent.is_some()),
        ("message", given.message.is_some()),
        ("value", given.value.is_some()),
        ("lines", given.lines.is_some()),
    ];
    match rest.into_iter().find(|(_, there)| *there) {
        None => Ok(()),
        Some((field, _)) => {
            let why = format!("`{}` has no such field", given.op);
            Err(Failure::field(ErrorCode::UnknownField, field, why))
        }
    }
}

/// What a handler or an effect returned.
pub(crate) fn result(value: &RawValue, body: &Bytes) -> Result<Bytes, Failure> {
    json("result", value, (ErrorCode::ResultTooLarge, limits::RESULT_BYTES_MAX), body)
}

fn json(
    field: &'static str,
    value: &RawValue,
    (code, max): (ErrorCode, usize),
    body: &Bytes,
) -> Result<Bytes, Failure> {
    let text = value.get().as_bytes();
    if text.len() > max {
        return Err(Failure::field(
            code,
            field,
            format!("this has at most {max} bytes: store it elsewhere and give a reference"),
        ));
    }
    validate(text, limits::JSON_DEPTH_MAX).map_err(|why| Failure::json(field, why))?;
    // Results are kept for days; cut out of the body they would keep all of it in memory.
    Ok(if text.len() * 2 > body.len() { body.slice_ref(text) } else { Bytes::copy_from_slice(text) })
}

/// What a holder hears of something that was done.
pub(crate) fn done(settled: &Settled, draining: bool) -> SettleResult<'static> {
    SettleResult {
        ok: true,
        state: Some(word(settled.state.as_str())),
        cancel: settled.cancel,
        drain: draining,
        lease_until: settled.lease_until.map(time_text),
        ..SettleResult::default()
    }
}

/// What a holder hears of something that was refused.
pub(crate) fn refused(failure: Failure, draining: bool) -> SettleResult<'static> {
    let problem = *failure.0;
    SettleResult {
        ok: false,
        state: problem.state.map(Text),
        drain: draining,
        code: Some(Text(problem.code)),
        detail: Some(Text(problem.detail)),
        field: problem.field.map(Text::from),
        ..SettleResult::default()
    }
}
