//! Where a job is delivered: the URL and the method.

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

    pub(crate) fn path_and_query(&self) -> &Uri {
        &self.path_and_query
    }

    pub(crate) fn host_header(&self) -> &HeaderValue {
        &self.host_header
    }
}

impl TargetHost {
    /// A name; `None` if nothing is left of it without the dot at its end.
    pub(crate) fn name(text: &str) -> Option<TargetHost> {
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
    const ALL: [(TargetMethod, Method); 7] = [
        (TargetMethod::Get, Method::GET),
        (TargetMethod::Head, Method::HEAD),
        (TargetMethod::Post, Method::POST),
        (TargetMethod::Put, Method::PUT),
        (TargetMethod::Patch, Method::PATCH),
        (TargetMethod::Delete, Method::DELETE),
        (TargetMethod::Options, Method::OPTIONS),
    ];

    /// Whether a request of this method says how long its body is even if there is none.
    pub(crate) fn carries_a_body(self) -> bool {
        matches!(self, TargetMethod::Post | TargetMethod::Put | TargetMethod::Patch)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AddressPolicy;

    fn host(text: &str) -> String {
        TargetUrl::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).host().to_string()
    }

    #[test]
    fn s_01_every_spelling_of_an_address_is_that_address_and_denied() {
        for text in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://127.0.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://017700000001/",
            "http://127.0.0.1./",
            "http://127.0.0.01/",
            "http://%31%32%37.0.0.1/",
            "http://１２７.0.0.1/",
            "http://127。0。0。1/",
            "http://①②⑦.0.0.1/",
            "HTTP://127.0.0.1:80/",
        ] {
            let url = TargetUrl::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(url.host().to_string(), "127.0.0.1", "{text}");
            assert!(AddressPolicy::public().check_literal(&url).is_err(), "{text}");
        }
        for (text, address) in [
            ("http://[::1]/", "::1"),
            ("http://[0:0:0:0:0:0:0:1]/", "::1"),
            ("http://[::ffff:7f00:1]/", "::ffff:127.0.0.1"),
            ("http://[::ffff:127.0.0.1]/", "::ffff:127.0.0.1"),
            ("http://[64:ff9b::a9fe:a9fe]/", "64:ff9b::a9fe:a9fe"),
            ("http://[fec0::1]/", "fec0::1"),
            ("http://0/", "0.0.0.0"),
            ("http://2852039166/", "169.254.169.254"),
        ] {
            let url = TargetUrl::parse(text).unwrap();
            assert_eq!(url.host().to_string(), address, "{text}");
            assert!(AddressPolicy::public().check_literal(&url).is_err(), "{text}");
        }
    }

    #[test]
    fn s_03_and_s_08_what_is_ambiguous_is_refused() {
        for (text, why) in [
            ("http://user:pass@example.com/", InvalidTarget::Credentials),
            ("http://user@example.com/", InvalidTarget::Credentials),
            ("http://:pass@example.com/", InvalidTarget::Credentials),
            ("http://127.0.0.1\t@example.com/", InvalidTarget::Blank),
            ("http://exam\nple.com/", InvalidTarget::Blank),
            ("http://example.com/a b", InvalidTarget::Blank),
            (" http://example.com/", InvalidTarget::Blank),
            ("http://example.com/\u{0}", InvalidTarget::Blank),
            ("http://example.com\u{3000}.evil/", InvalidTarget::Blank),
            ("http://example.com:0/", InvalidTarget::Port),
        ] {
            assert_eq!(TargetUrl::parse(text), Err(why), "{text:?}");
        }
        for text in [
            "http://[fe80::1%25eth0]/",
            "http://[fe80::1%eth0]/",
            "http://[::1/",
            "http://256.0.0.1/",
            "http://1.2.3.4.5/",
            "http://0x100000000/",
            "http://exa<mple.com/",
            "http://example.com:99999/",
            "http:///",
            "http://",
            "//example.com/",
            "example.com",
            "",
        ] {
            assert!(matches!(TargetUrl::parse(text), Err(InvalidTarget::Syntax(_))), "{text}");
        }
        assert_eq!(TargetUrl::parse("http://./"), Err(InvalidTarget::Host));
    }

    #[test]
    fn s_08_names_are_looked_up_in_their_ascii_form() {
        assert_eq!(host("http://localhost./"), "localhost");
        assert_eq!(host("http://EXAMPLE.com/"), "example.com");
        // The first letter of the second is Cyrillic: another name, and shown as such.
        assert_eq!(host("http://apple.com/"), "apple.com");
        assert_eq!(host("http://аpple.com/"), "xn--pple-43d.com");
        assert_eq!(host("http://ｅｘａｍｐｌｅ。ｃｏｍ/"), "example.com");
        // What stands before the last `@` is no host; the `\` is a `/` to the parser, and so to us.
        assert_eq!(host("http://example.com\\@127.0.0.1/"), "example.com");
    }

    #[test]
    fn s_09_other_schemes_are_refused() {
        for text in [
            "gopher://127.0.0.1:6379/_x",
            "file:///etc/passwd",
            "ftp://example.com/",
            "unix:/var/run/docker.sock",
            "data:text/plain,x",
            "javascript:alert(1)",
            "ws://example.com/",
            "blob:http://example.com/x",
        ] {
            assert_eq!(TargetUrl::parse(text), Err(InvalidTarget::Scheme), "{text}");
        }
    }

    #[test]
    fn what_is_sent_is_what_was_read() {
        let url = TargetUrl::parse("https://Example.com:8443/a/../b%20c?x=1&y=é#top").unwrap();
        assert_eq!(url.as_str(), "https://example.com:8443/b%20c?x=1&y=%C3%A9");
        assert_eq!(url.path_and_query().to_string(), "/b%20c?x=1&y=%C3%A9");
        assert_eq!(url.host_header(), "example.com:8443");
        assert_eq!((url.port(), url.origin().to_string().as_str()), (8443, "https://example.com:8443"));
        let plain = TargetUrl::parse("http://[2606:4700::1111]").unwrap();
        assert_eq!((plain.port(), plain.host_header().to_str().unwrap()), (80, "[2606:4700::1111]"));
        assert_eq!(plain.path_and_query().to_string(), "/");
        assert_eq!(TargetUrl::parse("https://example.com:443/").unwrap().host_header(), "example.com");
    }

    #[test]
    fn a_url_has_its_limit() {
        let of = |bytes: usize| format!("http://example.com/{}", "a".repeat(bytes - 19));
        assert!(TargetUrl::parse(&of(URL_BYTES_MAX)).is_ok());
        assert_eq!(TargetUrl::parse(&of(URL_BYTES_MAX + 1)), Err(InvalidTarget::TooLong));
    }

    #[test]
    fn methods_are_a_short_list() {
        for (method, http) in TargetMethod::ALL {
            assert_eq!(http.as_str().parse(), Ok(method));
            assert_eq!(method.as_http(), http);
        }
        for bad in ["", "post", "CONNECT", "TRACE", "POST ", "GET\r\nX: y"] {
            assert_eq!(bad.parse::<TargetMethod>(), Err(InvalidMethod(bad.to_owned())));
        }
    }
}
