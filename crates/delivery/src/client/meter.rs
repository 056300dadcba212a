//! A stream that counts what is read and ends heads that are too large, below the parser.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::failure::HeadTooLarge;

/// A connection, in the clear or not.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// What is counted of a connection, shared with whoever sends over it.
#[derive(Debug, Default)]
pub(super) struct Meter {
    read: AtomicU64,
    /// Where the head of the current answer began.
    head_from: AtomicU64,
    in_head: AtomicBool,
}

impl Meter {
    /// A request is about to be sent: what is read from now on is the head of its answer.
    pub(super) fn begin(&self) {
        self.head_from.store(self.read.load(Ordering::Relaxed), Ordering::Relaxed);
        self.in_head.store(true, Ordering::Relaxed);
    }

    /// The head is complete.
    pub(super) fn head_done(&self) {
        self.in_head.store(false, Ordering::Relaxed);
    }

    /// Bytes read since the request.
    pub(super) fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed).saturating_sub(self.head_from.load(Ordering::Relaxed))
    }
}

/// See the [module](self).
pub(super) struct Metered {
    stream: Stream,
    meter: Arc<Meter>,
    head_limit: u64,
}

impl Metered {
    pub(super) fn new(stream: Stream, head_limit: u64) -> (Metered, Arc<Meter>) {
        let meter = Arc::new(Meter::default());
        (Metered { stream, meter: Arc::clone(&meter), head_limit }, meter)
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Interim answers are forgotten one by one by the parser; here they add up.
        if self.meter.in_head.load(Ordering::Relaxed) && self.meter.read() > self.head_limit {
            return Poll::Ready(Err(io::Error::other(HeadTooLarge)));
        }
        let before = buffer.filled().len();
        let polled = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        };
        let read = buffer.filled().len() - before;
        self.meter.read.fetch_add(read as u64, Ordering::Relaxed);
        polled
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
