//! From a URL to a connection: look up, vet, dial exactly what was vetted, TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use onefold_core::DurationMs;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;

use super::Client;
use super::meter::{Metered, Stream};
use super::pool::Connection;
use super::record::{Record, Stage};
use crate::{ConnectTo, Failure, Scheme, TargetHost, TargetUrl, TlsFault, Vetted};

/// Addresses of one host that are tried.
const ADDRESSES_TRIED: usize = 4;
/// How long one of several addresses may take to connect before the next is tried.
const ADDRESS_SHARE: DurationMs = DurationMs::from_ms(3_000);
/// Headers of one answer.
const ANSWER_HEADERS_MAX: usize = 128;

impl Client {
    /// A new connection for `url`.
    pub(super) async fn dial(
        &self,
        url: &TargetUrl,
        timeout: DurationMs,
        record: &mut Record,
    ) -> Result<Connection, Failure> {
        let (host, port) = ConnectTo::apply(&self.connect_to, url.host(), url.port());
        let addresses = self.vetted(&host, record).await?;
        let (stream, address) = self.connect(&addresses, port, timeout, record).await?;
        // A delivery is one small write and one read: nothing to wait for. A socket that cannot do this works all the same.
        let _ = stream.set_nodelay(true);
        let stream = match url.scheme() {
            Scheme::Http => Stream::Plain(stream),
            Scheme::Https => self.secure(stream, url.host(), record).await?,
        };
        let (metered, meter) = Metered::new(stream, self.limits.head_bytes);
        record.enter(Stage::Head);
        let handshake = http1::Builder::new()
            .max_headers(ANSWER_HEADERS_MAX)
            .max_buf_size(usize::try_from(self.limits.head_bytes).unwrap_or(usize::MAX).max(8192))
            .handshake(TokioIo::new(metered))
            .await;
        let (sender, driver) =
            handshake.map_err(|error| Failure::in_head(&error, crate::Lost::BeforeAnswer))?;
        // What goes wrong with the connection is told to whoever sends over it.
        let driver = tokio::spawn(async move { drop(driver.await) }).abort_handle();
        Ok(Connection { sender, meter, address, opened_at: self.clock.monotonic(), driver })
    }

    /// The addresses of `host` that may be dialled: at least one.
    async fn vetted(&self, host: &TargetHost, record: &mut Record) -> Result<Vec<Vetted>, Failure> {
        let addresses = match host {
            TargetHost::Address(address) => vec![*address],
            TargetHost::Name(name) => {
                record.enter(Stage::Dns { host: host.to_string() });
                let found = self.resolver.resolve(Arc::clone(name)).await;
                found
                    .map_err(|error| Failure::DnsFailed { host: name.to_string(), why: error.to_string() })?
            }
        };
        let (mut allowed, denied) = self.policy.vet_all(&addresses);
        let refused = denied.first().copied();
        record.denied = denied;
        allowed.truncate(ADDRESSES_TRIED);
        match (allowed.is_empty(), refused) {
            (false, _) => Ok(allowed),
            (true, Some(denied)) => Err(Failure::AddressDenied(denied)),
            (true, None) => {
                Err(Failure::DnsFailed { host: host.to_string(), why: "the name has no address".to_owned() })
            }
        }
    }

    /// Connects to the first address that answers.
    async fn connect(
        &self,
        addresses: &[Vetted],
        port: u16,
        timeout: DurationMs,
        record: &mut Record,
    ) -> Result<(TcpStream, SocketAddr), Failure> {
        // All shares together fit into the deadline; the last address may take what is left of it.
        let share = ADDRESS_SHARE.min(DurationMs::from_ms(timeout.as_ms() / addresses.len().max(1) as u64));
        let mut failed = Failure::DnsFailed { host: String::new(), why: "there is no address".to_owned() };
        for (place, vetted) in addresses.iter().enumerate() {
            let address = vetted.at(port);
            record.enter(Stage::Connect { address });
            let connecting = TcpStream::connect(address);
            let tried = if place + 1 == addresses.len() {
                Some(connecting.await)
            } else {
                let share = self.timer.after(share);
                tokio::select! { biased; tried = connecting => Some(tried), () = share => None }
            };
            failed = match tried {
                Some(Ok(stream)) => return Ok((stream, address)),
                Some(Err(error)) => Failure::connecting(address, &error),
                None => Failure::ConnectTimeout { address },
            };
            record.dials.push((address, failed.clone()));
        }
        // The last one's; those of the others are in the record.
        Err(failed)
    }

    async fn secure(
        &self,
        stream: TcpStream,
        host: &TargetHost,
        record: &mut Record,
    ) -> Result<Stream, Failure> {
        record.enter(Stage::Tls);
        let config = self
            .tls
            .as_ref()
            .map_err(|why| Failure::Tls { fault: TlsFault::NoAuthorities, why: why.clone() })?;
        let name = match host {
            TargetHost::Address(address) => ServerName::from(*address),
            TargetHost::Name(name) => ServerName::try_from(name.to_string())
                .map_err(|error| Failure::Tls { fault: TlsFault::WrongName, why: error.to_string() })?,
        };
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
        let secured = connector.connect(name, stream).await.map_err(|error| Failure::in_handshake(&error))?;
        Ok(Stream::Tls(Box::new(secured)))
    }
}
