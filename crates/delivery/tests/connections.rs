//! Which address is dialled, what is sent over it, and which connections are used again.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use onefold_delivery::{Denied, Failure, Limits, Lost, TOLERANCE, TargetMethod, verify};
use support::{Names, Receiver, Request, Setup, delivery, ms, now};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

fn port(receiver: &Receiver) -> u16 {
    receiver.address.port()
}

fn genuine(request: &Request) -> bool {
    let header = |name: &str| request.header(name).unwrap_or_default();
    let headers = (header("webhook-id"), header("webhook-timestamp"), header("webhook-signature"));
    verify(&[support::SECRET.parse().unwrap()], headers, &request.body, now(), TOLERANCE).is_ok()
}

/// W-16: the bytes that were signed are the bytes that are sent.
#[tokio::test]
async fn w_16_what_arrives_is_what_was_signed() {
    let sender = Setup::local().sender();
    let receiver = Receiver::start().await;
    let url = format!("http://{}/a%20b?x=1&y=%C3%A9#top", receiver.address);
    let host = receiver.address.to_string();
    let mut requests = receiver.answer_all(OK);
    let bodies = [
        b"".to_vec(),
        "{\"ü\":\"\u{1f600}\"}".into(),
        b"\0\r\n\r\n\0".to_vec(),
        vec![0xff, 0xfe, 0x80],
        (0..1024 * 1024).map(|n: u32| (n % 251) as u8).collect(),
    ];
    for body in bodies {
        let report = sender.client.deliver(delivery(&url, body.clone())).await;
        assert_eq!(report.failure(), None);
        let request = requests.recv().await.unwrap();
        assert_eq!(request.body, body);
        assert!(genuine(&request));
        assert!(request.head.starts_with("POST /a%20b?x=1&y=%C3%A9 HTTP/1.1\r\n"), "{}", request.head);
        assert_eq!(request.header("host"), Some(host.as_str()));
        assert_eq!(request.header("content-length"), Some(body.len().to_string().as_str()));
        assert_eq!((request.header("x-shop"), request.header("onefold-attempt")), (Some("7"), Some("1")));
    }
}

#[tokio::test]
async fn every_method_is_sent_as_it_is_called() {
    let (sender, receiver) = (Setup::local().sender(), Receiver::start().await);
    let url = receiver.url();
    let mut requests = receiver.answer_all("HTTP/1.1 204 No Content\r\n\r\n");
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let method: TargetMethod = method.parse().unwrap();
        let delivery = onefold_delivery::Delivery { method, ..delivery(&url, "x") };
        assert_eq!(sender.client.deliver(delivery).await.failure(), None);
        let request = requests.recv().await.unwrap();
        assert!(request.head.starts_with(&format!("{} /hook ", method.as_http())), "{}", request.head);
    }
}

#[tokio::test]
async fn s_01_what_is_denied_is_not_dialled_and_the_flag_is_named() {
    let mut receiver = Receiver::start().await;
    let setup =
        Setup { names: Names::default().with("local.example", &[&["127.0.0.1"]]), ..Setup::default() };
    let mut sender = setup.sender();
    let port = port(&receiver);
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "[::ffff:7f00:1]",
        "[::1]",
        "local.example.",
    ] {
        let (report, verdict) = sender.deliver_in_lane(&format!("http://{host}:{port}/")).await;
        assert_eq!(support::code(&verdict), "address-denied", "{host}");
        let why = report.failure().unwrap().to_string();
        assert!(why.contains("--allow-target 127.0.0.1") || why.contains("--allow-target ::1"), "{why}");
        assert!(report.dials.is_empty() && report.connection.is_none() && report.bytes_read == 0);
    }
    assert!(receiver.is_untouched());
    let allowed = Setup { allow: vec!["127.0.0.0/8"], ..Setup::default() }.sender();
    let url = receiver.url();
    let _requests = receiver.answer_all(OK);
    assert_eq!(allowed.deliver(&url).await.failure(), None);
}

/// S-04 and S-06: of a name with several addresses only those that are allowed are dialled.
#[tokio::test]
async fn s_04_a_name_with_a_denied_address_is_reached_at_the_others_only() {
    let receiver = Receiver::start().await;
    let mut denied = Receiver::at(&format!("127.0.0.2:{}", port(&receiver))).await;
    let names = Names::default()
        .with("mixed.example", &[&["127.0.0.2", "::1", "127.0.0.1"]])
        .with("bad.example", &[&["127.0.0.2", "10.0.0.1"]]);
    let sender = Setup { allow: vec!["127.0.0.1"], names, ..Setup::default() }.sender();
    let (url, bad) = (
        format!("http://mixed.example:{}/", port(&receiver)),
        format!("http://bad.example:{}/", port(&receiver)),
    );
    let address = receiver.address;
    let mut requests = receiver.answer_all(OK);
    let report = sender.deliver(&url).await;
    assert_eq!(report.failure(), None);
    assert_eq!(report.connection.unwrap().address, address);
    assert_eq!(report.denied.len(), 2);
    assert_eq!(
        requests.recv().await.unwrap().header("host").unwrap(),
        url.trim_start_matches("http://").trim_end_matches('/')
    );
    let report = sender.deliver(&bad).await;
    assert!(matches!(report.failure(), Some(Failure::AddressDenied(Denied::NotPublic { .. }))));
    assert!(denied.is_untouched());
}

/// S-05: the name is looked up once, and what was vetted is what is dialled, whatever it points to a moment later.
#[tokio::test]
async fn s_05_a_name_that_changes_between_check_and_dial_changes_nothing() {
    let receiver = Receiver::start().await;
    let mut private = Receiver::at(&format!("127.0.0.2:{}", port(&receiver))).await;
    let names = Names::default().with("rebind.example", &[&["127.0.0.1"], &["127.0.0.2"]]);
    let mut sender = Setup { allow: vec!["127.0.0.1"], names, ..Setup::default() }.sender();
    let url = format!("http://rebind.example:{}/", port(&receiver));
    let address = receiver.address;
    let _requests = receiver.answer_all("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    let (report, verdict) = sender.deliver_in_lane(&url).await;
    assert_eq!((support::code(&verdict).as_str(), report.connection.unwrap().address), ("complete", address));
    assert_eq!(sender.names.lookups(), ["rebind.example"]);
    let (report, verdict) = sender.deliver_in_lane(&url).await;
    assert_eq!((support::code(&verdict).as_str(), report.dials.len()), ("address-denied", 0));
    assert!(private.is_untouched());
}

/// S-07: an idle connection leads where it was vetted to lead, and does not live for long.
#[tokio::test]
async fn s_07_a_name_that_points_elsewhere_is_noticed_when_its_connections_are_old() {
    let receiver = Receiver::start().await;
    let mut private = Receiver::at(&format!("127.0.0.2:{}", port(&receiver))).await;
    let names = Names::default().with("rebind.example", &[&["127.0.0.1"], &["127.0.0.2"]]);
    let limits = Limits { idle: ms(3_000_000), ..Limits::default() };
    let sender = Setup { allow: vec!["127.0.0.1"], names, limits, ..Setup::default() }.sender();
    let url = format!("http://rebind.example:{}/", port(&receiver));
    let address = receiver.address;
    let _requests = receiver.answer_all(OK);
    assert!(!sender.deliver(&url).await.connection.unwrap().reused);
    sender.clock.advance(ms(59_999));
    let again = sender.deliver(&url).await.connection.unwrap();
    assert_eq!((again.reused, again.address), (true, address));
    sender.clock.advance(ms(1));
    assert_eq!(sender.deliver(&url).await.failure().unwrap().code(), "address-denied");
    assert!(private.is_untouched());
}

#[tokio::test]
async fn an_address_that_refuses_is_followed_by_the_next() {
    let receiver = Receiver::start().await;
    let names = Names::default().with("two.example", &[&["127.0.0.3", "127.0.0.1"]]);
    let sender = Setup { names, ..Setup::local() }.sender();
    let url = format!("http://two.example:{}/", port(&receiver));
    let (address, refused) = (receiver.address, format!("127.0.0.3:{}", port(&receiver)).parse().unwrap());
    let _requests = receiver.answer_all(OK);
    let report = sender.deliver(&url).await;
    assert_eq!(report.connection.unwrap().address, address);
    assert_eq!(report.dials, [(refused, Failure::ConnectRefused { address: refused })]);
    assert_eq!(sender.timer.waits(), [ms(30_000), ms(3_000)], "the first of two has its share only");
}

#[tokio::test]
async fn connect_to_changes_the_connection_and_nothing_else() {
    let receiver = Receiver::start().await;
    let rule = format!("shop.example:80:127.0.0.1:{}", port(&receiver));
    let sender = Setup { connect_to: vec![rule.clone()], ..Setup::local() }.sender();
    let denied = Setup { connect_to: vec![rule], ..Setup::default() }.sender();
    let address = receiver.address;
    let mut requests = receiver.answer_all(OK);
    let report = sender.deliver("http://shop.example/hook").await;
    assert_eq!(report.connection.unwrap().address, address);
    let request = requests.recv().await.unwrap();
    assert_eq!(request.header("host"), Some("shop.example"));
    assert!(genuine(&request));
    assert!(sender.names.lookups().is_empty());
    let report = denied.deliver("http://shop.example/hook").await;
    assert_eq!(report.failure().unwrap().code(), "address-denied", "the address is vetted like any other");
}

#[tokio::test]
async fn a_connection_is_used_again_while_it_is_young() {
    let (sender, receiver) = (Setup::local().sender(), Receiver::start().await);
    let url = receiver.url();
    let _requests = receiver.answer_all(OK);
    let mut reused = Vec::new();
    for pause in [0, 2_999, 3_000] {
        sender.clock.advance(ms(pause));
        reused.push(sender.deliver(&url).await.connection.unwrap().reused);
    }
    assert_eq!(reused, [false, true, false]);
    assert_eq!(sender.client.idle_connections(), 1);
    sender.clock.advance(ms(3_000));
    sender.client.close_idle();
    assert_eq!(sender.client.idle_connections(), 0);
}

#[tokio::test]
async fn what_a_target_says_about_its_connections_is_heeded() {
    for (headers, reused) in [
        ("keep-alive: timeout=5\r\n", true),
        ("keep-alive: max=100, timeout=2\r\n", true),
        ("keep-alive: timeout=1\r\n", false),
        ("keep-alive: timeout=0\r\n", false),
        ("keep-alive: nonsense\r\n", true),
        ("connection: close\r\n", false),
    ] {
        let (sender, mut receiver) = (Setup::local().sender(), Receiver::start().await);
        let url = receiver.url();
        let answer = format!("HTTP/1.1 200 OK\r\n{headers}content-length: 0\r\n\r\n");
        let both = async { (sender.deliver(&url).await, sender.deliver(&url).await) };
        let answering = async {
            let mut peer = receiver.accept().await;
            peer.request().await.unwrap();
            peer.write(&answer).await;
            if !reused {
                peer = receiver.accept().await;
            }
            peer.request().await.unwrap();
            peer.write(&answer).await;
        };
        let ((first, second), ()) = tokio::join!(both, answering);
        assert!(first.failure().is_none() && second.failure().is_none(), "{headers}");
        assert_eq!(second.connection.unwrap().reused, reused, "{headers}");
    }
}

#[tokio::test]
async fn idle_connections_are_few() {
    let limits = Limits { idle_per_origin: 2, idle_connections: 3, ..Limits::default() };
    let sender = Setup { limits, ..Setup::local() }.sender();
    let (one, two) = (Receiver::start().await, Receiver::start().await);
    let urls = [one.url(), two.url()];
    let (_one, _two) = (one.answer_all(OK), two.answer_all(OK));
    for (url, expected) in urls.iter().zip([2, 3]) {
        let all = [(); 5].map(|()| sender.deliver(url));
        let [a, b, c, d, e] = all;
        tokio::join!(a, b, c, d, e);
        assert_eq!(sender.client.idle_connections(), expected);
    }
}

/// W-20: the target closes a connection at the moment it is used again. Nobody knows whether the request was read, so it
/// is a failure that says so, and the request is not sent a second time.
#[tokio::test]
async fn w_20_a_reused_connection_that_dies_before_the_answer_is_reported_and_never_repeated() {
    let (sender, mut receiver) = (Setup::local().sender(), Receiver::start().await);
    let url = receiver.url();
    let both = async { (sender.deliver(&url).await, sender.deliver(&url).await) };
    let answering = async {
        let mut peer = receiver.accept().await;
        peer.request().await.unwrap();
        peer.write(OK).await;
        peer.request().await.unwrap();
    };
    let ((first, second), ()) = tokio::join!(both, answering);
    assert!(first.failure().is_none());
    assert!(second.connection.unwrap().reused);
    assert_eq!(second.failure(), Some(&Failure::Reset { lost: Lost::BeforeAnswerOnReused }));
    assert!(receiver.is_untouched(), "it was not sent again");
}

/// W-20, the other half: a connection known to be closed is not used, and a new one costs nothing.
#[tokio::test]
async fn w_20_a_connection_that_was_closed_while_idle_is_replaced() {
    let (sender, mut receiver) = (Setup::local().sender(), Receiver::start().await);
    let url = receiver.url();
    let (first, ()) = tokio::join!(sender.deliver(&url), async {
        let mut peer = receiver.accept().await;
        peer.request().await.unwrap();
        peer.write(OK).await;
    });
    assert!(first.failure().is_none());
    while sender.client.idle_connections() > 0 {
        tokio::task::yield_now().await;
    }
    let (second, ()) = tokio::join!(sender.deliver(&url), async {
        let mut peer = receiver.accept().await;
        peer.request().await.unwrap();
        peer.write(OK).await;
    });
    assert!(second.failure().is_none() && !second.connection.unwrap().reused);
}

#[tokio::test]
async fn a_job_that_may_not_be_repeated_gets_a_connection_of_its_own() {
    let (sender, receiver) = (Setup::local().sender(), Receiver::start().await);
    let url = receiver.url();
    let _requests = receiver.answer_all(OK);
    assert!(!sender.deliver(&url).await.connection.unwrap().reused);
    let fresh = onefold_delivery::Delivery { fresh_connection: true, ..delivery(&url, "{}") };
    assert!(!sender.client.deliver(fresh).await.connection.unwrap().reused);
    assert!(sender.deliver(&url).await.connection.unwrap().reused);
}

/// An unfinished answer must never be read as the beginning of the next one.
#[tokio::test]
async fn a_connection_whose_answer_was_not_read_to_its_end_is_closed() {
    let limits = Limits { body_bytes: 10, ..Limits::default() };
    let (sender, mut receiver) = (Setup { limits, ..Setup::local() }.sender(), Receiver::start().await);
    let url = receiver.url();
    let (report, ()) = tokio::join!(sender.deliver(&url), async {
        let mut peer = receiver.accept().await;
        peer.request().await.unwrap();
        peer.write("HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\nhello world").await;
        peer.gone().await;
    });
    assert_eq!(report.failure().unwrap().code(), "body-too-large");
    assert_eq!(sender.client.idle_connections(), 0);
}

/// A delivery that nobody waits for any more lets go of its connection.
#[tokio::test]
async fn a_delivery_that_is_dropped_closes_its_connection() {
    let (sender, mut receiver) = (Setup::local().sender(), Receiver::start().await);
    let url = receiver.url();
    let client = std::sync::Arc::clone(&sender.client);
    let delivering = tokio::spawn(async move { client.deliver(delivery(&url, "{}")).await });
    let mut peer = receiver.accept().await;
    peer.request().await.unwrap();
    delivering.abort();
    peer.gone().await;
}
