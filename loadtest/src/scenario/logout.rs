//! Logging out. Each log-out needs a session, which is opened before its turn: the rate can be no higher than log-ins are.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;

use crate::bench::{Actor, Bench};
use crate::failure::Failure;
use crate::record::Meter;
use crate::user::User;

struct LogsOut {
    user: Arc<User>,
    meter: Arc<Meter>,
}

impl Actor for LogsOut {
    async fn prepare(&mut self) -> Result<(), Failure> {
        self.user.client.lock().await.access().await.map(drop)
    }

    async fn act(&mut self, _: Instant) -> Result<(), Failure> {
        self.user.client.lock().await.log_out().await.map(drop)
    }

    fn meter(&self) -> &Meter {
        &self.meter
    }
}

pub(super) async fn run(bench: &Bench<'_>) -> Result<()> {
    let meter = bench.meter("logout");
    let actors = bench.users.iter().map(|user| LogsOut { user: Arc::clone(user), meter: Arc::clone(&meter) });
    bench.drive(actors.collect()).await.map(drop)
}
