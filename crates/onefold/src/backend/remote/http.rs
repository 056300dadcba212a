//! Calls to a server: JSON there and back, over connections that are kept.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use onefold_core::EngineError;
use onefold_wire::{ErrorCode, Problem};

use super::problem;
use crate::{Error, Invalid};

/// Shorter than any server keeps an idle connection, so that few calls meet one being closed.
const KEEP_IDLE: Duration = Duration::from_secs(20);
const CONNECT: Duration = Duration::from_secs(5);
/// Beyond the wait the server was asked for.
const ANSWER: Duration = Duration::from_secs(10);
/// A connection that turns out to be closed has not been sent anything on; another one is taken.
const CLOSED_CONNECTIONS_MAX: u32 = 3;
/// The largest payload in base64, and room to spare.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Connections that are kept. TLS is prepared only for a server that speaks it: on a machine
/// without certificates of authorities it cannot be.
enum Connections {
    Plain(Client<HttpConnector, Full<Bytes>>),
    #[cfg(feature = "tls")]
    Secure(Client<hyper_rustls::HttpsConnector<HttpConnector>, Full<Bytes>>),
}

pub(super) struct Http {
    connections: Connections,
    /// Ends without a slash.
    base: String,
    authorization: Option<HeaderValue>,
}

/// A successful answer.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

/// What a call asks for.
pub(super) struct Call {
    pub(super) method: Method,
    /// Path and query, percent-encoded, from `/v1` on.
    pub(super) path: String,
    /// A JSON text.
    pub(super) body: Option<Bytes>,
    /// How long the server may park it.
    pub(super) wait: Duration,
}

impl Call {
    pub(super) fn get(path: impl Into<String>) -> Call {
        Call { method: Method::GET, path: path.into(), body: None, wait: Duration::ZERO }
    }

    pub(super) fn delete(path: impl Into<String>) -> Call {
        Call { method: Method::DELETE, ..Call::get(path) }
    }

    pub(super) fn post(path: impl Into<String>, body: impl Into<Bytes>) -> Call {
        Call { method: Method::POST, body: Some(body.into()), ..Call::get(path) }
    }

    pub(super) fn patch(path: impl Into<String>, body: impl Into<Bytes>) -> Call {
        Call { method: Method::PATCH, ..Call::post(path, body) }
    }

    pub(super) fn put(path: impl Into<String>, body: impl Into<Bytes>) -> Call {
        Call { method: Method::PUT, ..Call::post(path, body) }
    }
}

/// Why a try to send a call failed.
enum Failed {
    /// The connection was closed before anything was sent on it.
    NotSent(String),
    Final(Error),
}

impl Http {
    pub(super) fn new(url: &str, token: Option<&str>) -> Result<Http, Invalid> {
        let wrong = |rule: &str| Invalid::value("the server's URL", rule);
        let uri: Uri = url.parse().map_err(|_unparsable| wrong("must look like http://127.0.0.1:7717"))?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong("must begin with http:// or https://")),
        };
        if secure && cfg!(not(feature = "tls")) {
            return Err(wrong("is https://: turn on the feature `tls` of the crate `onefold`"));
        }
        if uri.host().is_none_or(str::is_empty) || uri.query().is_some() {
            return Err(wrong("must name a host, and no query"));
        }
        let bearer = |token: &str| {
            let mut value = HeaderValue::try_from(format!("Bearer {token}"))
                .map_err(|_invalid| Invalid::value("the token", "must be visible ASCII characters"))?;
            value.set_sensitive(true);
            Ok::<_, Invalid>(value)
        };
        Ok(Http {
            connections: Connections::new(secure)?,
            base: url.trim_end_matches('/').to_owned(),
            authorization: token.map(bearer).transpose()?,
        })
    }

    /// Makes a call. Nothing is ever sent twice: what happened to a call whose answer did not come
    /// is for the caller to find out.
    pub(super) async fn call(&self, call: Call) -> Result<Answer, Error> {
        let limit = call.wait.saturating_add(ANSWER);
        let reads = call.method == Method::GET;
        let answer = tokio::time::timeout(limit, self.send(&call)).await;
        answer.unwrap_or_else(|_elapsed| Err(lost(reads, "no answer came in time")))
    }

    async fn send(&self, call: &Call) -> Result<Answer, Error> {
        let mut closed = 0;
        loop {
            match self.try_send(call).await {
                Ok(answer) => return Ok(answer),
                Err(Failed::Final(error)) => return Err(error),
                Err(Failed::NotSent(why)) => {
                    closed += 1;
                    if closed > CLOSED_CONNECTIONS_MAX {
                        return Err(Error::Unreachable(why));
                    }
                }
            }
        }
    }

    async fn try_send(&self, call: &Call) -> Result<Answer, Failed> {
        let reads = call.method == Method::GET;
        let request = self.request(call).map_err(Failed::Final)?;
        let answer = self.connections.request(request).await.map_err(|error| failed(&error, reads))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| Failed::Final(lost(reads, &error.to_string())))?.to_bytes();
        if status.is_success() {
            return Ok(Answer { status, body });
        }
        let answered = match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => problem::error(problem),
            Err(_not_a_problem) => unexplained(status),
        };
        Err(Failed::Final(answered))
    }

    fn request(&self, call: &Call) -> Result<Request<Full<Bytes>>, Error> {
        let uri = format!("{}{}", self.base, call.path);
        let mut request = Request::builder().method(call.method.clone()).uri(uri);
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        if call.body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = Full::new(call.body.clone().unwrap_or_default());
        request.body(body).map_err(|error| Invalid::value("the request", error.to_string()).into())
    }
}

impl Connections {
    #[cfg_attr(not(feature = "tls"), allow(unused_variables, reason = "what is secure is refused earlier"))]
    fn new(secure: bool) -> Result<Connections, Invalid> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT));
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(KEEP_IDLE).retry_canceled_requests(false);
        #[cfg(feature = "tls")]
        if secure {
            let tls = hyper_rustls::HttpsConnectorBuilder::new().try_with_platform_verifier();
            let tls = tls.map_err(|error| {
                Invalid::value(
                    "the server's URL",
                    format!("is https://, but TLS cannot be used here: {error}"),
                )
            })?;
            connector.enforce_http(false);
            return Ok(Connections::Secure(
                builder.build(tls.https_only().enable_http1().wrap_connector(connector)),
            ));
        }
        Ok(Connections::Plain(builder.build(connector)))
    }

    async fn request(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<http::Response<hyper::body::Incoming>, hyper_util::client::legacy::Error> {
        match self {
            Connections::Plain(client) => client.request(request).await,
            #[cfg(feature = "tls")]
            Connections::Secure(client) => client.request(request).await,
        }
    }
}

fn failed(error: &hyper_util::client::legacy::Error, reads: bool) -> Failed {
    let source = std::error::Error::source(error);
    let why = source.map_or_else(|| error.to_string(), with_sources);
    // hyper calls a request cancelled only if it hands it back unsent.
    let unsent = source.and_then(|source| source.downcast_ref::<hyper::Error>());
    if unsent.is_some_and(hyper::Error::is_canceled) {
        Failed::NotSent(why)
    } else if error.is_connect() {
        Failed::Final(Error::Unreachable(why))
    } else {
        Failed::Final(lost(reads, &why))
    }
}

fn with_sources(error: &(dyn std::error::Error + 'static)) -> String {
    let sources = std::iter::successors(Some(error), |error| error.source());
    sources.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// The answer was lost, and with it whether the call was heard; to a call that only reads it
/// makes no difference.
fn lost(reads: bool, why: &str) -> Error {
    if reads { Error::Unreachable(why.to_owned()) } else { EngineError::OutcomeUnknown.into() }
}

/// Something between us and the server, or no Onefold at all.
fn unexplained(status: StatusCode) -> Error {
    let code = match status.as_u16() {
        401 | 403 => ErrorCode::Unauthorized.as_str(),
        404 => ErrorCode::RouteNotFound.as_str(),
        502..=504 => ErrorCode::Busy.as_str(),
        _ => ErrorCode::Internal.as_str(),
    };
    let detail =
        format!("the answer was {status} without an explanation; is this the URL of a Onefold server?");
    Error::Answered { code: code.to_owned(), status: status.as_u16(), detail }
}
