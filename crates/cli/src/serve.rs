//! `onefold serve`: the engine, its loop and the HTTP API in one process, until a signal.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use onefold_core::{Clock, Engine, EngineError, WorkerName};
use onefold_delivery::{
    AddressPolicy, Client, ClientParts, DelivererParts, HttpDeliverer, KeyRing, LaneLimits, Limits,
    SystemResolver, TokioTimer, Trust,
};
use onefold_engine_postgres::inspect::Standby;
use onefold_engine_postgres::{Options as PostgresOptions, PostgresEngine};
use onefold_engine_sqlite::{Options, SqliteEngine};
use onefold_runtime::{Deliveries, Health, Phase, Runtime, SystemClock, SystemEntropy};
use onefold_server::accept::{AcceptLimits, Drained, raise_descriptor_limit};
use onefold_server::{ServeError, StoreNotes};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::{Listen, PostgresSettings, ServeSettings, Store};
use crate::failure::Failure;
use crate::logging;
use crate::output::Output;
use crate::signals::Signals;
use crate::signing;

/// Files a server may want to have open: a connection each, and its own.
const DESCRIPTORS_WANTED: u64 = 16_384;

/// Between two looks for a database that is not there yet.
const BETWEEN_TRIES: Duration = Duration::from_millis(500);

/// Between two looks for a synchronous standby.
const BETWEEN_LOOKS_AT_STANDBY: Duration = Duration::from_secs(5);

/// What is printed once the server serves, as JSON.
#[derive(Serialize)]
struct Started<'a> {
    url: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    postgres: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<&'a str>,
}

pub(crate) fn run(settings: ServeSettings, output: Output) -> Result<(), Failure> {
    logging::start(&settings.log, settings.log_format)?;
    if let Err(error) = raise_descriptor_limit(DESCRIPTORS_WANTED) {
        tracing::warn!(%error, "the limit of open files could not be raised: fewer connections at once");
    }
    let runtime = crate::runtime()?;
    let served = runtime.block_on(serve(settings, output));
    // Nothing worth waiting for is left: what was acknowledged is durable.
    runtime.shutdown_background();
    served
}

async fn serve(settings: ServeSettings, output: Output) -> Result<(), Failure> {
    let addresses = resolve(&settings.listen).await?;
    if settings.token.is_none() && addresses.iter().any(|address| !address.ip().is_loopback()) {
        return Err(Failure::usage(format!(
            "listening on {} would let other machines in without a token: set ONEFOLD_TOKEN, or listen on 127.0.0.1",
            settings.listen
        )));
    }
    let Opened { engine, clock, notes } = open(&settings, Arc::new(SystemClock::new())).await?;
    let listener = TcpListener::bind(&addresses[..]).await.map_err(|error| {
        let address = &settings.listen;
        Failure::failed(format!(
            "cannot listen on {address}: {error}; stop what uses it, or choose another --listen"
        ))
    })?;
    let address = listener.local_addr().map_err(Failure::failed)?;
    let mut signals = Signals::catch()?;
    let trust = trust(&settings)?;
    let keys = signing::keys(settings.targets.signing_key_file.as_deref()).map_err(Failure::failed)?;
    let runtime = Runtime::start(Arc::clone(&engine), Arc::clone(&clock));
    let deliveries = deliver(&settings, trust, keys, address, engine, Arc::clone(&clock))?;
    let stop = CancellationToken::new();
    let server =
        onefold_server::serve(&runtime, clock, server_config(&settings, notes)?, listener, stop.cancelled());
    tokio::pin!(server);
    let mut health = runtime.watch_health();
    let until_it_fails = async {
        let _ = health.wait_for(|health| health.phase != Phase::Starting).await;
        announce(address, &settings.store, output)?;
        Err(why_it_failed(&mut health).await)
    };
    let outcome = tokio::select! {
        name = signals.next() => {
            tracing::info!(signal = name, "stopping: no more leases; requests in progress are answered");
            Ok(())
        }
        failed = until_it_fails => failed,
        ended = &mut server => return Err(broken(ended)),
    };
    stop.cancel();
    let drained = async { tokio::join!(&mut server, deliveries.drain(settings.drain_timeout.into())).0 };
    tokio::select! {
        drained = drained => drained.map(drop).map_err(|error| broken(Err(error)))?,
        name = signals.next() => {
            let told = format!("ended by a second signal, {name}, before all requests were answered");
            return Err(Failure::failed(told));
        }
    }
    match runtime.stop().await {
        Ok(()) => tracing::info!("stopped"),
        Err(error) => {
            tracing::error!(%error, "the store was not closed cleanly; nothing acknowledged is lost")
        }
    }
    outcome
}

/// Whose certificates deliveries believe.
fn trust(settings: &ServeSettings) -> Result<Trust, Failure> {
    match &settings.targets.ca_file {
        None => Ok(Trust::machine()),
        Some(file) => Trust::machine().with_ca_file(file).map_err(Failure::failed),
    }
}

/// Starts delivering jobs that have an HTTP target.
fn deliver(
    settings: &ServeSettings,
    trust: Trust,
    keys: watch::Receiver<KeyRing>,
    address: SocketAddr,
    engine: Arc<dyn Engine>,
    clock: Arc<dyn Clock>,
) -> Result<Deliveries, Failure> {
    let policy = AddressPolicy::for_listeners(&[address]).allow(settings.targets.allow.iter().cloned());
    let client = Client::new(ClientParts {
        policy,
        resolver: Arc::new(SystemResolver::new()),
        connect_to: settings.targets.connect_to.clone(),
        trust,
        limits: Limits::default(),
        clock: Arc::clone(&clock),
        timer: Arc::new(TokioTimer),
    });
    let deliverer = HttpDeliverer::new(DelivererParts {
        client,
        engine: Arc::clone(&engine),
        keys,
        lanes: LaneLimits::default(),
        clock: Arc::clone(&clock),
        entropy: Arc::new(SystemEntropy),
    });
    let name = format!("deliverer {}", std::process::id());
    let worker = WorkerName::new(&name).map_err(Failure::failed)?;
    Ok(Deliveries::start(engine, clock, Arc::new(deliverer), worker))
}

async fn resolve(listen: &Listen) -> Result<Vec<SocketAddr>, Failure> {
    let found = tokio::net::lookup_host(listen.target()).await;
    let addresses: Vec<SocketAddr> = found.map(Iterator::collect).unwrap_or_default();
    if addresses.is_empty() {
        return Err(Failure::failed(format!("there is no address for {listen}; check --listen")));
    }
    Ok(addresses)
}

/// An engine, the clock it lives by, and what is known of its store.
struct Opened {
    engine: Arc<dyn Engine>,
    clock: Arc<dyn Clock>,
    notes: watch::Receiver<StoreNotes>,
}

async fn open(settings: &ServeSettings, clock: Arc<dyn Clock>) -> Result<Opened, Failure> {
    match &settings.store {
        Store::Directory(data) => open_directory(data.clone(), settings.key_index_memory, clock).await,
        Store::Postgres(postgres) => open_postgres(postgres, clock).await,
    }
}

async fn open_directory(
    data: PathBuf,
    key_index_bytes: usize,
    clock: Arc<dyn Clock>,
) -> Result<Opened, Failure> {
    let lives_by = Arc::clone(&clock);
    let opened = tokio::task::spawn_blocking(move || {
        let options = Options::new(lives_by, Arc::new(SystemEntropy));
        SqliteEngine::open(data, Options { key_index_bytes, ..options })
    });
    match opened.await {
        Ok(Ok(engine)) => {
            let notes = watch::channel(StoreNotes::default()).1;
            Ok(Opened { engine: Arc::new(engine), clock, notes })
        }
        Ok(Err(error)) => Err(Failure::failed(error)),
        Err(died) => Err(Failure::failed(format!("the store could not be opened: {died}"))),
    }
}

/// Opens the store, waiting for a database that is not there yet: it may have been started together with us.
async fn open_postgres(postgres: &PostgresSettings, clock: Arc<dyn Clock>) -> Result<Opened, Failure> {
    let until = clock.monotonic().saturating_add(postgres.wait);
    let mut waits = false;
    loop {
        let options = PostgresOptions::new(Arc::clone(&clock), Arc::new(SystemEntropy));
        let error = match PostgresEngine::open(postgres.config.clone(), options).await {
            Ok(engine) => {
                let clock = engine.clock();
                let engine = Arc::new(engine);
                let (tell, notes) = watch::channel(StoreNotes::default());
                tokio::spawn(watch_standby(Arc::clone(&engine), tell));
                return Ok(Opened { engine, clock, notes });
            }
            Err(error) => error,
        };
        if !error.may_pass() || clock.monotonic() >= until {
            return Err(Failure::failed(error));
        }
        if !std::mem::replace(&mut waits, true) {
            tracing::warn!("{error}; waiting up to {} for it (--postgres-wait)", postgres.wait);
        }
        tokio::time::sleep(BETWEEN_TRIES).await;
    }
}

/// Looks now and then whether there is a synchronous standby.
async fn watch_standby(engine: Arc<PostgresEngine>, tell: watch::Sender<StoreNotes>) {
    loop {
        match engine.standby().await {
            Ok(standby) => {
                let (word, note) = told_of(standby);
                let notes = note.map(str::to_owned).into_iter().collect();
                tell.send_replace(StoreNotes { standby: Some(word), notes });
            }
            Err(EngineError::Closed) => return,
            // The health of the store tells of it.
            Err(_) => {}
        }
        tokio::time::sleep(BETWEEN_LOOKS_AT_STANDBY).await;
    }
}

/// A word for programs, and a sentence if there is something to do.
pub(crate) fn told_of(standby: Standby) -> (&'static str, Option<&'static str>) {
    match standby {
        Standby::Synchronous => ("synchronous", None),
        Standby::Missing => (
            "missing",
            Some(
                "commits wait for a synchronous standby, and none of those named in synchronous_standby_names is \
                 connected: start one, or nothing is accepted",
            ),
        ),
        Standby::None => (
            "none",
            Some(
                "there is no synchronous standby: what was acknowledged last may be lost if the primary is; set \
                 synchronous_standby_names, unless the disks of the database are replicated",
            ),
        ),
        Standby::Hidden => (
            "hidden",
            Some(
                "commits wait for a synchronous standby; whether one is connected the database does not tell this role: \
                 GRANT pg_monitor to it",
            ),
        ),
    }
}

fn server_config(
    settings: &ServeSettings,
    store: watch::Receiver<StoreNotes>,
) -> Result<onefold_server::Config, Failure> {
    let token = settings.token.as_ref().map(|token| onefold_server::Token::new(token.reveal()));
    let Some(token) = token.map_or(Some(None), |token| token.map(Some)) else {
        return Err(Failure::usage("the token cannot stand in an HTTP header"));
    };
    let backup_dir = match &settings.store {
        Store::Directory(data) => Some(data.clone()),
        Store::Postgres(_) => None,
    };
    Ok(onefold_server::Config {
        token,
        payload_bytes_max: settings.payload_limit,
        backup_dir,
        delivers: true,
        store,
        accept: AcceptLimits { drain_timeout: settings.drain_timeout.into(), ..AcceptLimits::default() },
        ..onefold_server::Config::default()
    })
}

fn announce(address: SocketAddr, store: &Store, output: Output) -> Result<(), Failure> {
    let url = format!("http://{address}");
    let url = url.as_str();
    match store {
        Store::Directory(data) if output.json => {
            output.json(&Started { url, data: Some(data), postgres: None, schema: None })
        }
        Store::Directory(data) => {
            output.line(format!("onefold serves {url} with the data in {}", data.display()))
        }
        Store::Postgres(postgres) if output.json => output.json(&Started {
            url,
            data: None,
            postgres: Some(postgres.config.place()),
            schema: Some(&postgres.config.schema),
        }),
        Store::Postgres(postgres) => output.line(format!(
            "onefold serves {url} with the data in PostgreSQL {}, schema {}",
            postgres.config.place(),
            postgres.config.schema
        )),
    }
}

/// Returns once the store can serve no more.
async fn why_it_failed(health: &mut watch::Receiver<Health>) -> Failure {
    let over = health.wait_for(|health| health.phase.is_over()).await;
    match over.map(|health| health.phase.clone()) {
        Ok(Phase::Failed(error)) => Failure::failed(error),
        Ok(_) | Err(_) => Failure::failed("the store stopped by itself; start the server again"),
    }
}

fn broken(ended: Result<Drained, ServeError>) -> Failure {
    let why = ended.map_or_else(|error| error.to_string(), |_| "it stopped by itself".to_owned());
    Failure::failed(format!("the server cannot go on: {why}"))
}
