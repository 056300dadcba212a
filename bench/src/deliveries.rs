//! Deliveries to a receiver of this machine: how many a second beside a client of the same HTTP library that makes the same
//! requests with no queue, what pending ones cost in memory, and what one target that hangs costs the others.

use std::collections::HashMap;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use crate::process::Process;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The server's binary.
    #[arg(long, default_value = "target/release/onefold")]
    bin: PathBuf,
    /// Deliveries of one round, and requests of the bare client.
    #[arg(long, default_value_t = 50_000)]
    jobs: usize,
    /// How often both are measured, in turn.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Connections of the bare client.
    #[arg(long, default_value_t = 64)]
    in_flight: usize,
    /// Pending jobs beside which memory is measured; 0 leaves that out.
    #[arg(long, default_value_t = 1_000_000)]
    pending: usize,
    /// Targets, of which one hangs in every other round; 0 leaves that out.
    #[arg(long, default_value_t = 100)]
    targets: usize,
    /// Jobs a second for each of them.
    #[arg(long, default_value_t = 5)]
    per_target: usize,
    /// For how many seconds.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Where the server keeps its data; emptied first.
    #[arg(long, default_value = "target/bench/deliveries")]
    dir: PathBuf,
}

/// One connection that asks one thing after the other.
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

impl Connection {
    async fn to(address: &str) -> Result<Connection, Failure> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Connection { sender, host: address.to_owned() })
    }

    async fn ask(&mut self, method: Method, path: &str, body: Bytes) -> Result<Bytes, Failure> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.host)
            .header("content-type", "application/json")
            .body(Full::new(body))?;
        self.sender.ready().await?;
        let (head, body) = self.sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        match head.status.is_success() {
            true => Ok(body),
            false => Err(format!("{} {}", head.status, String::from_utf8_lossy(&body)).into()),
        }
    }

    async fn post(&mut self, path: &str, body: &Value) -> Result<Value, Failure> {
        let answer = self.ask(Method::POST, path, serde_json::to_vec(body)?.into()).await?;
        Ok(serde_json::from_slice(&answer).unwrap_or_default())
    }

    async fn get(&mut self, path: &str) -> Result<Value, Failure> {
        Ok(serde_json::from_slice(&self.ask(Method::GET, path, Bytes::new()).await?)?)
    }
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let _ = std::fs::remove_dir_all(&args.dir);
    std::fs::create_dir_all(&args.dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        speed(args).await?;
        if args.pending > 0 {
            memory(args).await?;
        }
        match args.targets {
            0 => Ok(()),
            _ => one_hangs(args).await,
        }
    })
}

fn receiver() -> Result<Process, Failure> {
    Process::start(Command::new(std::env::current_exe()?).arg("bare-receiver"))
}

fn server(args: &Args, name: &str) -> Result<Process, Failure> {
    let mut command = Command::new(&args.bin);
    command.args(["serve", "--listen", "127.0.0.1:0", "--log", "error", "--data"]).arg(args.dir.join(name));
    Process::start(command.stderr(Stdio::null()))
}

/// A body of 200 bytes that says when it was made.
fn body() -> Value {
    let sent = micros();
    json!({ "sent": sent, "text": "x".repeat(160) })
}

fn micros() -> u64 {
    #[allow(clippy::disallowed_methods, reason = "a measurement, over two processes")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}

#[allow(clippy::disallowed_methods, reason = "a measurement")]
fn now() -> Instant {
    Instant::now()
}

async fn speed(args: &Args) -> Result<(), Failure> {
    let (receiver, server) = (receiver()?, server(args, "speed")?);
    let (mut own, mut bare, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..args.rounds {
        let client = bare_client(&receiver.address, args).await?;
        let deliveries = deliver(&server.address, &receiver.address, args.jobs, &format!("q{round}")).await?;
        println!("round {}: {deliveries:.0} deliveries/s; a bare client {client:.0}/s", round + 1);
        ratios.push(deliveries / client);
        own.push(deliveries);
        bare.push(client);
    }
    println!(
        "deliveries of 200 bytes, durable: {:.0}/s; a bare client with {} connections: {:.0}/s; ratio {:.2}",
        median(&mut own),
        args.in_flight,
        median(&mut bare),
        median(&mut ratios)
    );
    Ok(())
}

/// The same requests, with nothing behind them.
async fn bare_client(address: &str, args: &Args) -> Result<f64, Failure> {
    let left = Arc::new(AtomicU64::new(args.jobs as u64));
    let started = now();
    let mut connections = tokio::task::JoinSet::new();
    for _ in 0..args.in_flight {
        let (left, mut connection) = (Arc::clone(&left), Connection::to(address).await?);
        connections.spawn(async move {
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
            {
                connection.post("/", &body()).await?;
            }
            Ok::<(), Failure>(())
        });
    }
    while let Some(done) = connections.join_next().await {
        done??;
    }
    Ok(args.jobs as f64 / started.elapsed().as_secs_f64())
}

/// Adds jobs to a paused queue, and counts from when it goes on until all are completed.
async fn deliver(server: &str, receiver: &str, jobs: usize, queue: &str) -> Result<f64, Failure> {
    let mut client = Connection::to(server).await?;
    client.ask(Method::PUT, &format!("/v1/queues/{queue}"), "{}".into()).await?;
    client.post(&format!("/v1/queues/{queue}/pause"), &json!({})).await?;
    add(&mut client, queue, &[format!("http://{receiver}/")], jobs).await?;
    let started = now();
    client.post(&format!("/v1/queues/{queue}/resume"), &json!({})).await?;
    loop {
        let told = client.get(&format!("/v1/queues/{queue}")).await?;
        if told["counts"]["completed"] == jobs {
            return Ok(jobs as f64 / started.elapsed().as_secs_f64());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn add(client: &mut Connection, queue: &str, urls: &[String], jobs: usize) -> Result<(), Failure> {
    let job =
        |nth: usize| json!({ "payload": body(), "target": { "url": urls.get(nth % urls.len().max(1)) } });
    for from in (0..jobs).step_by(1_000) {
        let page: Vec<Value> = (from..jobs.min(from + 1_000)).map(job).collect();
        client.post(&format!("/v1/queues/{queue}/jobs"), &Value::Array(page)).await?;
    }
    Ok(())
}

async fn memory(args: &Args) -> Result<(), Failure> {
    let (receiver, server) = (receiver()?, server(args, "memory")?);
    deliver(&server.address, &receiver.address, args.jobs, "warm").await?;
    let before = server.resident()?;
    let mut client = Connection::to(&server.address).await?;
    client.ask(Method::PUT, "/v1/queues/pending", "{}".into()).await?;
    client.post("/v1/queues/pending/pause", &json!({})).await?;
    add(&mut client, "pending", &[format!("http://{}/", receiver.address)], args.pending).await?;
    let beside = deliver(&server.address, &receiver.address, args.jobs, "beside").await?;
    println!(
        "memory of the server: {before} MiB after {} deliveries, {} MiB with {} pending beside {} more, at {beside:.0}/s",
        args.jobs,
        server.resident()?,
        args.pending,
        args.jobs
    );
    Ok(())
}

/// Two rounds each way, in turn: how late the requests of the other targets arrive, without and beside one that hangs.
async fn one_hangs(args: &Args) -> Result<(), Failure> {
    let (mut fine, mut beside) = (Vec::new(), Vec::new());
    for round in 0..4 {
        let (receiver, server) = (receiver()?, server(args, &format!("hang{round}"))?);
        let hangs = round % 2 == 1;
        let (p50, p99) = lateness(args, &receiver, &server, hangs).await?;
        println!(
            "{} targets, one hangs: {hangs}; the others' requests arrive after p50 {p50:.1} ms, p99 {p99:.1} ms",
            args.targets
        );
        if hangs { &mut beside } else { &mut fine }.push(p99);
    }
    let (fine, beside) = (median(&mut fine), median(&mut beside));
    println!("p99 of the others: {fine:.1} ms without, {beside:.1} ms beside one that hangs");
    Ok(())
}

async fn lateness(
    args: &Args,
    receiver: &Process,
    server: &Process,
    hangs: bool,
) -> Result<(f64, f64), Failure> {
    let port = receiver.address.rsplit_once(':').ok_or("no port")?.1;
    // Each its own origin: all of 127.0.0.0/8 is this machine.
    let url = |nth: usize| {
        let host = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 0, 1, 0)) + nth as u32);
        let path = if hangs && nth == 0 { "hang" } else { "timed" };
        format!("http://{host}:{port}/{path}")
    };
    let urls: Vec<String> = (0..args.targets).map(url).collect();
    let mut client = Connection::to(&server.address).await?;
    let mut beat = tokio::time::interval(Duration::from_micros(1_000_000 / args.per_target.max(1) as u64));
    for _ in 0..args.seconds as usize * args.per_target {
        beat.tick().await;
        for part in urls.chunks(10) {
            let page: Vec<Value> =
                part.iter().map(|url| json!({ "payload": body(), "target": { "url": url } })).collect();
            client.post("/v1/queues/hooks/jobs", &Value::Array(page)).await?;
        }
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let told = Connection::to(&receiver.address).await?.get("/lateness").await?;
    let at = |name: &str| told[name].as_f64().unwrap_or_default() / 1_000.0;
    Ok((at("p50"), at("p99")))
}

/// Answers everything at once, except `/hang`, which it never does; of `/timed` it keeps how late it arrived.
pub(crate) fn bare_receiver() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("0.0.0.0:0").await?;
        println!("receiver at http://127.0.0.1:{}", listener.local_addr()?.port());
        std::io::stdout().flush()?;
        let late: Arc<Mutex<Vec<u64>>> = Arc::default();
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let late = Arc::clone(&late);
            let answer = hyper::service::service_fn(move |request| answer(request, Arc::clone(&late)));
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer),
            );
        }
    })
}

async fn answer(
    request: Request<hyper::body::Incoming>,
    late: Arc<Mutex<Vec<u64>>>,
) -> Result<Response<Full<Bytes>>, Failure> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    let said = match path.as_str() {
        "/hang" => std::future::pending().await,
        "/timed" => {
            let body: HashMap<&str, Value> = serde_json::from_slice(&body)?;
            let sent = body.get("sent").and_then(Value::as_u64).ok_or("no time")?;
            late.lock().map_err(|_| "poisoned")?.push(micros().saturating_sub(sent));
            Bytes::new()
        }
        "/lateness" => {
            let mut late = late.lock().map_err(|_| "poisoned")?;
            late.sort_unstable();
            let at = |q: f64| late.get((late.len() as f64 * q) as usize).copied();
            serde_json::to_vec(&json!({ "p50": at(0.5), "p99": at(0.99) }))?.into()
        }
        _ => Bytes::new(),
    };
    Ok(Response::new(Full::new(said)))
}
