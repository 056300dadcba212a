//! The server over HTTP, client and server on the same cores, beside a bare axum handler that
//! parses the same bodies and stores nothing.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::process::Process;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The server's binary.
    #[arg(long, default_value = "target/release/onefold")]
    bin: PathBuf,
    /// How long each measurement takes.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Requests in flight.
    #[arg(long, default_value_t = 64)]
    in_flight: usize,
    /// Where the server keeps its data; emptied first.
    #[arg(long, default_value = "target/bench/http")]
    dir: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let _ = std::fs::remove_dir_all(&args.dir);
    std::fs::create_dir_all(&args.dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let time = Duration::from_secs(args.seconds);
    let bare = Process::start(Command::new(std::env::current_exe()?).arg("bare-server"))?;
    let bare_single = runtime.block_on(load(&bare.address, args.in_flight, time, 1))?;
    let bare_arrays = runtime.block_on(load(&bare.address, args.in_flight.min(16), time, 50))?;
    drop(bare);
    let serve = |name: &str| {
        Process::start(
            Command::new(&args.bin)
                .args(["serve", "--listen", "127.0.0.1:0", "--data"])
                .arg(args.dir.join(name))
                .stderr(Stdio::null()),
        )
    };
    let server = serve("adds")?;
    let single = runtime.block_on(load(&server.address, args.in_flight, time, 1))?;
    let arrays = runtime.block_on(load(&server.address, args.in_flight.min(16), time, 50))?;
    println!("single adds, {} in flight: {}", args.in_flight, beside(&single, &bare_single));
    println!("arrays of 50: {}", beside(&arrays, &bare_arrays));
    Ok(())
}

fn beside(own: &Load, bare: &Load) -> String {
    format!(
        "{:.0} jobs/s (p50 {:?}, p99 {:?}); a bare handler: {:.0}/s, ratio {:.2}",
        own.jobs_per_s,
        own.p50,
        own.p99,
        bare.jobs_per_s,
        own.jobs_per_s / bare.jobs_per_s
    )
}

struct Load {
    jobs_per_s: f64,
    p50: Duration,
    p99: Duration,
}

/// Keyed adds of 200-byte jobs over keep-alive connections, one request in flight on each.
#[allow(clippy::disallowed_methods, reason = "a measurement")]
async fn load(address: &str, connections: usize, time: Duration, batch: usize) -> Result<Load, Failure> {
    let next_key = Arc::new(AtomicU64::new(Instant::now().elapsed().as_nanos() as u64));
    let times = Arc::new(Mutex::new(Vec::new()));
    let started = Instant::now();
    let run = format!("{:x}", std::process::id() as u64 + started.elapsed().as_nanos() as u64);
    let one = |connection: usize| {
        let (address, next_key, times, run) =
            (address.to_owned(), next_key.clone(), times.clone(), run.clone());
        async move {
            let mut stream = TcpStream::connect(&address).await?;
            stream.set_nodelay(true)?;
            let mut own = Vec::new();
            let mut buffer = vec![0_u8; 256 * 1024];
            while started.elapsed() < time {
                let request = request(batch, connection, &run, &next_key);
                let sent = Instant::now();
                stream.write_all(&request).await?;
                read_answer(&mut stream, &mut buffer).await?;
                own.push(sent.elapsed());
            }
            times.lock().map_err(|_| "poisoned")?.extend(own);
            Ok::<(), Failure>(())
        }
    };
    let tasks: Vec<_> = (0..connections).map(|connection| tokio::task::spawn(one(connection))).collect();
    for task in tasks {
        task.await??;
    }
    let spent = started.elapsed().as_secs_f64();
    let mut times = std::mem::take(&mut *times.lock().map_err(|_| "poisoned")?);
    times.sort();
    let at = |q: f64| times.get((times.len() as f64 * q) as usize).copied().unwrap_or_default();
    Ok(Load { jobs_per_s: (times.len() * batch) as f64 / spent, p50: at(0.5), p99: at(0.99) })
}

fn request(batch: usize, connection: usize, run: &str, next_key: &AtomicU64) -> Vec<u8> {
    let text = "x".repeat(180);
    let job = || {
        let n = next_key.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        format!(r#"{{"kind":"bench","key":"{run}-{n:016x}-{connection}","payload":{{"text":"{text}"}}}}"#)
    };
    let body = match batch {
        1 => job(),
        _ => format!("[{}]", (0..batch).map(|_| job()).collect::<Vec<_>>().join(",")),
    };
    let head = "POST /v1/queues/bench/jobs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: ";
    format!("{head}{}\r\n\r\n{body}", body.len()).into_bytes()
}

/// Reads one answer and checks that it is a success.
async fn read_answer(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<(), Failure> {
    let mut filled = 0;
    loop {
        let read = stream.read(buffer.get_mut(filled..).unwrap_or_default()).await?;
        if read == 0 {
            return Err("the server closed the connection".into());
        }
        filled += read;
        let got = buffer.get(..filled).unwrap_or_default();
        let Some(head) = got.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head_text = std::str::from_utf8(got.get(..head).unwrap_or_default())?;
        if !head_text.starts_with("HTTP/1.1 20") {
            return Err(String::from_utf8_lossy(got).into());
        }
        let length = head_text
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .ok_or("no content-length")?
            .parse::<usize>()?;
        if filled >= head + 4 + length {
            return Ok(());
        }
    }
}

/// A server that parses the same bodies and answers alike, and stores nothing.
pub(crate) fn bare_server() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let app = axum::Router::new().route("/v1/queues/{queue}/jobs", axum::routing::post(bare_handler));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        println!("bare server at http://{}", listener.local_addr()?);
        axum::serve(listener, app).await?;
        Ok(())
    })
}

#[derive(serde::Deserialize)]
struct BareJob<'a> {
    #[serde(borrow)]
    kind: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    key: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    payload: &'a serde_json::value::RawValue,
}

async fn bare_handler(body: bytes::Bytes) -> ([(&'static str, &'static str); 1], String) {
    let answer = |job: &BareJob<'_>| {
        let size = job.kind.len() + job.key.len() + job.payload.get().len();
        format!(
            r#"{{"id":"job_01a1fd70f1c0700080000000{size:08x}","state":"available","run_at":"2026-11-21T11:21:42.187Z","duplicate":false}}"#
        )
    };
    let text = if body.first() == Some(&b'[') {
        let jobs: Vec<BareJob<'_>> = serde_json::from_slice(&body).unwrap_or_default();
        format!(r#"{{"jobs":[{}]}}"#, jobs.iter().map(answer).collect::<Vec<_>>().join(","))
    } else {
        serde_json::from_slice(&body).map(|job: BareJob<'_>| answer(&job)).unwrap_or_default()
    };
    ([("content-type", "application/json")], text)
}
