//! Waiting for what must become so.

use std::time::{Duration, Instant};

use super::PATIENCE;

/// Repeats `check` until it holds.
pub async fn eventually(what: &str, check: impl AsyncFn() -> bool) {
    within(PATIENCE, what, check).await;
}

/// As [`eventually`], for what may take so long.
pub async fn within(patience: Duration, what: &str, check: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + patience;
    while !check().await {
        assert!(Instant::now() < deadline, "never so: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
