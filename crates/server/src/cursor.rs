//! Cursors of lists: opaque to callers, and good only for the filters they were given out for.

use std::hash::Hasher;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use onefold_core::Seq;
use onefold_wire::ErrorCode;
use siphasher::sip::SipHasher13;

use crate::failure::Failure;

const VERSION: u8 = 1;

/// What tells one set of filters from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark(u64);

impl Mark {
    pub(crate) fn bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }
}

pub(crate) struct Cursor;

impl Cursor {
    /// The order of parameters does not matter. The key of the hash is fixed, so that cursors
    /// outlive a restart; it guards against mistakes, not against anybody.
    pub(crate) fn mark(filters: &[(String, String)]) -> Mark {
        let mut filters: Vec<_> = filters.iter().collect();
        filters.sort();
        let mut hash = SipHasher13::new_with_keys(0x6f6e_6566_6f6c_6421, 0x6375_7273_6f72_2d31);
        for text in filters.into_iter().flat_map(|(name, value)| [name, value]) {
            hash.write_u64(text.len() as u64);
            hash.write(text.as_bytes());
        }
        Mark(hash.finish())
    }

    /// A cursor to what was accepted before `next`.
    pub(crate) fn write(next: Seq, mark: Mark) -> String {
        let bytes = [&[VERSION][..], &next.get().to_be_bytes(), &mark.0.to_be_bytes()].concat();
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Where a cursor leads, if it was given out for these filters.
    pub(crate) fn read(cursor: &str, mark: Mark) -> Result<Seq, Failure> {
        let refuse = |why: &str| Failure::field(ErrorCode::InvalidCursor, "cursor", why);
        let unreadable = || refuse("this is not a cursor: use the one of the page before, unchanged");
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(cursor).map_err(|_| unreadable())?;
        let number =
            |range| bytes.get::<std::ops::Range<usize>>(range)?.try_into().ok().map(u64::from_be_bytes);
        let (true, 17, Some(next), Some(given)) =
            (bytes.first() == Some(&VERSION), bytes.len(), number(1..9), number(9..17))
        else {
            return Err(unreadable());
        };
        if given != mark.0 {
            return Err(refuse(
                "this cursor belongs to a list with other filters: use the same ones, or start again",
            ));
        }
        Seq::new(next).ok_or_else(unreadable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(filters: &[(&str, &str)]) -> Mark {
        let owned: Vec<_> = filters.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
        Cursor::mark(&owned)
    }

    #[test]
    fn a_cursor_is_good_for_its_own_filters_in_any_order() {
        let (seq, here) = (Seq::new(7).unwrap(), mark(&[("queue", "a"), ("state", "dead")]));
        let cursor = Cursor::write(seq, here);
        assert_eq!(Cursor::read(&cursor, mark(&[("state", "dead"), ("queue", "a")])).ok(), Some(seq));
        for other in [mark(&[]), mark(&[("queue", "a")]), mark(&[("queue", "ast"), ("ate", "dead")])] {
            assert_eq!(Cursor::read(&cursor, other).map_err(|f| f.code()), Err(ErrorCode::InvalidCursor));
        }
        for broken in ["", "x", "AQ", &cursor[1..], &format!("{cursor}AAAA")] {
            assert!(Cursor::read(broken, here).is_err(), "{broken}");
        }
    }
}
