//! How connections are made: to the first of several hosts that will do, each of which has to answer in time.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio_postgres::config::{Host, LoadBalanceHosts, SslMode, TargetSessionAttrs};
use tokio_postgres::error::Severity;
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, Notification};

use crate::error::told;
#[cfg(feature = "tls")]
use crate::tls::Connector;
use crate::tls::Tls;

/// A server that acknowledges nothing for so long is not there.
const SILENCE: Duration = Duration::from_secs(8);

/// Why there is no connection.
#[derive(Debug, Error)]
pub(crate) enum NoConnection {
    #[error("{}", told(.0))]
    Refused(#[from] tokio_postgres::Error),
    #[error("it takes connections, but says nothing")]
    Silence,
}

/// Servers, one of which is the one to talk to.
pub(crate) struct Hosts {
    each: Vec<Config>,
    tls: Tls,
    within: Duration,
    /// The one that would do last.
    good: AtomicUsize,
}

/// A connection whose other half runs by itself.
pub(crate) struct Opened {
    pub(crate) client: Client,
    /// Its place among the hosts.
    pub(crate) host: usize,
    /// Its other half: it ends with the client, once all is answered that was asked.
    pub(crate) task: AbortHandle,
    pub(crate) warnings: Warnings,
}

/// How often the server warned.
#[derive(Debug, Clone, Default)]
pub(crate) struct Warnings(Arc<AtomicU64>);

impl Warnings {
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

impl Hosts {
    /// The hosts of a server's address, each of which may take so long to be reached, and as long to say something.
    pub(crate) fn of(server: &Config, tls: &Tls, within: Duration) -> Hosts {
        let mut server = server.clone();
        if server.get_connect_timeout().is_none() {
            server.connect_timeout(within);
        }
        // A server that is cut off says nothing: without these a call would wait for as long as the system lets it.
        if server.get_tcp_user_timeout().is_none() {
            server.tcp_user_timeout(SILENCE).keepalives_idle(SILENCE / 2).keepalives_interval(SILENCE / 4);
        }
        if server.get_application_name().is_none() {
            server.application_name("onefold");
        }
        Hosts { each: one_by_one(server), tls: tls.clone(), within, good: AtomicUsize::new(0) }
    }

    /// A connection to the first host that will do, beginning with the one that did last. `hear` is given each
    /// notification, and `None` at the end of the connection.
    pub(crate) async fn connect(
        &self,
        runtime: &Handle,
        hear: impl Fn(Option<Notification>) + Clone + Send + 'static,
    ) -> Result<Opened, NoConnection> {
        let count = self.each.len();
        let first = self.good.load(Ordering::Relaxed);
        let mut failed = NoConnection::Silence;
        for host in (first..count).chain(0..first.min(count)) {
            let Some(server) = self.each.get(host) else { continue };
            let connecting = connect(server, &self.tls, runtime, hear.clone());
            match tokio::time::timeout(self.patience(), connecting).await {
                Ok(Ok((client, task, warnings))) => {
                    self.good.store(host, Ordering::Relaxed);
                    return Ok(Opened { client, host, task, warnings });
                }
                Ok(Err(error)) => failed = error.into(),
                Err(_) => failed = NoConnection::Silence,
            }
        }
        Err(failed)
    }

    /// Whether a host answers those who come to it, whatever the answer is.
    pub(crate) async fn answers(&self, host: usize, runtime: &Handle) -> bool {
        let Some(mut server) = self.each.get(host).cloned() else { return false };
        server.target_session_attrs(TargetSessionAttrs::Any);
        let connecting = connect(&server, &self.tls, runtime, |_| {});
        match tokio::time::timeout(self.patience(), connecting).await {
            Ok(Ok(_)) => true,
            Ok(Err(error)) => error.as_db_error().is_some(),
            Err(_) => false,
        }
    }

    fn patience(&self) -> Duration {
        self.within * 2
    }
}

/// The same for each host. Whoever has them chosen at random leaves that to the driver.
fn one_by_one(server: Config) -> Vec<Config> {
    let (hosts, addresses) = (server.get_hosts(), server.get_hostaddrs());
    let count = hosts.len().max(addresses.len());
    let is_uneven = !hosts.is_empty() && !addresses.is_empty() && hosts.len() != addresses.len()
        || server.get_ports().len() > 1 && server.get_ports().len() != count;
    if count < 2 || is_uneven || server.get_load_balance_hosts() == LoadBalanceHosts::Random {
        return vec![server];
    }
    (0..count).map(|host| only(&server, host)).collect()
}

/// The address with one of its hosts.
fn only(server: &Config, host: usize) -> Config {
    let mut one = Config::new();
    match server.get_hosts().get(host) {
        Some(Host::Tcp(name)) => drop(one.host(name)),
        #[cfg(unix)]
        Some(Host::Unix(path)) => drop(one.host_path(path)),
        None => {}
    }
    if let Some(address) = server.get_hostaddrs().get(host) {
        one.hostaddr(*address);
    }
    if let Some(port) = server.get_ports().get(host).or(server.get_ports().first()) {
        one.port(*port);
    }
    if let Some(user) = server.get_user() {
        one.user(user);
    }
    if let Some(password) = server.get_password() {
        one.password(password);
    }
    if let Some(database) = server.get_dbname() {
        one.dbname(database);
    }
    if let Some(options) = server.get_options() {
        one.options(options);
    }
    if let Some(name) = server.get_application_name() {
        one.application_name(name);
    }
    if let Some(timeout) = server.get_connect_timeout() {
        one.connect_timeout(*timeout);
    }
    if let Some(timeout) = server.get_tcp_user_timeout() {
        one.tcp_user_timeout(*timeout);
    }
    if let Some(interval) = server.get_keepalives_interval() {
        one.keepalives_interval(interval);
    }
    if let Some(retries) = server.get_keepalives_retries() {
        one.keepalives_retries(retries);
    }
    one.keepalives(server.get_keepalives())
        .keepalives_idle(server.get_keepalives_idle())
        .ssl_mode(server.get_ssl_mode())
        .ssl_negotiation(server.get_ssl_negotiation())
        .channel_binding(server.get_channel_binding())
        .target_session_attrs(server.get_target_session_attrs());
    one
}

async fn connect(
    server: &Config,
    tls: &Tls,
    runtime: &Handle,
    hear: impl Fn(Option<Notification>) + Send + 'static,
) -> Result<(Client, AbortHandle, Warnings), tokio_postgres::Error> {
    let warnings = Warnings::default();
    #[cfg(feature = "tls")]
    if let Some(client) = tls.client.as_ref().filter(|_| !is_of_this_machine(server)) {
        let (client, connection) = server.connect(Connector(Arc::clone(client))).await?;
        let task = runtime.spawn(run(connection, hear, warnings.clone())).abort_handle();
        return Ok((client, task, warnings));
    }
    #[cfg(not(feature = "tls"))]
    let Tls {} = tls;
    let mut server = server.clone();
    if is_of_this_machine(&server) {
        server.ssl_mode(SslMode::Disable);
    }
    let (client, connection) = server.connect(NoTls).await?;
    let task = runtime.spawn(run(connection, hear, warnings.clone())).abort_handle();
    Ok((client, task, warnings))
}

/// Whether it is reached by sockets in the file system, over which PostgreSQL speaks no TLS.
fn is_of_this_machine(server: &Config) -> bool {
    !server.get_hosts().is_empty() && server.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)))
}

async fn run<S, T>(
    mut connection: tokio_postgres::Connection<S, T>,
    hear: impl Fn(Option<Notification>),
    warnings: Warnings,
) where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
        match message {
            Ok(AsyncMessage::Notification(notification)) => hear(Some(notification)),
            // It comes before the answer to what it is about.
            Ok(AsyncMessage::Notice(notice)) if notice.parsed_severity() == Some(Severity::Warning) => {
                warnings.0.fetch_add(1, Ordering::Release);
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(error = told(&error), "a database connection ended");
                break;
            }
        }
    }
    hear(None);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is forgotten of an address would be asked of no host.
    #[test]
    fn each_host_is_asked_for_the_same() {
        let server: Config =
            "host=a,b,/c port=1,2,3 user=u password=p dbname=d options=o application_name=n \
            connect_timeout=7 tcp_user_timeout=8 keepalives=0 keepalives_idle=9 keepalives_interval=10 \
            keepalives_retries=11 sslmode=require target_session_attrs=read-write channel_binding=require"
                .parse()
                .unwrap();
        let each = one_by_one(server.clone());
        let alone = |host: &str, port: &str| -> Config {
            let text = format!(
                "host={host} port={port} user=u password=p dbname=d options=o application_name=n connect_timeout=7 \
                 tcp_user_timeout=8 keepalives=0 keepalives_idle=9 keepalives_interval=10 keepalives_retries=11 \
                 sslmode=require target_session_attrs=read-write channel_binding=require"
            );
            text.parse().unwrap()
        };
        assert_eq!(each, [alone("a", "1"), alone("b", "2"), alone("/c", "3")]);
        assert_eq!(one_by_one(alone("a", "1")), [alone("a", "1")]);
        let random: Config = "host=a,b load_balance_hosts=random".parse().unwrap();
        assert_eq!(one_by_one(random.clone()), [random]);
        let one_port: Config = "host=a,b port=5 user=u".parse().unwrap();
        assert!(one_by_one(one_port).iter().all(|one| one.get_ports() == [5]));
    }
}
