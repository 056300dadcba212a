//! Why a call was not answered as hoped.

use http::StatusCode;
use onefold_wire::{ErrorCode, Problem, Ready};
use rustls::CertificateError;

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
    /// A server answers, and its certificate is not one to trust: the call has no effect.
    #[error("the certificate of {server} {why}")]
    Untrusted { server: String, why: Distrust },
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

/// What is wrong with a certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Distrust {
    #[error(
        "was issued by nobody this machine trusts: if the authority is your own, name its certificate in SSL_CERT_FILE"
    )]
    Issuer,
    #[error("is for another name: put the name it was issued for into --url")]
    Name,
    #[error("has expired: renew it there, or set this machine's clock if that is wrong")]
    Expired,
    #[error("is not valid yet: set this machine's clock, or the one of who issued it")]
    NotYet,
    #[error("cannot be trusted ({0})")]
    Other(String),
}

impl Distrust {
    fn of(why: &CertificateError) -> Distrust {
        match why {
            CertificateError::UnknownIssuer => Distrust::Issuer,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Distrust::Name
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Distrust::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Distrust::NotYet,
            other => Distrust::Other(other.to_string()),
        }
    }
}

/// What TLS had to say, if that is what `error` is about.
fn tls_error<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e rustls::Error> {
    if let Some(found) = error.downcast_ref() {
        return Some(found);
    }
    // What an `io::Error` was made of is not among its sources.
    match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        Some(inside) => tls_error(inside),
        None => tls_error(error.source()?),
    }
}

impl CallError {
    pub(super) fn refused(status: StatusCode, body: &[u8]) -> CallError {
        // `/readyz` says more than a problem does.
        if let Ok(ready) = serde_json::from_slice::<Ready<'_>>(body) {
            return CallError::Unready(ready.phase.into_owned());
        }
        match serde_json::from_slice::<Problem>(body) {
            Ok(problem) => CallError::Refused(Box::new(problem)),
            Err(_) => CallError::Stranger(format!("it says {status}; check --url")),
        }
    }

    pub(super) fn transport(server: &ServerUrl, error: &hyper_util::client::legacy::Error) -> CallError {
        match tls_error(error) {
            Some(rustls::Error::InvalidCertificate(why)) => {
                return CallError::Untrusted { server: server.to_string(), why: Distrust::of(why) };
            }
            Some(why) if error.is_connect() => {
                return CallError::Stranger(format!(
                    "TLS with {server} failed ({why}); use http:// if nothing that speaks TLS stands before it"
                ));
            }
            Some(_) | None => {}
        }
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
            CallError::Refused(problem) => {
                matches!(problem.status, 408 | 429 | 502..=504)
                    || matches!(
                        problem.error_code(),
                        Some(ErrorCode::KeyInProgress | ErrorCode::JobInProgress)
                    )
            }
            CallError::Untrusted { .. } | CallError::Stranger(_) | CallError::Unreadable(_) => false,
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
            | CallError::Untrusted { .. }
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
