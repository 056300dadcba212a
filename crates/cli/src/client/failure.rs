//! Why a call was not answered as hoped.

use http::StatusCode;
use onefold_wire::{ErrorCode, Problem, Ready};

use crate::config::ServerUrl;
use crate::failure::Failure;

/// Why a call was not answered as hoped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// Nobody was reached: the call has no effect.
    #[error(
        "no server answers at {server} ({why}); start one with `onefold serve`, or name yours with --url or ONEFOLD_URL"
    )]
    Unreachable { server: String, why: String },
    /// The connection ended before the answer: the call may have had its effect.
    #[error(
        "the connection to {server} was lost before the answer ({why}); whether it was done is not known"
    )]
    Lost { server: String, why: String },
    /// The server said no.
    #[error("{}", explained(.0))]
    Refused(Box<Problem>),
    /// The server takes no work now; it says what it does instead.
    #[error("the server is {0}: try again in a moment")]
    Unready(String),
    /// Something else answered.
    #[error("what answers is not a onefold server: {0}")]
    Stranger(String),
    /// What was asked for cannot be put into a request.
    #[error("{0}")]
    Unreadable(String),
}

impl CallError {
    pub(super) fn refused(status: StatusCode, body: &[u8]) -> CallError {
        if let Ok(problem) = serde_json::from_slice::<Problem>(body) {
            return CallError::Refused(Box::new(problem));
        }
        match serde_json::from_slice::<Ready<'_>>(body) {
            Ok(ready) => CallError::Unready(ready.phase.into_owned()),
            Err(_) => CallError::Stranger(format!("it says {status}; check --url")),
        }
    }

    pub(super) fn transport(server: &ServerUrl, error: &hyper_util::client::legacy::Error) -> CallError {
        let mut why: &dyn std::error::Error = error;
        while let Some(source) = why.source() {
            why = source;
        }
        let (server, why) = (server.to_string(), why.to_string());
        match error.is_connect() {
            true => CallError::Unreachable { server, why },
            false => CallError::Lost { server, why },
        }
    }

    /// Whether the same call may succeed a little later.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            CallError::Unreachable { .. } | CallError::Lost { .. } | CallError::Unready(_) => true,
            CallError::Refused(problem) => matches!(problem.status, 408 | 429 | 502..=504),
            CallError::Stranger(_) | CallError::Unreadable(_) => false,
        }
    }

    /// Whether the call certainly had no effect.
    pub(crate) fn had_no_effect(&self) -> bool {
        match self {
            CallError::Lost { .. } => false,
            CallError::Refused(problem) => {
                !matches!(problem.error_code(), Some(ErrorCode::OutcomeUnknown | ErrorCode::Internal) | None)
            }
            CallError::Unreachable { .. }
            | CallError::Unready(_)
            | CallError::Stranger(_)
            | CallError::Unreadable(_) => true,
        }
    }
}

fn explained(problem: &Problem) -> String {
    match problem.error_code() {
        Some(ErrorCode::Unauthorized) => {
            "the server wants a token (unauthorized): set ONEFOLD_TOKEN to the one it was started with"
                .to_owned()
        }
        _ => format!("{} ({})", problem.detail, problem.code),
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Failure {
        Failure::failed(error)
    }
}
