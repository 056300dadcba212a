//! The receiver: somebody else's payment service. It is never killed, so its ledgers may live in memory.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use super::orders::Order;
use super::report::Serving;
use crate::failure::Failure;
use crate::output::Output;

/// How long the card network takes.
const LATENCY: Duration = Duration::from_millis(3);
const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// A charge as the receiver confirms it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Charge {
    pub(super) charge: u64,
    /// It was made earlier, under the same key.
    #[serde(default)]
    pub(super) replayed: bool,
}

/// Who was charged how often: order to number of charges.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(super) struct Ledgers {
    pub(super) naive: HashMap<u32, u32>,
    pub(super) keyed: HashMap<u32, u32>,
}

#[derive(Default)]
struct Accounts {
    ledgers: Ledgers,
    charges: u64,
    by_key: HashMap<String, Charge>,
}

impl Accounts {
    fn next(&mut self) -> Charge {
        self.charges += 1;
        Charge { charge: self.charges, replayed: false }
    }

    /// Charges whoever calls.
    fn charge_naively(&mut self, order: u32) -> Charge {
        *self.ledgers.naive.entry(order).or_default() += 1;
        self.next()
    }

    /// Charges once for each key. The charge and what is remembered of it are one step.
    fn charge(&mut self, order: u32, key: &str) -> Charge {
        if let Some(before) = self.by_key.get(key) {
            return Charge { replayed: true, ..before.clone() };
        }
        *self.ledgers.keyed.entry(order).or_default() += 1;
        let charge = self.next();
        self.by_key.insert(key.to_owned(), charge.clone());
        charge
    }
}

type Shared = Arc<Mutex<Accounts>>;

fn open(accounts: &Shared) -> MutexGuard<'_, Accounts> {
    accounts.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) async fn run() -> Result<(), Failure> {
    let routes = Router::new()
        .route("/naive/charges", post(naive))
        .route("/charges", post(keyed))
        .route("/ledgers", get(ledgers))
        .with_state(Shared::default());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(Failure::failed)?;
    let address = listener.local_addr().map_err(Failure::failed)?;
    Output { json: true }.json(&Serving { url: format!("http://{address}") })?;
    axum::serve(listener, routes).await.map_err(Failure::failed)
}

async fn naive(State(accounts): State<Shared>, Json(order): Json<Order>) -> Json<Charge> {
    let charge = open(&accounts).charge_naively(order.order);
    tokio::time::sleep(LATENCY).await;
    Json(charge)
}

async fn keyed(
    State(accounts): State<Shared>,
    headers: HeaderMap,
    Json(order): Json<Order>,
) -> Result<Json<Charge>, StatusCode> {
    let key =
        headers.get(IDEMPOTENCY_KEY).and_then(|key| key.to_str().ok()).ok_or(StatusCode::BAD_REQUEST)?;
    let charge = open(&accounts).charge(order.order, key);
    tokio::time::sleep(LATENCY).await;
    Ok(Json(charge))
}

async fn ledgers(State(accounts): State<Shared>) -> Json<Ledgers> {
    Json(open(&accounts).ledgers.clone())
}

/// The receiver as its clients see it.
pub(super) struct Receiver {
    http: hyper_util::client::legacy::Client<HttpConnector, Full<Bytes>>,
    url: String,
}

impl Receiver {
    pub(super) fn at(url: &str) -> Receiver {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector);
        Receiver { http, url: url.to_owned() }
    }

    pub(super) async fn charge_naively(&self, order: &Order) -> Result<Charge, Failure> {
        self.call(Request::post(format!("{}/naive/charges", self.url)), Some(order)).await
    }

    pub(super) async fn charge(&self, order: &Order, key: &str) -> Result<Charge, Failure> {
        let request = Request::post(format!("{}/charges", self.url)).header(IDEMPOTENCY_KEY, key);
        self.call(request, Some(order)).await
    }

    pub(super) async fn ledgers(&self) -> Result<Ledgers, Failure> {
        self.call(Request::get(format!("{}/ledgers", self.url)), None).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        request: http::request::Builder,
        order: Option<&Order>,
    ) -> Result<T, Failure> {
        let trouble =
            |why: &dyn std::fmt::Display| Failure::failed(format!("the receiver does not answer: {why}"));
        let body = order.map(serde_json::to_vec).transpose().map_err(Failure::failed)?.unwrap_or_default();
        let request = request.header(CONTENT_TYPE, "application/json").body(Full::from(body));
        let response = self.http.request(request.map_err(Failure::failed)?).await;
        let response = response.map_err(|error| trouble(&error))?;
        if !response.status().is_success() {
            return Err(trouble(&response.status()));
        }
        let body = response.into_body().collect().await.map_err(|error| trouble(&error))?.to_bytes();
        serde_json::from_slice(&body).map_err(|error| trouble(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole difference between the two columns of the demo.
    #[test]
    fn a_key_is_charged_once_and_a_naive_call_every_time() {
        let mut accounts = Accounts::default();
        accounts.charge_naively(7);
        accounts.charge_naively(7);
        let (first, second) = (accounts.charge(7, "job_1"), accounts.charge(7, "job_1"));
        assert_eq!((first.charge, first.replayed), (second.charge, false));
        assert!(second.replayed);
        accounts.charge(7, "job_2");
        assert_eq!((accounts.ledgers.naive[&7], accounts.ledgers.keyed[&7]), (2, 2));
    }
}
