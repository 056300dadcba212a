//! The durable values of settings above the engine.

use bytes::Bytes;
use onefold_core::Setting;

use crate::Harness;

async fn put(h: &dyn Harness, name: &str, value: &'static str, expected: u64) -> Result<u64, Setting> {
    let value = Bytes::from_static(value.as_bytes());
    h.engine().set_setting(name.to_owned(), value, expected).await.unwrap()
}

async fn read(h: &dyn Harness, name: &str) -> Option<Setting> {
    h.engine().setting(name.to_owned()).await.unwrap()
}

fn setting(value: &'static str, version: u64) -> Setting {
    Setting { value: Bytes::from_static(value.as_bytes()), version }
}

/// Settings: a value is set if its version is the expected one; versions count up from 1.
pub async fn versions_count_up(h: &mut dyn Harness) {
    assert_eq!(read(h, "a").await, None);
    assert_eq!(put(h, "a", "one", 0).await, Ok(1));
    assert_eq!(read(h, "a").await, Some(setting("one", 1)));
    assert_eq!(put(h, "a", "two", 1).await, Ok(2));
    assert_eq!(put(h, "b", "other", 0).await, Ok(1));
    assert_eq!(read(h, "a").await, Some(setting("two", 2)));
}

/// Settings: with another version nothing changes, and what is there is told.
pub async fn another_version_changes_nothing(h: &mut dyn Harness) {
    put(h, "a", "one", 0).await.unwrap();
    put(h, "a", "two", 1).await.unwrap();
    for expected in [0, 1, 3] {
        assert_eq!(put(h, "a", "three", expected).await, Err(setting("two", 2)));
    }
    assert_eq!(put(h, "unknown", "x", 7).await.unwrap_err().version, 0);
    assert_eq!(read(h, "unknown").await, None);
}

/// I1: settings are there after a crash and after a clean restart.
pub async fn i1_settings_survive_a_crash(h: &mut dyn Harness) {
    put(h, "a", "one", 0).await.unwrap();
    h.reopen_after_crash().await;
    assert_eq!(read(h, "a").await, Some(setting("one", 1)));
    put(h, "a", "two", 1).await.unwrap();
    h.reopen_cleanly().await;
    assert_eq!(read(h, "a").await, Some(setting("two", 2)));
    assert_eq!(put(h, "a", "late", 1).await, Err(setting("two", 2)));
}

/// Settings: of two writers with one version, one wins.
pub async fn one_of_two_writers_wins(h: &mut dyn Harness) {
    let calls: Vec<_> = ["x", "y", "z"]
        .map(|value| {
            let engine = h.engine();
            let value = Bytes::from_static(value.as_bytes());
            tokio::spawn(async move { engine.set_setting("a".into(), value, 0).await.unwrap() })
        })
        .into_iter()
        .collect();
    let mut won = 0;
    for call in calls {
        won += usize::from(call.await.unwrap().is_ok());
    }
    assert_eq!(won, 1);
    assert_eq!(read(h, "a").await.unwrap().version, 1);
}
