//! Who may ask at all.

use std::fmt;
use std::hash::Hasher;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::extract::ConnectInfo;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, Method, Uri};
use onefold_wire::ErrorCode;
use siphasher::sip::SipHasher13;
use subtle::ConstantTimeEq;

use crate::failure::Failure;

/// The bearer token. Never shown, compared in constant time.
#[derive(Clone)]
pub struct Token(Box<str>);

impl Token {
    /// `None` if it is blank or cannot stand in an HTTP header.
    pub fn new(text: &str) -> Option<Token> {
        let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Token(Box::from(text)))
    }

    fn is(&self, given: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(given).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Lets a request through or says why not.
pub(crate) fn check(token: Option<&Token>, request: &Parts) -> Result<(), Failure> {
    if matches!(request.uri.path(), "/healthz" | "/readyz") {
        return Ok(());
    }
    match token {
        Some(token) => check_token(token, request),
        None => check_local(request),
    }
}

fn check_token(token: &Token, request: &Parts) -> Result<(), Failure> {
    let mut given = request.headers.get_all(AUTHORIZATION).iter();
    let authorized = match (given.next(), given.next()) {
        (Some(one), None) => carries(token, one.as_bytes(), &request.method),
        _ => false,
    };
    if authorized {
        return Ok(());
    }
    Err(Failure::new(
        ErrorCode::Unauthorized,
        "send the header `Authorization: Bearer TOKEN` with the server's ONEFOLD_TOKEN",
    ))
}

fn carries(token: &Token, authorization: &[u8], method: &Method) -> bool {
    let Some(space) = authorization.iter().position(|byte| *byte == b' ') else { return false };
    let (scheme, credentials) = authorization.split_at(space);
    let credentials = credentials.trim_ascii();
    if scheme.eq_ignore_ascii_case(b"Bearer") {
        return token.is(credentials);
    }
    // Browsers can show the read-only pages this way: any user name, the token as password. They also
    // send it along when another site makes them ask, so it opens nothing that changes anything.
    if scheme.eq_ignore_ascii_case(b"Basic") && matches!(*method, Method::GET | Method::HEAD) {
        let Ok(pair) = BASE64_STANDARD.decode(credentials) else { return false };
        let Some(colon) = pair.iter().position(|byte| *byte == b':') else { return false };
        return pair.get(colon + 1..).is_some_and(|password| token.is(password));
    }
    false
}

/// Without a token only this machine is served, and no page of another site: a browser sends its
/// requests from this machine, too, so the name it was told to ask (DNS can lie) and the site it
/// asks for must be this machine's own.
fn check_local(request: &Parts) -> Result<(), Failure> {
    let from_here =
        request.extensions.get::<ConnectInfo<SocketAddr>>().is_some_and(|peer| is_loopback(peer.0.ip()));
    if !from_here {
        let detail = "without ONEFOLD_TOKEN the server answers this machine only: set a token";
        return Err(Failure::new(ErrorCode::HostNotAllowed, detail));
    }
    if !asks_for_this_machine(&request.headers, &request.uri) {
        let detail = "without ONEFOLD_TOKEN the Host must be localhost, 127.0.0.0/8 or [::1]: use one of those, \
                      or set a token";
        return Err(Failure::new(ErrorCode::HostNotAllowed, detail));
    }
    for origin in request.headers.get_all(ORIGIN) {
        let site = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, site)| site);
        if !site.is_some_and(is_this_machine) {
            let detail = "without ONEFOLD_TOKEN pages of other sites may not use the server: set a token";
            return Err(Failure::new(ErrorCode::OriginNotAllowed, detail));
        }
    }
    Ok(())
}

pub(crate) fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

fn asks_for_this_machine(headers: &HeaderMap, uri: &Uri) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let named = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().is_ok_and(is_this_machine),
        _ => false,
    };
    named && uri.authority().is_none_or(|authority| is_this_machine(authority.as_str()))
}

/// Whether `HOST` or `HOST:PORT` is a name of this machine.
fn is_this_machine(host: &str) -> bool {
    let (name, port) = match host.rfind(':') {
        Some(colon) if !host.ends_with(']') => host.split_at(colon),
        _ => (host, ""),
    };
    let good_port = port.is_empty() || port[1..].bytes().all(|byte| byte.is_ascii_digit());
    let name_is_ours = name.eq_ignore_ascii_case("localhost")
        || name == "[::1]"
        || name.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback());
    good_port && name_is_ours
}

/// Makes a poll's id safe to repeat: a hash of API token, worker and the id, kept with the leases.
/// The key of the hash is fixed, since it is compared with hashes from before a restart; who can
/// forge a collision could as well send the id itself.
pub(crate) fn poll_hash(token: Option<&Token>, worker: &str, poll_id: &str) -> u64 {
    let mut hash = SipHasher13::new_with_keys(0x6f6e_6566_6f6c_6421, 0x706f_6c6c_2d69_6421);
    for part in [token.map_or("", |token| &token.0), worker, poll_id] {
        hash.write_u64(part.len() as u64);
        hash.write(part.as_bytes());
    }
    hash.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_this_machine_are_told_from_names_that_only_start_like_it() {
        for good in ["localhost", "LOCALHOST:80", "127.0.0.1", "127.9.9.9:7717", "[::1]", "[::1]:7717"] {
            assert!(is_this_machine(good), "{good}");
        }
        for bad in [
            "",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evil.example:80",
            "128.0.0.1",
            "0.0.0.0",
            "::1",
            "[::2]",
            "localhost:80@evil.example",
            "localhost:http",
            "127.1",
        ] {
            assert!(!is_this_machine(bad), "{bad}");
        }
    }

    #[test]
    fn a_token_is_never_shown() {
        assert!(!format!("{:?}", Token::new("secret")).contains("secret"));
        assert!(Token::new("").is_none() && Token::new("a b").is_none() && Token::new("ä").is_none());
    }

    #[test]
    fn a_poll_belongs_to_its_token_and_worker() {
        let token = Token::new("t");
        let all = [
            poll_hash(None, "w", "1"),
            poll_hash(token.as_ref(), "w", "1"),
            poll_hash(None, "w1", ""),
            poll_hash(None, "", "w1"),
            poll_hash(None, "x", "1"),
        ];
        assert_eq!(all.iter().collect::<std::collections::HashSet<_>>().len(), all.len());
    }
}
