use std::collections::HashSet;

use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::canonical::CanonicalErrorKind;

/// Computed by a script that shares no code with ours.
const VECTORS: &str = include_str!("../../../../testing/conformance/vectors/fingerprint.json");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vectors {
    computed: Vec<Computed>,
    custom: Vec<Custom>,
    refused: Vec<Refused>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Computed {
    name: String,
    kind: Option<String>,
    content_type: Option<String>,
    payload: Option<Form>,
    target_method: Option<String>,
    target_url: Option<String>,
    fingerprint: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Custom {
    name: String,
    custom: String,
    fingerprint: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Refused {
    name: String,
    payload: Form,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Form {
    Json(String),
    Hex(String),
}

fn vectors() -> Vectors {
    serde_json::from_str(VECTORS).unwrap()
}

fn compute(payload: PayloadForm<'_>) -> Result<Fingerprint, CanonicalError> {
    Fingerprint::compute(FingerprintInput { payload, ..FingerprintInput::default() })
}

#[test]
fn computed_vectors_agree() {
    let vectors = vectors().computed;
    assert!(vectors.len() >= 30);
    for vector in &vectors {
        let raw: Vec<u8>;
        let payload = match &vector.payload {
            None => PayloadForm::Absent,
            Some(Form::Json(text)) => PayloadForm::Json(text.as_bytes()),
            Some(Form::Hex(digits)) => {
                let pairs = digits.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
                raw = pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
                PayloadForm::Raw(&raw)
            }
        };
        let input = FingerprintInput {
            kind: vector.kind.as_deref(),
            content_type: vector.content_type.as_deref(),
            payload,
            target_method: vector.target_method.as_deref(),
            target_url: vector.target_url.as_deref(),
        };
        let fingerprint = Fingerprint::compute(input).unwrap();
        assert_eq!(fingerprint.to_string(), vector.fingerprint, "{}", vector.name);
        assert!(!fingerprint.is_custom());
    }
    // Only two of them are meant to be the same.
    let different: HashSet<_> = vectors.iter().map(|vector| &vector.fingerprint).collect();
    assert_eq!(different.len(), vectors.len() - 1);
}

#[test]
fn custom_vectors_agree() {
    let vectors = vectors().custom;
    assert!(!vectors.is_empty());
    for vector in vectors {
        let fingerprint = Fingerprint::custom(&vector.custom).unwrap();
        assert_eq!(fingerprint.to_string(), vector.fingerprint, "{}", vector.name);
        assert!(fingerprint.is_custom());
    }
}

#[test]
fn refused_vectors_are_refused_as_json_but_not_as_bytes() {
    let vectors = vectors().refused;
    assert!(!vectors.is_empty());
    for vector in vectors {
        let Form::Json(text) = &vector.payload else { panic!("{}: bytes are never refused", vector.name) };
        assert!(compute(PayloadForm::Json(text.as_bytes())).is_err(), "{}", vector.name);
        assert!(compute(PayloadForm::Raw(text.as_bytes())).is_ok());
    }
    let repeated = compute(PayloadForm::Json(br#"{"a":1,"\u0061":2}"#)).unwrap_err();
    assert_eq!(repeated.kind, CanonicalErrorKind::DuplicateName);
}

#[test]
fn a_text_of_the_callers_has_1_to_255_characters() {
    assert_eq!(Fingerprint::custom(""), Err(InvalidFingerprint::CustomLength));
    for character in ["x", "é", "😀"] {
        assert!(Fingerprint::custom(&character.repeat(255)).is_ok());
        assert_eq!(Fingerprint::custom(&character.repeat(256)), Err(InvalidFingerprint::CustomLength));
    }
}

#[test]
fn text_and_bytes_lead_back() {
    let fingerprint = compute(PayloadForm::Absent).unwrap();
    let text = fingerprint.to_string();
    assert_eq!(text.parse().as_ref(), Ok(&fingerprint));
    assert_eq!(Fingerprint::from_bytes(fingerprint.as_bytes()).as_ref(), Ok(&fingerprint));
    assert_eq!(fingerprint.as_bytes()[0], 1);
    let json = serde_json::to_string(&fingerprint).unwrap();
    assert_eq!(json, format!("\"{text}\""));
    assert_eq!(serde_json::from_str::<Fingerprint>(&json).unwrap(), fingerprint);

    let (longer, upper, not_hex) = (format!("{text}0"), text.to_uppercase(), text.replace('0', "g"));
    for bad in [&text[1..], &longer, &upper, &not_hex, "", &"é".repeat(33)] {
        assert_eq!(bad.parse::<Fingerprint>(), Err(InvalidFingerprint::Form), "{bad}");
    }
    let unknown = InvalidFingerprint::UnknownVersion(2);
    assert_eq!(format!("02{}", &text[2..]).parse::<Fingerprint>(), Err(unknown));
    assert!(unknown.to_string().starts_with("fingerprint version 0x02 is not known"), "{unknown}");
    assert_eq!(Fingerprint::from_bytes(&[1; 32]), Err(InvalidFingerprint::Form));
    assert_eq!(Fingerprint::from_bytes(&[0; 33]), Err(InvalidFingerprint::UnknownVersion(0)));
}

proptest! {
    /// Where one field ends and the next begins is part of what is hashed.
    #[test]
    fn moving_a_byte_to_the_next_field_is_a_difference(
        text in "[a-z]{1,20}",
        cut in any::<prop::sample::Index>(),
    ) {
        let cut = cut.index(text.len());
        let at = |cut: usize| {
            let (kind, content_type) = text.split_at(cut);
            let (kind, content_type) = (Some(kind), Some(content_type));
            let input = FingerprintInput { kind, content_type, ..FingerprintInput::default() };
            Fingerprint::compute(input).unwrap()
        };
        prop_assert_ne!(at(cut), at(cut + 1));
        prop_assert_ne!(at(cut), Fingerprint::custom(&text).unwrap());
    }

    #[test]
    fn any_text_is_a_fingerprint_or_refused(text in "(\\PC{0,70}|0[12][0-9a-g]{64}|81[0-9a-f]{64})") {
        if let Ok(fingerprint) = text.parse::<Fingerprint>() {
            prop_assert_eq!(fingerprint.to_string(), text);
        }
    }
}
