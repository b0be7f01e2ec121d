//! Asking for what only users may see, with an access token: what every service behind Gatefold costs at least.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;

use crate::bench::{Actor, Bench};
use crate::failure::Failure;
use crate::record::Meter;
use crate::user::User;

struct Asks {
    user: Arc<User>,
    meter: Arc<Meter>,
}

impl Actor for Asks {
    async fn prepare(&mut self) -> Result<(), Failure> {
        self.user.client.lock().await.access().await.map(drop)
    }

    async fn act(&mut self, _: Instant) -> Result<(), Failure> {
        self.user.client.lock().await.protected().await
    }

    fn meter(&self) -> &Meter {
        &self.meter
    }
}

pub(super) async fn run(bench: &Bench<'_>) -> Result<()> {
    let meter = bench.meter("protected");
    let actors = bench.users.iter().map(|user| Asks { user: Arc::clone(user), meter: Arc::clone(&meter) });
    bench.drive(actors.collect()).await.map(drop)
}
