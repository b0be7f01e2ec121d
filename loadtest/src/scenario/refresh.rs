//! Trading refresh tokens. Each user has a session with a chain of cookies, as a browser does.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;

use crate::bench::{Actor, Bench};
use crate::failure::Failure;
use crate::record::Meter;
use crate::user::User;

struct Refreshes {
    user: Arc<User>,
    meter: Arc<Meter>,
}

impl Actor for Refreshes {
    /// Opens a session if there is none, or none any more.
    async fn prepare(&mut self) -> Result<(), Failure> {
        self.user.client.lock().await.access().await.map(drop)
    }

    async fn act(&mut self, _: Instant) -> Result<(), Failure> {
        self.user.client.lock().await.refresh().await
    }

    fn meter(&self) -> &Meter {
        &self.meter
    }
}

pub(super) async fn run(bench: &Bench<'_>) -> Result<()> {
    let meter = bench.meter("refresh");
    let actors = bench.users.iter().map(|user| Refreshes { user: Arc::clone(user), meter: Arc::clone(&meter) });
    bench.drive(actors.collect()).await.map(drop)
}
