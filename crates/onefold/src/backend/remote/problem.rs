//! Problems of a server as the errors an embedded store would have given.

use std::str::FromStr;

use onefold_core::{DurationMs, EffectRefusal, EngineError, JobId, Refusal, State, Timestamp};
use onefold_wire::{ErrorCode, Problem, SettleResult};

use crate::Error;

/// The error for a problem; [`Error::Answered`] if it is one only servers have, or lacks what the
/// variant needs.
pub(super) fn error(problem: Problem) -> Error {
    known(&problem).unwrap_or_else(|| Error::Answered {
        code: problem.code.into_owned(),
        status: problem.status,
        detail: problem.detail.into_owned(),
    })
}

fn known(problem: &Problem) -> Option<Error> {
    let state = || problem.state.as_deref().and_then(State::parse);
    let existing = || problem.existing_id.as_deref().and_then(|id| JobId::from_str(id).ok());
    let refusal = match problem.error_code()? {
        ErrorCode::KeyReused => Refusal::KeyReused { existing: existing()? },
        ErrorCode::DuplicateKey => Refusal::DuplicateKey { existing: existing()? },
        ErrorCode::VersionStale => Refusal::VersionStale { existing: existing()? },
        ErrorCode::KeyTaken => Refusal::KeyTaken { by: existing()? },
        ErrorCode::KeyInProgress => Refusal::KeyInProgress,
        ErrorCode::JobInProgress => Refusal::JobInProgress,
        ErrorCode::AtomicBatch => Refusal::AtomicBatch { item: usize::try_from(problem.item?).ok()? },
        ErrorCode::LeaseLost => Refusal::LeaseLost { state: state()? },
        ErrorCode::JobNotFound => Refusal::JobNotFound,
        ErrorCode::QueueNotFound => Refusal::QueueNotFound,
        ErrorCode::QueueNotEmpty => Refusal::QueueNotEmpty { unfinished: problem.unfinished? },
        ErrorCode::JobStarted => Refusal::JobStarted { state: state()? },
        ErrorCode::JobFinished => Refusal::JobFinished { state: state()? },
        ErrorCode::JobNotFinished => Refusal::JobNotFinished { state: state()? },
        ErrorCode::JobNotRetryable => Refusal::JobNotRetryable { state: state()? },
        ErrorCode::RetryWindowPassed => {
            Refusal::RetryWindowPassed { until: Timestamp::from_str(problem.retry_until.as_deref()?).ok()? }
        }
        ErrorCode::EffectInProgress => {
            let retry_after = DurationMs::from_ms(problem.retry_after_ms?);
            return Some(EffectRefusal::InProgress { retry_after }.into());
        }
        ErrorCode::EffectIndeterminate => return Some(EffectRefusal::Indeterminate.into()),
        ErrorCode::EffectNotFound => return Some(EffectRefusal::NotFound.into()),
        ErrorCode::TokensExhausted => return Some(EngineError::TokensExhausted.into()),
        ErrorCode::DiskFull => return Some(EngineError::DiskFull.into()),
        ErrorCode::StoreUnavailable => {
            // The server has put its own words around it; they are put around it again when this is shown.
            return Some(EngineError::Unavailable(problem.detail.clone().into_owned()).into());
        }
        ErrorCode::Busy => return Some(EngineError::Busy.into()),
        ErrorCode::OutcomeUnknown => return Some(EngineError::OutcomeUnknown.into()),
        _ => return None,
    };
    Some(refusal.into())
}

/// The error for a refused operation of a settle.
pub(super) fn of_settle(result: &SettleResult<'_>) -> Error {
    let code = result.code.as_deref().unwrap_or(ErrorCode::Internal.as_str());
    let detail = result.detail.as_deref().unwrap_or("the server gave no reason");
    let known = ErrorCode::parse(code);
    match known {
        Some(ErrorCode::LeaseLost) => {
            let state = result.state.as_deref().and_then(State::parse).unwrap_or(State::Available);
            Refusal::LeaseLost { state }.into()
        }
        Some(ErrorCode::JobNotFound) => Refusal::JobNotFound.into(),
        Some(ErrorCode::JobInProgress) => Refusal::JobInProgress.into(),
        _ => Error::Answered {
            code: code.to_owned(),
            status: known.map_or(422, ErrorCode::status),
            detail: detail.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_the_error_an_embedded_store_gives() {
        let existing: JobId = "job_01a1fe047dc070008000000000000007".parse().unwrap();
        let mut problem = Problem::new(ErrorCode::KeyReused, "used");
        problem.existing_id = Some(existing.to_string());
        assert_eq!(error(problem), Error::Refused(Refusal::KeyReused { existing }));
        let full = Problem::new(ErrorCode::DiskFull, "full");
        assert_eq!(error(full), Error::Store(EngineError::DiskFull));
    }

    #[test]
    fn what_has_no_variant_or_is_incomplete_keeps_its_code() {
        for code in [ErrorCode::NoDeliverer, ErrorCode::KeyReused, ErrorCode::Closing] {
            let error = error(Problem::new(code, "why"));
            assert!(matches!(error, Error::Answered { .. }), "{error:?}");
            assert_eq!(error.code(), code.as_str());
        }
        let mut newer = Problem::new(ErrorCode::Internal, "why");
        newer.code = "from-the-future".into();
        assert_eq!(error(newer).code(), "from-the-future");
    }
}
