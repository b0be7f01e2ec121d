//! Waiting for something to become so.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

const POLL: Duration = Duration::from_millis(20);

/// Repeats a check until it succeeds, and returns what it found; after `timeout`, the last failure.
pub async fn eventually<T, Check, Checked>(timeout: Duration, mut check: Check) -> Result<T>
where
    Check: FnMut() -> Checked,
    Checked: Future<Output = Result<T>>,
{
    let deadline = Instant::now() + timeout;
    loop {
        match check().await {
            Ok(found) => return Ok(found),
            Err(why) if Instant::now() >= deadline => {
                return Err(why).with_context(|| format!("not so within {timeout:?}"));
            }
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}
