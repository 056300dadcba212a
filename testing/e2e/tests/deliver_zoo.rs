//! Receivers that misbehave, met by a real server: each attempt ends with its own recorded reason, its slot is free again, and
//! memory stays bounded. What each part of the client does with them is in `crates/delivery/tests`; what needs a resolver of
//! the test's own, such as a name that changes between check and dial, is there only.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use onefold_core::{DurationMs, Timestamp};
use onefold_e2e::{Client, Server, counts, job, until};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);
/// Of the whole server, after it met all of them.
const MEMORY_MAX_KIB: u64 = 160 * 1024;

/// Starts a receiver on a port of its own that does this with each connection.
fn receiver(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let serve = Arc::clone(&serve);
            std::thread::spawn(move || serve(connection));
        }
    });
    address
}

/// Reads one request whole. Whether there was one.
fn request(connection: &mut impl BufRead) -> bool {
    let mut length = 0;
    for number in 0.. {
        let mut line = String::new();
        if !matches!(connection.read_line(&mut line), Ok(1..)) {
            return false;
        }
        if number > 0 && line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    connection.read_exact(&mut vec![0; length]).is_ok()
}

/// A receiver that reads the request, does this, and tells once the other end is gone.
fn after_request(act: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> (SocketAddr, Receiver<()>) {
    let (gone, told) = channel();
    let address = receiver(move |mut connection| {
        if request(&mut BufReader::new(connection.try_clone().unwrap())) {
            act(&mut connection);
        }
        // Nothing more is said, and nothing more comes.
        let _ = connection.read(&mut [0; 1]);
        let _ = gone.send(());
    });
    (address, told)
}

/// A receiver that answers every request with the same bytes and closes.
fn answers(answer: impl Into<Vec<u8>>) -> SocketAddr {
    let answer = answer.into();
    receiver(move |mut connection| {
        if request(&mut BufReader::new(connection.try_clone().unwrap())) {
            let _ = connection.write_all(&answer);
        }
    })
}

const GOOD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

fn url(address: SocketAddr) -> String {
    format!("http://{address}/")
}

fn add(client: &mut Client, url: &str, queue: &str, more: &Value) -> String {
    let mut job = json!({
        "payload": "x".repeat(1024),
        "target": { "url": url, "timeout": "3s" },
        "max_attempts": 1,
    });
    for (name, value) in more.as_object().unwrap() {
        job[name] = value.clone();
    }
    client.post(&format!("/v1/queues/{queue}/jobs"), &job).ok()["id"].as_str().unwrap().to_owned()
}

fn ended(client: &mut Client, id: &str) -> Value {
    until(&format!("{id} to end"), PATIENCE, || {
        let job = job(client, id);
        matches!(job["state"].as_str(), Some("completed" | "dead" | "retrying")).then_some(job)
    })
}

/// The most memory a process ever had, in KiB.
fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// W-02 to W-06, W-19, S-01, S-02: each ends with its own reason, and nothing of it stays.
#[test]
fn each_way_of_misbehaving_ends_an_attempt_with_its_own_reason() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    let mut client = server.client();
    let (hangs, hang_gone) = after_request(|_| {});
    let (drips, drip_gone) = after_request(|connection| {
        connection.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let mut next: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n";
        while connection.write_all(next).is_ok() {
            next = b"x";
            match connection.read(&mut [0; 1]) {
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                _ => return,
            }
        }
    });
    let (endless, endless_gone) = after_request(|connection| {
        let _ = connection.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while connection.write_all(&[b'x'; 64 * 1024]).is_ok() {}
    });
    let (hints, hints_gone) = after_request(|connection| {
        while connection.write_all(b"HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\n").is_ok() {}
    });
    // What was not read of the request makes the system reset the connection.
    let resets = |answer: &'static str| {
        receiver(move |mut connection| {
            let _ = connection.read(&mut [0; 16]);
            let _ = connection.write_all(answer.as_bytes());
        })
    };
    let huge = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    let cases = [
        (url(hangs), "timeout-headers"),
        (url(drips), "timeout-body"),
        (url(endless), "body-too-large"),
        (url(hints), "headers-too-large"),
        (url(answers(huge)), "headers-too-large"),
        (
            url(answers("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nhi\r\n")),
            "invalid-response",
        ),
        (url(answers("SSH-2.0-OpenSSH_9.9\r\n")), "invalid-response"),
        (url(answers("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhi")), "reset"),
        (url(resets("")), "reset"),
        (url(resets("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhi")), "reset"),
        (
            url(answers("HTTP/1.1 302 F\r\nlocation: http://10.0.0.1/\r\ncontent-length: 0\r\n\r\n")),
            "redirect",
        ),
        (url(answers("HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n")), "status-404"),
        ("http://10.0.0.1/".to_owned(), "address-denied"),
        ("http://169.254.169.254/latest/meta-data/".to_owned(), "address-denied"),
        ("http://[::ffff:c0a8:1]/".to_owned(), "address-denied"),
    ];
    let ids: Vec<String> = cases.iter().map(|(url, _)| add(&mut client, url, "zoo", &json!({}))).collect();
    for ((url, expected), id) in cases.iter().zip(&ids) {
        let job = ended(&mut client, id);
        let attempt = &job["attempts"][0];
        assert_eq!((&job["state"], &job["reason"]), (&json!("dead"), &json!("attempts")), "{url}: {job}");
        assert_eq!(attempt["error"]["kind"], *expected, "{url}: {attempt}");
        let exchange = &attempt["exchange"];
        assert_eq!(exchange["url"], *url);
        assert!(exchange["failure"] == *expected || exchange["status"].is_number(), "{exchange}");
        assert!(exchange["body"].as_str().unwrap_or_default().len() <= 16 * 1024, "{url}");
    }
    let denied = job(&mut client, &ids[12]);
    assert!(denied["error"]["message"].as_str().unwrap().contains("--allow-target"), "{denied}");
    // Their connections are gone, and with them their slots.
    for gone in [hang_gone, drip_gone, endless_gone, hints_gone] {
        gone.recv_timeout(PATIENCE).expect("the connection is closed");
    }
    until("nothing to run any more", PATIENCE, || {
        counts(&mut client, "zoo")["running"].eq(&json!(0)).then_some(())
    });
    let peak = peak_memory(server.pid());
    eprintln!("deliver_zoo: at most {peak} KiB");
    assert!(peak < MEMORY_MAX_KIB, "{peak} KiB");
    let fine = add(&mut client, &url(answers(GOOD)), "zoo", &json!({}));
    assert_eq!(ended(&mut client, &fine)["state"], "completed");
}

/// W-03: what is compressed stays as it came.
#[test]
fn w_03_a_decompression_bomb_is_kept_as_it_came() {
    let bomb = include_bytes!("../../../crates/delivery/tests/support/zeros.gz");
    let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", bomb.len());
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    let mut client = server.client();
    let id = add(&mut client, &url(answers([head.as_bytes(), bomb].concat())), "zoo", &json!({}));
    let done = ended(&mut client, &id);
    assert_eq!((&done["state"], &done["result"]["body_bytes"]), (&json!("completed"), &json!(bomb.len())));
}

/// W-08: what a target wishes is bounded by a day, and nonsense is as if it had not said anything.
#[test]
fn w_08_a_hostile_retry_after_puts_nothing_off_for_more_than_a_day() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    let mut client = server.client();
    let (hour, day) = (3_600_000, 86_400_000);
    let cases = [
        ("3600", hour..hour + 1),
        ("99999999999999999999999", day..day + 1),
        ("Fri, 31 Dec 9999 23:59:59 GMT", day..day + 1),
        ("-1", 60_000..60_001),
        ("NaN", 60_000..60_001),
        ("1e309", 60_000..60_001),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 60_000..60_001),
    ];
    for (value, expected) in cases {
        let answer = format!("HTTP/1.1 429 Slow\r\nretry-after: {value}\r\ncontent-length: 0\r\n\r\n");
        let more = json!({ "max_attempts": 3, "backoff": { "fixed": "1m" } });
        let id = add(&mut client, &url(answers(answer)), "zoo", &more);
        let job = ended(&mut client, &id);
        let time = |text: &Value| text.as_str().unwrap().parse::<Timestamp>().unwrap();
        let wait = time(&job["run_at"]).since(time(&job["attempts"][0]["ended_at"]));
        assert_eq!((&job["state"], &job["error"]["kind"]), (&json!("retrying"), &json!("status-429")));
        // The wait counts from the judgement, which is a little before it is written down.
        let slack = DurationMs::from_ms(5_000).as_ms();
        assert!((expected.start - slack..expected.end).contains(&wait.as_ms()), "{value}: {wait}");
    }
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A target over TLS that shows a certificate for `name`, valid in these years.
fn over_tls(issuer: Option<&Authority>, name: &str, years: std::ops::Range<i32>) -> SocketAddr {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(years.start, 1, 1);
    params.not_after = rcgen::date_time_ymd(years.end, 1, 1);
    let certificate = match issuer {
        Some(issuer) => params.signed_by(&key, issuer).unwrap(),
        None => params.self_signed(&key).unwrap(),
    };
    let chain = vec![CertificateDer::from(certificate.der().to_vec())];
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = Arc::new(config.with_single_cert(chain, key).unwrap());
    receiver(move |connection| {
        let tls = ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut stream = BufReader::new(rustls::StreamOwned::new(tls, connection));
        if request(&mut stream) {
            let _ = stream.get_mut().write_all(GOOD.as_bytes());
            stream.get_mut().conn.send_close_notify();
            let _ = stream.get_mut().flush();
        }
    })
}

/// W-18: each fault of a certificate has its own reason; URL, name and certificate stay those of the host although the
/// connection goes elsewhere.
#[test]
fn w_18_each_fault_of_a_certificate_has_its_own_reason() {
    let ours = authority("ours");
    let plain = receiver(|mut connection| {
        let _ = connection.read(&mut [0; 16]);
        let _ = connection.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        while matches!(connection.read(&mut [0; 4096]), Ok(1..)) {}
    });
    let cases = [
        ("good.example", over_tls(Some(&ours), "good.example", 2020..2100), None),
        ("wrong.example", over_tls(Some(&ours), "other.example", 2020..2100), Some("tls-wrong-name")),
        ("expired.example", over_tls(Some(&ours), "expired.example", 2020..2024), Some("tls-expired")),
        ("self.example", over_tls(None, "self.example", 2020..2100), Some("tls-unknown-issuer")),
        ("plain.example", plain, Some("tls-handshake")),
    ];
    let dir = tempfile::tempdir().unwrap();
    let ca_file = dir.path().join("ca.pem");
    std::fs::write(&ca_file, ours.pem()).unwrap();
    let mut arguments = vec!["--ca-file".to_owned(), ca_file.display().to_string()];
    for (name, address, _) in &cases {
        arguments.extend(["--connect-to".to_owned(), format!("{name}:443:127.0.0.1:{}", address.port())]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let server = Server::start_with(&dir.path().join("data"), &arguments).unwrap();
    let mut client = server.client();
    for (name, _, expected) in &cases {
        let id = add(&mut client, &format!("https://{name}/hook"), "zoo", &json!({}));
        let job = ended(&mut client, &id);
        match expected {
            None => assert_eq!(job["state"], "completed", "{job}"),
            Some(code) => assert_eq!(job["error"]["kind"], *code, "{name}: {job}"),
        }
    }
}

/// W-09, by structure: one of a hundred targets hangs for as long as the test runs, with more jobs than all slots; it holds the
/// slots of its lane, its other jobs are not even leased, and all jobs of the others are delivered.
#[test]
fn w_09_a_target_that_hangs_among_a_hundred_holds_only_its_own_slots() {
    const OTHERS: usize = 99;
    const JOBS: usize = 10;
    const HUNG_JOBS: usize = 400;
    /// A tenth of all slots.
    const LANE: u64 = 25;
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    let mut client = server.client();
    let (open, seen) = (Arc::new(AtomicU64::new(0)), channel());
    let counted = Arc::clone(&open);
    let hung = receiver(move |mut connection| {
        counted.fetch_add(1, Ordering::SeqCst);
        let _ = seen.0.send(());
        while matches!(connection.read(&mut [0; 4096]), Ok(1..)) {}
    });
    let to = |url: String| json!({ "payload": 1, "target": { "url": url, "timeout": "10m" } });
    let hung_jobs: Vec<Value> = vec![to(url(hung)); HUNG_JOBS];
    client.post("/v1/queues/hung/jobs", &json!(hung_jobs)).ok();
    seen.1.recv_timeout(PATIENCE).expect("it is hanging");
    let others: Vec<SocketAddr> = (0..OTHERS)
        .map(|_| {
            receiver(|connection| {
                let mut writer = connection.try_clone().unwrap();
                let mut reader = BufReader::new(connection);
                while request(&mut reader) && writer.write_all(GOOD.as_bytes()).is_ok() {}
            })
        })
        .collect();
    let jobs: Vec<Value> = (0..OTHERS * JOBS).map(|n| to(url(others[n % OTHERS]))).collect();
    client.post("/v1/queues/others/jobs", &json!(jobs)).ok();
    until("all others to be delivered", PATIENCE, || {
        counts(&mut client, "others")["completed"].eq(&json!(OTHERS * JOBS)).then_some(())
    });
    let held = open.load(Ordering::SeqCst);
    let hung = counts(&mut client, "hung");
    assert!((1..=LANE).contains(&held), "{held} slots are held");
    assert!(hung["running"].as_u64().unwrap() <= LANE, "{hung}");
    assert_eq!(hung["completed"], 0);
    assert!(hung["available"].as_u64().unwrap() >= HUNG_JOBS as u64 - LANE, "{hung}");
}
