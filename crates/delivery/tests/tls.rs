//! TLS: each fault of a certificate has its own reason; names and time are what they should be.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use std::path::PathBuf;
use std::sync::Arc;

use onefold_delivery::{Report, Trust};
use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use support::{Peer, Receiver, Sender, Setup, code, ms};
use tokio_rustls::TlsAcceptor;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for `name`, valid in these years.
fn certificate(
    issuer: Option<&Authority>,
    name: &str,
    years: std::ops::Range<i32>,
) -> (Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(years.start, 1, 1);
    params.not_after = rcgen::date_time_ymd(years.end, 1, 1);
    let certificate = match issuer {
        Some(issuer) => params.signed_by(&key, issuer).unwrap(),
        None => params.self_signed(&key).unwrap(),
    };
    (certificate, key)
}

fn acceptor((certificate, key): (Certificate, KeyPair), clients: Option<&Authority>) -> TlsAcceptor {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(authority.der().clone()).unwrap();
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    TlsAcceptor::from(Arc::new(builder.with_single_cert(vec![certificate.der().clone()], key).unwrap()))
}

/// A file of the test's own, gone with it.
struct CaFile(PathBuf);

impl CaFile {
    fn new(test: &str, authority: &Authority) -> CaFile {
        let file = std::env::temp_dir().join(format!("onefold-delivery-{test}-{}.pem", std::process::id()));
        std::fs::write(&file, authority.pem()).unwrap();
        CaFile(file)
    }

    fn trust(&self) -> Trust {
        Trust::nobody().with_ca_file(&self.0).unwrap()
    }
}

impl Drop for CaFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Delivers to `https://shop.example/`, which is the receiver, and tells how it went and what SNI and `Host` were.
async fn deliver(
    sender: &mut Sender,
    mut receiver: Receiver,
    acceptor: TlsAcceptor,
) -> (Report, String, Option<(String, String)>) {
    let ((report, verdict), seen) =
        tokio::join!(sender.deliver_in_lane("https://shop.example/hook"), async {
            let stream = receiver.accept().await.stream;
            let mut peer = match acceptor.accept(stream).into_fallible().await {
                Ok(stream) => Peer::new(stream),
                // Whoever hangs up at once may tear down the alert that says why.
                Err((_, stream)) => {
                    Peer::new(stream).gone().await;
                    return None;
                }
            };
            let name = peer.stream.get_ref().1.server_name().unwrap_or_default().to_owned();
            let request = peer.request().await?;
            peer.write(OK).await;
            Some((name, request.header("host").unwrap().to_owned()))
        });
    (report, code(&verdict), seen)
}

fn setup(receiver: &Receiver, trust: Trust) -> Sender {
    let rule = format!("shop.example:443:127.0.0.1:{}", receiver.address.port());
    Setup { connect_to: vec![rule], trust: Some(trust), ..Setup::local() }.sender()
}

#[tokio::test]
async fn a_private_authority_is_believed_and_names_stay_those_of_the_url() {
    let ours = authority("ours");
    let file = CaFile::new("believed", &ours);
    for trust in [file.trust(), Trust::machine().with_ca_file(&file.0).unwrap()] {
        let receiver = Receiver::start().await;
        let mut sender = setup(&receiver, trust);
        let acceptor = acceptor(certificate(Some(&ours), "shop.example", 2020..2030), None);
        let (report, code, seen) = deliver(&mut sender, receiver, acceptor).await;
        assert_eq!((code.as_str(), report.answer().unwrap().body.as_ref()), ("complete", &b"hi"[..]));
        assert_eq!(seen, Some(("shop.example".to_owned(), "shop.example".to_owned())));
    }
}

#[tokio::test]
async fn w_18_each_fault_of_a_certificate_has_its_own_reason() {
    let (ours, theirs) = (authority("ours"), authority("theirs"));
    let file = CaFile::new("faults", &ours);
    for (certificate, expected) in [
        (certificate(Some(&ours), "other.example", 2020..2030), "tls-wrong-name"),
        (certificate(Some(&ours), "example", 2020..2030), "tls-wrong-name"),
        (certificate(Some(&ours), "127.0.0.1", 2020..2030), "tls-wrong-name"),
        (certificate(Some(&ours), "shop.example", 2020..2026), "tls-expired"),
        (certificate(Some(&ours), "shop.example", 2027..2030), "tls-not-yet-valid"),
        (certificate(Some(&theirs), "shop.example", 2020..2030), "tls-unknown-issuer"),
        (certificate(None, "shop.example", 2020..2030), "tls-unknown-issuer"),
    ] {
        let receiver = Receiver::start().await;
        let mut sender = setup(&receiver, file.trust());
        let (report, code, seen) = deliver(&mut sender, receiver, acceptor(certificate, None)).await;
        assert_eq!(code, expected);
        assert_eq!(seen, None, "nothing of the request has left");
        assert_eq!(report.bytes_read, 0);
    }
}

/// The time is that of the clock that is given, not the machine's.
#[tokio::test]
async fn a_certificate_expires_by_our_clock() {
    let ours = authority("ours");
    let file = CaFile::new("clock", &ours);
    let receiver = Receiver::start().await;
    let mut sender = setup(&receiver, file.trust());
    sender.clock.advance(ms(5 * 365 * 86_400_000));
    let (_, code, _) =
        deliver(&mut sender, receiver, acceptor(certificate(Some(&ours), "shop.example", 2020..2030), None))
            .await;
    assert_eq!(code, "tls-expired");
}

#[tokio::test]
async fn a_target_that_wants_a_certificate_from_us_says_so() {
    let ours = authority("ours");
    let file = CaFile::new("client", &ours);
    let receiver = Receiver::start().await;
    let mut sender = setup(&receiver, file.trust());
    let acceptor = acceptor(certificate(Some(&ours), "shop.example", 2020..2030), Some(&ours));
    assert_eq!(deliver(&mut sender, receiver, acceptor).await.1, "tls-client-certificate");
}

/// W-18: what a server that only speaks TLS 1.0 answers, one that does not speak TLS, one that hangs up.
#[tokio::test]
async fn w_18_what_is_no_tls_of_today_is_told_apart() {
    let file = CaFile::new("old", &authority("ours"));
    for (answer, expected) in [
        (&b"\x15\x03\x01\x00\x02\x02\x46"[..], "tls-incompatible"),
        (b"\x15\x03\x01\x00\x02\x02\x28", "tls-incompatible"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "tls-handshake"),
        (b"", "reset"),
    ] {
        let mut receiver = Receiver::start().await;
        let mut sender = setup(&receiver, file.trust());
        let (_, verdict) = sender
            .deliver_while("https://shop.example/", async {
                let mut peer = receiver.accept().await;
                let mut hello = [0; 16];
                tokio::io::AsyncReadExt::read_exact(&mut peer.stream, &mut hello).await.unwrap();
                peer.write(answer).await;
                if !answer.is_empty() {
                    peer.gone().await;
                }
            })
            .await;
        assert_eq!(code(&verdict), expected, "{}", answer.escape_ascii());
    }
}

#[tokio::test]
async fn a_handshake_that_hangs_ends_with_the_deadline() {
    let file = CaFile::new("hangs", &authority("ours"));
    let mut receiver = Receiver::start().await;
    let mut sender = setup(&receiver, file.trust());
    let timer = sender.timer.clone();
    let (_, verdict) = sender
        .deliver_while("https://shop.example/", async {
            let mut peer = receiver.accept().await;
            tokio::io::AsyncReadExt::read_exact(&mut peer.stream, &mut [0; 16]).await.unwrap();
            timer.fire(0).await;
            peer.gone().await;
        })
        .await;
    assert_eq!(code(&verdict), "tls-timeout");
}

#[tokio::test]
async fn without_any_authority_deliveries_over_tls_say_so_and_others_work() {
    let receiver = Receiver::start().await;
    let mut sender = setup(&receiver, Trust::nobody());
    let url = receiver.url();
    let _requests = receiver.answer_all(OK);
    let (_, verdict) = sender.deliver_in_lane("https://shop.example/").await;
    assert_eq!(code(&verdict), "tls-no-authorities");
    assert!(verdict.job.cause().unwrap().to_string().contains("--ca-file"));
    assert_eq!(code(&sender.deliver_in_lane(&url).await.1), "complete");
}
