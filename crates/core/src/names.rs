//! Names a caller chooses, parsed at the edge: queue names, dedup keys, groups and the rest.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::limits;

/// Why a name was refused. The sentence says what a good one looks like.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidName {
    /// Not `[A-Za-z0-9._-]{1,128}`.
    #[error("a queue name is 1 to 128 of the characters A-Z a-z 0-9 . _ -")]
    Queue,
    /// Nothing but white space, or nothing at all.
    #[error("a {what} must not be blank")]
    Blank {
        /// Which name.
        what: &'static str,
    },
    /// More Unicode scalars than allowed.
    #[error("a {what} has at most {max} characters")]
    TooLong {
        /// Which name.
        what: &'static str,
        /// The limit, in Unicode scalars.
        max: usize,
    },
    /// A control character inside.
    #[error("a {what} must not contain control characters")]
    Control {
        /// Which name.
        what: &'static str,
    },
    /// Not a W3C trace context header.
    #[error("traceparent must look like 00-<32 hex>-<16 hex>-<2 hex>")]
    TraceParent,
}

fn checked_text(text: &str, what: &'static str, max: usize) -> Result<(), InvalidName> {
    if text.chars().all(char::is_whitespace) {
        return Err(InvalidName::Blank { what });
    }
    // A scalar is at most four bytes: long texts are refused without being counted.
    if text.len() > max * 4 || text.chars().count() > max {
        return Err(InvalidName::TooLong { what, max });
    }
    if text.chars().any(char::is_control) {
        return Err(InvalidName::Control { what });
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Parses it, or says why not.
            ///
            /// # Errors
            /// [`InvalidName`] with a sentence for the caller.
            pub fn new(text: impl AsRef<str>) -> Result<$name, InvalidName> {
                let text = text.as_ref();
                let check: fn(&str) -> Result<(), InvalidName> = $check;
                check(text)?;
                Ok($name(Arc::from(text)))
            }

            /// The text, byte for byte as given.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<$name, InvalidName> {
                $name::new(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                $name::new(text).map_err(serde::de::Error::custom)
            }
        }
    };
}

name!(
    /// The name of a queue: `[A-Za-z0-9._-]{1,128}`.
    QueueName,
    |text| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let fits = (1..=limits::QUEUE_NAME_CHARS_MAX).contains(&text.len());
        if fits && text.bytes().all(allowed) { Ok(()) } else { Err(InvalidName::Queue) }
    }
);
name!(
    /// The caller's dedup key within a queue: 1 to 255 Unicode scalars, no controls, not blank,
    /// compared byte for byte, never normalised.
    Key,
    |text| checked_text(text, "key", limits::KEY_CHARS_MAX)
);
name!(
    /// Jobs of one group in a queue run one at a time, in order of acceptance (I8). Same form as a key.
    Group,
    |text| checked_text(text, "group", limits::KEY_CHARS_MAX)
);
name!(
    /// What the key of an effect is unique in: a job's id, or any name. Same form as a key.
    EffectScope,
    |text| checked_text(text, "scope", limits::KEY_CHARS_MAX)
);
name!(
    /// What sort of work a job is, for people and filters: 1 to 128 characters.
    Kind,
    |text| checked_text(text, "kind", limits::KIND_CHARS_MAX)
);
name!(
    /// A word to find jobs by: 1 to 64 characters.
    Label,
    |text| checked_text(text, "label", limits::LABEL_CHARS_MAX)
);
name!(
    /// Who holds a lease, as it names itself: 1 to 255 characters.
    WorkerName,
    |text| checked_text(text, "worker name", limits::KEY_CHARS_MAX)
);
name!(
    /// A W3C trace context `traceparent` (version 00), carried but never interpreted.
    TraceParent,
    |text| {
        let hex = |part: &str, len: usize| {
            part.len() == len && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        let mut parts = text.split('-');
        let well_formed = [2, 32, 16, 2].iter().all(|len| parts.next().is_some_and(|part| hex(part, *len)));
        if well_formed && parts.next().is_none() { Ok(()) } else { Err(InvalidName::TraceParent) }
    }
);

impl EffectScope {
    /// The scope of a job's own steps: its id.
    pub fn of_job(id: crate::JobId) -> EffectScope {
        EffectScope(Arc::from(id.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_names_are_a_small_alphabet() {
        assert!(QueueName::new("a.B_c-9").is_ok());
        assert!(QueueName::new("q".repeat(128)).is_ok());
        for bad in ["", "a b", "ä", "a/b", &"q".repeat(129)] {
            assert_eq!(QueueName::new(bad), Err(InvalidName::Queue), "{bad}");
        }
    }

    #[test]
    fn keys_are_255_scalars_not_blank_without_controls_and_never_normalised() {
        assert!(Key::new("é".repeat(255)).is_ok());
        assert!(Key::new("😀".repeat(255)).is_ok());
        assert_eq!(Key::new("é".repeat(256)), Err(InvalidName::TooLong { what: "key", max: 255 }));
        for blank in ["", " ", "\u{3000}", "\t "] {
            assert_eq!(Key::new(blank), Err(InvalidName::Blank { what: "key" }));
        }
        for control in ["a\0", "a\n", "a\u{85}"] {
            assert_eq!(Key::new(control), Err(InvalidName::Control { what: "key" }));
        }
        assert_ne!(Key::new("e\u{301}").unwrap(), Key::new("\u{e9}").unwrap());
        assert_eq!(Key::new(" a ").unwrap().as_str(), " a ");
    }

    #[test]
    fn traceparent_is_checked_for_form_only() {
        assert!(TraceParent::new("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").is_ok());
        assert!(TraceParent::new("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7").is_err());
        assert!(TraceParent::new("00-4BF92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").is_err());
    }
}
