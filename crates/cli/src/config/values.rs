//! What settings can be.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A bearer token. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(String);

/// Why a token was refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum InvalidToken {
    #[error("the token is empty: give one, or do not set it at all")]
    Empty,
    #[error("a token is made of visible ASCII characters, without spaces")]
    Characters,
}

impl Token {
    /// The secret itself.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

/// A token as it stands in a flag: anything, so that no message about it can show it.
#[derive(Clone)]
pub(crate) struct TokenFlag(String);

impl TokenFlag {
    /// The token.
    pub(crate) fn parse(&self) -> Result<Token, InvalidToken> {
        self.0.parse()
    }
}

impl FromStr for TokenFlag {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<TokenFlag, Self::Err> {
        Ok(TokenFlag(text.to_owned()))
    }
}

impl fmt::Debug for TokenFlag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenFlag(…)")
    }
}

impl FromStr for Token {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Token, InvalidToken> {
        if text.is_empty() {
            return Err(InvalidToken::Empty);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(InvalidToken::Characters);
        }
        Ok(Token(text.to_owned()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listen {
    host: String,
    port: u16,
}

#[derive(Debug, Error, PartialEq, Eq)]
#[error("an address is a host and a port: write it like 127.0.0.1:7717 or [::1]:7717")]
pub(crate) struct InvalidListen;

impl Listen {
    /// Host and port, for the resolver.
    pub(crate) fn target(&self) -> (&str, u16) {
        (&self.host, self.port)
    }
}

impl Default for Listen {
    fn default() -> Listen {
        Listen { host: "127.0.0.1".to_owned(), port: 7717 }
    }
}

impl FromStr for Listen {
    type Err = InvalidListen;

    fn from_str(text: &str) -> Result<Listen, InvalidListen> {
        let (host, port) = text.rsplit_once(':').ok_or(InvalidListen)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match bare {
            Some(v6) => v6,
            None if host.is_empty() || host.contains(':') => return Err(InvalidListen),
            None => host,
        };
        Ok(Listen { host: host.to_owned(), port: port.parse().map_err(|_| InvalidListen)? })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// A number of bytes, as text with an optional unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) u64);

#[derive(Debug, Error, PartialEq, Eq)]
#[error("a size is a number of bytes, or one with KiB, MiB or GiB: write it like 1048576 or 1MiB")]
pub(crate) struct InvalidBytes;

const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

impl FromStr for Bytes {
    type Err = InvalidBytes;

    fn from_str(text: &str) -> Result<Bytes, InvalidBytes> {
        let (number, unit) = UNITS
            .iter()
            .find_map(|(name, unit)| text.strip_suffix(name).map(|number| (number, *unit)))
            .unwrap_or((text, 1));
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(InvalidBytes);
        }
        let number: u64 = number.parse().map_err(|_| InvalidBytes)?;
        number.checked_mul(unit).map(Bytes).ok_or(InvalidBytes)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|(_, unit)| self.0 >= *unit) {
            Some((name, unit)) if self.0.is_multiple_of(*unit) => write!(f, "{} {name}", self.0 / unit),
            Some((name, unit)) => write!(f, "{:.1} {name}", self.0 as f64 / *unit as f64),
            None => write!(f, "{} bytes", self.0),
        }
    }
}

/// Several values, with commas between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Several<T>(pub(crate) Vec<T>);

impl<T> Default for Several<T> {
    fn default() -> Several<T> {
        Several(Vec::new())
    }
}

impl<T: FromStr> FromStr for Several<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Several<T>, T::Err> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(str::parse).collect::<Result<_, _>>().map(Several)
    }
}

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

#[derive(Debug, Error, PartialEq, Eq)]
#[error("the log is either human or json")]
pub(crate) struct InvalidLogFormat;

impl FromStr for LogFormat {
    type Err = InvalidLogFormat;

    fn from_str(text: &str) -> Result<LogFormat, InvalidLogFormat> {
        match text {
            "human" => Ok(LogFormat::Human),
            "json" => Ok(LogFormat::Json),
            _ => Err(InvalidLogFormat),
        }
    }
}

/// The address of a server: scheme, host and port, and a path it may be mounted under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerUrl(String);

#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum InvalidUrl {
    #[error("a server's URL starts with http:// or https://: write it like http://127.0.0.1:7717")]
    Scheme,
    #[error("a server's URL has a host, and no user, query or fragment: write it like http://127.0.0.1:7717")]
    Parts,
}

impl ServerUrl {
    /// Without a slash at the end.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl ServerUrl {
    /// Whether it is spoken to by TLS.
    pub(crate) fn is_secure(&self) -> bool {
        self.0.starts_with("https://")
    }
}

impl Default for ServerUrl {
    fn default() -> ServerUrl {
        ServerUrl("http://127.0.0.1:7717".to_owned())
    }
}

impl FromStr for ServerUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<ServerUrl, InvalidUrl> {
        let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        let rest = rest.ok_or(InvalidUrl::Scheme)?.trim_end_matches('/');
        // A password in a URL would end up in messages.
        let stray = |c: char| matches!(c, '?' | '#' | '@') || c.is_whitespace() || c.is_control();
        if rest.is_empty() || rest.starts_with(['/', ':']) || rest.contains(stray) {
            return Err(InvalidUrl::Parts);
        }
        Ok(ServerUrl(text.trim_end_matches('/').to_owned()))
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
