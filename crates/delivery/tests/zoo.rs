//! A receiver zoo: each way of misbehaving ends with its own reason, reads a bounded amount, and frees its slot.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use onefold_core::DurationMs;
use onefold_delivery::{Failure, Health, JobVerdict, Limits, Lost, Part, RESPONSE_KEPT, Report};
use support::{Receiver, Setup, code, ms};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
/// More than the buffers of both sides hold: writing it ends only when the client reads the body.
const LARGE: usize = 1024 * 1024;

/// What may be in buffers beyond a limit on what is read.
const BUFFERED: u64 = 256 * 1024;

fn head(length: usize) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n")
}

/// Delivers to a receiver that reads the request, answers `answer` and then closes.
async fn answered(answer: &[u8]) -> (Report, String) {
    let (mut sender, mut receiver) = (Setup::local().sender(), Receiver::start().await);
    let (report, verdict) = sender
        .deliver_while(&receiver.url(), async {
            let mut peer = receiver.accept().await;
            peer.request().await.unwrap();
            peer.write(answer).await;
        })
        .await;
    (report, code(&verdict))
}

#[tokio::test]
async fn a_good_receiver_is_answered_for() {
    let (report, code) = answered(OK.as_bytes()).await;
    assert_eq!(code, "complete");
    let answer = report.answer().unwrap();
    assert_eq!((answer.status.as_u16(), &answer.body[..], answer.is_cut()), (200, &b"hi"[..], false));
    assert_eq!(report.bytes_read, OK.len() as u64);
}

#[tokio::test]
async fn it_hangs_before_headers() {
    let (mut sender, mut receiver) = (Setup::local().sender(), Receiver::start().await);
    let timer = sender.timer.clone();
    let (report, verdict) = sender
        .deliver_while(&receiver.url(), async {
            let mut peer = receiver.accept().await;
            peer.request().await.unwrap();
            timer.fire(0).await;
            peer.gone().await;
        })
        .await;
    assert_eq!((code(&verdict).as_str(), verdict.lane.health), ("timeout-headers", Health::Unwell));
    assert_eq!(report.bytes_read, 0);
    assert_eq!(timer.waits(), [ms(30_000)], "one deadline");
}

#[tokio::test]
async fn it_hangs_in_the_middle_of_the_headers() {
    let (mut sender, mut receiver) = (Setup::local().sender(), Receiver::start().await);
    let timer = sender.timer.clone();
    let (_, verdict) = sender
        .deliver_while(&receiver.url(), async {
            let mut peer = receiver.accept().await;
            peer.request().await.unwrap();
            peer.write("HTTP/1.1 200 OK\r\ncontent-le").await;
            timer.fire(0).await;
            peer.gone().await;
        })
        .await;
    assert_eq!(code(&verdict), "timeout-headers");
}

#[tokio::test]
async fn it_never_reads_what_it_is_sent() {
    let (sender, mut receiver) = (Setup::local().sender(), Receiver::start().await);
    let delivery = support::delivery(&receiver.url(), vec![b'x'; 50 * 1024 * 1024]);
    let (report, ()) = tokio::join!(sender.client.deliver(delivery), async {
        let mut peer = receiver.accept().await;
        tokio::io::AsyncReadExt::read_exact(&mut peer.stream, &mut [0; 100]).await.unwrap();
        sender.timer.fire(0).await;
    });
    assert_eq!(report.failure().unwrap().code(), "timeout-headers");
}

/// W-02: one byte a second goes on for as long as the deadline allows, and no longer.
#[tokio::test]
async fn w_02_its_body_drips() {
    let (mut sender, mut receiver) = (Setup::local().sender(), Receiver::start().await);
    let timer = sender.timer.clone();
    let (report, verdict) = sender
        .deliver_while(&receiver.url(), async {
            let mut peer = receiver.accept().await;
            peer.request().await.unwrap();
            peer.write(head(10 * LARGE)).await;
            peer.write(vec![b'x'; LARGE]).await;
            for _ in 0..3 {
                peer.write("x").await;
            }
            timer.fire(0).await;
            peer.gone().await;
        })
        .await;
    assert_eq!(code(&verdict), "timeout-body");
    let answer = report.answer().unwrap();
    assert_eq!((answer.status.as_u16(), answer.body.len(), answer.is_cut()), (200, RESPONSE_KEPT, true));
}

#[tokio::test]
async fn w_03_its_body_never_ends() {
    for head in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 10000000000\r\n\r\n"] {
        let limits = Limits { body_bytes: 3 * LARGE as u64, ..Limits::default() };
        let (mut sender, mut receiver) =
            (Setup { limits, ..Setup::local() }.sender(), Receiver::start().await);
        let (report, verdict) = sender
            .deliver_while(&receiver.url(), async {
                let mut peer = receiver.accept().await;
                peer.request().await.unwrap();
                peer.write(head).await;
                peer.write_without_end(&[b'x'; 8192]).await;
            })
            .await;
        assert_eq!(code(&verdict), "body-too-large");
        let read = report.bytes_read;
        assert!(read > 3 * LARGE as u64 && read < 3 * LARGE as u64 + BUFFERED, "{read}");
        assert_eq!(report.answer().unwrap().body.len(), RESPONSE_KEPT);
        assert_eq!(sender.client.idle_connections(), 0, "the connection is dropped");
    }
}

#[tokio::test]
async fn a_long_body_within_the_limit_is_read_and_only_its_beginning_kept() {
    let (report, code) = answered(&[head(LARGE).as_bytes(), &vec![b'x'; LARGE]].concat()).await;
    assert_eq!(code, "complete");
    let answer = report.answer().unwrap();
    assert_eq!((answer.body.len(), answer.body_bytes, answer.is_cut()), (RESPONSE_KEPT, LARGE as u64, true));
    let (report, _) = answered(&[head(RESPONSE_KEPT).as_bytes(), &vec![b'x'; RESPONSE_KEPT]].concat()).await;
    assert!(!report.answer().unwrap().is_cut(), "exactly what is kept");
}

/// W-03: we ask for no compression, and what comes all the same stays as it came: 8 KiB, not 8 MiB.
#[tokio::test]
async fn w_03_a_decompression_bomb_is_not_lit() {
    let bomb = include_bytes!("support/zeros.gz");
    let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", bomb.len());
    let (mut sender, mut receiver) = (Setup::local().sender(), Receiver::start().await);
    let (report, verdict) = sender
        .deliver_while(&receiver.url(), async {
            let mut peer = receiver.accept().await;
            let request = peer.request().await.unwrap();
            assert_eq!(request.header("accept-encoding"), Some("identity"));
            peer.write(head.as_bytes()).await;
            peer.write(bomb).await;
        })
        .await;
    assert_eq!(code(&verdict), "complete");
    assert_eq!(report.answer().unwrap().body, &bomb[..]);
    assert_eq!(report.bytes_read, (head.len() + bomb.len()) as u64);
}

#[tokio::test]
async fn w_05_its_headers_are_huge() {
    let one_large = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(LARGE));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(10_000));
    let a_few_too_many = format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{}\r\n", "x: y\r\n".repeat(128));
    for answer in [one_large, many, a_few_too_many] {
        let (report, code) = answered(answer.as_bytes()).await;
        assert_eq!(code, "headers-too-large");
        assert!(report.bytes_read < BUFFERED, "{}", report.bytes_read);
        assert!(report.answer().is_none());
    }
    let as_many_as_may = format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{}\r\n", "x: y\r\n".repeat(127));
    assert_eq!(answered(as_many_as_may.as_bytes()).await.1, "complete");
}

#[tokio::test]
async fn w_05_its_headers_never_end() {
    for bytes in [&b"x: y\r\n"[..], b"y", b"HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\n"] {
        let (mut sender, mut receiver) = (Setup::local().sender(), Receiver::start().await);
        let (report, verdict) = sender
            .deliver_while(&receiver.url(), async {
                let mut peer = receiver.accept().await;
                peer.request().await.unwrap();
                if !bytes.starts_with(b"HTTP") {
                    peer.write("HTTP/1.1 200 OK\r\nx: ").await;
                }
                peer.write_without_end(&bytes.repeat(100)).await;
            })
            .await;
        assert_eq!(code(&verdict), "headers-too-large");
        assert!(report.bytes_read < BUFFERED, "{}", report.bytes_read);
    }
}

#[tokio::test]
async fn interim_answers_are_no_answers() {
    let hints = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\n";
    assert_eq!(answered(format!("{hints}{OK}").as_bytes()).await.1, "complete");
    assert_eq!(answered(hints.as_bytes()).await.1, "reset");
    let switching = "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n";
    assert_eq!(answered(switching.as_bytes()).await.1, "invalid-response");
}

#[tokio::test]
async fn w_04_its_chunks_are_invalid() {
    for chunks in ["zz\r\nhi\r\n0\r\n\r\n", "2\r\nhixx", "-1\r\n", "fffffffffffffffff\r\n"] {
        let (report, code) =
            answered(format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunks}").as_bytes())
                .await;
        assert_eq!(code, "invalid-response", "{chunks:?}");
        assert!(matches!(report.failure(), Some(Failure::InvalidResponse { part: Part::Body, .. })));
        assert_eq!(report.answer().unwrap().status.as_u16(), 200, "the status is told, and does not count");
    }
}

#[tokio::test]
async fn it_does_not_speak_http() {
    for answer in [
        &b"SSH-2.0-OpenSSH_9.9\r\n"[..],
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 xyz OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbad name: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
    ] {
        let (report, code) = answered(answer).await;
        assert_eq!(code, "invalid-response", "{}", answer.escape_ascii());
        assert!(matches!(report.failure(), Some(Failure::InvalidResponse { part: Part::Head, .. })));
    }
}

#[tokio::test]
async fn w_04_its_answer_breaks_off() {
    for (answer, lost) in [
        (String::new(), Lost::BeforeAnswer),
        ("HTTP/1.1 200 OK\r\nconte".to_owned(), Lost::InHead),
        (head(10), Lost::InBody),
        (head(10) + "hi", Lost::InBody),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_owned(), Lost::InBody),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n".to_owned(), Lost::InBody),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhi".to_owned(), Lost::InBody),
    ] {
        let (report, code) = answered(answer.as_bytes()).await;
        assert_eq!(
            (code.as_str(), report.failure()),
            ("reset", Some(&Failure::Reset { lost })),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn it_resets_the_connection_in_the_middle_of_the_body() {
    let (mut sender, mut receiver) = (Setup::local().sender(), Receiver::start().await);
    let (report, verdict) = sender
        .deliver_while(&receiver.url(), async {
            let mut peer = receiver.accept().await;
            peer.request().await.unwrap();
            peer.write(head(10 * LARGE)).await;
            peer.write(vec![b'x'; LARGE]).await;
            peer.reset();
        })
        .await;
    assert_eq!(code(&verdict), "reset");
    assert_eq!(report.failure(), Some(&Failure::Reset { lost: Lost::InBody }));
    assert_eq!(report.answer().unwrap().status.as_u16(), 200);
}

/// W-19: nobody knows whether it was read. A failure, for the next attempt to repeat with the same ids.
#[tokio::test]
async fn w_19_it_resets_the_connection_after_the_request() {
    let (mut sender, mut receiver) = (Setup::local().sender(), Receiver::start().await);
    let (report, verdict) = sender
        .deliver_while(&receiver.url(), async {
            let mut peer = receiver.accept().await;
            peer.request().await.unwrap();
            peer.reset();
        })
        .await;
    assert_eq!(code(&verdict), "reset");
    assert_eq!(report.failure(), Some(&Failure::Reset { lost: Lost::BeforeAnswer }));
    assert!(receiver.is_untouched(), "it was not sent again");
}

#[tokio::test]
async fn nobody_listens() {
    let receiver = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = receiver.local_addr().unwrap();
    drop(receiver);
    let (report, verdict) = Setup::local().sender().deliver_in_lane(&format!("http://{address}/")).await;
    assert_eq!((code(&verdict).as_str(), verdict.lane.health), ("connect-refused", Health::Unwell));
    assert_eq!(report.dials, [(address, Failure::ConnectRefused { address })]);
}

/// A listener whose queue is full drops what knocks, as a firewall does. Only Linux counts that queue exactly.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn nobody_answers_the_connection() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let _in_the_queue = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut sender = Setup::local().sender();
    let timer = sender.timer.clone();
    let (report, verdict) = sender.deliver_while(&format!("http://{address}/"), timer.fire(0)).await;
    assert_eq!(code(&verdict), "connect-timeout");
    assert!(report.connection.is_none());
}

#[tokio::test]
async fn its_name_is_unknown_or_its_name_server_silent() {
    let mut sender = Setup::local().sender();
    let (_, verdict) = sender.deliver_in_lane("http://nowhere.example/").await;
    assert_eq!(code(&verdict), "dns-failed");
    let timer = sender.timer.clone();
    let (_, verdict) = sender.deliver_while("http://silent.example/", timer.fire(1)).await;
    assert_eq!(code(&verdict), "dns-timeout");
    let names = support::Names::default().with("empty.example", &[&[]]);
    let (_, verdict) =
        Setup { names, ..Setup::local() }.sender().deliver_in_lane("http://empty.example/").await;
    assert_eq!(code(&verdict), "dns-failed");
}

/// W-06: to a place that only the receiver would like us to go to.
#[tokio::test]
async fn w_06_it_redirects_to_a_private_address() {
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
        let (mut sender, mut receiver) = (Setup::local().sender(), Receiver::start().await);
        let mut private = Receiver::start().await;
        let answer = format!("HTTP/1.1 {status}\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", private.url());
        let (_, verdict) = sender
            .deliver_while(&receiver.url(), async {
                let mut peer = receiver.accept().await;
                peer.request().await.unwrap();
                peer.write(&answer).await;
            })
            .await;
        assert_eq!(code(&verdict), "redirect", "{status}");
        assert!(verdict.job.cause().unwrap().to_string().contains(&private.url()));
        assert!(private.is_untouched());
    }
}

/// W-08: what a receiver wishes is clamped, and holds its whole lane.
#[tokio::test]
async fn w_08_its_retry_after_is_hostile() {
    let day = Some(ms(86_400_000));
    for (value, expected) in [
        ("3600", Some(ms(3_600_000))),
        ("-1", None),
        ("1e309", None),
        ("NaN", None),
        ("99999999999999999999999", day),
        ("Thu, 01 Jan 1970 00:00:00 GMT", Some(DurationMs::ZERO)),
        ("Fri, 31 Dec 9999 23:59:59 GMT", day),
        ("\u{1}", None),
    ] {
        let (mut sender, mut receiver) = (Setup::local().sender(), Receiver::start().await);
        let (_, verdict) = sender
            .deliver_while(&receiver.url(), async {
                let mut peer = receiver.accept().await;
                peer.request().await.unwrap();
                let answer =
                    format!("HTTP/1.1 429 Slow\r\nretry-after: {value}\r\ncontent-length: 0\r\n\r\n");
                peer.write(answer).await;
            })
            .await;
        if value == "\u{1}" {
            assert_eq!(code(&verdict), "invalid-response", "no value that HTTP can carry");
            continue;
        }
        assert_eq!((code(&verdict).as_str(), verdict.lane.pause), ("status-429", expected), "{value}");
        assert!(matches!(verdict.job, JobVerdict::Fail { not_before, .. } if not_before == expected));
    }
}

#[tokio::test]
async fn w_07_it_is_gone() {
    let (mut sender, receiver) = (Setup::local().sender(), Receiver::start().await);
    let url = receiver.url();
    let _requests = receiver.answer_all("HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n");
    let (_, verdict) = sender.deliver_in_lane(&url).await;
    assert_eq!((code(&verdict).as_str(), verdict.lane.health), ("status-410", Health::Gone));
}
