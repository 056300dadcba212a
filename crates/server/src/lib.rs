//! The native HTTP API over an [`onefold_core::Engine`]. It translates; it decides nothing.
//!
//! [`router`] is the API itself; [`serve`] puts it behind a socket.

pub mod accept;
mod answer;
mod auth;
mod cursor;
mod error_pages;
mod extract;
mod failure;
mod guard;
mod openapi;
mod router;
mod routes;
mod serve;
mod state;
mod timeline;
mod translate;

pub use auth::Token;
pub use router::router;
pub use serve::{ServeError, serve, serve_app};
pub use state::{AppState, Config, StoreNotes};
