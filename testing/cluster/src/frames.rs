//! What a client of PostgreSQL sends, as far as it takes to see which transaction is being committed.

/// Asks whether the server speaks TLS. Another message without a type follows if it does not.
const TLS_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// Cuts what a client sends into messages.
#[derive(Default)]
pub(crate) struct Frames {
    pending: Vec<u8>,
    /// The messages that have no type are through.
    begun: bool,
}

/// One message, as it stands on the wire.
pub(crate) struct Frame(pub(crate) Vec<u8>);

impl Frames {
    /// The messages that are complete with these bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<Frame> {
        self.pending.extend_from_slice(bytes);
        let (mut frames, mut at) = (Vec::new(), 0);
        while let Some(length) = length(&self.pending[at..], self.begun) {
            if self.pending.len() < at + length {
                break;
            }
            let frame = Frame(self.pending[at..at + length].to_vec());
            self.begun |= frame.0 != TLS_REQUEST;
            frames.push(frame);
            at += length;
        }
        self.pending.drain(..at);
        frames
    }
}

/// Length of the message that starts here, with its type; nothing if too little of it is here.
fn length(bytes: &[u8], has_type: bool) -> Option<usize> {
    let start = usize::from(has_type);
    let field = bytes.get(start..start + 4)?;
    let length = u32::from_be_bytes(field.try_into().expect("four bytes"));
    Some(start + usize::try_from(length).expect("a message fits into memory"))
}

impl Frame {
    /// The text of a simple query.
    fn query(&self) -> Option<&[u8]> {
        match self.0.as_slice() {
            [b'Q', _, _, _, _, text @ .., 0] => Some(text),
            _ => None,
        }
    }

    /// A transaction begins.
    pub(crate) fn begins(&self) -> bool {
        self.query().is_some_and(|text| text.starts_with(b"BEGIN"))
    }

    /// A transaction is to be committed.
    pub(crate) fn commits(&self) -> bool {
        self.query() == Some(b"COMMIT")
    }

    /// Whether these bytes stand in it.
    pub(crate) fn holds(&self, bytes: &[u8]) -> bool {
        self.0.windows(bytes.len()).any(|window| window == bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Vec<u8> {
        let length = u32::try_from(text.len() + 5).unwrap();
        [b"Q".as_slice(), &length.to_be_bytes(), text.as_bytes(), &[0]].concat()
    }

    /// A commit that is not seen would be let through; bytes that get lost or change would break everything.
    #[test]
    fn messages_are_found_however_they_arrive() {
        let start = [&8_u32.to_be_bytes()[..], b"abcd"].concat();
        let sent = [
            TLS_REQUEST.to_vec(),
            start,
            query("BEGIN; SELECT 1"),
            query("SELECT 'COMMIT'"),
            query("COMMIT"),
        ]
        .concat();
        for step in 1..sent.len() {
            let (mut frames, mut found) = (Frames::default(), Vec::new());
            sent.chunks(step).for_each(|chunk| found.extend(frames.push(chunk)));
            assert_eq!(found.iter().flat_map(|frame| frame.0.clone()).collect::<Vec<_>>(), sent);
            let seen: Vec<_> = found.iter().map(|frame| (frame.begins(), frame.commits())).collect();
            assert_eq!(seen, [(false, false), (false, false), (true, false), (false, false), (false, true)]);
            assert!(found[3].holds(b"'COMMIT'") && !found[4].holds(b"'COMMIT'"));
        }
    }
}
