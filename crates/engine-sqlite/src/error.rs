//! Errors inside the engine.

use onefold_core::EngineError;
use rusqlite::ErrorCode;

/// What went wrong with the store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error(transparent)]
    Sql(#[from] rusqlite::Error),
    #[error("{0}")]
    Corrupt(String),
    #[error("there are no fencing tokens left")]
    TokensExhausted,
    #[error(
        "a statement of a closure gave up the store's whole transaction; nothing of the closure was written"
    )]
    Abandoned,
}

pub(crate) type StoreResult<T> = Result<T, StoreError>;

impl StoreError {
    pub(crate) fn corrupt(what: String) -> StoreError {
        StoreError::Corrupt(what)
    }

    /// Whether stored rows cannot be read.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(self.verdict(), EngineError::Corrupt(_))
    }

    /// What the callers of the operation are told, and whether the engine may go on.
    pub(crate) fn verdict(&self) -> EngineError {
        match self {
            StoreError::Corrupt(what) => EngineError::Corrupt(what.clone()),
            StoreError::TokensExhausted => EngineError::TokensExhausted,
            StoreError::Abandoned => EngineError::Io(self.to_string()),
            StoreError::Sql(
                error @ (rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
                | rusqlite::Error::InvalidColumnType(..)),
            ) => EngineError::Corrupt(error.to_string()),
            StoreError::Sql(error) => match error.sqlite_error_code() {
                Some(ErrorCode::DiskFull) => EngineError::DiskFull,
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                    EngineError::Corrupt(error.to_string())
                }
                // Everything else that can come from the one writer of a healthy file is the
                // file system failing: nothing more may be promised.
                _ => EngineError::Poisoned(error.to_string()),
            },
        }
    }
}

impl From<rusqlite::types::FromSqlError> for StoreError {
    fn from(error: rusqlite::types::FromSqlError) -> StoreError {
        StoreError::Corrupt(format!("a column has the wrong type: {error}"))
    }
}
