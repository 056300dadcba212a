//! What is answered when no handler can be asked, and how a connection is left.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Poll, ready};
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use onefold_wire::{ErrorCode, Problem};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::link::{Link, Order};
use crate::failure::Failure;

/// To a head that came too slowly: all of an answer, as it is written.
pub(super) fn slow_head() -> Vec<u8> {
    written(
        "408 Request Timeout",
        ErrorCode::RequestTimeout,
        "the head of the request did not end in time; send it without pauses".to_owned(),
    )
}

/// To a head that hyper cannot read: all of an answer, as it is written.
pub(super) fn malformed(error: &hyper::Error) -> Vec<u8> {
    if error.is_parse_too_large() {
        let detail = "the request line and the headers are too long, or there are more than 100 of them; nothing was done";
        return written("431 Request Header Fields Too Large", ErrorCode::HeadTooLarge, detail.to_owned());
    }
    let detail = format!("this is not a request in HTTP/1.1 ({error}); nothing was done");
    written("400 Bad Request", ErrorCode::MalformedRequest, detail)
}

/// To a request that another server may have read differently.
pub(super) fn ambiguous() -> Response {
    let detail = "send Content-Length or Transfer-Encoding, not both; nothing was done";
    Failure::new(ErrorCode::MalformedRequest, detail).into_response()
}

fn written(status: &str, code: ErrorCode, detail: String) -> Vec<u8> {
    // A problem is made of texts and numbers only: writing it cannot fail.
    let body = serde_json::to_string(&Problem::new(code, detail)).unwrap_or_default();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        Problem::MEDIA_TYPE,
        body.len()
    );
    (head + &body).into_bytes()
}

/// Says the last words, then throws away what the client still sends, for `time` at most.
///
/// A socket closed with bytes unread resets the connection, and the client's system then throws away the answer
/// it has not handed over yet.
pub(super) async fn part(mut stream: TcpStream, mut words: &[u8], link: &Link, time: Duration) {
    let mut timer = pin!(tokio::time::sleep(time));
    let mut shut = false;
    poll_fn(|cx| {
        link.task_waker.register(cx.waker());
        if link.order() == Order::Drop || timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        while !words.is_empty() {
            match ready!(Pin::new(&mut stream).poll_write(cx, words)) {
                Ok(written @ 1..) => words = words.get(written..).unwrap_or_default(),
                Ok(0) | Err(_) => return Poll::Ready(()),
            }
        }
        if !shut {
            if ready!(Pin::new(&mut stream).poll_shutdown(cx)).is_err() {
                return Poll::Ready(());
            }
            shut = true;
        }
        let mut waste = [0; 4096];
        loop {
            let mut waste = ReadBuf::new(&mut waste);
            match ready!(Pin::new(&mut stream).poll_read(cx, &mut waste)) {
                Ok(()) if !waste.filled().is_empty() => {}
                Ok(()) | Err(_) => return Poll::Ready(()),
            }
        }
    })
    .await;
}
