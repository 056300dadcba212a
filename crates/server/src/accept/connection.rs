//! One connection, from its first byte to its last.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::{TowerToHyperService, TowerToHyperServiceFuture};
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::App;
use super::body::PacedBody;
use super::framing::{Framing, Place};
use super::last_words;
use super::limits::AcceptLimits;
use super::link::{Link, Order, Standing};
use super::receipt::Receipt;
use super::room::{Room, Seat};
use super::stats::CloseReason;

/// What every connection of a loop needs.
pub(super) struct Shared {
    pub(super) limits: AcceptLimits,
    pub(super) http: http1::Builder,
    pub(super) room: Arc<Room>,
}

/// Serves the connection to its end.
pub(super) async fn run<A: App>(
    stream: TcpStream,
    peer: SocketAddr,
    app: A,
    shared: Arc<Shared>,
    mut seat: Seat,
) {
    let limits = &shared.limits;
    let link = Arc::clone(&seat.link);
    let mut timer = pin!(tokio::time::sleep(limits.first_byte));
    if let Err(reason) = first_byte(&stream, &link, timer.as_mut()).await {
        seat.reason = reason;
        return;
    }

    let framing = Framing::new(limits.max_header_bytes);
    let stream = TokioIo::new(Tap { stream, framing, link: Arc::clone(&link) });
    let gate = Gate { app: TowerToHyperService::new(app), link: Arc::clone(&link), peer };
    // On the heap, so that a silent connection is as small as can be.
    let mut http = Box::new(shared.http.serve_connection(stream, gate));
    let mut watch = Watch::new(seat.accepted);
    let mut draining = false;
    let end = poll_fn(|cx| {
        link.task_waker.register(cx.waker());
        if link.order() == Order::Drop {
            return Poll::Ready(End::Closed(CloseReason::Dropped));
        }
        loop {
            if let Poll::Ready(result) = Pin::new(&mut *http).poll(cx) {
                return Poll::Ready(End::Http(result));
            }
            watch.look(&link, &shared.room);
            match link.order() {
                Order::Serve => break,
                Order::MakeRoom if watch.phase.is_between_requests() => {
                    return Poll::Ready(End::Closed(CloseReason::Evicted));
                }
                Order::MakeRoom => link.decline_to_make_room(),
                Order::Drain if draining => break,
                Order::Drain => {
                    draining = true;
                    Pin::new(&mut *http).graceful_shutdown();
                }
                Order::Drop => return Poll::Ready(End::Closed(CloseReason::Dropped)),
            }
        }
        watch.poll(cx, timer.as_mut(), &link, &shared).map(End::Closed)
    })
    .await;

    // An answer that is still in hyper's hands stays there: whoever gave it learns that now.
    drop(link.take_receipt());
    let malformed = match &end {
        End::Http(Err(error)) => error.is_parse(),
        End::Http(Ok(())) => link.refused(),
        End::Closed(_) => false,
    };
    let last_words = match &end {
        End::Http(Err(error)) if link.spoke_for_itself() => Some(last_words::malformed(error)),
        End::Closed(CloseReason::HeaderRead) => Some(last_words::slow_head()),
        _ => None,
    };
    seat.reason = match end {
        End::Closed(reason) => reason,
        End::Http(_) if malformed => CloseReason::Malformed,
        End::Http(_) if link.verdict().is_some() => CloseReason::SlowBody,
        End::Http(Ok(())) if draining => CloseReason::Drained,
        End::Http(Ok(())) if !link.ended() => CloseReason::Answered,
        End::Http(_) => CloseReason::Client,
    };
    tracing::trace!(%peer, reason = seat.reason.as_str(), "connection closes");

    let Tap { stream, framing, .. } = (*http).into_parts().io.into_inner();
    let linger = match seat.reason {
        CloseReason::Malformed => true,
        CloseReason::Answered | CloseReason::SlowBody | CloseReason::Drained => {
            framing.place() != Place::Between
        }
        _ => false,
    };
    if last_words.is_some() || (linger && !link.ended()) {
        last_words::part(stream, &last_words.unwrap_or_default(), &link, limits.linger).await;
    }
}

enum End {
    Http(hyper::Result<()>),
    Closed(CloseReason),
}

/// Waits for the first byte, and leaves it where it is: hyper takes 8 KiB for a connection once it reads.
async fn first_byte(stream: &TcpStream, link: &Link, mut timer: Pin<&mut Sleep>) -> Result<(), CloseReason> {
    poll_fn(|cx| {
        link.task_waker.register(cx.waker());
        // First, so that a request that is already here is answered by a draining server. Readiness is not
        // asked for: tokio supposes it of a stream just accepted.
        if stream.poll_peek(cx, &mut ReadBuf::new(&mut [0])).is_ready() {
            return Poll::Ready(Ok(()));
        }
        match link.order() {
            Order::Serve => timer.as_mut().poll(cx).map(|()| Err(CloseReason::FirstByte)),
            Order::MakeRoom => Poll::Ready(Err(CloseReason::Evicted)),
            Order::Drain => Poll::Ready(Err(CloseReason::Drained)),
            Order::Drop => Poll::Ready(Err(CloseReason::Dropped)),
        }
    })
    .await
}

/// What a connection waits for, as it stands when its task has nothing more to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    FirstByte,
    Head,
    /// A handler works, or its answer is on its way.
    Request,
    /// A handler waits for the body.
    Body,
    /// The client does not take the answer.
    Write,
    Idle,
}

impl Phase {
    fn of(link: &Link) -> Phase {
        if link.write_blocked() {
            Phase::Write
        } else if link.in_progress() {
            let waits = link.place() == Place::Body && link.starved() && link.verdict().is_none();
            if waits { Phase::Body } else { Phase::Request }
        } else if link.place() == Place::Head {
            Phase::Head
        } else if link.requests() == 0 {
            Phase::FirstByte
        } else {
            Phase::Idle
        }
    }

    fn is_between_requests(self) -> bool {
        matches!(self, Phase::FirstByte | Phase::Idle)
    }
}

/// Holds the connection to the deadline of its phase, with one timer for the connection's whole life.
///
/// hyper's own head deadline is not used. Its timer starts with the wait for a head: with the connection, which
/// would do, but also with the end of an answer, so that it would cut idle connections after `header_read`; it
/// closes without an answer; and it is allocated, put into the timer wheel and taken out for every request.
/// This one is moved at most once per elapsed deadline on a connection whose requests arrive whole: it may run
/// out early, and is then set to the deadline that holds by that time.
struct Watch {
    phase: Phase,
    turn: u32,
    since: Instant,
    accepted: Instant,
    request: u64,
    /// How long the body in progress has been waited for before `since`.
    waited: Duration,
}

impl Watch {
    fn new(accepted: Instant) -> Watch {
        let phase = Phase::FirstByte;
        Watch { phase, turn: 0, since: accepted, accepted, request: 0, waited: Duration::ZERO }
    }

    /// Notes what the connection waits for now, and since when.
    fn look(&mut self, link: &Link, room: &Room) {
        let (phase, turn) = (Phase::of(link), link.turn());
        if (phase, turn) == (self.phase, self.turn) {
            return;
        }
        let now = Instant::now();
        if self.request != link.requests() {
            self.request = link.requests();
            self.waited = Duration::ZERO;
        } else if self.phase == Phase::Body {
            self.waited += now - self.since;
        }
        (self.phase, self.turn, self.since) = (phase, turn, now);
        let standing = match phase {
            Phase::FirstByte => Standing::Silent,
            Phase::Idle => Standing::Idle,
            Phase::Head | Phase::Request | Phase::Body | Phase::Write => Standing::Busy,
        };
        link.set_standing(standing, room.micros(now));
    }

    fn due(&self, link: &Link, limits: &AcceptLimits) -> Option<Instant> {
        match self.phase {
            Phase::FirstByte => self.accepted.checked_add(limits.first_byte),
            Phase::Head => self.since.checked_add(limits.header_read),
            Phase::Request => None,
            Phase::Body => {
                let (patience, _) = limits.body.patience(link.body_bytes(), self.waited);
                self.since.checked_add(patience)
            }
            Phase::Write => self.since.checked_add(limits.write_stall),
            Phase::Idle => self.since.checked_add(limits.keep_alive_idle),
        }
    }

    /// Ready when the connection is to be closed; a slow body is given up instead.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut timer: Pin<&mut Sleep>,
        link: &Link,
        shared: &Shared,
    ) -> Poll<CloseReason> {
        while let Some(due) = self.due(link, &shared.limits) {
            if timer.deadline() > due {
                timer.as_mut().reset(due);
            }
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() < due {
                timer.as_mut().reset(due);
                continue;
            }
            match self.phase {
                Phase::FirstByte => return Poll::Ready(CloseReason::FirstByte),
                Phase::Head => return Poll::Ready(CloseReason::HeaderRead),
                Phase::Idle => return Poll::Ready(CloseReason::Idle),
                Phase::Write => return Poll::Ready(CloseReason::WriteStall),
                Phase::Request => return Poll::Pending,
                Phase::Body => {
                    let (_, rule) = shared.limits.body.patience(link.body_bytes(), self.waited);
                    shared.room.stats().body_was_slow();
                    link.condemn_body(rule);
                    self.look(link, &shared.room);
                }
            }
        }
        Poll::Pending
    }
}

/// The stream, telling the link what passes through it.
struct Tap {
    stream: TcpStream,
    framing: Framing,
    link: Arc<Link>,
}

impl AsyncRead for Tap {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let result = Pin::new(&mut this.stream).poll_read(cx, buf);
        let came = &buf.filled()[before..];
        match &result {
            Poll::Pending => this.link.set_starved(),
            Poll::Ready(Ok(())) if !came.is_empty() => {
                this.framing.feed(came);
                this.link.bytes_came(came.len(), this.framing.place());
                if let Some(number) = this.framing.refused() {
                    this.link.refuse_head(number);
                }
            }
            Poll::Ready(_) => this.link.set_ended(),
        }
        result
    }
}

impl Tap {
    fn tell<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match result {
            Poll::Pending => self.link.set_write_blocked(),
            Poll::Ready(_) => self.link.wrote(),
        }
        result
    }
}

/// What hyper writes while no answer is unsent is its own answer to a head it cannot read: a status without a
/// body. It is kept from the client, who gets [`last_words`] instead.
impl AsyncWrite for Tap {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = if self.link.unsent() {
            Pin::new(&mut self.stream).poll_write(cx, buf)
        } else {
            self.link.set_spoke_for_itself();
            Poll::Ready(Ok(buf.len()))
        };
        self.tell(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = if self.link.unsent() {
            Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
        } else {
            self.link.set_spoke_for_itself();
            Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()))
        };
        self.tell(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes only after the stream has taken all it had to write.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.all_written();
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.link.spoke_for_itself() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Hands hyper's requests to the app.
struct Gate<A> {
    app: TowerToHyperService<A>,
    link: Arc<Link>,
    peer: SocketAddr,
}

impl<A: App> hyper::service::Service<Request<Incoming>> for Gate<A> {
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Reply<A>;

    fn call(&self, request: Request<Incoming>) -> Reply<A> {
        let served = self.link.begin_request();
        let in_progress = InProgress(Arc::clone(&self.link));
        let app = served.then(|| {
            let mut request = request.map(|incoming| {
                if HttpBody::is_end_stream(&incoming) {
                    Body::empty()
                } else {
                    Body::new(PacedBody::new(incoming, Arc::clone(&self.link)))
                }
            });
            request.extensions_mut().insert(ConnectInfo(self.peer));
            self.app.call(request)
        });
        Reply { app, in_progress: Some(in_progress) }
    }
}

/// Ends the request in progress when dropped.
struct InProgress(Arc<Link>);

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.end_request();
    }
}

pin_project! {
    /// An answer to come.
    struct Reply<A>
    where
        A: App,
    {
        // None if the request must not be served.
        #[pin]
        app: Option<TowerToHyperServiceFuture<A, Request<Body>>>,
        in_progress: Option<InProgress>,
    }
}

impl<A: App> Future for Reply<A> {
    type Output = Result<Response<Answer>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = match this.app.as_pin_mut() {
            Some(app) => ready!(app.poll(cx))?,
            None => last_words::ambiguous(),
        };
        let receipt = response.extensions_mut().remove::<Receipt>();
        if let (Some(receipt), Some(InProgress(link))) = (receipt, this.in_progress.as_ref()) {
            link.keep_receipt(receipt);
        }
        let last = this
            .in_progress
            .as_ref()
            .is_some_and(|InProgress(link)| link.refused() || link.verdict().is_some());
        if last {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let _in_progress = this.in_progress.take();
        Poll::Ready(Ok(response.map(|body| Answer { body, _in_progress })))
    }
}

/// The body of an answer; hyper drops it when it has all of it.
struct Answer {
    body: Body,
    _in_progress: Option<InProgress>,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
