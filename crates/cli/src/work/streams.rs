//! What commands print.

use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use onefold_core::limits;
use serde_json::value::{RawValue, to_raw_value};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes of the end of standard error that are kept as the reason of a failure.
const TAIL_BYTES: usize = 4 * 1024;
const PIECE: usize = 16 * 1024;

/// Standard output: the result, as long as it is small enough. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Stdout(Arc<Mutex<Captured>>);

/// What a command printed.
pub(super) enum Printed {
    Nothing,
    Result(Box<RawValue>),
    /// So many bytes, too many to keep.
    TooMuch(u64),
}

/// The end of standard error. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Stderr(Arc<Mutex<Vec<u8>>>);

#[derive(Default)]
struct Captured {
    bytes: Vec<u8>,
    total: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stdout {
    /// Reads it to its end.
    pub(super) async fn read(self, pipe: impl AsyncRead + Unpin) {
        each_piece(pipe, |piece| {
            let mut captured = lock(&self.0);
            captured.total += piece.len() as u64;
            let room = (limits::RESULT_BYTES_MAX + 1).saturating_sub(captured.bytes.len());
            captured.bytes.extend_from_slice(piece.get(..room).unwrap_or(piece));
        })
        .await;
    }

    /// What it makes of the job's result: the JSON that was printed, or the text as a JSON string.
    pub(super) fn printed(&self) -> Printed {
        let captured = lock(&self.0);
        let too_much = Printed::TooMuch(captured.total);
        if captured.total > captured.bytes.len() as u64 {
            return too_much;
        }
        let text = String::from_utf8_lossy(&captured.bytes);
        let text = text.trim();
        if text.is_empty() {
            return Printed::Nothing;
        }
        let json: Result<&RawValue, _> = serde_json::from_str(text);
        match json.map(RawValue::to_owned).or_else(|_| to_raw_value(text)) {
            Ok(result) if result.get().len() <= limits::RESULT_BYTES_MAX => Printed::Result(result),
            _ => too_much,
        }
    }
}

impl Stderr {
    /// Hands it on as it comes, and remembers its end.
    pub(super) async fn read(self, pipe: impl AsyncRead + Unpin, mut on: impl Write) {
        each_piece(pipe, |piece| {
            // If nobody reads it, it is kept all the same.
            let _ = on.write_all(piece);
            let mut tail = lock(&self.0);
            tail.extend_from_slice(piece);
            let over = tail.len().saturating_sub(TAIL_BYTES);
            tail.drain(..over);
        })
        .await;
    }

    /// Its end, from the beginning of a line on if there is one.
    pub(super) fn tail(&self) -> String {
        let tail = lock(&self.0);
        let text = String::from_utf8_lossy(&tail);
        let text = match (tail.len() >= TAIL_BYTES, text.split_once('\n')) {
            (true, Some((_, rest))) if !rest.trim().is_empty() => rest,
            _ => &text,
        };
        text.trim().to_owned()
    }
}

async fn each_piece(mut pipe: impl AsyncRead + Unpin, mut take: impl FnMut(&[u8])) {
    let mut buffer = vec![0; PIECE];
    while let Ok(read) = pipe.read(&mut buffer).await {
        match buffer.get(..read) {
            Some(piece) if !piece.is_empty() => take(piece),
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn result(bytes: &[u8]) -> Result<Option<String>, u64> {
        let stdout = Stdout::default();
        stdout.clone().read(bytes).await;
        match stdout.printed() {
            Printed::Nothing => Ok(None),
            Printed::Result(result) => Ok(Some(result.get().to_owned())),
            Printed::TooMuch(bytes) => Err(bytes),
        }
    }

    #[tokio::test]
    async fn a_result_is_the_json_that_was_printed_or_the_text() {
        assert_eq!(result(b"{ \"a\": 1.0 }\n").await, Ok(Some("{ \"a\": 1.0 }".to_owned())));
        assert_eq!(result(b"two\nlines\n").await, Ok(Some(r#""two\nlines""#.to_owned())));
        assert_eq!(result(b" \n").await, Ok(None));
    }

    #[tokio::test]
    async fn a_result_over_the_limit_is_left_out_and_told() {
        let max = limits::RESULT_BYTES_MAX;
        assert!(matches!(result(&vec![b'x'; max - 2]).await, Ok(Some(_))));
        assert_eq!(result(&vec![b'x'; max - 1]).await, Err(max as u64 - 1));
        assert_eq!(result(&vec![b'7'; max * 3]).await, Err(max as u64 * 3));
        let cut_it_would_be_json = [b"7".to_vec(), vec![b' '; max + 1], b"8".to_vec()].concat();
        assert_eq!(result(&cut_it_would_be_json).await, Err(max as u64 + 3));
    }

    #[tokio::test]
    async fn the_reason_is_the_end_of_standard_error() {
        let stderr = Stderr::default();
        let long = format!("{}\nfirst whole line\nlast\n", "x".repeat(TAIL_BYTES));
        stderr.clone().read(long.as_bytes(), std::io::sink()).await;
        assert_eq!(stderr.tail(), "first whole line\nlast");
    }
}
