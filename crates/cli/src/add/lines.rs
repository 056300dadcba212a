//! Reading JSON lines into batches.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::mpsc;

use super::job::Template;

/// Jobs of one batch.
const BATCH_JOBS: usize = 1_000;
/// Bytes of one batch, unless a single job has more.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of a line: more than the largest payload a server can be made to take.
const LINE_BYTES: usize = 64 * 1024 * 1024;

/// A line that became a job.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// From 1.
    pub(super) number: u64,
    /// The job, as JSON.
    pub(super) job: String,
}

/// Some lines in a row.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Those that became jobs.
    pub(super) jobs: Vec<Line>,
    /// Those that did not: number and reason.
    pub(super) bad: Vec<(u64, String)>,
    bytes: usize,
}

impl Batch {
    pub(super) fn lines(&self) -> u64 {
        (self.jobs.len() + self.bad.len()) as u64
    }

    fn is_full(&self) -> bool {
        self.jobs.len() + self.bad.len() >= BATCH_JOBS || self.bytes >= BATCH_BYTES
    }

    fn push(&mut self, number: u64, line: Result<String, String>) {
        match line {
            Ok(job) => {
                self.bytes += job.len();
                self.jobs.push(Line { number, job });
            }
            Err(why) => self.bad.push((number, why)),
        }
    }
}

/// Reads lines until there are no more, or nobody takes the batches. Blank lines are passed over.
pub(super) async fn read(
    input: impl AsyncRead + Unpin,
    template: Template,
    batches: mpsc::Sender<Batch>,
) -> io::Result<()> {
    let mut input = BufReader::with_capacity(256 * 1024, input);
    let (mut batch, mut number) = (Batch::default(), 0);
    while let Some(line) = next_line(&mut input).await? {
        number += 1;
        let job = match &line {
            Ok(bytes) if bytes.trim_ascii().is_empty() => continue,
            Ok(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => template.job(Some(text.trim())).map_err(|why| why.to_string()),
                Err(_) => Err("it is not UTF-8".to_owned()),
            },
            Err(TooLong) => Err(format!("it is longer than {} MiB", LINE_BYTES >> 20)),
        };
        batch.push(number, job);
        if batch.is_full() && batches.send(std::mem::take(&mut batch)).await.is_err() {
            return Ok(());
        }
    }
    if batch.lines() > 0 {
        // If nobody takes it, the reason is known there.
        let _ = batches.send(batch).await;
    }
    Ok(())
}

struct TooLong;

/// The next line without its end; one that is too long is passed over.
async fn next_line(input: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Result<Vec<u8>, TooLong>>> {
    let (mut line, mut too_long, mut any) = (Vec::new(), false, false);
    loop {
        let buffer = input.fill_buf().await?;
        if buffer.is_empty() {
            return Ok(any.then_some(if too_long { Err(TooLong) } else { Ok(line) }));
        }
        any = true;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let piece = buffer.get(..end.unwrap_or(buffer.len())).unwrap_or_default();
        too_long |= line.len() + piece.len() > LINE_BYTES;
        if too_long {
            line.clear();
        } else {
            line.extend_from_slice(piece);
        }
        let used = piece.len() + usize::from(end.is_some());
        input.consume(used);
        if end.is_some() {
            return Ok(Some(if too_long { Err(TooLong) } else { Ok(line) }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn batches(input: &str) -> Vec<Batch> {
        let (sender, mut received) = mpsc::channel(1_000);
        read(input.as_bytes(), Template::default(), sender).await.unwrap();
        let mut all = Vec::new();
        while let Some(batch) = received.recv().await {
            all.push(batch);
        }
        all
    }

    #[tokio::test]
    async fn lines_keep_their_numbers_and_bad_ones_their_reasons() {
        let all = batches("1\n\n{\r\n \"last\"").await;
        let [batch] = &all[..] else { panic!("{} batches", all.len()) };
        let jobs: Vec<_> = batch.jobs.iter().map(|line| (line.number, line.job.as_str())).collect();
        assert_eq!(jobs, [(1, r#"{"payload":1}"#), (4, r#"{"payload":"last"}"#)]);
        assert_eq!(batch.bad.len(), 1);
        assert!(batch.bad[0].0 == 3 && batch.bad[0].1.contains("not JSON"), "{:?}", batch.bad);
    }

    #[tokio::test]
    async fn a_batch_has_a_thousand_jobs_at_the_most() {
        let sizes: Vec<usize> =
            batches(&"1\n".repeat(2_001)).await.iter().map(|batch| batch.jobs.len()).collect();
        assert_eq!(sizes, [1_000, 1_000, 1]);
    }
}
