//! How many sockets may be open at once. The accept loop counts a connection only until its upgrade.

use std::sync::Arc;

use metrics::gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The seats of a replica.
pub(crate) struct Seats {
    free: Arc<Semaphore>,
    total: u32,
}

/// One socket's seat, free again when this is dropped.
pub(crate) struct Seat(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl Seats {
    pub(crate) fn new(total: usize) -> Self {
        let total = u32::try_from(total).unwrap_or(u32::MAX);
        gauge!("gatefold_ws_connections").set(0);
        gauge!("gatefold_ws_connections_limit").set(total);
        Self { free: Arc::new(Semaphore::new(total as usize)), total }
    }

    /// A seat, unless all are taken.
    pub(crate) fn take(&self) -> Option<Seat> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        gauge!("gatefold_ws_connections").increment(1);
        Some(Seat(permit))
    }

    /// Waits until nobody sits any more.
    pub(crate) async fn all_free(&self) {
        let _ = self.free.acquire_many(self.total).await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        gauge!("gatefold_ws_connections").decrement(1);
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::task::TaskTracker;

    use super::*;

    #[tokio::test]
    async fn there_are_so_many_seats_and_all_are_free_when_the_last_is_left() {
        let seats = Seats::new(2);
        let (first, second) = (seats.take().expect("a seat"), seats.take().expect("a seat"));
        assert!(seats.take().is_none());
        drop(first);
        assert!(seats.take().is_some());
        let leaving = TaskTracker::new();
        leaving.track_future(async move { drop(second) }).await;
        seats.all_free().await;
    }
}
