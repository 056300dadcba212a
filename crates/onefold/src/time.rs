//! From the standard library's durations and times to the store's.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use onefold_core::{DurationMs, Timestamp};

use crate::{ErrorCode, Invalid};

/// Milliseconds, rounded up, so that what was not zero does not become so.
///
/// # Errors
/// [`Invalid`] above the longest duration the store knows.
pub(crate) fn to_ms(what: &'static str, duration: Duration) -> Result<DurationMs, Invalid> {
    let ms = u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    DurationMs::try_from_ms(ms)
        .map_err(|error| Invalid::coded(ErrorCode::InvalidDuration, what, format!("cannot be used: {error}")))
}

pub(crate) fn to_std(duration: DurationMs) -> Duration {
    Duration::from_millis(duration.as_ms())
}

/// The time, rounded down.
///
/// # Errors
/// [`Invalid`] before 1970 or after 9999.
pub(crate) fn to_timestamp(what: &'static str, time: SystemTime) -> Result<Timestamp, Invalid> {
    let since_epoch = time.duration_since(UNIX_EPOCH).ok();
    let ms = since_epoch.and_then(|duration| i64::try_from(duration.as_millis()).ok());
    ms.and_then(Timestamp::from_unix_ms)
        .ok_or_else(|| Invalid::coded(ErrorCode::InvalidTime, what, "must lie between 1970 and 9999"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fraction_of_a_millisecond_is_not_lost() {
        assert_eq!(to_ms("delay", Duration::from_nanos(1)).unwrap().as_ms(), 1);
        assert_eq!(to_ms("delay", Duration::from_millis(7)).unwrap().as_ms(), 7);
    }

    #[test]
    fn absurd_durations_and_times_are_refused() {
        assert!(to_ms("delay", Duration::MAX).is_err());
        assert!(to_timestamp("run_at", UNIX_EPOCH - Duration::from_secs(1)).is_err());
        assert!(to_timestamp("run_at", UNIX_EPOCH + Duration::from_secs(300_000_000_000)).is_err());
    }
}
