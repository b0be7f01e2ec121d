//! When a primary was last away, as far as this replica has noticed.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// When a call failed, a connection was lost, or one was made again; clones are the same.
#[derive(Clone, Default)]
pub(super) struct LastAway(Arc<Mutex<Option<Instant>>>);

impl LastAway {
    /// It is, or was a moment ago.
    pub(super) fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether it was there all the time for so long.
    pub(super) fn is_over_for(&self, time: Duration) -> bool {
        let last_away = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last_away.is_none_or(|at| at.elapsed() >= time)
    }
}
