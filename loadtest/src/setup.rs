//! What is done before anything is measured: it has a time limit too, and an interruption ends it.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;

/// One step, which may take as long as an operation may.
pub(crate) async fn within<T>(
    patience: Duration,
    step: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    timeout(patience, step).await.unwrap_or(Err(Failure::Timeout))
}

/// What comes of many steps in the order of their numbers; the first failure ends all of them.
pub(crate) async fn all<T: Send + 'static>(
    mut steps: JoinSet<Result<(usize, T), Failure>>,
    stop: &CancellationToken,
) -> Result<Vec<T>> {
    let mut done = Vec::with_capacity(steps.len());
    loop {
        tokio::select! {
            ended = steps.join_next() => match ended {
                Some(ended) => done.push(ended??),
                None => break,
            },
            () = stop.cancelled() => bail!("interrupted before anything was measured"),
        }
    }
    done.sort_by_key(|(number, _)| *number);
    Ok(done.into_iter().map(|(_, made)| made).collect())
}
