//! Request bodies that end with a typed error when the client is too slow.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::limits::PaceRule;
use super::link::Link;

/// Why a request's body did not arrive. Handlers find it with [`BodyError::find`].
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Nothing came for [`BodyPace::idle`](super::BodyPace::idle).
    #[error("no byte of the body came in time; send it without pauses")]
    Stalled,
    /// Less came than [`BodyPace::min_rate`](super::BodyPace::min_rate) asks for.
    #[error("the body came too slowly; send it faster, or in smaller requests")]
    TooSlow,
    /// It was waited for longer than [`BodyPace::total`](super::BodyPace::total).
    #[error("the body took too long; send it in smaller requests")]
    TooLong,
    /// The connection ended before the body did, or the body's chunks cannot be read.
    #[error("the body is not complete: {0}")]
    Broken(#[source] hyper::Error),
}

impl BodyError {
    /// `408` if the client was too slow, `400` if the body is broken.
    pub fn status(&self) -> StatusCode {
        match self {
            BodyError::Stalled | BodyError::TooSlow | BodyError::TooLong => StatusCode::REQUEST_TIMEOUT,
            BodyError::Broken(_) => StatusCode::BAD_REQUEST,
        }
    }

    /// The error of this type that `error` is or was caused by, however deep axum and others wrapped it.
    pub fn find<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e BodyError> {
        match error.downcast_ref() {
            Some(found) => Some(found),
            None => BodyError::find(error.source()?),
        }
    }
}

impl From<PaceRule> for BodyError {
    fn from(rule: PaceRule) -> BodyError {
        match rule {
            PaceRule::Idle => BodyError::Stalled,
            PaceRule::MinRate => BodyError::TooSlow,
            PaceRule::Total => BodyError::TooLong,
        }
    }
}

/// hyper's body, given up when the connection's watch says so.
///
/// It has no timer: nearly every body is there with its head, and the connection has a timer already.
pub(super) struct PacedBody {
    incoming: Option<Incoming>,
    link: Arc<Link>,
}

impl PacedBody {
    pub(super) fn new(incoming: Incoming, link: Arc<Link>) -> PacedBody {
        PacedBody { incoming: Some(incoming), link }
    }
}

impl Body for PacedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let Some(incoming) = &mut this.incoming else { return Poll::Ready(None) };
        this.link.body_waker.register(cx.waker());
        let frame = match this.link.verdict() {
            Some(rule) => Poll::Ready(Some(Err(BodyError::from(rule)))),
            None => Pin::new(incoming).poll_frame(cx).map_err(BodyError::Broken),
        };
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) {
            // hyper reads no further once nobody holds the body.
            this.incoming = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}
