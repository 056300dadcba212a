//! Every engine answers like the reference engine, whatever is asked of it.

mod support;

use onefold_conformance::{ReferenceHarness, model};

/// The model against itself: what it says does not depend on anything but the operations, and its
/// own invariants hold.
#[test]
fn reference() {
    model::check::<ReferenceHarness>("reference", model::CASES);
}

#[test]
fn sqlite() {
    model::check::<support::SqliteHarness>("sqlite", model::CASES);
}
