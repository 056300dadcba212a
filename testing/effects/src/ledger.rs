//! The world outside: a process that appends what happens to a file, and answers once that is on disk.
//!
//! One line is asked, one answered, over a connection of its own. `did JOB STEP TOKEN` and `kept JOB STEP RECEIPT` are
//! appended; the answer is the line's number, the receipt. `mark JOB STEP` and `peek JOB STEP` are for naive
//! handlers, and answered with `new` or `old`.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt};

struct Question {
    line: String,
    answer: Sender<String>,
}

/// Serves a ledger in `file`, printing its address, until the process ends.
///
/// # Errors
/// The file's and the socket's.
pub fn serve(file: &Path) -> io::Result<()> {
    let file = OpenOptions::new().create(true).append(true).open(file)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("listens on {}", listener.local_addr()?);
    let (send, questions) = channel();
    std::thread::spawn(move || write(file, &questions).expect("the ledger can be written"));
    for stream in listener.incoming() {
        let (stream, send) = (stream?, send.clone());
        // Whoever is killed or stopped in the middle of a question holds up nobody.
        std::thread::spawn(move || {
            let _ = converse(&stream, &send);
        });
    }
    Ok(())
}

fn converse(stream: &TcpStream, questions: &Sender<Question>) -> io::Result<()> {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let Some(line) = line.strip_suffix('\n') else { return Ok(()) };
    let (answer, answered) = channel();
    if questions.send(Question { line: line.to_owned(), answer }).is_ok()
        && let Ok(text) = answered.recv()
    {
        writeln!(&mut &*stream, "{text}")?;
    }
    Ok(())
}

/// Writes what waits, syncs once, answers all.
fn write(mut file: File, questions: &Receiver<Question>) -> io::Result<()> {
    let (mut lines, mut marks) = (0_u64, HashSet::new());
    while let Ok(first) = questions.recv() {
        let mut answers = Vec::new();
        for Question { line, answer } in std::iter::once(first).chain(questions.try_iter()) {
            if let Some(marked) = line.strip_prefix("mark ").or(line.strip_prefix("peek ")) {
                let is_new = !marks.contains(marked);
                if line.starts_with("mark ") {
                    marks.insert(marked.to_owned());
                }
                answers.push((answer, if is_new { "new" } else { "old" }.to_owned()));
                continue;
            }
            writeln!(file, "{line}")?;
            lines += 1;
            answers.push((answer, lines.to_string()));
        }
        file.sync_data()?;
        for (answer, text) in answers {
            let _ = answer.send(text);
        }
    }
    Ok(())
}

/// Asks a ledger. Without an answer nobody knows whether it happened.
///
/// # Errors
/// The socket's.
pub async fn ask(ledger: SocketAddr, question: &str) -> io::Result<String> {
    let mut stream = tokio::net::TcpStream::connect(ledger).await?;
    stream.write_all(format!("{question}\n").as_bytes()).await?;
    let mut answer = String::new();
    tokio::io::BufReader::new(stream).read_line(&mut answer).await?;
    match answer.strip_suffix('\n') {
        Some(answer) => Ok(answer.to_owned()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
