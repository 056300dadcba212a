//! Where the server is, as people write it: a URL or `key=value` words, as libpq reads them.
//!
//! The parser of tokio-postgres does most of it. It knows nothing of certificates, so what says how to check the
//! server's is taken out first; and its messages may quote what it was given, which may be a password, so they are not
//! shown.

use std::ops::Range;
use std::path::{Path, PathBuf};

use tokio_postgres::Config;
use tokio_postgres::config::SslMode;

use crate::OpenError;
use crate::tls::{Tls, Trust};

/// What may stand in an address.
const KNOWN: [&str; 18] = [
    "user",
    "password",
    "dbname",
    "options",
    "application_name",
    "sslmode",
    "sslrootcert",
    "sslnegotiation",
    "host",
    "hostaddr",
    "port",
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "target_session_attrs",
    "channel_binding",
];
/// Where servers of this machine listen, if no host is named.
const SOCKETS: &str = "/var/run/postgresql";

/// An option and where it stands, with what ties it to its neighbours.
struct Word {
    key: String,
    value: String,
    place: Range<usize>,
}

/// Reads an address.
pub(crate) fn parse(text: &str) -> Result<(Config, Tls), OpenError> {
    let words = match is_url(text) {
        true => query(text)?,
        false => words(text)?,
    };
    if words.iter().any(|word| !KNOWN.contains(&word.key.as_str())) {
        return Err(bad(&format!("it has an option that is none of {}", KNOWN.join(", "))));
    }
    let value = |key: &str| words.iter().rev().find(|word| word.key == key).map(|word| word.value.as_str());
    let (mode, trust) = how_to_check(value("sslmode"), value("sslrootcert"))?;
    let mut rest = text.to_owned();
    for word in words.iter().rev().filter(|word| matches!(word.key.as_str(), "sslmode" | "sslrootcert")) {
        rest.replace_range(word.place.clone(), "");
    }
    let mut server: Config = rest.parse().map_err(|_| bad("it cannot be read"))?;
    if server.get_hosts().is_empty() {
        let named: Vec<String> = server.get_hostaddrs().iter().map(ToString::to_string).collect();
        match named.as_slice() {
            [] if Path::new(SOCKETS).is_dir() => {
                server.host_path(SOCKETS);
            }
            [] => {
                server.host("localhost");
            }
            // TLS wants a name, be it this one.
            named => {
                for name in named {
                    server.host(name);
                }
            }
        }
    }
    server.ssl_mode(mode);
    Ok((server, Tls::new(&trust)?))
}

fn bad(why: &str) -> OpenError {
    OpenError::Config(why.to_owned())
}

fn is_url(text: &str) -> bool {
    text.starts_with("postgres://") || text.starts_with("postgresql://")
}

/// What `sslmode` and `sslrootcert` mean, which is what they mean to libpq.
fn how_to_check(mode: Option<&str>, root: Option<&str>) -> Result<(SslMode, Trust), OpenError> {
    let file = root.filter(|root| *root != "system").map(PathBuf::from);
    Ok(match (mode, file) {
        (Some("disable"), _) => (SslMode::Disable, Trust::Nobody),
        (None, None) if root.is_some() => (SslMode::Require, Trust::Machine),
        (Some("prefer") | None, _) => (SslMode::Prefer, Trust::Anybody),
        (Some("require"), None) if root.is_none() => (SslMode::Require, Trust::Anybody),
        (Some("require" | "verify-ca"), Some(file)) => (SslMode::Require, Trust::IssuedBy(file)),
        (Some("verify-full"), Some(file)) => (SslMode::Require, Trust::NamedBy(file)),
        (Some("verify-full"), None) => (SslMode::Require, Trust::Machine),
        (Some("require" | "verify-ca"), None) => {
            return Err(bad(
                "sslmode=verify-ca needs sslrootcert=FILE; with the authorities this machine trusts use verify-full",
            ));
        }
        (Some(_), _) => {
            return Err(bad("sslmode is disable, prefer, require, verify-ca or verify-full"));
        }
    })
}

/// The options of a URL: what follows the question mark after user and password.
fn query(text: &str) -> Result<Vec<Word>, OpenError> {
    let after_user = text.find('@').unwrap_or(0);
    let Some(mark) = text.get(after_user..).and_then(|rest| rest.find('?')) else { return Ok(Vec::new()) };
    let mut start = after_user + mark + 1;
    let mut words = Vec::new();
    while let Some(rest) = text.get(start..).filter(|rest| !rest.is_empty()) {
        let end = rest.find('&').map_or(text.len(), |end| start + end + 1);
        let word = text.get(start..end).unwrap_or_default().trim_end_matches('&');
        let (key, value) = word.split_once('=').ok_or_else(|| bad("an option of it has no value"))?;
        words.push(Word { key: decoded(key)?, value: decoded(value)?, place: start..end });
        start = end;
    }
    Ok(words)
}

fn decoded(text: &str) -> Result<String, OpenError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err(bad("a % in it is not followed by two hexadecimal digits"));
        };
        bytes.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
    }
    String::from_utf8(bytes).map_err(|_| bad("it is not UTF-8"))
}

/// The options of `key=value` words; a value may stand in single quotes, and a backslash takes what follows as it is.
fn words(text: &str) -> Result<Vec<Word>, OpenError> {
    let mut words = Vec::new();
    let mut chars = text.char_indices().peekable();
    loop {
        while chars.next_if(|(_, c)| c.is_whitespace()).is_some() {}
        let Some(&(start, _)) = chars.peek() else { return Ok(words) };
        let mut key = String::new();
        while let Some((_, c)) = chars.next_if(|(_, c)| *c != '=') {
            key.push(c);
        }
        if chars.next().is_none() {
            return Err(bad("an option of it has no value"));
        }
        while chars.next_if(|(_, c)| c.is_whitespace()).is_some() {}
        let is_quoted = chars.next_if(|(_, c)| *c == '\'').is_some();
        let mut value = String::new();
        loop {
            match chars.next() {
                Some((_, '\\')) => value.extend(chars.next().map(|(_, c)| c)),
                Some((_, '\'')) if is_quoted => break,
                Some((_, c)) if is_quoted || !c.is_whitespace() => value.push(c),
                None if is_quoted => return Err(bad("a quoted value of it has no end")),
                None | Some(_) => break,
            }
        }
        let end = chars.peek().map_or(text.len(), |(place, _)| *place);
        words.push(Word { key: key.trim().to_owned(), value, place: start..end });
    }
}

#[cfg(test)]
mod tests {
    use tokio_postgres::config::{Host, TargetSessionAttrs};

    use super::*;

    fn why(text: &str) -> String {
        parse(text).err().map_or_else(|| "accepted".to_owned(), |error| error.to_string())
    }

    /// Both forms mean the same, with what they say about certificates taken out wherever it stands.
    #[test]
    fn both_forms_are_read() {
        for text in [
            "postgres://ada:s3cr%40t@a:5433,b:5434/jobs?sslmode=require&target_session_attrs=read-write",
            "postgresql://ada:s3cr%40t@a:5433,b:5434/jobs?target_session_attrs=read-write&sslmode=require",
            "user=ada password='s3cr@t' host=a,b port=5433,5434 sslmode = require dbname=jobs target_session_attrs=read-write",
            "sslmode=require user=ada password=s3cr@t host=a,b port=5433,5434 dbname=jobs target_session_attrs=read-write",
        ] {
            let (server, _) = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(server.get_hosts(), [Host::Tcp("a".into()), Host::Tcp("b".into())], "{text}");
            assert_eq!(
                (server.get_ports(), server.get_dbname()),
                (&[5433, 5434][..], Some("jobs")),
                "{text}"
            );
            assert_eq!(server.get_password(), Some(&b"s3cr@t"[..]), "{text}");
            assert_eq!(server.get_ssl_mode(), SslMode::Require, "{text}");
            assert_eq!(server.get_target_session_attrs(), TargetSessionAttrs::ReadWrite, "{text}");
        }
    }

    /// Whatever is wrong with it, no message shows any of it.
    #[test]
    fn what_cannot_be_read_is_refused_without_being_shown() {
        for text in [
            "postgres://ada:s3cret@a/jobs?s3cret=1",
            "postgres://ada:s3cret@a:s3cret/jobs",
            "host=a password=my s3cret=1",
            "host=a password='s3cret",
            "host=a s3cret",
            "s3cret",
            "postgres://ada@a/jobs?sslmode=s3cret",
            "postgres://ada@a/jobs?sslmode=%s3",
        ] {
            let told = why(text);
            assert!(
                told.starts_with("not a PostgreSQL address: ") && !told.contains("s3cret"),
                "{text}: {told}"
            );
        }
    }

    #[test]
    fn no_mode_is_taken_for_a_weaker_one() {
        let mode = |mode, root| how_to_check(mode, root).ok();
        let anybody = (SslMode::Require, Trust::Anybody);
        let issued = (SslMode::Require, Trust::IssuedBy("ca".into()));
        let named = (SslMode::Require, Trust::NamedBy("ca".into()));
        let machine = (SslMode::Require, Trust::Machine);
        assert_eq!(mode(None, None), Some((SslMode::Prefer, Trust::Anybody)));
        assert_eq!(mode(Some("require"), None), Some(anybody));
        assert_eq!(mode(Some("require"), Some("ca")), Some(issued.clone()));
        assert_eq!(mode(Some("verify-ca"), Some("ca")), Some(issued));
        assert_eq!(mode(Some("verify-full"), Some("ca")), Some(named));
        for (how, root) in
            [(Some("verify-full"), None), (Some("verify-full"), Some("system")), (None, Some("system"))]
        {
            assert_eq!(mode(how, root), Some(machine.clone()), "{how:?} {root:?}");
        }
        for (how, root) in
            [("verify-ca", None), ("verify-ca", Some("system")), ("require", Some("system")), ("allow", None)]
        {
            assert_eq!(mode(Some(how), root), None, "{how} {root:?}");
        }
    }
}
