//! `--connect-to HOST:PORT:ADDR:PORT`, as curl has it: a connection goes elsewhere, everything else stays.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use thiserror::Error;

use crate::TargetHost;

/// One `--connect-to`.
///
/// Connections meant for host and port go to the other two instead. URL, signature, `Host` and the name that TLS checks
/// are not changed, and the address is vetted like any other. An empty host or port on the left means any, on the right
/// the one that was meant. IPv6 addresses stand in brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectTo {
    from_host: Option<TargetHost>,
    from_port: Option<u16>,
    to_host: Option<TargetHost>,
    to_port: Option<u16>,
}

/// A text that is no [`ConnectTo`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "`{0}` is not HOST:PORT:ADDR:PORT: write it like example.com:443:127.0.0.1:8443, IPv6 addresses in brackets"
)]
pub struct InvalidConnectTo(pub String);

impl ConnectTo {
    /// Where a connection to `host` and `port` goes by the first of `rules` that speaks of it.
    pub(crate) fn apply(rules: &[ConnectTo], host: &TargetHost, port: u16) -> (TargetHost, u16) {
        let speaks_of_it = |rule: &&ConnectTo| {
            rule.from_host.as_ref().is_none_or(|from| from == host)
                && rule.from_port.is_none_or(|from| from == port)
        };
        match rules.iter().find(speaks_of_it) {
            Some(rule) => {
                (rule.to_host.clone().unwrap_or_else(|| host.clone()), rule.to_port.unwrap_or(port))
            }
            None => (host.clone(), port),
        }
    }
}

impl FromStr for ConnectTo {
    type Err = InvalidConnectTo;

    fn from_str(text: &str) -> Result<ConnectTo, InvalidConnectTo> {
        let parse = || {
            let (from_host, rest) = host_before_colon(text)?;
            let (from_port, rest) = rest.split_once(':')?;
            let (to_host, to_port) = host_before_colon(rest)?;
            Some(ConnectTo {
                from_host: host(from_host)?,
                from_port: port(from_port)?,
                to_host: host(to_host)?,
                to_port: port(to_port)?,
            })
        };
        parse().ok_or_else(|| InvalidConnectTo(text.to_owned()))
    }
}

/// A host, in brackets or not, and what follows the colon behind it.
fn host_before_colon(text: &str) -> Option<(&str, &str)> {
    if text.starts_with('[') {
        let end = text.find(']')? + 1;
        let (host, rest) = text.split_at_checked(end)?;
        return Some((host, rest.strip_prefix(':')?));
    }
    text.split_once(':')
}

/// `Some(None)` for an empty one.
fn host(text: &str) -> Option<Option<TargetHost>> {
    if text.is_empty() {
        return Some(None);
    }
    // As in a URL, so that both spell it alike.
    match url::Host::parse(text).ok()? {
        url::Host::Domain(name) => TargetHost::name(&name).map(Some),
        url::Host::Ipv4(address) => Some(Some(TargetHost::Address(IpAddr::V4(address)))),
        url::Host::Ipv6(address) => Some(Some(TargetHost::Address(IpAddr::V6(address)))),
    }
}

/// `Some(None)` for an empty one.
fn port(text: &str) -> Option<Option<u16>> {
    if text.is_empty() {
        return Some(None);
    }
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let port: u16 = if digits { text.parse().ok()? } else { return None };
    (port != 0).then_some(Some(port))
}

impl fmt::Display for ConnectTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = |f: &mut fmt::Formatter<'_>, host: &Option<TargetHost>| match host {
            Some(TargetHost::Address(IpAddr::V6(address))) => write!(f, "[{address}]:"),
            Some(host) => write!(f, "{host}:"),
            None => f.write_str(":"),
        };
        let port = |port: Option<u16>| port.map_or(String::new(), |port| port.to_string());
        host(f, &self.from_host)?;
        write!(f, "{}:", port(self.from_port))?;
        host(f, &self.to_host)?;
        f.write_str(&port(self.to_port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TargetUrl;

    fn goes_to(rules: &[&str], url: &str) -> String {
        let rules: Vec<ConnectTo> = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        let url = TargetUrl::parse(url).unwrap();
        let (host, port) = ConnectTo::apply(&rules, url.host(), url.port());
        format!("{host} {port}")
    }

    #[test]
    fn it_reads_as_curl_does() {
        for text in [
            "example.com:443:127.0.0.1:8443",
            "::127.0.0.1:8443",
            "example.com::other.example:",
            "[::1]:80:[2606:4700::1111]:8080",
            ":443::8443",
        ] {
            assert_eq!(text.parse::<ConnectTo>().unwrap().to_string(), text);
        }
        for bad in [
            "",
            "a",
            "a:1",
            "a:1:b",
            "a:x:b:1",
            "a:1:b:65536",
            "a:0:b:1",
            "a:+1:b:1",
            "[::1:80:b:1",
            "a b:1:c:1",
            "a:1:b:1:2",
        ] {
            assert!(bad.parse::<ConnectTo>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_first_rule_that_speaks_of_it_counts() {
        let rules = ["example.com:443:127.0.0.1:8443", "example.com::backup.example:", ":8080::9090"];
        assert_eq!(goes_to(&rules, "https://EXAMPLE.com./"), "127.0.0.1 8443");
        assert_eq!(goes_to(&rules, "http://example.com/"), "backup.example 80");
        assert_eq!(goes_to(&rules, "http://other.example:8080/"), "other.example 9090");
        assert_eq!(goes_to(&rules, "http://other.example/"), "other.example 80");
        assert_eq!(goes_to(&[], "http://other.example/"), "other.example 80");
        assert_eq!(goes_to(&["127.1:80:[::1]:8080"], "http://2130706433/"), "::1 8080");
    }
}
