//! What the server tells while it runs, on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;
use crate::failure::Failure;

/// Sends what is traced to standard error.
pub(crate) fn start(filter: &str, format: Option<LogFormat>) -> Result<(), Failure> {
    let wrong = |error| Failure::usage(format!("the log filter {filter:?} cannot be used: {error}"));
    let filter = EnvFilter::try_new(filter).map_err(wrong)?;
    let terminal = std::io::stderr().is_terminal();
    let format = format.unwrap_or(if terminal { LogFormat::Human } else { LogFormat::Json });
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Human => log.with_ansi(terminal).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    Ok(())
}
