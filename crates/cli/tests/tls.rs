//! `https://`: the binary against a TLS server whose certificates come from an authority of the test's own.
//!
//! Only on Linux is the authority named by a variable; elsewhere the system alone says who is trusted.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod kit;

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

use kit::{Ran, Room, Running};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustix::process::Signal;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// Who signs certificates.
type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A server that speaks TLS for the one at `plain`, as a proxy in front of it would. Ends with the runtime.
fn proxy(runtime: &Runtime, plain: &str, issuer: &Authority, name: &str, valid_until: i32) -> SocketAddr {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(valid_until, 1, 1);
    let certificate = params.signed_by(&key, issuer).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let plain: SocketAddr = plain.parse().unwrap();
    runtime.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that does not trust us says so and goes away.
                let Ok(mut client) = acceptor.accept(stream).await else { return };
                let mut server = TcpStream::connect(plain).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    address
}

/// A command that trusts the authority in `ca.pem` only.
fn trusting(room: &Room, arguments: &[&str], url: &str) -> Command {
    let mut command = room.command(arguments);
    command.args(["--url", url]).env("SSL_CERT_FILE", room.path("ca.pem")).env_remove("SSL_CERT_DIR");
    command
}

/// Adds a job over TLS.
fn add(room: &Room, url: &str) -> Ran {
    trusting(room, &["add", "q", "1"], url).output().unwrap().into()
}

#[test]
fn a_job_is_added_over_tls_and_no_certificate_but_the_right_one_is_trusted() {
    let (room, server) = Room::served();
    let ours = authority("ours");
    room.write("ca.pem", &ours.pem());
    let runtime = Runtime::new().unwrap();
    let serve = |issuer, name, until| proxy(&runtime, server.address(), issuer, name, until).port();
    let good = serve(&ours, "localhost", 4000);
    let cases = [
        (
            serve(&ours, "queue.example.com", 4000),
            "is for another name: put the name it was issued for into --url",
        ),
        (
            serve(&authority("theirs"), "localhost", 4000),
            "was issued by nobody this machine trusts: if the authority",
        ),
        (serve(&ours, "localhost", 2020), "has expired: renew it there"),
    ];
    for (port, sentence) in cases {
        let ran = add(&room, &format!("https://localhost:{port}"));
        ran.says(1, &format!("the certificate of https://localhost:{port} {sentence}"));
        assert!(!ran.err.contains("onefold serve"), "a server does answer: {ran:?}");
    }
    let ran = add(&room, &format!("https://localhost:{good}"));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.contains("job_"), "{ran:?}");
    let ran = add(&room, &format!("https://127.0.0.1:{good}"));
    ran.says(1, "is for another name");
    let queues: serde_json::Value = serde_json::from_str(&room.ok(&["queues", "--json"])).unwrap();
    assert_eq!(queues["queues"][0]["counts"]["accepted"], 1, "what was not trusted added nothing: {queues}");
}

/// A worker, whose calls are the library's, works over TLS, and does not wait for a certificate to become another.
#[test]
fn a_worker_works_over_tls() {
    let (room, server) = Room::served();
    let ours = authority("ours");
    room.write("ca.pem", &ours.pem());
    let runtime = Runtime::new().unwrap();
    let serve = |issuer: &Authority| proxy(&runtime, server.address(), issuer, "localhost", 4000).port();
    room.ok(&["add", "q", "1"]);
    let work = ["work", "--queue", "q", "--exec", "echo done; echo worked >&2"];
    let theirs = authority("theirs");
    let stranger = format!("https://localhost:{}", serve(&theirs));
    Ran::from(trusting(&room, &work, &stranger).output().unwrap())
        .says(1, "was issued by nobody this machine trusts");
    let mut worker = Running::start(trusting(&room, &work, &format!("https://localhost:{}", serve(&ours))));
    worker.err_line("worked");
    worker.signal(Signal::TERM);
    assert_eq!(worker.end().code(), Some(0));
    let jobs = room.ok(&["jobs", "--queue", "q"]);
    assert!(jobs.contains("completed"), "{jobs}");
}

/// Plain HTTP on the port of `https://` is told as what it is.
#[test]
fn a_server_that_speaks_no_tls_is_told() {
    let (room, server) = Room::served();
    room.write("ca.pem", &authority("ours").pem());
    let ran = add(&room, &format!("https://{}", server.address()));
    ran.says(1, "use http:// if nothing that speaks TLS stands before it");
}
