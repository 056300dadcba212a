//! The codes of what goes wrong on this side of the network: no server ever answers with them. Like those of
//! [`ErrorCode`](crate::ErrorCode) they never change, and each has its page in `docs/errors/`.

/// What was stored cannot be read as the type that was asked for.
pub(crate) const MISTYPED: &str = "mistyped";

/// The server could not be reached.
pub(crate) const UNREACHABLE: &str = "unreachable";
