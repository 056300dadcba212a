//! A data directory that answers like a server: the API over a store that is only looked into.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::ConnectInfo;
use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use onefold_core::Clock;
use onefold_engine_sqlite::inspect::{Inspector, LookOnly};
use onefold_runtime::{Health, Phase, SystemClock};
use onefold_server::AppState;
use tokio::sync::watch;
use tower::ServiceExt;

use super::{AnyBody, BodyError};
use crate::failure::Failure;

/// See the [module](self).
#[derive(Clone)]
pub(crate) struct Directory {
    path: PathBuf,
    app: AppState,
}

impl Directory {
    /// Opens the store in `path` for reading, beside a server that may be running on it.
    pub(crate) fn open(path: &Path) -> Result<Directory, Failure> {
        let inspector = Inspector::open(path).map_err(Failure::failed)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let (_, health) = watch::channel(looked_into());
        let engine = Arc::new(LookOnly::new(inspector));
        let app = AppState::new(engine, clock, onefold_server::Config::default(), health);
        Ok(Directory { path: path.to_owned(), app })
    }

    pub(super) fn path(&self) -> String {
        self.path.display().to_string()
    }

    pub(super) async fn answer(&self, mut request: Request<Full<Bytes>>) -> Response<AnyBody> {
        request.headers_mut().insert(HOST, HeaderValue::from_static("localhost"));
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        request.extensions_mut().insert(ConnectInfo(here));
        match onefold_server::router(self.app.clone()).oneshot(request).await {
            Ok(response) => response.map(|body| body.map_err(BodyError::from).boxed_unsync()),
            Err(never) => match never {},
        }
    }
}

fn looked_into() -> Health {
    Health {
        phase: Phase::Stopped,
        last_tick: None,
        ticks: 0,
        due: 0,
        expired: 0,
        purged: 0,
        clock_steps: 0,
        failing: 0,
        error: None,
    }
}
