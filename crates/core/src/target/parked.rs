//! Targets that said that they are gone: nothing is delivered to them until somebody resumes them. Kept as a setting of the
//! store, so that it outlives restarts and every server that shares the store knows.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Origin;
use crate::{Engine, EngineResult};

/// The name of the setting.
const SETTING: &str = "parked-targets";

/// The targets that are parked, by origin.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedTargets(BTreeMap<String, Parked>);

/// Since when, and because of which job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// When it said that it is gone.
    pub since: String,
    /// The job whose delivery it answered so.
    pub job: String,
}

impl ParkedTargets {
    /// Those of a store.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn of(engine: &dyn Engine) -> EngineResult<ParkedTargets> {
        Ok(ParkedTargets::read(engine.setting(SETTING.to_owned()).await?.as_ref().map(|found| &found.value)))
    }

    /// Changes those of a store, whoever else does at the same time. Gives them as they are then.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn change(
        engine: &dyn Engine,
        change: impl Fn(&mut ParkedTargets) + Send,
    ) -> EngineResult<ParkedTargets> {
        let mut found = engine.setting(SETTING.to_owned()).await?;
        loop {
            let before = ParkedTargets::read(found.as_ref().map(|found| &found.value));
            let mut after = before.clone();
            change(&mut after);
            if after == before {
                return Ok(after);
            }
            // A map of texts is JSON.
            let value = Bytes::from(serde_json::to_vec(&after).unwrap_or_default());
            let version = found.as_ref().map_or(0, |found| found.version);
            match engine.set_setting(SETTING.to_owned(), value, version).await? {
                Ok(_) => return Ok(after),
                Err(instead) => found = Some(instead),
            }
        }
    }

    fn read(value: Option<&Bytes>) -> ParkedTargets {
        value.and_then(|value| serde_json::from_slice(value).ok()).unwrap_or_default()
    }

    /// Parks one that is not parked yet.
    pub fn park(&mut self, origin: &Origin, parked: Parked) {
        self.0.entry(origin.to_string()).or_insert(parked);
    }

    /// Resumes one. Whether it was parked.
    pub fn resume(&mut self, origin: &Origin) -> bool {
        self.0.remove(&origin.to_string()).is_some()
    }

    /// Whether it is parked.
    pub fn has(&self, origin: &Origin) -> bool {
        self.0.contains_key(&origin.to_string())
    }

    /// Origins as texts, and since when and why they are parked.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Parked)> {
        self.0.iter().map(|(origin, parked)| (origin.as_str(), parked))
    }

    /// The origins.
    pub fn origins(&self) -> impl Iterator<Item = Origin> {
        self.0.keys().filter_map(|origin| Origin::parse(origin))
    }
}
