//! When Redis was last away, as far as this replica has noticed.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use fred::{error::Error, types::config::Server};
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::Instant,
};
use tracing::warn;

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

/// Notes when a connection is lost, cannot be made or is made again; the first time is no return. Its loss counts too,
/// because requests may be quicker than this task when it is made again.
pub(super) async fn watch(
    mut connected: broadcast::Receiver<Server>,
    mut lost: broadcast::Receiver<(Error, Option<Server>)>,
    last_away: LastAway,
) {
    let (mut first, mut is_lost) = (true, false);
    loop {
        let is_first = tokio::select! {
            event = connected.recv() => {
                if matches!(event, Err(RecvError::Closed)) {
                    return;
                }
                is_lost = false;
                std::mem::take(&mut first)
            }
            event = lost.recv() => {
                match event {
                    Err(RecvError::Closed) => return,
                    // Attempts to connect again, which fail many times a second, are not told of.
                    Ok((error, server)) if !std::mem::replace(&mut is_lost, true) => {
                        warn!(%error, server = server.map(tracing::field::display), "no connection to redis; trying again until there is");
                    }
                    _ => {}
                }
                false
            }
        };
        if !is_first {
            last_away.note();
        }
    }
}
