//! What can go wrong between us and the server, by SQLSTATE, never by text.

use onefold_core::EngineError;
use tokio_postgres::error::SqlState;

/// Why a transaction did not happen.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Nothing was done; the same again may go well: a serialization failure, a deadlock, a race between two adds of a
    /// key, a connection that broke before its commit.
    Again(String),
    /// There is no connection to the server, or it ended before its commit: nothing was done, the same may go well.
    Unreachable(String),
    /// A row somebody's open transaction holds was waited for in vain.
    Locked,
    /// Tokens were not raised yet for this life of the server.
    NewServer,
    /// It cannot be done.
    Engine(EngineError),
}

pub(crate) type Outcome<T> = Result<T, Fault>;

impl From<EngineError> for Fault {
    fn from(error: EngineError) -> Fault {
        Fault::Engine(error)
    }
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Fault {
        let Some(state) = error.code() else {
            // No answer from the server: the connection is gone, and what was not committed with it.
            return if error.is_closed()
                || std::error::Error::source(&error).is_some_and(|s| s.is::<std::io::Error>())
            {
                Fault::Unreachable(told(&error))
            } else {
                Fault::Engine(EngineError::Corrupt(told(&error)))
            };
        };
        fault_of(state, told(&error))
    }
}

/// What an error means that came up while a connection was made.
pub(crate) fn connecting(error: &tokio_postgres::Error) -> Fault {
    match error.code() {
        Some(state) => fault_of(state, told(error)),
        None => Fault::Unreachable(told(error)),
    }
}

/// The server's own words, with what it adds to them.
pub(crate) fn told(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => format!("{} ({})", db.message(), db.code().code()),
        None => std::error::Error::source(error)
            .map_or_else(|| error.to_string(), |source| format!("{error}: {source}")),
    }
}

fn fault_of(state: &SqlState, told: String) -> Fault {
    let code = state.code();
    match code {
        // serialization_failure, deadlock_detected
        "40001" | "40P01" => Fault::Again(told),
        // The server is going down or has just come up.
        "57P01" | "57P02" | "57P03" => Fault::Unreachable(told),
        // This node did not run for so long that the server gave it up: in a transaction, or between two.
        "25P03" | "25P04" | "57P05" => Fault::Unreachable(told),
        // lock_not_available
        "55P03" => Fault::Locked,
        // too_many_connections
        "53300" => Fault::Engine(EngineError::Busy),
        // disk_full
        "53100" => Fault::Engine(EngineError::DiskFull),
        // read_only_sql_transaction; object_not_in_prerequisite_state: recovery is in progress
        "25006" | "55000" => Fault::Engine(EngineError::Unavailable(format!(
            "the database is read-only, perhaps a standby: {told}; connect to the primary, with target_session_attrs=read-write"
        ))),
        // insufficient_privilege
        "42501" => Fault::Engine(EngineError::Unavailable(format!(
            "the role may not do this: {told}; grant it the schema's tables, sequences and functions"
        ))),
        // undefined_table, invalid_schema_name, undefined_column, undefined_function
        "42P01" | "3F000" | "42703" | "42883" => Fault::Engine(EngineError::Unavailable(format!(
            "the schema is not the one this program knows: {told}; run `onefold migrate`"
        ))),
        // sequence_generator_limit_exceeded
        "2200H" => Fault::Engine(EngineError::TokensExhausted),
        // query_canceled
        "57014" => Fault::Engine(EngineError::Busy),
        _ => match code.get(..2).unwrap_or_default() {
            // connection exceptions
            "08" => Fault::Unreachable(told),
            // invalid authorization; there is no such database
            "28" | "3D" => Fault::Engine(EngineError::Unavailable(format!(
                "the database does not let us in: {told}; check user, password and database of the URL, and pg_hba.conf"
            ))),
            // insufficient resources
            "53" => Fault::Engine(EngineError::Busy),
            // system and internal errors
            "58" | "XX" => Fault::Engine(EngineError::Corrupt(told)),
            _ => Fault::Engine(EngineError::Io(told)),
        },
    }
}

/// What is read is not what this program writes.
pub(crate) fn corrupt(what: &str) -> Fault {
    Fault::Engine(EngineError::Corrupt(what.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node that was stopped for a while (a machine that slept) finds its connections closed, with a reason; nothing
    /// was done, and the same goes well.
    #[test]
    fn what_the_server_gave_up_is_tried_again() {
        for code in ["25P03", "25P04", "57P05", "57P01", "08006"] {
            let fault = fault_of(&SqlState::from_code(code), String::new());
            assert!(matches!(fault, Fault::Unreachable(_)), "{code}: {fault:?}");
        }
    }
}
