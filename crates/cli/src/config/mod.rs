//! Settings, from one place in one order: flag, `ONEFOLD_*` variable, `onefold.toml`, default.

mod file;
mod postgres;
mod values;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use onefold_core::DurationMs;
use thiserror::Error;

use file::ConfigFile;
use onefold_delivery::{Cidr, ConnectTo};
pub(crate) use postgres::{NodeArgs, PostgresArgs, PostgresSettings, PostgresUrl};
use values::Several;
pub(crate) use values::{Bytes, Listen, LogFormat, ServerUrl, Token, TokenFlag};

/// A setting as it is named in each place.
#[derive(Debug)]
pub(crate) struct Setting {
    /// In the file.
    pub(crate) key: &'static str,
    /// In the environment.
    pub(crate) env: &'static str,
}

macro_rules! settings {
    ($($name:ident = $key:literal, $env:literal;)+) => {
        $(const $name: Setting = Setting { key: $key, env: $env };)+
        /// All there are.
        pub(crate) const SETTINGS: &[Setting] = &[$($name,)+];
    };
}

settings! {
    URL = "url", "ONEFOLD_URL";
    TOKEN = "token", "ONEFOLD_TOKEN";
    LISTEN = "listen", "ONEFOLD_LISTEN";
    DATA = "data", "ONEFOLD_DATA";
    POSTGRES = "postgres", "ONEFOLD_POSTGRES";
    POSTGRES_SCHEMA = "postgres_schema", "ONEFOLD_POSTGRES_SCHEMA";
    POSTGRES_POOLER = "postgres_pooler", "ONEFOLD_POSTGRES_POOLER";
    POSTGRES_CONNECTIONS = "postgres_connections", "ONEFOLD_POSTGRES_CONNECTIONS";
    POSTGRES_LISTEN = "postgres_listen", "ONEFOLD_POSTGRES_LISTEN";
    POSTGRES_WAIT = "postgres_wait", "ONEFOLD_POSTGRES_WAIT";
    DRAIN_TIMEOUT = "drain_timeout", "ONEFOLD_DRAIN_TIMEOUT";
    ALLOW_TARGET = "allow_target", "ONEFOLD_ALLOW_TARGET";
    CONNECT_TO = "connect_to", "ONEFOLD_CONNECT_TO";
    CA_FILE = "ca_file", "ONEFOLD_CA_FILE";
    SIGNING_KEY_FILE = "signing_key_file", "ONEFOLD_SIGNING_KEY_FILE";
    PAYLOAD_LIMIT = "payload_limit", "ONEFOLD_PAYLOAD_LIMIT";
    KEY_INDEX_MEMORY = "key_index_memory", "ONEFOLD_KEY_INDEX_MEMORY";
    LOG = "log", "ONEFOLD_LOG";
    LOG_FORMAT = "log_format", "ONEFOLD_LOG_FORMAT";
}

/// The variable that names another file.
pub(crate) const CONFIG_ENV: &str = "ONEFOLD_CONFIG";
/// The file that is read if there is one.
const CONFIG_FILE: &str = "onefold.toml";

/// Why the settings cannot be used. Never tells the value of a secret.
#[derive(Debug, Error)]
pub(crate) enum ConfigError {
    #[error("cannot read {}: {source}; --config and {CONFIG_ENV} name a settings file", .path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{} line {line}: {what}", .path.display())]
    Line { path: PathBuf, line: usize, what: String },
    #[error("{place}: {what}")]
    Value { place: String, what: String },
    #[error(
        "both a directory ({data}) and a PostgreSQL database ({postgres}) are given for the store: take one away"
    )]
    TwoStores { data: String, postgres: String },
    #[error(
        "the store is in PostgreSQL ({postgres}): {instead}; name a directory with --data if you mean one all the same"
    )]
    NotADirectory { postgres: String, instead: &'static str },
}

/// Where the data is, for what looks after its directory.
#[derive(Debug, Clone, Args)]
pub(crate) struct DataArgs {
    /// Directory of the data [env: ONEFOLD_DATA] [file: data] [default: ./onefold-data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
}

/// Where the store is.
#[derive(Debug, Clone, Args)]
pub(crate) struct StoreArgs {
    #[command(flatten)]
    pub(crate) data: DataArgs,
    #[command(flatten)]
    pub(crate) postgres: PostgresArgs,
}

/// Which server to talk to.
#[derive(Debug, Clone, Args)]
pub(crate) struct RemoteArgs {
    /// The server [env: ONEFOLD_URL] [file: url] [default: http://127.0.0.1:7717]
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<ServerUrl>,
    /// The server's token; better given as a variable, which other users cannot see
    /// [env: ONEFOLD_TOKEN] [file: token]
    #[arg(long, value_name = "TOKEN")]
    pub(crate) token: Option<TokenFlag>,
}

/// How `serve` serves.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServeArgs {
    /// Address to listen on; port 0 takes a free one. Beyond this machine only with a token
    /// [env: ONEFOLD_LISTEN] [file: listen] [default: 127.0.0.1:7717]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) listen: Option<Listen>,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// Token every request must carry; better given as a variable, which other users cannot see
    /// [env: ONEFOLD_TOKEN] [file: token]
    #[arg(long, value_name = "TOKEN")]
    pub(crate) token: Option<TokenFlag>,
    /// How long requests in progress and deliveries may take to end once the server is told to stop
    /// [env: ONEFOLD_DRAIN_TIMEOUT] [file: drain_timeout] [default: 10s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) drain_timeout: Option<DurationMs>,
    /// Also deliver to addresses of this range, like 10.0.0.0/8, or to this one; several times for several. Public
    /// addresses are allowed, and this machine's own to a server that only listens there
    /// [env: ONEFOLD_ALLOW_TARGET] [file: allow_target]; several there with commas
    #[arg(long, value_name = "CIDR")]
    pub(crate) allow_target: Vec<Cidr>,
    /// Deliver to ADDR:PORT2 what goes to HOST:PORT1; URL, certificate and signature stay those of HOST. Empty HOST or
    /// PORT1 mean any; several times for several [env: ONEFOLD_CONNECT_TO] [file: connect_to]; several there with commas
    #[arg(long, value_name = "HOST:PORT1:ADDR:PORT2")]
    pub(crate) connect_to: Vec<ConnectTo>,
    /// Also believe the authorities in this file (PEM) when delivering to https targets
    /// [env: ONEFOLD_CA_FILE] [file: ca_file]
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Sign deliveries with the keys in this file, a key a line (`onefold signing-key` makes them); it is looked at again
    /// every second [env: ONEFOLD_SIGNING_KEY_FILE] [file: signing_key_file]
    #[arg(long, value_name = "FILE")]
    pub(crate) signing_key_file: Option<PathBuf>,
    /// Largest payload of a job, up to 50MiB
    /// [env: ONEFOLD_PAYLOAD_LIMIT] [file: payload_limit] [default: 1MiB]
    #[arg(long, value_name = "BYTES")]
    pub(crate) payload_limit: Option<Bytes>,
    /// Memory for the index of held keys, about 20 bytes each; beyond it they are looked up on disk
    /// [env: ONEFOLD_KEY_INDEX_MEMORY] [file: key_index_memory] [default: 256MiB]
    #[arg(long, value_name = "BYTES")]
    pub(crate) key_index_memory: Option<Bytes>,
    /// What to log: error, warn, info, debug, trace, or a filter like "info,onefold_server=debug"
    /// [env: ONEFOLD_LOG] [file: log] [default: info]
    #[arg(long, value_name = "FILTER")]
    pub(crate) log: Option<String>,
    /// Form of the log on standard error: human or json
    /// [env: ONEFOLD_LOG_FORMAT] [file: log_format] [default: human on a terminal, else json]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
}

/// Where the store is.
pub(crate) enum Store {
    /// In a directory of this machine.
    Directory(PathBuf),
    /// In a database.
    Postgres(Box<PostgresSettings>),
}

/// The settings of `serve`.
pub(crate) struct ServeSettings {
    pub(crate) listen: Listen,
    pub(crate) store: Store,
    pub(crate) token: Option<Token>,
    pub(crate) drain_timeout: DurationMs,
    pub(crate) targets: TargetSettings,
    pub(crate) payload_limit: usize,
    pub(crate) key_index_memory: usize,
    pub(crate) log: String,
    /// `None`: by what standard error is.
    pub(crate) log_format: Option<LogFormat>,
}

/// Where may be delivered to, and whom to believe.
#[derive(Debug, Clone)]
pub(crate) struct TargetSettings {
    pub(crate) allow: Vec<Cidr>,
    pub(crate) connect_to: Vec<ConnectTo>,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) signing_key_file: Option<PathBuf>,
}

/// The settings of commands that talk to a server.
pub(crate) struct RemoteSettings {
    pub(crate) url: ServerUrl,
    /// Whether the URL was given, and is not just the default.
    pub(crate) named: bool,
    pub(crate) token: Option<Token>,
}

/// The sources of settings.
pub(crate) struct Config {
    file: ConfigFile,
    env: Env,
}

/// Looks up a variable.
type Env = Box<dyn Fn(&str) -> Option<OsString>>;

impl Config {
    /// Reads the file named by the flag or the variable, or `onefold.toml` if there is one.
    pub(crate) fn load(
        flag: Option<&Path>,
        env: impl Fn(&str) -> Option<OsString> + 'static,
    ) -> Result<Config, ConfigError> {
        let named = flag.map(Path::to_owned).or_else(|| env(CONFIG_ENV).map(PathBuf::from));
        let path = named.clone().unwrap_or_else(|| PathBuf::from(CONFIG_FILE));
        let file = match std::fs::read_to_string(&path) {
            Ok(text) => ConfigFile::parse(&path, &text)?,
            Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
                ConfigFile::default()
            }
            Err(source) => return Err(ConfigError::Unreadable { path, source }),
        };
        Ok(Config { file, env: Box::new(env) })
    }

    pub(crate) fn serve(&self, args: ServeArgs) -> Result<ServeSettings, ConfigError> {
        Ok(ServeSettings {
            listen: self.pick(&LISTEN, args.listen)?.unwrap_or_default(),
            store: self.store(args.store, Some(args.node))?,
            token: self.token(args.token.as_ref())?,
            drain_timeout: self
                .pick(&DRAIN_TIMEOUT, args.drain_timeout)?
                .unwrap_or(DurationMs::from_ms(10_000)),
            targets: TargetSettings {
                allow: self.pick(&ALLOW_TARGET, several(args.allow_target))?.unwrap_or_default().0,
                connect_to: self.pick(&CONNECT_TO, several(args.connect_to))?.unwrap_or_default().0,
                ca_file: self.pick(&CA_FILE, args.ca_file)?,
                signing_key_file: self.pick(&SIGNING_KEY_FILE, args.signing_key_file)?,
            },
            payload_limit: self.payload_limit(args.payload_limit)?,
            key_index_memory: self
                .pick(&KEY_INDEX_MEMORY, args.key_index_memory)?
                .map_or(onefold_engine_sqlite::KEY_INDEX_BYTES, |bytes| bytes.0 as usize),
            log: self.pick(&LOG, args.log)?.unwrap_or_else(|| "info".to_owned()),
            log_format: self.pick(&LOG_FORMAT, args.log_format)?,
        })
    }

    pub(crate) fn remote(&self, args: RemoteArgs) -> Result<RemoteSettings, ConfigError> {
        let url = self.pick(&URL, args.url)?;
        let named = url.is_some();
        Ok(RemoteSettings { url: url.unwrap_or_default(), named, token: self.token(args.token.as_ref())? })
    }

    /// The one store that is named, or the directory that is meant if none is.
    pub(crate) fn store(&self, args: StoreArgs, node: Option<NodeArgs>) -> Result<Store, ConfigError> {
        let data = self.placed(&DATA, args.data.data)?;
        let in_postgres = self.placed(&POSTGRES, args.postgres.postgres.clone())?;
        if let (Some((_, data)), Some((_, postgres))) = (&data, &in_postgres) {
            return Err(ConfigError::TwoStores { data: data.clone(), postgres: postgres.clone() });
        }
        match self.postgres(args.postgres, node)? {
            Some(settings) => Ok(Store::Postgres(Box::new(settings))),
            None => Ok(Store::Directory(data.map_or_else(default_directory, |(data, _)| data))),
        }
    }

    /// The directory of the store; `instead` says what to do if it is in PostgreSQL.
    pub(crate) fn directory(&self, args: DataArgs, instead: &'static str) -> Result<PathBuf, ConfigError> {
        let data = self.pick(&DATA, args.data)?;
        match (data, self.placed::<PostgresUrl>(&POSTGRES, None)?) {
            (Some(data), _) => Ok(data),
            (None, Some((_, postgres))) => Err(ConfigError::NotADirectory { postgres, instead }),
            (None, None) => Ok(default_directory()),
        }
    }

    fn token(&self, flag: Option<&TokenFlag>) -> Result<Option<Token>, ConfigError> {
        let refused = |error: values::InvalidToken| ConfigError::Value {
            place: "--token".to_owned(),
            what: error.to_string(),
        };
        let flag = flag.map(TokenFlag::parse).transpose().map_err(refused)?;
        self.pick(&TOKEN, flag)
    }

    fn payload_limit(&self, flag: Option<Bytes>) -> Result<usize, ConfigError> {
        use onefold_core::limits::{PAYLOAD_BYTES_DEFAULT, PAYLOAD_BYTES_MAX};
        let limit = self.pick(&PAYLOAD_LIMIT, flag)?.map_or(PAYLOAD_BYTES_DEFAULT as u64, |bytes| bytes.0);
        usize::try_from(limit).ok().filter(|limit| (1..=PAYLOAD_BYTES_MAX).contains(limit)).ok_or_else(|| {
            let what = format!("must be 1 byte to {}", Bytes(PAYLOAD_BYTES_MAX as u64));
            ConfigError::Value { place: "payload_limit".to_owned(), what }
        })
    }

    /// The value of a setting from the first place that has one.
    fn pick<T: FromStr<Err: fmt::Display>>(
        &self,
        setting: &Setting,
        flag: Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        Ok(self.placed(setting, flag)?.map(|(value, _)| value))
    }

    /// The same with that place.
    fn placed<T: FromStr<Err: fmt::Display>>(
        &self,
        setting: &Setting,
        flag: Option<T>,
    ) -> Result<Option<(T, String)>, ConfigError> {
        if let Some(value) = flag {
            return Ok(Some((value, format!("--{}", setting.key.replace('_', "-")))));
        }
        let refused = |place: String, what: String| ConfigError::Value { place, what };
        if let Some(value) = (self.env)(setting.env) {
            let Ok(text) = value.into_string() else {
                return Err(refused(setting.env.to_owned(), "is not UTF-8".to_owned()));
            };
            return match text.parse() {
                Ok(value) => Ok(Some((value, setting.env.to_owned()))),
                Err(error) => Err(refused(setting.env.to_owned(), error.to_string())),
            };
        }
        let Some((text, place)) = self.file.get(setting.key) else { return Ok(None) };
        match text.parse() {
            Ok(value) => Ok(Some((value, place))),
            Err(error) => Err(refused(place, error.to_string())),
        }
    }
}

/// What a repeated flag says, if it was given.
fn several<T>(given: Vec<T>) -> Option<Several<T>> {
    (!given.is_empty()).then_some(Several(given))
}

fn default_directory() -> PathBuf {
    PathBuf::from("./onefold-data")
}

#[cfg(test)]
mod tests;
