//! The URL and the method of a target.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use http::{HeaderValue, Method, Uri};
use thiserror::Error;
use url::{Host, Url};

/// Bytes of a target's URL.
pub const URL_BYTES_MAX: usize = 8 * 1024;

/// A URL that can be delivered to: `http` or `https`, a host, no user and no password.
///
/// Read by the rules of the WHATWG, so every spelling of an address (`127.1`, `0x7f.1`, `2130706433`, full-width
/// digits) is that address before anybody looks at it, and names are in their ASCII form. It is shown as that reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetUrl {
    shown: Arc<str>,
    scheme: Scheme,
    host: TargetHost,
    port: u16,
    path_and_query: Uri,
    host_header: HeaderValue,
}

/// How a target is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
}

/// The host of a URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TargetHost {
    /// To be looked up. In its ASCII form, lower case, without a dot at its end.
    Name(Arc<str>),
    /// To be dialled as it is.
    Address(IpAddr),
}

/// Why a URL was refused. The sentence says what to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidTarget {
    /// Cannot be read as a URL.
    #[error("this is no URL ({0}): write it like https://example.com/path")]
    Syntax(url::ParseError),
    /// Holds a space or a control character, which a browser would quietly drop.
    #[error("a URL holds no spaces and no control characters: percent-encode them")]
    Blank,
    /// Neither `http` nor `https`.
    #[error("deliveries go to http:// and https:// only")]
    Scheme,
    /// Holds a user or password.
    #[error("a URL holds no user and no password: put an `authorization` header into the target's headers")]
    Credentials,
    /// Names no host.
    #[error("a URL names a host: write it like https://example.com/path")]
    Host,
    /// Port 0.
    #[error("nobody listens on port 0: write the real one")]
    Port,
    /// Longer than [`URL_BYTES_MAX`].
    #[error("a URL has at most {URL_BYTES_MAX} bytes")]
    TooLong,
}

impl TargetUrl {
    /// Reads `text`.
    ///
    /// # Errors
    /// [`InvalidTarget`], with a sentence for the caller.
    pub fn parse(text: &str) -> Result<TargetUrl, InvalidTarget> {
        if text.len() > URL_BYTES_MAX {
            return Err(InvalidTarget::TooLong);
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(InvalidTarget::Blank);
        }
        let url = Url::parse(text).map_err(InvalidTarget::Syntax)?;
        let scheme = match url.scheme() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(InvalidTarget::Scheme),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidTarget::Credentials);
        }
        let host = match url.host().ok_or(InvalidTarget::Host)? {
            Host::Domain(name) => TargetHost::name(name).ok_or(InvalidTarget::Host)?,
            Host::Ipv4(address) => TargetHost::Address(IpAddr::V4(address)),
            Host::Ipv6(address) => TargetHost::Address(IpAddr::V6(address)),
        };
        let port = match url.port_or_known_default() {
            Some(port) if port != 0 => port,
            _ => return Err(InvalidTarget::Port),
        };
        // What the parser gives back is ASCII without controls; percent-encoding may have made it longer.
        let origin_form = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let path_and_query = Uri::try_from(origin_form).map_err(|_| InvalidTarget::TooLong)?;
        let named = url.host_str().ok_or(InvalidTarget::Host)?;
        let authority = match url.port() {
            Some(port) => format!("{named}:{port}"),
            None => named.to_owned(),
        };
        let host_header = HeaderValue::try_from(authority).map_err(|_| InvalidTarget::Host)?;
        let mut shown = url;
        shown.set_fragment(None);
        Ok(TargetUrl { shown: shown.as_str().into(), scheme, host, port, path_and_query, host_header })
    }

    /// How it is spoken to.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Whom to look up, or dial.
    pub fn host(&self) -> &TargetHost {
        &self.host
    }

    /// The port, given or the scheme's own.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// As it is shown, without a fragment.
    pub fn as_str(&self) -> &str {
        &self.shown
    }

    /// Scheme, host and port: deliveries with the same origin share a lane and its connections.
    pub fn origin(&self) -> Origin {
        Origin { scheme: self.scheme, host: self.host.clone(), port: self.port }
    }

    /// What a request asks for.
    pub fn path_and_query(&self) -> &Uri {
        &self.path_and_query
    }

    /// The value of `Host`.
    pub fn host_header(&self) -> &HeaderValue {
        &self.host_header
    }
}

impl TargetHost {
    /// A name; `None` if nothing is left of it without the dot at its end.
    pub fn name(text: &str) -> Option<TargetHost> {
        let name = text.strip_suffix('.').unwrap_or(text);
        (!name.is_empty()).then(|| TargetHost::Name(name.to_ascii_lowercase().into()))
    }
}

impl fmt::Display for TargetHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TargetHost::Name(name) => f.write_str(name),
            TargetHost::Address(address) => fmt::Display::fmt(address, f),
        }
    }
}

impl FromStr for TargetUrl {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<TargetUrl, InvalidTarget> {
        TargetUrl::parse(text)
    }
}

impl fmt::Display for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Scheme, host and port of a URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    scheme: Scheme,
    host: TargetHost,
    port: u16,
}

impl Origin {
    /// Reads one: a URL with nothing behind its port.
    pub fn parse(text: &str) -> Option<Origin> {
        let url = TargetUrl::parse(text).ok()?;
        (*url.path_and_query() == "/" && !text.contains('#')).then(|| url.origin())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        match &self.host {
            TargetHost::Address(IpAddr::V6(address)) => write!(f, "{scheme}://[{address}]:{}", self.port),
            host => write!(f, "{scheme}://{host}:{}", self.port),
        }
    }
}

/// How a target is asked. `CONNECT` and `TRACE` are no deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TargetMethod {
    /// `GET`.
    Get,
    /// `HEAD`.
    Head,
    /// `POST`, unless asked otherwise.
    #[default]
    Post,
    /// `PUT`.
    Put,
    /// `PATCH`.
    Patch,
    /// `DELETE`.
    Delete,
    /// `OPTIONS`.
    Options,
}

/// A text that is no method of a delivery.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is no method of a target: write GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS")]
pub struct InvalidMethod(pub String);

impl TargetMethod {
    /// Every method, and as HTTP has it.
    pub const ALL: [(TargetMethod, Method); 7] = [
        (TargetMethod::Get, Method::GET),
        (TargetMethod::Head, Method::HEAD),
        (TargetMethod::Post, Method::POST),
        (TargetMethod::Put, Method::PUT),
        (TargetMethod::Patch, Method::PATCH),
        (TargetMethod::Delete, Method::DELETE),
        (TargetMethod::Options, Method::OPTIONS),
    ];

    /// Whether a request of this method says how long its body is even if there is none.
    pub fn carries_a_body(self) -> bool {
        matches!(self, TargetMethod::Post | TargetMethod::Put | TargetMethod::Patch)
    }

    /// The word of HTTP.
    pub fn as_str(self) -> &'static str {
        match self {
            TargetMethod::Get => "GET",
            TargetMethod::Head => "HEAD",
            TargetMethod::Post => "POST",
            TargetMethod::Put => "PUT",
            TargetMethod::Patch => "PATCH",
            TargetMethod::Delete => "DELETE",
            TargetMethod::Options => "OPTIONS",
        }
    }

    /// As HTTP says it.
    pub fn as_http(self) -> Method {
        let found = TargetMethod::ALL.into_iter().find(|(method, _)| *method == self);
        found.map_or(Method::POST, |(_, http)| http)
    }
}

impl FromStr for TargetMethod {
    type Err = InvalidMethod;

    fn from_str(text: &str) -> Result<TargetMethod, InvalidMethod> {
        let found = TargetMethod::ALL.into_iter().find(|(_, http)| http.as_str() == text);
        found.map(|(method, _)| method).ok_or_else(|| InvalidMethod(text.to_owned()))
    }
}
