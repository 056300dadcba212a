//! Signatures of Standard Webhooks 1.0.0: HMAC-SHA256 (`whsec_`, `v1`) and ed25519 (`whsk_` and `whpk_`, `v1a`).
//!
//! Signed is `id.timestamp.body`, the body byte for byte. With several keys there are several signatures, so that a key
//! can be changed without a delivery refused: the old one signs along until its time is over.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use aws_lc_rs::{constant_time, hmac};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use onefold_core::{DurationMs, Timestamp};
use thiserror::Error;

/// Keys that sign one delivery at the most.
pub const SIGNING_KEYS_MAX: usize = 10;
/// How old or early a signature may be that is verified, unless asked otherwise.
pub const TOLERANCE: DurationMs = DurationMs::from_ms(300_000);

/// A key that signs: `whsec_` and base64 of 24 to 64 random bytes, shared with the receiver, or `whsk_` and base64 of the
/// 32-byte seed of an ed25519 key, or of seed and public key. Shown without its secret.
#[derive(Clone)]
pub struct SigningKey(Signer);

#[derive(Clone)]
enum Signer {
    Hmac(Arc<hmac::Key>),
    Ed25519(Arc<Ed25519KeyPair>),
}

/// A text that is no key. It does not repeat the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidKey {
    /// Begins with nothing known.
    #[error(
        "a signing key begins with whsec_ (HMAC) or whsk_ (ed25519), a verifying key with whsec_ or whpk_"
    )]
    Prefix,
    /// Not base64.
    #[error("what follows the prefix of a key is base64")]
    Base64,
    /// Too short or too long.
    #[error("a whsec_ key has 24 to 64 bytes, a whsk_ key 32 or 64, a whpk_ key 32")]
    Length,
    /// The public half is not that of the private half.
    #[error("the two halves of this ed25519 key do not belong together")]
    Halves,
}

impl SigningKey {
    /// The text of a key that is shared with receivers, of 24 to 64 random bytes.
    pub fn shared_text(secret: &[u8]) -> String {
        format!("whsec_{}", BASE64_STANDARD.encode(secret))
    }

    /// The text of an ed25519 key, of 32 random bytes.
    pub fn ed25519_text(seed: &[u8]) -> String {
        format!("whsk_{}", BASE64_STANDARD.encode(seed))
    }

    fn version(&self) -> &'static str {
        match self.0 {
            Signer::Hmac(_) => "v1",
            Signer::Ed25519(_) => "v1a",
        }
    }

    fn sign(&self, message: &[u8]) -> String {
        let encode = |bytes: &[u8]| format!("{},{}", self.version(), BASE64_STANDARD.encode(bytes));
        match &self.0 {
            Signer::Hmac(key) => encode(hmac::sign(key, message).as_ref()),
            Signer::Ed25519(key) => encode(key.sign(message).as_ref()),
        }
    }

    /// What a receiver verifies with.
    pub fn verifying_key(&self) -> VerifyingKey {
        match &self.0 {
            Signer::Hmac(key) => VerifyingKey(Verifier::Hmac(Arc::clone(key))),
            Signer::Ed25519(key) => {
                let mut public = [0; 32];
                public.copy_from_slice(key.public_key().as_ref());
                VerifyingKey(Verifier::Ed25519(public))
            }
        }
    }
}

impl FromStr for SigningKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<SigningKey, InvalidKey> {
        if let Some(secret) = text.strip_prefix("whsec_") {
            return shared_secret(secret).map(|key| SigningKey(Signer::Hmac(key)));
        }
        let bytes = decode(text.strip_prefix("whsk_").ok_or(InvalidKey::Prefix)?)?;
        let pair = match bytes.len() {
            32 => Ed25519KeyPair::from_seed_unchecked(&bytes).map_err(|_| InvalidKey::Length)?,
            64 => {
                let (seed, public) = bytes.split_at(32);
                Ed25519KeyPair::from_seed_and_public_key(seed, public).map_err(|_| InvalidKey::Halves)?
            }
            _ => return Err(InvalidKey::Length),
        };
        Ok(SigningKey(Signer::Ed25519(Arc::new(pair))))
    }
}

fn shared_secret(base64: &str) -> Result<Arc<hmac::Key>, InvalidKey> {
    let secret = decode(base64)?;
    if !(24..=64).contains(&secret.len()) {
        return Err(InvalidKey::Length);
    }
    Ok(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &secret)))
}

fn decode(base64: &str) -> Result<Vec<u8>, InvalidKey> {
    BASE64_STANDARD.decode(base64).map_err(|_| InvalidKey::Base64)
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({}, …)", self.version())
    }
}

/// The keys of a target: those that sign for good, and those that only sign until a time.
#[derive(Debug, Clone, Default)]
pub struct SigningKeys {
    keys: Vec<(SigningKey, Option<Timestamp>)>,
}

/// More keys than [`SIGNING_KEYS_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a target has at most {SIGNING_KEYS_MAX} signing keys: remove one that no receiver uses any more")]
pub struct TooManyKeys;

impl SigningKeys {
    /// None: deliveries are not signed.
    pub fn none() -> SigningKeys {
        SigningKeys::default()
    }

    /// Just one.
    pub fn one(key: SigningKey) -> SigningKeys {
        SigningKeys { keys: vec![(key, None)] }
    }

    /// Several, newest first, each with the time until which it signs, if not for good.
    ///
    /// # Errors
    /// [`TooManyKeys`].
    pub fn new(keys: Vec<(SigningKey, Option<Timestamp>)>) -> Result<SigningKeys, TooManyKeys> {
        if keys.len() > SIGNING_KEYS_MAX {
            return Err(TooManyKeys);
        }
        Ok(SigningKeys { keys })
    }

    /// How many there are, also of those whose time is over.
    pub fn count(&self) -> usize {
        self.keys.len()
    }

    /// The value of `webhook-signature`, newest key first; `None` without a key.
    ///
    /// `id` must hold no dot, which ids of jobs do not.
    pub fn sign(&self, id: &str, now: Timestamp, body: &[u8]) -> Option<String> {
        let mut message = signed_head(id, &webhook_timestamp(now));
        message.extend_from_slice(body);
        let current = self.keys.iter().filter(|(_, until)| until.is_none_or(|until| now < until));
        let signatures: Vec<String> = current.map(|(key, _)| key.sign(&message)).collect();
        (!signatures.is_empty()).then(|| signatures.join(" "))
    }
}

/// The value of `webhook-timestamp`: unix seconds of the attempt.
pub fn webhook_timestamp(now: Timestamp) -> String {
    now.as_unix_ms().div_euclid(1000).to_string()
}

fn signed_head(id: &str, timestamp: &str) -> Vec<u8> {
    format!("{id}.{timestamp}.").into_bytes()
}

/// A key that verifies: `whsec_`, the shared one, or `whpk_` and base64 of the 32 bytes of an ed25519 public key.
#[derive(Clone)]
pub struct VerifyingKey(Verifier);

#[derive(Clone)]
enum Verifier {
    Hmac(Arc<hmac::Key>),
    Ed25519([u8; 32]),
}

impl VerifyingKey {
    /// `whpk_` and base64, to be given to receivers; `None` for a shared key, which is nobody else's business.
    pub fn public_text(&self) -> Option<String> {
        match &self.0 {
            Verifier::Hmac(_) => None,
            Verifier::Ed25519(public) => Some(format!("whpk_{}", BASE64_STANDARD.encode(public))),
        }
    }
}

impl FromStr for VerifyingKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<VerifyingKey, InvalidKey> {
        if let Some(secret) = text.strip_prefix("whsec_") {
            return shared_secret(secret).map(|key| VerifyingKey(Verifier::Hmac(key)));
        }
        let bytes = decode(text.strip_prefix("whpk_").ok_or(InvalidKey::Prefix)?)?;
        bytes.try_into().map(|public| VerifyingKey(Verifier::Ed25519(public))).map_err(|_| InvalidKey::Length)
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({})", self.public_text().as_deref().unwrap_or("v1, …"))
    }
}

/// Why a delivery is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NotGenuine {
    /// The time is not unix seconds.
    #[error("webhook-timestamp is not a number of seconds")]
    Timestamp,
    /// Signed too long ago.
    #[error("the signature is older than tolerated")]
    TooOld,
    /// Signed in the future.
    #[error("the signature is from the future")]
    TooNew,
    /// No signature fits.
    #[error("no signature fits the keys")]
    Signature,
}

/// What a receiver does: checks the three headers over the raw body. Comparing takes the same time wherever two
/// signatures differ, and all signatures are tried with all keys.
///
/// # Errors
/// [`NotGenuine`].
pub fn verify(
    keys: &[VerifyingKey],
    (id, timestamp, signatures): (&str, &str, &str),
    body: &[u8],
    now: Timestamp,
    tolerance: DurationMs,
) -> Result<(), NotGenuine> {
    let digits = !timestamp.is_empty() && timestamp.bytes().all(|byte| byte.is_ascii_digit());
    let seconds: i64 = if digits { timestamp.parse().ok() } else { None }.ok_or(NotGenuine::Timestamp)?;
    let signed_at =
        seconds.checked_mul(1000).and_then(Timestamp::from_unix_ms).ok_or(NotGenuine::Timestamp)?;
    if now.since(signed_at) > tolerance {
        return Err(NotGenuine::TooOld);
    }
    if signed_at.since(now) > tolerance {
        return Err(NotGenuine::TooNew);
    }
    let mut message = signed_head(id, timestamp);
    message.extend_from_slice(body);
    let mut genuine = false;
    for signature in signatures.split(' ') {
        let Some((version, base64)) = signature.split_once(',') else { continue };
        let Ok(given) = BASE64_STANDARD.decode(base64) else { continue };
        for key in keys {
            genuine |= match (version, &key.0) {
                ("v1", Verifier::Hmac(key)) => {
                    let expected = hmac::sign(key, &message);
                    constant_time::verify_slices_are_equal(expected.as_ref(), &given).is_ok()
                }
                ("v1a", Verifier::Ed25519(public)) => {
                    UnparsedPublicKey::new(&ED25519, public).verify(&message, &given).is_ok()
                }
                _ => false,
            };
        }
    }
    if genuine { Ok(()) } else { Err(NotGenuine::Signature) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // The example that the libraries of Standard Webhooks and Svix are tested with.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const BODY: &[u8] = b"{\"test\": 2432232314}";
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_ms(seconds * 1000).unwrap()
    }

    fn now() -> Timestamp {
        at(1_614_265_330)
    }

    fn key(text: &str) -> SigningKey {
        text.parse().unwrap()
    }

    fn hmac_key(byte: u8) -> SigningKey {
        key(&format!("whsec_{}", BASE64_STANDARD.encode([byte; 32])))
    }

    #[test]
    fn the_published_example_comes_out() {
        let keys = SigningKeys::one(key(SECRET));
        assert_eq!(keys.sign(ID, now(), BODY).unwrap(), SIGNATURE);
        assert_eq!(webhook_timestamp(now()), "1614265330");
        assert_eq!(
            verify(&[SECRET.parse().unwrap()], (ID, "1614265330", SIGNATURE), BODY, now(), TOLERANCE),
            Ok(())
        );
    }

    #[test]
    fn ed25519_is_that_of_rfc_8032() {
        // Section 7.1, test 1: the seed and its public key.
        let seed = [
            0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4,
            0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
        ];
        let public = [
            0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a,
            0x0e, 0xe1, 0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a,
        ];
        let short = key(&format!("whsk_{}", BASE64_STANDARD.encode(seed)));
        let long = key(&format!("whsk_{}", BASE64_STANDARD.encode([seed, public].concat())));
        for signing in [short, long] {
            let expected = format!("whpk_{}", BASE64_STANDARD.encode(public));
            assert_eq!(signing.verifying_key().public_text(), Some(expected));
            let signature = SigningKeys::one(signing).sign(ID, now(), BODY).unwrap();
            assert!(signature.starts_with("v1a,"), "{signature}");
            let verifying: VerifyingKey = format!("whpk_{}", BASE64_STANDARD.encode(public)).parse().unwrap();
            assert_eq!(verify(&[verifying], (ID, "1614265330", &signature), BODY, now(), TOLERANCE), Ok(()));
        }
        let wrong = format!("whsk_{}", BASE64_STANDARD.encode([seed, seed].concat()));
        assert_eq!(wrong.parse::<SigningKey>().unwrap_err(), InvalidKey::Halves);
    }

    #[test]
    fn w_14_while_keys_change_both_sign_and_then_the_new_one_alone() {
        let (old, new) = (hmac_key(1), hmac_key(2));
        let until = Some(at(1_614_351_730));
        let keys = SigningKeys::new(vec![(new.clone(), None), (old.clone(), until)]).unwrap();
        let believes = |key: &SigningKey, when: Timestamp| {
            let signature = keys.sign(ID, when, BODY).unwrap();
            let headers = (ID, webhook_timestamp(when), signature);
            let headers = (headers.0, headers.1.as_str(), headers.2.as_str());
            verify(&[key.verifying_key()], headers, BODY, when, TOLERANCE).is_ok()
        };
        assert!(believes(&old, now()) && believes(&new, now()));
        assert!(believes(&old, at(1_614_351_729)));
        assert!(!believes(&old, at(1_614_351_730)) && believes(&new, at(1_614_351_730)));
    }

    #[test]
    fn keys_are_limited() {
        let of = |count: u8| SigningKeys::new((1..=count).map(|byte| (hmac_key(byte), None)).collect());
        assert_eq!(of(10).unwrap().sign(ID, now(), BODY).unwrap().split(' ').count(), SIGNING_KEYS_MAX);
        assert_eq!(of(11).unwrap_err(), TooManyKeys);
        assert_eq!(SigningKeys::none().sign(ID, now(), BODY), None);
    }

    #[test]
    fn what_is_no_key_is_refused_and_no_key_is_shown() {
        let of = |prefix: &str, bytes: usize| format!("{prefix}{}", BASE64_STANDARD.encode(vec![7; bytes]));
        for (text, why) in [
            (String::new(), InvalidKey::Prefix),
            ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned(), InvalidKey::Prefix),
            (of("whpk_", 32), InvalidKey::Prefix),
            ("whsec_?".to_owned(), InvalidKey::Base64),
            (of("whsec_", 23), InvalidKey::Length),
            (of("whsec_", 65), InvalidKey::Length),
            (of("whsk_", 31), InvalidKey::Length),
            (of("whsk_", 33), InvalidKey::Length),
        ] {
            assert_eq!(text.parse::<SigningKey>().unwrap_err(), why, "{text}");
        }
        assert!(
            of("whsec_", 24).parse::<SigningKey>().is_ok() && of("whsec_", 64).parse::<SigningKey>().is_ok()
        );
        assert_eq!(of("whpk_", 31).parse::<VerifyingKey>().unwrap_err(), InvalidKey::Length);
        assert_eq!(format!("{:?}", key(SECRET)), "SigningKey(v1, …)");
        assert!(!format!("{:?}", SigningKeys::one(key(SECRET))).contains("MfKQ"));
    }

    #[test]
    fn what_is_not_genuine_is_not_believed() {
        let keys = [SECRET.parse().unwrap()];
        let check = |headers, body: &[u8], now| verify(&keys, headers, body, now, TOLERANCE);
        let good = (ID, "1614265330", SIGNATURE);
        assert_eq!(check(good, b"{\"test\": 2432232315}", now()), Err(NotGenuine::Signature));
        assert_eq!(check(("msg_other", good.1, good.2), BODY, now()), Err(NotGenuine::Signature));
        assert_eq!(check((ID, "1614265331", SIGNATURE), BODY, now()), Err(NotGenuine::Signature));
        assert_eq!(check(good, BODY, at(1_614_265_631)), Err(NotGenuine::TooOld));
        assert_eq!(check(good, BODY, at(1_614_265_630)), Ok(()));
        assert_eq!(check(good, BODY, at(1_614_265_029)), Err(NotGenuine::TooNew));
        for timestamp in ["", "x", "-1", "+1614265330", "1614265330.0", "99999999999999999999"] {
            assert_eq!(
                check((ID, timestamp, SIGNATURE), BODY, now()),
                Err(NotGenuine::Timestamp),
                "{timestamp}"
            );
        }
        for signatures in [
            "",
            "v1",
            "v1,",
            "v1,AAAA",
            "v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            "v1a,AAAA",
            "v1,!",
        ] {
            assert_eq!(
                check((ID, good.1, signatures), BODY, now()),
                Err(NotGenuine::Signature),
                "{signatures}"
            );
        }
        let among_others = format!("v1,AAAA v1a,AAAA {SIGNATURE}");
        assert_eq!(check((ID, good.1, &among_others), BODY, now()), Ok(()));
    }

    proptest! {
        /// W-16: any bytes, not only text.
        #[test]
        fn any_body_is_signed_byte_for_byte(body in proptest::collection::vec(any::<u8>(), 0..2000), flip in any::<u16>()) {
            let keys = SigningKeys::one(hmac_key(9));
            let signature = keys.sign(ID, now(), &body).unwrap();
            let check = |body: &[u8]| {
                verify(&[hmac_key(9).verifying_key()], (ID, "1614265330", &signature), body, now(), TOLERANCE)
            };
            prop_assert_eq!(check(&body), Ok(()));
            if !body.is_empty() {
                let mut other = body.clone();
                let place = usize::from(flip) % other.len();
                other[place] ^= 1;
                prop_assert_eq!(check(&other), Err(NotGenuine::Signature));
            }
        }
    }
}
