//! The native HTTP API over an [`onefold_core::Engine`]. It translates; it decides nothing.
//!
//! [`router`] is the API itself; [`serve`] puts it behind a socket.

pub mod accept;
mod answer;
mod auth;
mod cursor;
mod extract;
mod failure;
mod guard;
mod router;
mod routes;
mod serve;
mod state;
mod translate;

pub use auth::{Peer, Token};
pub use router::router;
pub use serve::serve;
pub use state::{AppState, Config};
