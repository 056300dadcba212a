//! What jobs carry: any serde type as JSON, or bytes as they are.

use bytes::Bytes;
use onefold_core::Payload;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Invalid;

/// A payload as the bytes that are stored and handed on, untouched.
///
/// As the type of a [`Queue`](crate::Queue) or of a worker's [`Job`](crate::Job) it takes
/// whatever there is; any serde type in its place stands for JSON.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RawPayload(pub(crate) Payload);

impl RawPayload {
    /// A JSON text. It is checked when the job is added.
    pub fn json(text: impl Into<Bytes>) -> RawPayload {
        RawPayload(Payload::Json(text.into()))
    }

    /// Bytes of any other media type.
    pub fn binary(bytes: impl Into<Bytes>, content_type: impl Into<String>) -> RawPayload {
        RawPayload(Payload::Raw { bytes: bytes.into(), content_type: content_type.into() })
    }

    /// No payload.
    pub fn none() -> RawPayload {
        RawPayload(Payload::Absent)
    }

    /// The bytes; empty if there is no payload.
    pub fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }

    /// The bytes, without copying them.
    pub fn into_bytes(self) -> Bytes {
        match self.0 {
            Payload::Absent => Bytes::new(),
            Payload::Json(bytes) | Payload::Raw { bytes, .. } => bytes,
        }
    }

    /// The media type; `None` if there is no payload.
    pub fn content_type(&self) -> Option<&str> {
        match &self.0 {
            Payload::Absent => None,
            Payload::Json(_) => Some("application/json"),
            Payload::Raw { content_type, .. } => Some(content_type),
        }
    }

    /// Whether it is JSON.
    pub fn is_json(&self) -> bool {
        matches!(self.0, Payload::Json(_))
    }
}

/// What can be added as a job's payload: every `Serialize` type, as JSON, and [`RawPayload`].
pub trait IntoPayload {
    /// The bytes to store.
    ///
    /// # Errors
    /// [`Invalid::Unserializable`] if the value has no JSON form.
    fn into_payload(self) -> Result<RawPayload, Invalid>;
}

impl<T: Serialize> IntoPayload for T {
    fn into_payload(self) -> Result<RawPayload, Invalid> {
        let text = serde_json::to_vec(&self).map_err(|error| Invalid::Unserializable(error.to_string()))?;
        Ok(RawPayload::json(text))
    }
}

impl IntoPayload for RawPayload {
    fn into_payload(self) -> Result<RawPayload, Invalid> {
        Ok(self)
    }
}

/// What a handler can take a job's payload as: every `DeserializeOwned` type, from JSON, and
/// [`RawPayload`], from anything.
pub trait FromPayload: Sized {
    /// Reads the payload.
    ///
    /// # Errors
    /// What is wrong with it.
    fn from_payload(payload: RawPayload) -> Result<Self, String>;
}

impl<T: DeserializeOwned> FromPayload for T {
    fn from_payload(payload: RawPayload) -> Result<T, String> {
        let text: &[u8] = match &payload.0 {
            // A job without a payload fits a handler that wants none: `()` or an `Option`.
            Payload::Absent => b"null",
            Payload::Json(text) => text,
            Payload::Raw { content_type, .. } => {
                return Err(format!("the payload is {content_type}, not JSON; take the job as RawPayload"));
            }
        };
        serde_json::from_slice(text).map_err(|error| error.to_string())
    }
}

impl FromPayload for RawPayload {
    fn from_payload(payload: RawPayload) -> Result<RawPayload, String> {
        Ok(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_carried_as_json_and_raw_bytes_untouched() {
        let sent = RawPayload::json("{ \"a\":1.0 }");
        assert_eq!(sent.clone().into_payload().unwrap().bytes(), b"{ \"a\":1.0 }");
        assert_eq!(vec![1, 2].into_payload().unwrap(), RawPayload::json("[1,2]"));
        assert_eq!(Vec::<u8>::from_payload(RawPayload::json("[1,2]")), Ok(vec![1, 2]));
    }

    #[test]
    fn no_payload_fits_a_handler_that_wants_none_only() {
        assert_eq!(<()>::from_payload(RawPayload::none()), Ok(()));
        assert_eq!(Option::<u8>::from_payload(RawPayload::none()), Ok(None));
        assert!(u8::from_payload(RawPayload::none()).is_err());
    }

    #[test]
    fn other_media_types_are_not_read_as_json() {
        let image = RawPayload::binary(&b"1"[..], "image/png");
        assert!(u8::from_payload(image.clone()).unwrap_err().contains("image/png"));
        assert_eq!(RawPayload::from_payload(image.clone()), Ok(image));
    }
}
