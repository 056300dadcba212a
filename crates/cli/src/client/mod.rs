//! Talking to a server, or to a data directory as if it were one.

mod directory;
mod failure;

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use crate::config::{RemoteSettings, ServerUrl, Token};
use crate::failure::Failure;

pub(crate) use directory::Directory;
pub(crate) use failure::CallError;

/// What a path segment or a query value may hold as it is.
const PLAIN: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Until a connection stands.
const CONNECT: Duration = Duration::from_secs(5);
/// Until an answer is there, unless the server was asked to wait.
const ANSWER: Duration = Duration::from_secs(60);

/// A text as it stands in a path or a query.
pub(crate) fn escaped(text: &str) -> String {
    utf8_percent_encode(text, &PLAIN).to_string()
}

/// What answers: a server, or a directory in this process. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Client(Transport);

#[derive(Clone)]
enum Transport {
    Server(Server),
    Directory(Directory),
}

#[derive(Clone)]
struct Server {
    http: Http,
    url: ServerUrl,
    authorization: Option<HeaderValue>,
}

/// Connections that are kept. TLS is prepared only for a server that speaks it: on a machine
/// without certificates of authorities it cannot be.
#[derive(Clone)]
enum Http {
    Plain(Connections<HttpConnector>),
    Secure(Connections<HttpsConnector<HttpConnector>>),
}

type Connections<C> = hyper_util::client::legacy::Client<C, Full<Bytes>>;

impl Http {
    fn new(mut connector: HttpConnector, secure: bool) -> Result<Http, Failure> {
        let builder = hyper_util::client::legacy::Client::builder(TokioExecutor::new());
        if !secure {
            return Ok(Http::Plain(builder.build(connector)));
        }
        let tls = HttpsConnectorBuilder::new().try_with_platform_verifier();
        let tls = tls.map_err(|error| Failure::failed(format!("https:// cannot be spoken here: {error}")))?;
        connector.enforce_http(false);
        Ok(Http::Secure(builder.build(tls.https_only().enable_http1().wrap_connector(connector))))
    }

    async fn request(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, hyper_util::client::legacy::Error> {
        match self {
            Http::Plain(connections) => connections.request(request).await,
            Http::Secure(connections) => connections.request(request).await,
        }
    }
}

/// An answer with a 2xx status.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) body: Bytes,
}

impl Answer {
    /// Reads the body.
    pub(crate) fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Failure::failed(format!("the server's answer cannot be read: {error}")))
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Client {
    /// Talks to a server.
    pub(crate) fn server(settings: &RemoteSettings) -> Result<Client, Failure> {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT));
        connector.set_nodelay(true);
        let http = Http::new(connector, settings.url.is_secure())?;
        let authorization = settings.token.as_ref().map(bearer).transpose()?;
        Ok(Client(Transport::Server(Server { http, url: settings.url.clone(), authorization })))
    }

    /// Looks into a data directory.
    pub(crate) fn directory(directory: Directory) -> Client {
        Client(Transport::Directory(directory))
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Answer, CallError> {
        self.call(Method::GET, path, None, ANSWER).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<Answer, CallError> {
        self.call(Method::DELETE, path, None, ANSWER).await
    }

    /// Posts JSON.
    pub(crate) async fn post(&self, path: &str, body: &impl Serialize) -> Result<Answer, CallError> {
        let body = serde_json::to_vec(body).map_err(|error| CallError::Unreadable(error.to_string()))?;
        self.post_bytes(path, body.into()).await
    }

    /// Puts JSON.
    pub(crate) async fn put(&self, path: &str, body: &impl Serialize) -> Result<Answer, CallError> {
        let body = serde_json::to_vec(body).map_err(|error| CallError::Unreadable(error.to_string()))?;
        self.call(Method::PUT, path, Some(body.into()), ANSWER).await
    }

    /// Posts a JSON text.
    pub(crate) async fn post_bytes(&self, path: &str, body: Bytes) -> Result<Answer, CallError> {
        self.call(Method::POST, path, Some(body), ANSWER).await
    }

    /// Makes a call that may take `patience`.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
        patience: Duration,
    ) -> Result<Answer, CallError> {
        let response = self.open(method, path, body, patience).await?;
        let collected = tokio::time::timeout(patience, response.into_body().collect()).await;
        match collected {
            Ok(Ok(body)) => Ok(Answer { body: body.to_bytes() }),
            Ok(Err(error)) => Err(self.lost(error)),
            Err(_) => Err(self.lost(format!("the answer did not come to its end within {patience:?}"))),
        }
    }

    /// Makes a call whose answer's body is still to come. Anything but 2xx is an error already.
    pub(crate) async fn open(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
        patience: Duration,
    ) -> Result<Response<AnyBody>, CallError> {
        let answered = tokio::time::timeout(patience, self.send(method, path, body)).await;
        let response = answered.map_err(|_| self.lost(format!("no answer within {patience:?}")))??;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = tokio::time::timeout(patience, response.into_body().collect()).await;
        let body = body.ok().and_then(Result::ok).map(|body| body.to_bytes()).unwrap_or_default();
        Err(CallError::refused(status, &body))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<Response<AnyBody>, CallError> {
        match &self.0 {
            Transport::Server(server) => {
                let request =
                    request(method, server.url.as_str(), path, body, server.authorization.as_ref())?;
                let response = server.http.request(request).await;
                Ok(response
                    .map_err(|error| CallError::transport(&server.url, &error))?
                    .map(|body| body.map_err(BodyError::from).boxed_unsync()))
            }
            Transport::Directory(directory) => {
                let request = request(method, "http://localhost", path, body, None)?;
                Ok(directory.answer(request).await)
            }
        }
    }

    fn lost(&self, why: impl std::fmt::Display) -> CallError {
        let server = match &self.0 {
            Transport::Server(server) => server.url.to_string(),
            Transport::Directory(directory) => directory.path(),
        };
        CallError::Lost { server, why: why.to_string() }
    }
}

/// A body of an answer, wherever it comes from.
pub(crate) type AnyBody = http_body_util::combinators::UnsyncBoxBody<Bytes, BodyError>;
type BodyError = Box<dyn std::error::Error + Send + Sync>;

fn request(
    method: Method,
    server: &str,
    path: &str,
    body: Option<Bytes>,
    authorization: Option<&HeaderValue>,
) -> Result<Request<Full<Bytes>>, CallError> {
    let mut request = Request::builder().method(method).uri(format!("{server}{path}"));
    if let Some(authorization) = authorization {
        request = request.header(AUTHORIZATION, authorization);
    }
    if body.is_some() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    let request = request.body(Full::new(body.unwrap_or_default()));
    request.map_err(|error| CallError::Unreadable(format!("{server}{path} cannot be asked for: {error}")))
}

fn bearer(token: &Token) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.reveal()))
        .map_err(|_| Failure::usage("the token cannot stand in an HTTP header"))?;
    value.set_sensitive(true);
    Ok(value)
}
