//! What a key was used for: two adds with one key and different fingerprints are a mistake of the caller.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::canonical::{CanonicalError, canonicalize};
use crate::limits::JSON_DEPTH_MAX;

/// A version byte and a SHA-256 over what a job is to do, or over what the caller said instead.
///
/// What is hashed starts with the version byte, too, followed by fields of which each is preceded by its
/// length in bytes as a big-endian u64. An absent field is the length `u64::MAX` and nothing more, so that
/// absent and empty differ.
///
/// | version | fields |
/// |---|---|
/// | `0x01`, [computed](Fingerprint::compute) | kind, content type, payload, target method, target URL |
/// | `0x81`, [given by the caller](Fingerprint::custom) | the caller's text in UTF-8 |
///
/// The high bit tells given ones from computed ones, so that none can stand in for the other; the other
/// bits count changes of the form. Fingerprints of different versions are never equal.
///
/// Everything is hashed as given, without a change of case, except JSON payloads, which are hashed in
/// [canonical form](crate::canonical). Whether a payload was JSON is not hashed beyond that; the content
/// type tells. As text: 66 lower-case hex digits.
///
/// Vectors for other implementations: `testing/conformance/vectors/fingerprint.json`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; Fingerprint::LEN]);

const COMPUTED: u8 = 0x01;
const CUSTOM: u8 = 0x81;

/// What a [`Fingerprint`] is computed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FingerprintInput<'a> {
    /// The job's kind.
    pub kind: Option<&'a str>,
    /// The payload's content type, as given.
    pub content_type: Option<&'a str>,
    /// The payload.
    pub payload: PayloadForm<'a>,
    /// The method of the HTTP target.
    pub target_method: Option<&'a str>,
    /// The URL of the HTTP target.
    pub target_url: Option<&'a str>,
}

/// A payload as its fingerprint sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PayloadForm<'a> {
    /// None was given.
    #[default]
    Absent,
    /// JSON, however it is spelled: its canonical form counts.
    Json(&'a [u8]),
    /// Anything else: each byte counts.
    Raw(&'a [u8]),
}

/// Why a fingerprint was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidFingerprint {
    /// A text of the caller's that is empty or too long.
    #[error(
        "a fingerprint of your own has 1 to 255 characters: give a version or a hash of what the job does"
    )]
    CustomLength,
    /// Not 66 lower-case hex digits, or not 33 bytes.
    #[error("a fingerprint is 66 lower-case hex digits (33 bytes): copy it whole")]
    Form,
    /// A version this program does not know.
    #[error("fingerprint version {0:#04x} is not known: it was written by a newer Onefold, update this one")]
    UnknownVersion(u8),
}

impl Fingerprint {
    /// Bytes of a fingerprint: the version and 32 of the hash.
    pub const LEN: usize = 33;
    /// Unicode scalars of a fingerprint of the caller's own, at the most.
    pub const CUSTOM_CHARS_MAX: usize = 255;

    /// The fingerprint of a job.
    ///
    /// It reads JSON to the end, so that a payload need not be validated before.
    ///
    /// # Errors
    /// [`CanonicalError`] if a JSON payload is not JSON, has a name twice, or is nested more than
    /// [`JSON_DEPTH_MAX`] deep.
    pub fn compute(input: FingerprintInput<'_>) -> Result<Fingerprint, CanonicalError> {
        let canonical;
        let payload = match input.payload {
            PayloadForm::Absent => None,
            PayloadForm::Raw(bytes) => Some(bytes),
            PayloadForm::Json(text) => {
                canonical = canonicalize(text, JSON_DEPTH_MAX)?;
                Some(&*canonical)
            }
        };
        Ok(hash(
            COMPUTED,
            [
                input.kind.map(str::as_bytes),
                input.content_type.map(str::as_bytes),
                payload,
                input.target_method.map(str::as_bytes),
                input.target_url.map(str::as_bytes),
            ],
        ))
    }

    /// The fingerprint a caller gives instead, for example a version of its own: 1 to 255 Unicode scalars,
    /// compared byte for byte. It never equals a computed one.
    ///
    /// # Errors
    /// [`InvalidFingerprint::CustomLength`].
    pub fn custom(text: &str) -> Result<Fingerprint, InvalidFingerprint> {
        // A scalar is at most four bytes: long texts are refused without being counted.
        let too_long = text.len() > Fingerprint::CUSTOM_CHARS_MAX * 4
            || text.chars().count() > Fingerprint::CUSTOM_CHARS_MAX;
        if text.is_empty() || too_long {
            return Err(InvalidFingerprint::CustomLength);
        }
        Ok(hash(CUSTOM, [Some(text.as_bytes())]))
    }

    /// Whether a caller gave it.
    pub fn is_custom(&self) -> bool {
        self.0[0] == CUSTOM
    }

    /// The bytes an engine stores: version, then hash.
    pub fn as_bytes(&self) -> &[u8; Fingerprint::LEN] {
        &self.0
    }

    /// Reads what [`Fingerprint::as_bytes`] wrote.
    ///
    /// # Errors
    /// [`InvalidFingerprint`] for another length or a version that is not known.
    pub fn from_bytes(bytes: &[u8]) -> Result<Fingerprint, InvalidFingerprint> {
        let bytes = <[u8; Fingerprint::LEN]>::try_from(bytes).map_err(|_| InvalidFingerprint::Form)?;
        match bytes[0] {
            COMPUTED | CUSTOM => Ok(Fingerprint(bytes)),
            unknown => Err(InvalidFingerprint::UnknownVersion(unknown)),
        }
    }
}

fn hash<const N: usize>(version: u8, fields: [Option<&[u8]>; N]) -> Fingerprint {
    let mut hasher = Sha256::new();
    hasher.update([version]);
    for field in fields {
        // No field is u64::MAX bytes long, so absent is unlike any length.
        hasher.update(field.map_or(u64::MAX, |bytes| bytes.len() as u64).to_be_bytes());
        hasher.update(field.unwrap_or_default());
    }
    let mut bytes = [version; Fingerprint::LEN];
    bytes[1..].copy_from_slice(&hasher.finalize());
    Fingerprint(bytes)
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; Fingerprint::LEN * 2];
        for (pair, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(self.0) {
            *pair = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
        }
        // Hex digits are ASCII.
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl FromStr for Fingerprint {
    type Err = InvalidFingerprint;

    fn from_str(text: &str) -> Result<Fingerprint, InvalidFingerprint> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(InvalidFingerprint::Form),
        };
        if text.len() != Fingerprint::LEN * 2 {
            return Err(InvalidFingerprint::Form);
        }
        let mut bytes = [0; Fingerprint::LEN];
        for (byte, [high, low]) in bytes.iter_mut().zip(text.as_bytes().as_chunks::<2>().0) {
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Fingerprint::from_bytes(&bytes)
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Fingerprint, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
