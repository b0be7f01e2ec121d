//! Logging in: a password is hashed for each. Every log-in opens a session; a user who has too many loses the oldest.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;

use crate::bench::{Actor, Bench};
use crate::failure::Failure;
use crate::record::Meter;
use crate::user::User;

struct LogsIn {
    user: Arc<User>,
    meter: Arc<Meter>,
}

impl Actor for LogsIn {
    async fn act(&mut self, _: Instant) -> Result<(), Failure> {
        self.user.client.lock().await.log_in().await.map(drop)
    }

    fn meter(&self) -> &Meter {
        &self.meter
    }
}

pub(super) async fn run(bench: &Bench<'_>) -> Result<()> {
    let meter = bench.meter("login");
    let actors = bench.users.iter().map(|user| LogsIn { user: Arc::clone(user), meter: Arc::clone(&meter) });
    bench.drive(actors.collect()).await.map(drop)
}
