//! scaffold, being replaced
use serde::{Deserialize, Serialize};
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
pub struct DurationMs(u64);
impl DurationMs {
    pub const ZERO: DurationMs = DurationMs(0);
    pub const fn from_ms(ms: u64) -> Self {
        DurationMs(ms)
    }
    pub const fn as_ms(self) -> u64 {
        self.0
    }
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
    pub fn saturating_add(self, o: DurationMs) -> Self {
        DurationMs(self.0.saturating_add(o.0))
    }
}
impl std::fmt::Display for DurationMs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}ms", self.0)
    }
}
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp(i64);
impl Timestamp {
    pub const EPOCH: Timestamp = Timestamp(0);
    pub const fn from_unix_ms(ms: i64) -> Option<Self> {
        Some(Timestamp(ms))
    }
    pub const fn as_unix_ms(self) -> i64 {
        self.0
    }
    pub fn saturating_add(self, o: DurationMs) -> Self {
        Timestamp(self.0.saturating_add_unsigned(o.0))
    }
    pub fn saturating_sub(self, o: DurationMs) -> Self {
        Timestamp(self.0.saturating_sub_unsigned(o.0).max(0))
    }
}
impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}
