//! Follows, beside hyper, where the requests of a connection begin and end.
//!
//! It exists for two questions hyper 1.12 does not answer:
//!
//! - Did a head carry both `Content-Length` and `Transfer-Encoding`? hyper obeys the second, takes the first
//!   out of the headers and closes after the answer, which RFC 9112 6.1 allows; but then no handler can refuse
//!   the request, and a proxy that believed the first has already been told a different story.
//! - What does the client owe: nothing, the rest of a head, or the rest of a body? The deadlines depend on it.
//!
//! It refuses nothing that hyper accepts but the case above. Where it cannot follow, it says that the next
//! request cannot be trusted; hyper has given such a connection up by then.

use std::io::BufRead;

/// What the client has sent so far of the request it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Whole requests only.
    Between = 0,
    /// A part of a head.
    Head = 1,
    /// A head, and not the whole body.
    Body = 2,
}

#[derive(Debug)]
enum At {
    Head,
    Body(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers,
    Lost,
}

#[derive(Debug, Default)]
struct Head {
    begun: bool,
    length: Option<u64>,
    coded: bool,
}

#[derive(Debug)]
pub(super) struct Framing {
    at: At,
    head: Head,
    /// The beginning of a line whose end has not arrived.
    line: Vec<u8>,
    longest_line: usize,
    heads: u64,
    refused: Option<u64>,
}

impl Framing {
    /// A connection whose lines are never longer than `longest_line` bytes.
    pub(super) fn new(longest_line: usize) -> Framing {
        Framing {
            at: At::Head,
            head: Head::default(),
            line: Vec::new(),
            longest_line,
            heads: 0,
            refused: None,
        }
    }

    /// The number, from 1, of the first request that must not be served.
    pub(super) fn refused(&self) -> Option<u64> {
        self.refused
    }

    pub(super) fn place(&self) -> Place {
        match self.at {
            At::Head if !self.head.begun && self.line.is_empty() => Place::Between,
            At::Head => Place::Head,
            _ => Place::Body,
        }
    }

    /// Follows the bytes that arrived, in their order.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = match self.at {
                At::Lost => return,
                At::Body(left) => {
                    let (left, rest) = skip(left, bytes);
                    self.at = if left == 0 { At::Head } else { At::Body(left) };
                    rest
                }
                At::ChunkData(left) => {
                    let (left, rest) = skip(left, bytes);
                    self.at = if left == 0 { At::ChunkEnd } else { At::ChunkData(left) };
                    rest
                }
                At::Head | At::ChunkSize | At::ChunkEnd | At::Trailers => self.take_line(bytes),
            };
        }
    }

    fn take_line<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let mut cursor = bytes;
        // A slice cannot fail to be read.
        let taken = cursor.skip_until(b'\n').unwrap_or(bytes.len());
        let (line, rest) = bytes.split_at(taken);
        let whole = line.last() == Some(&b'\n');
        if whole && self.line.is_empty() {
            self.end_line(line);
        } else if self.line.len() + line.len() > self.longest_line {
            self.lose();
        } else {
            self.line.extend_from_slice(line);
            if whole {
                let line = std::mem::take(&mut self.line);
                self.end_line(&line);
            }
        }
        rest
    }

    fn end_line(&mut self, line: &[u8]) {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match self.at {
            At::Head => match (line.is_empty(), self.head.begun) {
                // Empty lines before a request are allowed.
                (true, false) => {}
                (true, true) => self.end_head(),
                (false, false) => self.head.begun = true,
                (false, true) => self.head.field(line),
            },
            At::ChunkSize => match chunk_size(line) {
                Some(0) => self.at = At::Trailers,
                Some(size) => self.at = At::ChunkData(size),
                None => self.lose(),
            },
            At::ChunkEnd if line.is_empty() => self.at = At::ChunkSize,
            At::ChunkEnd => self.lose(),
            At::Trailers if line.is_empty() => self.at = At::Head,
            At::Trailers | At::Body(_) | At::ChunkData(_) | At::Lost => {}
        }
    }

    fn end_head(&mut self) {
        self.heads += 1;
        let head = std::mem::take(&mut self.head);
        self.at = match (head.length, head.coded) {
            (Some(_), true) => {
                self.refused.get_or_insert(self.heads);
                At::Lost
            }
            (None, true) => At::ChunkSize,
            (None | Some(0), false) => At::Head,
            (Some(length), false) => At::Body(length),
        };
    }

    fn lose(&mut self) {
        self.at = At::Lost;
        self.line = Vec::new();
        self.refused.get_or_insert(self.heads + 1);
    }
}

impl Head {
    fn field(&mut self, line: &[u8]) {
        match line.first() {
            Some(b'c' | b'C') => {
                if let Some(value) = value_of(line, b"content-length") {
                    // A length that is none is answered with 400 by hyper, as are two different ones.
                    let length = std::str::from_utf8(value).ok().and_then(|text| text.trim().parse().ok());
                    self.length.get_or_insert(length.unwrap_or(0));
                }
            }
            Some(b't' | b'T') => self.coded |= value_of(line, b"transfer-encoding").is_some(),
            _ => {}
        }
    }
}

/// What follows `name:`; no space may stand before the colon, as in hyper.
fn value_of<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    let (start, rest) = line.split_at_checked(name.len())?;
    if start.eq_ignore_ascii_case(name) { rest.strip_prefix(b":") } else { None }
}

fn skip(left: u64, bytes: &[u8]) -> (u64, &[u8]) {
    let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
    (left - here as u64, &bytes[here..])
}

/// The hexadecimal number before a chunk's extensions.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (digits, rest) = line.split_at(digits);
    if !matches!(rest.first(), None | Some(b';' | b' ' | b'\t')) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &[u8] = b"\r\nPOST /a HTTP/1.1\r\nHost: x\r\ncontent-LENGTH: 5\r\n\r\nab\n\ncPOST /b HTTP/1.1\r\n\
        TRANSFER-encoding: chunked\r\n\r\n3;x=y\r\nab\n\r\nA\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\nGET /c HTTP/1.1\n\n";

    fn fed(parts: &[&[u8]]) -> Framing {
        let mut framing = Framing::new(1024);
        parts.iter().for_each(|part| framing.feed(part));
        framing
    }

    #[test]
    fn requests_are_counted_alike_however_the_bytes_are_cut() {
        for cut in 0..=TWO.len() {
            let framing = fed(&[&TWO[..cut], &TWO[cut..]]);
            assert_eq!((framing.heads, framing.refused()), (3, None), "cut at {cut}");
            assert_eq!(framing.place(), Place::Between, "cut at {cut}");
        }
        let bytewise: Vec<_> = TWO.chunks(1).collect();
        assert_eq!(fed(&bytewise).heads, 3);
    }

    #[test]
    fn the_place_tells_what_the_client_still_owes() {
        let mut framing = Framing::new(1024);
        let mut place_after = |bytes: &[u8]| {
            framing.feed(bytes);
            framing.place()
        };
        assert_eq!(place_after(b"\r\n"), Place::Between, "an empty line begins no request");
        assert_eq!(place_after(b"P"), Place::Head);
        assert_eq!(place_after(b"OST / HTTP/1.1\r\nContent-Length: 2\r\n\r"), Place::Head);
        assert_eq!(place_after(b"\n"), Place::Body);
        assert_eq!(place_after(b"{"), Place::Body);
        assert_eq!(place_after(b"}"), Place::Between);
        assert_eq!(place_after(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"), Place::Body);
        assert_eq!(place_after(b"2\r\n{}\r\n0\r\n"), Place::Body);
        assert_eq!(place_after(b"\r\n"), Place::Between);
    }

    #[test]
    fn a_length_beside_a_transfer_coding_is_refused_in_either_order() {
        let before = b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
        let after = b"POST / HTTP/1.1\r\nTransfer-Encoding:chunked\r\ncontent-length:5\r\n\r\n";
        for head in [&before[..], &after[..]] {
            for cut in 0..=head.len() {
                assert_eq!(fed(&[&head[..cut], &head[cut..]]).refused(), Some(1), "cut at {cut}");
            }
            assert_eq!(fed(&[TWO, head]).refused(), Some(4), "a later request of a connection");
        }
    }

    #[test]
    fn the_words_in_bodies_and_other_fields_refuse_nothing() {
        let body = b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
        let head =
            format!("POST / HTTP/1.1\r\nX-Content-Length: 1\r\nContent-Length: {}\r\n\r\n", body.len());
        let framing = fed(&[head.as_bytes(), body]);
        assert_eq!((framing.heads, framing.refused(), framing.place()), (1, None, Place::Between));
    }

    #[test]
    fn nothing_is_trusted_after_a_chunk_that_cannot_be_followed() {
        let head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        for chunk in [&b"zz\r\n"[..], b"\r\n", b"2\r\nabc\r\n", b"-1\r\n", b"11111111111111111\r\n"] {
            assert_eq!(fed(&[head, chunk]).refused(), Some(2), "{chunk:?}");
        }
        assert_eq!(fed(&[&[b'a'; 600], &[b'a'; 600]]).refused(), Some(1), "a line without end is not kept");
    }
}
