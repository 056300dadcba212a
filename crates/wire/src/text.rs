//! Texts, durations and header lists that are read without copying where JSON allows it.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};

/// A text, borrowed from the request unless it had escapes in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Text<'a>(pub Cow<'a, str>);

impl Text<'_> {
    /// The text, owned.
    pub fn into_owned(self) -> String {
        self.0.into_owned()
    }
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Text<'a> {
        Text(Cow::Borrowed(text))
    }
}

impl From<String> for Text<'_> {
    fn from(text: String) -> Self {
        Text(Cow::Owned(text))
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Owned(text)))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text<'a>, D::Error> {
        deserializer.deserialize_str(TextVisitor)
    }
}

/// A duration: a text such as `"1h30m"`, or an integer of milliseconds. What it may be is for the
/// server to say, which knows the field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Span<'a> {
    /// As text.
    Text(Text<'a>),
    /// In milliseconds.
    Ms(i64),
}

impl<'a> From<&'a str> for Span<'a> {
    fn from(text: &'a str) -> Span<'a> {
        Span::Text(text.into())
    }
}

impl fmt::Display for Span<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Span::Text(text) => f.write_str(text),
            Span::Ms(ms) => write!(f, "{ms}ms"),
        }
    }
}

impl From<String> for Span<'_> {
    fn from(text: String) -> Self {
        Span::Text(text.into())
    }
}

impl Serialize for Span<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Span::Text(text) => text.serialize(serializer),
            Span::Ms(ms) => serializer.serialize_i64(*ms),
        }
    }
}

struct SpanVisitor;

impl<'de> Visitor<'de> for SpanVisitor {
    type Value = Span<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration like \"1h30m\", or an integer of milliseconds")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Span<'de>, E> {
        TextVisitor.visit_borrowed_str(text).map(Span::Text)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Span<'de>, E> {
        TextVisitor.visit_str(text).map(Span::Text)
    }

    fn visit_i64<E: de::Error>(self, ms: i64) -> Result<Span<'de>, E> {
        Ok(Span::Ms(ms))
    }

    fn visit_u64<E: de::Error>(self, ms: u64) -> Result<Span<'de>, E> {
        // Both ends of the range are far outside what is allowed.
        Ok(Span::Ms(i64::try_from(ms).unwrap_or(i64::MAX)))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Span<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Span<'a>, D::Error> {
        deserializer.deserialize_any(SpanVisitor)
    }
}

/// Headers handed on with a job, in order: a JSON object on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Headers<'a>(pub Vec<(Text<'a>, Text<'a>)>);

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

struct HeadersVisitor;

impl<'de> Visitor<'de> for HeadersVisitor {
    type Value = Headers<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of header names and values")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Headers<'de>, A::Error> {
        let mut headers: Vec<(Text<'de>, Text<'de>)> = Vec::new();
        while let Some(header) = map.next_entry()? {
            headers.push(header);
        }
        Ok(Headers(headers))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Headers<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Headers<'a>, D::Error> {
        deserializer.deserialize_map(HeadersVisitor)
    }
}

/// For members where `null` is not the same as absent: reads any value that is there, `null`
/// included. Used with `#[serde(default, deserialize_with = "present")]`.
///
/// # Errors
/// Those of `T`.
pub fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

#[cfg(feature = "openapi")]
mod openapi {
    use std::borrow::Cow;
    use std::collections::BTreeMap;

    use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Type};
    use utoipa::openapi::{RefOr, Schema};
    use utoipa::{PartialSchema, ToSchema};

    use super::{Headers, Span, Text};

    impl PartialSchema for Text<'_> {
        fn schema() -> RefOr<Schema> {
            String::schema()
        }
    }

    impl ToSchema for Text<'_> {
        fn name() -> Cow<'static, str> {
            Cow::Borrowed("Text")
        }
    }

    impl PartialSchema for Span<'_> {
        fn schema() -> RefOr<Schema> {
            let text = ObjectBuilder::new().schema_type(Type::String).examples(["1h30m", "250ms"]);
            let ms = ObjectBuilder::new()
                .schema_type(Type::Integer)
                .minimum(Some(0))
                .description(Some("Milliseconds"));
            OneOfBuilder::new().item(text).item(ms).into()
        }
    }

    impl ToSchema for Span<'_> {
        fn name() -> Cow<'static, str> {
            Cow::Borrowed("Duration")
        }
    }

    impl PartialSchema for Headers<'_> {
        fn schema() -> RefOr<Schema> {
            BTreeMap::<String, String>::schema()
        }
    }

    impl ToSchema for Headers<'_> {
        fn name() -> Cow<'static, str> {
            Cow::Borrowed("Headers")
        }
    }
}
