//! Reading a request so that what is wrong with it can be told: which member, and how.
//!
//! serde's derived code reports precisely what is wrong, but `serde_json::Error` keeps only a
//! sentence. So `serde_json`'s deserializer is wrapped: visitors of our types are driven with an
//! error type that keeps the kind and place of a fault. On its way out through `serde_json` it is
//! parked beside.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

/// What is wrong with a request, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadError {
    /// What.
    pub fault: Fault,
    /// From inside to outside.
    path: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Member(String),
    Item(usize),
}

/// What can be wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It is not JSON. The sentence says why.
    Syntax(String),
    /// A member that is not known.
    UnknownField,
    /// A member that has to be there.
    MissingField,
    /// A member that is there twice.
    DuplicateField,
    /// A value that cannot stand there. The sentence says why.
    Invalid(String),
    /// An array or object with more than [`ITEMS_MAX`] items.
    TooMany,
}

/// Items an array or members an object of a request may have, raw values aside: what is read
/// takes more memory than its text, so it is bounded while it is read.
pub const ITEMS_MAX: usize = 10_000;

impl ReadError {
    fn new(fault: Fault) -> ReadError {
        ReadError { fault, path: Vec::new() }
    }

    fn at(fault: Fault, name: &str) -> ReadError {
        ReadError { fault, path: vec![Step::Member(name.to_owned())] }
    }

    fn inside(mut self, step: Step) -> ReadError {
        self.path.push(step);
        self
    }

    /// The member that is wrong, like `dedup.free_on[1]`; empty for the whole.
    pub fn field(&self) -> String {
        let mut field = String::new();
        for step in self.path.iter().rev() {
            match step {
                Step::Member(name) if field.is_empty() => field.push_str(name),
                Step::Member(name) => field.extend([".", name]),
                Step::Item(index) => field.push_str(&format!("[{index}]")),
            }
        }
        field
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = self.field();
        match &self.fault {
            Fault::Syntax(why) => f.write_str(why),
            Fault::UnknownField => {
                write!(f, "there is no field `{field}` here: check its spelling, or leave it out")
            }
            Fault::MissingField => write!(f, "the field `{field}` must be given"),
            Fault::DuplicateField => write!(f, "the field `{field}` is given twice: keep one of them"),
            Fault::TooMany if field.is_empty() => {
                write!(f, "at most {ITEMS_MAX} items are taken at once: send several requests")
            }
            Fault::TooMany => write!(f, "the field `{field}` has more than {ITEMS_MAX} items"),
            Fault::Invalid(why) if field.is_empty() => write!(f, "the body cannot be used: {why}"),
            Fault::Invalid(why) => write!(f, "the field `{field}` cannot be used: {why}"),
        }
    }
}

impl std::error::Error for ReadError {}

impl de::Error for ReadError {
    fn custom<T: fmt::Display>(why: T) -> ReadError {
        ReadError::new(Fault::Invalid(why.to_string()))
    }

    fn unknown_field(field: &str, _expected: &'static [&'static str]) -> ReadError {
        ReadError::at(Fault::UnknownField, field)
    }

    fn missing_field(field: &'static str) -> ReadError {
        ReadError::at(Fault::MissingField, field)
    }

    fn duplicate_field(field: &'static str) -> ReadError {
        ReadError::at(Fault::DuplicateField, field)
    }
}

/// Reads one JSON text, borrowing from it.
///
/// # Errors
/// [`ReadError`].
pub fn read<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, ReadError> {
    let parked = RefCell::new(None);
    let mut from = serde_json::Deserializer::from_str(json);
    let value = T::deserialize(Tracked { inner: &mut from, parked: &parked })?;
    from.end().map_err(|error| parked.into_inner().unwrap_or_else(|| syntax(&error)))?;
    Ok(value)
}

fn syntax(error: &serde_json::Error) -> ReadError {
    ReadError::new(Fault::Syntax(error.to_string()))
}

type Parked = RefCell<Option<ReadError>>;

/// The fault a call into `serde_json` failed with: the parked one if it was ours.
fn caught<E: de::Error>(parked: &Parked, error: &E) -> ReadError {
    parked.borrow_mut().take().unwrap_or_else(|| ReadError::new(Fault::Syntax(error.to_string())))
}

/// Parks a fault of ours and gives `serde_json` something to fail with.
fn park<E: de::Error>(parked: &Parked, fault: ReadError) -> E {
    *parked.borrow_mut() = Some(fault);
    E::custom("")
}

struct Tracked<'p, T> {
    inner: T,
    parked: &'p Parked,
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Tracked<'_, D> {
    type Error = ReadError;

    // JSON says itself what comes; a visitor that wanted something else tells so.
    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map enum identifier
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let Tracked { inner, parked } = self;
        inner.deserialize_any(Tracked { inner: visitor, parked }).map_err(|error| caught(parked, &error))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.deserialize_any(OnlyObject(visitor))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let Tracked { inner, parked } = self;
        inner.deserialize_option(Tracked { inner: visitor, parked }).map_err(|error| caught(parked, &error))
    }

    /// Raw values come this way, under a name that `serde_json` knows.
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let Tracked { inner, parked } = self;
        inner
            .deserialize_newtype_struct(name, Tracked { inner: visitor, parked })
            .map_err(|error| caught(parked, &error))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let Tracked { inner, parked } = self;
        inner
            .deserialize_ignored_any(Tracked { inner: visitor, parked })
            .map_err(|error| caught(parked, &error))
    }
}

impl<'p, V> Tracked<'p, V> {
    fn visit<T, E: de::Error>(self, visit: impl FnOnce(V) -> Result<T, ReadError>) -> Result<T, E> {
        visit(self.inner).map_err(|fault| park(self.parked, fault))
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Tracked<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<V::Value, E> {
        self.visit(|visitor| visitor.visit_bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<V::Value, E> {
        self.visit(|visitor| visitor.visit_i64(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<V::Value, E> {
        self.visit(|visitor| visitor.visit_u64(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<V::Value, E> {
        self.visit(|visitor| visitor.visit_f64(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<V::Value, E> {
        self.visit(|visitor| visitor.visit_str(value))
    }

    fn visit_borrowed_str<E: de::Error>(self, value: &'de str) -> Result<V::Value, E> {
        self.visit(|visitor| visitor.visit_borrowed_str(value))
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<V::Value, E> {
        self.visit(|visitor| visitor.visit_string(value))
    }

    fn visit_unit<E: de::Error>(self) -> Result<V::Value, E> {
        self.visit(|visitor| visitor.visit_unit())
    }

    fn visit_none<E: de::Error>(self) -> Result<V::Value, E> {
        self.visit(|visitor| visitor.visit_none())
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        let parked = self.parked;
        self.visit(|visitor| visitor.visit_some(Tracked { inner, parked }))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        let parked = self.parked;
        self.visit(|visitor| visitor.visit_newtype_struct(Tracked { inner, parked }))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let parked = self.parked;
        self.visit(|visitor| visitor.visit_seq(Items { inner, parked, index: 0 }))
    }

    fn visit_map<A: MapAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let parked = self.parked;
        self.visit(|visitor| visitor.visit_map(Members { inner, parked, name: Cow::Borrowed(""), count: 0 }))
    }
}

/// Derived structs would also take an array of their fields in order.
struct OnlyObject<V>(V);

impl<'de, V: Visitor<'de>> Visitor<'de> for OnlyObject<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(map)
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Tracked<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        let parked = self.parked;
        self.visit(|seed| seed.deserialize(Tracked { inner, parked }))
    }
}

struct Items<'p, A> {
    inner: A,
    parked: &'p Parked,
    index: usize,
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Items<'_, A> {
    type Error = ReadError;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, ReadError> {
        let parked = self.parked;
        let index = self.index;
        self.index += 1;
        if index < ITEMS_MAX {
            return self
                .inner
                .next_element_seed(Tracked { inner: seed, parked })
                .map_err(|error| caught(parked, &error).inside(Step::Item(index)));
        }
        match self.inner.next_element::<de::IgnoredAny>().map_err(|error| caught(parked, &error))? {
            Some(_) => Err(ReadError::new(Fault::TooMany)),
            None => Ok(None),
        }
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

struct Members<'p, 'de, A> {
    inner: A,
    parked: &'p Parked,
    /// Of the member being read.
    name: Cow<'de, str>,
    count: usize,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Members<'_, 'de, A> {
    type Error = ReadError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, ReadError> {
        self.count += 1;
        if self.count > ITEMS_MAX + 1 {
            return Err(ReadError::new(Fault::TooMany));
        }
        let (parked, name) = (self.parked, &mut self.name);
        // A fault of a name, such as being unknown, carries the name itself.
        self.inner.next_key_seed(Name { seed, parked, name }).map_err(|error| caught(parked, &error))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, ReadError> {
        let parked = self.parked;
        self.inner
            .next_value_seed(Tracked { inner: seed, parked })
            .map_err(|error| caught(parked, &error).inside(Step::Member(self.name.to_string())))
    }
}

/// Reads a member's name, keeping it for the case that its value is wrong.
struct Name<'p, 'n, 'de, S> {
    seed: S,
    parked: &'p Parked,
    name: &'n mut Cow<'de, str>,
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Name<'_, '_, 'de, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        let Name { seed, parked, name } = self;
        *name = crate::Text::deserialize(inner)?.0;
        let again = NameAgain(name.clone());
        seed.deserialize(again).map_err(|fault| park(parked, fault))
    }
}

struct NameAgain<'de>(Cow<'de, str>);

impl<'de> Deserializer<'de> for NameAgain<'de> {
    type Error = ReadError;

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.0 {
            Cow::Borrowed(name) => visitor.visit_borrowed_str(name),
            Cow::Owned(name) => visitor.visit_string(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::value::RawValue;

    use super::*;
    use crate::{Headers, Span, Text};

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer<'a> {
        #[serde(borrow)]
        text: Option<Text<'a>>,
        #[serde(borrow)]
        raw: Option<&'a RawValue>,
        #[serde(borrow, default)]
        items: Vec<Inner<'a>>,
        #[serde(borrow)]
        headers: Option<Headers<'a>>,
        small: Option<i16>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner<'a> {
        #[serde(borrow)]
        wait: Span<'a>,
    }

    fn fault(json: &str) -> (Fault, String) {
        let error = read::<Outer<'_>>(json).unwrap_err();
        (error.fault.clone(), error.field())
    }

    #[test]
    fn texts_and_raw_values_are_borrowed_as_they_were_sent() {
        let json = r#" {"text":"plain","raw":{ "b": 1.0 , "a": [ ]},"items":[{"wait":5},{"wait":"1s"}]} "#;
        let outer: Outer<'_> = read(json).unwrap();
        assert!(matches!(outer.text, Some(Text(Cow::Borrowed("plain")))));
        assert_eq!(outer.raw.unwrap().get(), r#"{ "b": 1.0 , "a": [ ]}"#);
        assert_eq!(outer.small, None);
        assert_eq!(
            outer.items.iter().map(|i| i.wait.clone()).collect::<Vec<_>>(),
            [Span::Ms(5), "1s".into()]
        );
        let escaped: Outer<'_> = read(r#"{"te\u0078t":"a\nb","raw":null,"headers":{"A\t":"1"}}"#).unwrap();
        assert_eq!(escaped.text.as_deref(), Some("a\nb"));
        assert_eq!(&*escaped.headers.unwrap().0[0].0, "A\t");
    }

    #[test]
    fn a_fault_names_its_member() {
        assert_eq!(fault(r#"{"nope":1}"#), (Fault::UnknownField, "nope".into()));
        assert_eq!(fault(r#"{"n\u006fpe":1}"#), (Fault::UnknownField, "nope".into()));
        assert_eq!(
            fault(r#"{"items":[{"wait":1},{"weit":1}]}"#),
            (Fault::UnknownField, "items[1].weit".into())
        );
        assert_eq!(fault(r#"{"items":[{}]}"#), (Fault::MissingField, "items[0].wait".into()));
        assert_eq!(fault(r#"{"text":"a","text":"a"}"#), (Fault::DuplicateField, "text".into()));
        for (json, field) in [
            (r#"{"text":1}"#, "text"),
            (r#"{"small":40000}"#, "small"),
            (r#"{"small":1.5}"#, "small"),
            (r#"{"items":{}}"#, "items"),
            (r#"{"items":[[5]]}"#, "items[0]"),
            (r#"{"items":[{"wait":1.5}]}"#, "items[0].wait"),
            (r#"{"headers":{"A":[]}}"#, "headers.A"),
            ("[]", ""),
            ("null", ""),
        ] {
            let (fault, at) = fault(json);
            assert!(matches!(fault, Fault::Invalid(_)), "{json}: {fault:?}");
            assert_eq!(at, field, "{json}");
        }
    }

    #[test]
    fn nothing_is_read_without_bound() {
        let many = |count: usize| format!("[{}]", vec!["1"; count].join(","));
        assert_eq!(read::<Vec<u8>>(&many(ITEMS_MAX)).unwrap().len(), ITEMS_MAX);
        assert_eq!(read::<Vec<u8>>(&many(ITEMS_MAX + 1)).unwrap_err().fault, Fault::TooMany);
        let members = |count: usize| {
            let members: Vec<String> = (0..count).map(|n| format!("\"h{n}\":\"\"")).collect();
            format!("{{\"headers\":{{{}}}}}", members.join(","))
        };
        assert!(read::<Outer<'_>>(&members(ITEMS_MAX)).is_ok());
        assert_eq!(fault(&members(ITEMS_MAX + 1)), (Fault::TooMany, "headers".into()));
    }

    #[test]
    fn what_is_not_json_is_told_apart_from_what_is_not_wanted() {
        for json in
            ["", "{", "{}x", r#"{"text":"\ud800"}"#, r#"{"raw":[}"#, r#"{"text" "a"}"#, "{\"a\x01\":1}"]
        {
            assert!(matches!(fault(json).0, Fault::Syntax(_)), "{json}");
        }
    }
}
