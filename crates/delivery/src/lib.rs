//! HTTP out: everything of a delivery that needs no store.
//!
//! [`Client`] makes one [`Delivery`] over a connection it vetted, under one deadline, and tells what happened in a
//! [`Report`]; [`judge`] says what that means for the job and its target; [`Lanes`] say which delivery may start next.
//! Time, randomness, timers and name resolution are parameters.

mod address;
mod client;
mod connect_to;
mod deliverer;
mod failure;
mod headers;
mod key_file;
mod lanes;
mod outcome;
mod policy;
mod report;
mod resolve;
mod sign;
mod stored;
#[cfg(test)]
mod target;
mod timer;
mod trust;
mod wishes;

pub use address::AddressClass;
pub use client::{Client, ClientParts, Delivery, Limits, RESPONSE_KEPT};
pub use connect_to::{ConnectTo, InvalidConnectTo};
pub use deliverer::{DelivererParts, HttpDeliverer};
pub use failure::{Failure, Lost, Part, TlsFault};
pub use headers::{DeliveryHeaders, Stamp};
pub use key_file::{BadKeyLine, InvalidKeyFile, KeyRing};
pub use lanes::{BreakerLimits, LaneLimits, LaneRoom, LaneState, LaneView, Lanes, Pass, Started};
pub use onefold_core::{
    InvalidMethod, InvalidTarget, InvalidTargetHeader, Origin, Scheme, TargetHeaders, TargetHost,
    TargetMethod, TargetUrl, URL_BYTES_MAX,
};
pub use outcome::{Cause, Ending, Health, JobVerdict, LOCAL_PAUSE, LaneNews, Verdict, judge};
pub use policy::{AddressPolicy, Cidr, Denied, InvalidCidr, Vetted};
pub use report::{Answer, ConnectionUsed, Ended, Report, Timing};
pub use resolve::{ResolveError, Resolved, Resolver, Resolving, SystemResolver};
pub use sign::{
    InvalidKey, NotGenuine, SIGNING_KEYS_MAX, SigningKey, SigningKeys, TOLERANCE, TooManyKeys, VerifyingKey,
    verify, webhook_timestamp,
};
pub use timer::{Elapse, Timer, TokioTimer};
pub use trust::{InvalidCaFile, Trust};
pub use wishes::{rate_limit, retry_after};
