//! The file of signing keys: which keys sign what is delivered where, and for how long.

use std::collections::HashMap;

use onefold_core::{Origin, Timestamp};
use thiserror::Error;

use crate::sign::{InvalidKey, SigningKey, SigningKeys, TooManyKeys};

/// The keys of all targets.
///
/// As text: a key a line, newest first, each with `until` and a time (RFC 3339) if it only signs along until then. What stands
/// before the first `[ORIGIN]` signs for all targets but those of the origins that follow, each of which has the keys below it.
/// Lines that begin with `#` are for people.
#[derive(Debug, Clone, Default)]
pub struct KeyRing {
    others: SigningKeys,
    by_origin: HashMap<Origin, SigningKeys>,
}

/// Why a file of keys cannot be used. It repeats nothing of the line.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}: {why}")]
pub struct InvalidKeyFile {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: BadKeyLine,
}

/// See [`InvalidKeyFile`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadKeyLine {
    /// Not a key.
    #[error("{0}")]
    Key(#[from] InvalidKey),
    /// Something behind the key that is no end of its time.
    #[error("a line is a key, or a key, the word until, and a time like 2026-12-24T18:00:00Z")]
    Until,
    /// Not an origin.
    #[error("an origin stands in brackets and has a scheme and a host, like [https://shop.example:8443]")]
    Origin,
    /// An origin that had a section already.
    #[error("this origin has keys further up: put them together")]
    Twice,
    /// More keys than may sign.
    #[error("{0}")]
    TooMany(#[from] TooManyKeys),
    /// Nothing would be signed once all times are over.
    #[error("one key of each section signs for good: leave `until` out for the newest")]
    NoneForGood,
}

impl KeyRing {
    /// Reads a file of keys. An empty one has none: nothing is signed.
    ///
    /// # Errors
    /// [`InvalidKeyFile`] with the first line that is wrong; of a section as a whole, with the line it begins at.
    pub fn parse(text: &str) -> Result<KeyRing, InvalidKeyFile> {
        let mut ring = KeyRing::default();
        let mut section = Section { origin: None, line: 1, keys: Vec::new() };
        for (line, text) in (1..).zip(text.lines()) {
            let text = text.trim();
            let wrong = |why| InvalidKeyFile { line, why };
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            if text.starts_with('[') {
                let origin = origin(text).ok_or(wrong(BadKeyLine::Origin))?;
                let next = Section { origin: Some(origin), line, keys: Vec::new() };
                ring.put(std::mem::replace(&mut section, next))?;
            } else {
                section.keys.push(key(text).map_err(wrong)?);
            }
        }
        ring.put(section)?;
        Ok(ring)
    }

    fn put(&mut self, section: Section) -> Result<(), InvalidKeyFile> {
        let wrong = |why| InvalidKeyFile { line: section.line, why };
        let for_good = section.keys.iter().any(|(_, until)| until.is_none());
        if !for_good && (section.origin.is_some() || !section.keys.is_empty()) {
            return Err(wrong(BadKeyLine::NoneForGood));
        }
        let keys = SigningKeys::new(section.keys).map_err(|why| wrong(why.into()))?;
        match section.origin {
            None => self.others = keys,
            Some(origin) => {
                if self.by_origin.insert(origin, keys).is_some() {
                    return Err(wrong(BadKeyLine::Twice));
                }
            }
        }
        Ok(())
    }

    /// The keys that sign what goes to this origin.
    pub fn of(&self, origin: &Origin) -> &SigningKeys {
        self.by_origin.get(origin).unwrap_or(&self.others)
    }

    /// How many keys there are, for people.
    pub fn count(&self) -> usize {
        self.by_origin.values().chain([&self.others]).map(SigningKeys::count).sum()
    }
}

struct Section {
    origin: Option<Origin>,
    line: usize,
    keys: Vec<(SigningKey, Option<Timestamp>)>,
}

fn key(line: &str) -> Result<(SigningKey, Option<Timestamp>), BadKeyLine> {
    let mut words = line.split_whitespace();
    let key = words.next().unwrap_or_default().parse()?;
    match (words.next(), words.next(), words.next()) {
        (None, ..) => Ok((key, None)),
        (Some("until"), Some(time), None) => Ok((key, Some(time.parse().map_err(|_| BadKeyLine::Until)?))),
        _ => Err(BadKeyLine::Until),
    }
}

/// The origin in brackets.
fn origin(line: &str) -> Option<Origin> {
    Origin::parse(line.strip_prefix('[')?.strip_suffix(']')?)
}

#[cfg(test)]
mod tests {
    use onefold_core::TargetUrl;

    use super::*;

    const ONE: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const TWO: &str = "whsec_AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB";
    const BODY: &[u8] = b"{}";

    fn at(time: &str) -> Timestamp {
        time.parse().unwrap()
    }

    fn signed(ring: &KeyRing, url: &str, now: &str) -> Option<String> {
        ring.of(&TargetUrl::parse(url).unwrap().origin()).sign("job_1", at(now), BODY)
    }

    fn by(keys: &[&str], now: &str) -> Option<String> {
        let keys = keys.iter().map(|key| (key.parse().unwrap(), None)).collect();
        SigningKeys::new(keys).unwrap().sign("job_1", at(now), BODY)
    }

    const NOW: &str = "2026-11-22T10:00:00Z";

    #[test]
    fn an_origin_with_keys_of_its_own_has_no_others() {
        let text = format!("# ours\n{ONE}\n\n[https://shop.example]\n  {TWO}  \n");
        let ring = KeyRing::parse(&text).unwrap();
        assert_eq!(signed(&ring, "https://shop.example/orders?x", NOW), by(&[TWO], NOW));
        assert_eq!(signed(&ring, "https://SHOP.example:443/", NOW), by(&[TWO], NOW));
        for other in ["http://shop.example/", "https://shop.example:8443/", "https://a.example/"] {
            assert_eq!(signed(&ring, other, NOW), by(&[ONE], NOW), "{other}");
        }
        assert_eq!(ring.count(), 2);
        let only = KeyRing::parse(&format!("[http://127.0.0.1:9000]\n{ONE}")).unwrap();
        assert_eq!(signed(&only, "http://127.0.0.1:9000/", NOW), by(&[ONE], NOW));
        assert_eq!(signed(&only, "http://127.0.0.1:9001/", NOW), None);
        assert_eq!(signed(&KeyRing::parse("\n# none yet\n").unwrap(), "http://a.example/", NOW), None);
    }

    /// W-14.
    #[test]
    fn w_14_an_old_key_signs_along_until_its_time_is_over() {
        let ring = KeyRing::parse(&format!("{TWO}\n{ONE} until 2026-11-23T00:00:00Z")).unwrap();
        let before = "2026-11-22T23:59:59.999Z";
        assert_eq!(signed(&ring, "http://a.example/", before), by(&[TWO, ONE], before));
        let after = "2026-11-23T00:00:00Z";
        assert_eq!(signed(&ring, "http://a.example/", after), by(&[TWO], after));
    }

    #[test]
    fn a_file_that_cannot_be_used_is_refused_with_its_line_and_without_its_secret() {
        let many = format!("{ONE}\n").repeat(crate::SIGNING_KEYS_MAX + 1);
        for (text, line, why) in [
            (format!("{ONE}\nwhsec_hush!"), 2, BadKeyLine::Key(InvalidKey::Base64)),
            (format!("{ONE} until tomorrow"), 1, BadKeyLine::Until),
            (format!("{ONE} and more"), 1, BadKeyLine::Until),
            (format!("{ONE} until"), 1, BadKeyLine::Until),
            (format!("{ONE} until 2026-11-23T00:00:00Z x"), 1, BadKeyLine::Until),
            (format!("# hi\n[shop.example]\n{ONE}"), 2, BadKeyLine::Origin),
            (format!("[https://shop.example/path]\n{ONE}"), 1, BadKeyLine::Origin),
            (format!("[https://shop.example\n{ONE}"), 1, BadKeyLine::Origin),
            (format!("[http://a.example]\n{ONE}\n[http://a.example:80/]\n{TWO}"), 3, BadKeyLine::Twice),
            (many, 1, BadKeyLine::TooMany(TooManyKeys)),
            (format!("{ONE} until 2026-11-23T00:00:00Z"), 1, BadKeyLine::NoneForGood),
            (format!("{ONE}\n[http://a.example]\n"), 2, BadKeyLine::NoneForGood),
        ] {
            let refused = KeyRing::parse(&text).unwrap_err();
            assert_eq!(refused, InvalidKeyFile { line, why }, "{text}");
            let told = format!("{refused} {refused:?}");
            assert!(!told.contains("hush") && !told.contains("MfKQ"), "{told}");
        }
    }

    #[test]
    fn keys_are_not_shown() {
        let ring = KeyRing::parse(&format!("{ONE}\n[http://a.example]\n{TWO}")).unwrap();
        let told = format!("{ring:?}");
        assert!(!told.contains("MfKQ") && !told.contains("AQEB"), "{told}");
    }
}
