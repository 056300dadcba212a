//! Every way a delivery goes wrong before there is a whole answer, each with a stable code.

use std::error::Error as StdError;
use std::io;
use std::net::SocketAddr;

use rustls::{AlertDescription, CertificateError};
use thiserror::Error;

use crate::Denied;

/// Why there is no whole answer.
///
/// [`Failure::code`] is what is stored, filtered and alerted on; the sentence is for people.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Failure {
    /// No address of the host may be dialled; the first that was refused.
    #[error("{0}")]
    AddressDenied(Denied),
    /// The host has no address.
    #[error("no address was found for {host}: {why}")]
    DnsFailed {
        /// The host.
        host: String,
        /// What the resolver said.
        why: String,
    },
    /// The deadline passed while the host was looked up.
    #[error("{host} was still being looked up when the timeout passed")]
    DnsTimeout {
        /// The host.
        host: String,
    },
    /// Nobody listens.
    #[error("{address} refused the connection")]
    ConnectRefused {
        /// Where.
        address: SocketAddr,
    },
    /// Nobody answered in time.
    #[error("{address} did not answer the connection in time")]
    ConnectTimeout {
        /// Where.
        address: SocketAddr,
    },
    /// There is no way there.
    #[error("{address} cannot be reached: {why}")]
    ConnectFailed {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        why: String,
    },
    /// TLS did not come about.
    #[error("{fault}: {why}")]
    Tls {
        /// What is wrong.
        fault: TlsFault,
        /// What the library said.
        why: String,
    },
    /// The deadline passed during the TLS handshake.
    #[error("TLS was still being negotiated when the timeout passed")]
    TlsTimeout,
    /// The deadline passed before the head of the answer was complete.
    #[error("the head of the answer was not complete when the timeout passed")]
    HeadersTimeout,
    /// The deadline passed before the body of the answer was complete.
    #[error("the body of the answer was not complete when the timeout passed")]
    BodyTimeout,
    /// The connection ended before the answer did.
    #[error("the connection ended {lost}")]
    Reset {
        /// How far the delivery was.
        lost: Lost,
    },
    /// What came is not HTTP.
    #[error("the {part} of the answer is not valid HTTP: {why}")]
    InvalidResponse {
        /// Which part.
        part: Part,
        /// What the parser said.
        why: String,
    },
    /// The head of the answer, interim answers included, is larger than allowed.
    #[error("the head of the answer has more headers or bytes than are read")]
    HeadersTooLarge,
    /// The body of the answer is longer than allowed.
    #[error("the body of the answer is longer than the {limit} bytes that are read")]
    BodyTooLarge {
        /// How many bytes are read.
        limit: u64,
    },
    /// This machine has no more sockets or ports. Says nothing about the target.
    #[error("this machine cannot open another connection: {why}")]
    LocalResources {
        /// What the system said.
        why: String,
    },
}

/// How far a delivery was when its connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Lost {
    /// While TLS was negotiated: nothing of the request had left.
    #[error("during the TLS handshake")]
    InHandshake,
    /// A new connection, the request sent or on its way, nothing heard.
    #[error("before a byte of the answer came")]
    BeforeAnswer,
    /// The same on a connection that had served before: the target may have closed it as idle at that very moment, or
    /// have read the request. It is not sent again behind anybody's back: the next attempt does that.
    #[error("before a byte of the answer came, on a connection that had been used before")]
    BeforeAnswerOnReused,
    /// In the middle of the head.
    #[error("in the middle of the head of the answer")]
    InHead,
    /// In the middle of the body.
    #[error("in the middle of the body of the answer")]
    InBody,
}

/// A part of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Part {
    /// Status line and headers.
    #[error("head")]
    Head,
    /// What follows.
    #[error("body")]
    Body,
}

/// What is wrong with TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TlsFault {
    /// The certificate's time is over.
    #[error("the certificate has expired")]
    Expired,
    /// Its time has not come.
    #[error("the certificate is not valid yet")]
    NotYetValid,
    /// It is somebody else's.
    #[error("the certificate is for another name")]
    WrongName,
    /// Nobody trusted vouches for it; self-signed ones are among these.
    #[error("the certificate is not issued by a trusted authority (add a private one with `--ca-file`)")]
    UnknownIssuer,
    /// It was revoked.
    #[error("the certificate was revoked")]
    Revoked,
    /// Anything else about it.
    #[error("the certificate is not acceptable")]
    BadCertificate,
    /// The target wants one from us.
    #[error("the target asks for a client certificate")]
    ClientCertificate,
    /// No protocol version or cipher in common.
    #[error("the target speaks no TLS version or cipher that is still safe")]
    Incompatible,
    /// Not TLS, or broken.
    #[error("the TLS handshake failed")]
    Handshake,
    /// This machine trusts no authority at all.
    #[error("this machine has no certificates of authorities (install them, or use `--ca-file`)")]
    NoAuthorities,
}

impl TlsFault {
    const fn code(self) -> &'static str {
        match self {
            TlsFault::Expired => "tls-expired",
            TlsFault::NotYetValid => "tls-not-yet-valid",
            TlsFault::WrongName => "tls-wrong-name",
            TlsFault::UnknownIssuer => "tls-unknown-issuer",
            TlsFault::Revoked => "tls-revoked",
            TlsFault::BadCertificate => "tls-bad-certificate",
            TlsFault::ClientCertificate => "tls-client-certificate",
            TlsFault::Incompatible => "tls-incompatible",
            TlsFault::Handshake => "tls-handshake",
            TlsFault::NoAuthorities => "tls-no-authorities",
        }
    }

    fn of(error: &rustls::Error) -> TlsFault {
        use rustls::Error;
        match error {
            Error::InvalidCertificate(why) => match why {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsFault::Expired,
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    TlsFault::NotYetValid
                }
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    TlsFault::WrongName
                }
                CertificateError::UnknownIssuer => TlsFault::UnknownIssuer,
                CertificateError::Revoked => TlsFault::Revoked,
                _ => TlsFault::BadCertificate,
            },
            Error::PeerIncompatible(_)
            | Error::AlertReceived(
                AlertDescription::ProtocolVersion
                | AlertDescription::HandshakeFailure
                | AlertDescription::InsufficientSecurity,
            ) => TlsFault::Incompatible,
            Error::AlertReceived(
                AlertDescription::CertificateRequired
                | AlertDescription::NoCertificate
                | AlertDescription::BadCertificate
                | AlertDescription::AccessDenied,
            ) => TlsFault::ClientCertificate,
            _ => TlsFault::Handshake,
        }
    }
}

impl Failure {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Failure::AddressDenied(_) => "address-denied",
            Failure::DnsFailed { .. } => "dns-failed",
            Failure::DnsTimeout { .. } => "dns-timeout",
            Failure::ConnectRefused { .. } => "connect-refused",
            Failure::ConnectTimeout { .. } => "connect-timeout",
            Failure::ConnectFailed { .. } => "connect-failed",
            Failure::Tls { fault, .. } => fault.code(),
            Failure::TlsTimeout => "tls-timeout",
            Failure::HeadersTimeout => "timeout-headers",
            Failure::BodyTimeout => "timeout-body",
            Failure::Reset { .. } => "reset",
            Failure::InvalidResponse { .. } => "invalid-response",
            Failure::HeadersTooLarge => "headers-too-large",
            Failure::BodyTooLarge { .. } => "body-too-large",
            Failure::LocalResources { .. } => "local-resources",
        }
    }

    /// What a connection attempt that failed says.
    pub(crate) fn connecting(address: SocketAddr, error: &io::Error) -> Failure {
        // Of processes and of the machine: numbers shared by every system we build for, without a name in the library.
        const TOO_MANY_FILES: [i32; 2] = [23, 24];
        let too_many = error.raw_os_error().is_some_and(|code| TOO_MANY_FILES.contains(&code));
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Failure::ConnectRefused { address },
            io::ErrorKind::TimedOut => Failure::ConnectTimeout { address },
            io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse | io::ErrorKind::OutOfMemory => {
                Failure::LocalResources { why: error.to_string() }
            }
            _ if too_many => Failure::LocalResources { why: error.to_string() },
            _ => Failure::ConnectFailed { address, why: error.to_string() },
        }
    }

    /// What a TLS handshake that failed says.
    pub(crate) fn in_handshake(error: &io::Error) -> Failure {
        match find::<rustls::Error>(error) {
            Some(tls) => Failure::Tls { fault: TlsFault::of(tls), why: tls.to_string() },
            None => Failure::Reset { lost: Lost::InHandshake },
        }
    }

    /// What hyper says instead of a head. `lost` is how far it was, if the connection ended.
    pub(crate) fn in_head(error: &hyper::Error, lost: Lost) -> Failure {
        if error.is_parse_too_large() || find::<HeadTooLarge>(error).is_some() {
            return Failure::HeadersTooLarge;
        }
        if error.is_parse() {
            return Failure::InvalidResponse { part: Part::Head, why: shown(error) };
        }
        match find::<rustls::Error>(error) {
            Some(tls) => Failure::Tls { fault: TlsFault::of(tls), why: tls.to_string() },
            None => Failure::Reset { lost },
        }
    }

    /// What hyper says in the middle of a body.
    pub(crate) fn in_body(error: &hyper::Error) -> Failure {
        let wrong =
            |kind: io::ErrorKind| matches!(kind, io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData);
        match find::<io::Error>(error) {
            Some(cause) if wrong(cause.kind()) && find::<rustls::Error>(cause).is_none() => {
                Failure::InvalidResponse { part: Part::Body, why: shown(error) }
            }
            _ if error.is_parse() => Failure::InvalidResponse { part: Part::Body, why: shown(error) },
            _ => Failure::Reset { lost: Lost::InBody },
        }
    }
}

/// Ends the reading of a head that is too large, from below the parser.
#[derive(Debug, Error)]
#[error("the head is too large")]
pub(crate) struct HeadTooLarge;

/// The first cause of type `E`.
fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    if let Some(found) = error.downcast_ref::<E>() {
        return Some(found);
    }
    // What an `io::Error` was made of is not among its sources.
    let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    match inside {
        Some(inside) => find(inside),
        None => error.source().and_then(find),
    }
}

/// An error with its causes.
fn shown(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
