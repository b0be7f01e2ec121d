//! Pings over sockets, as messages: the way through the whole replica and back.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::bench::{Actor, Bench};
use crate::failure::Failure;
use crate::hall;
use crate::pace::Load;
use crate::record::Meter;
use crate::socket::{MANNERS, Socket};

struct Pings {
    socket: Socket,
    meter: Arc<Meter>,
}

impl Actor for Pings {
    async fn prepare(&mut self) -> Result<(), Failure> {
        self.socket.may_speak().await;
        Ok(())
    }

    async fn act(&mut self, _: Instant) -> Result<(), Failure> {
        self.socket.ask(json!({"type": "ping"}), "pong").await
    }

    fn meter(&self) -> &Meter {
        &self.meter
    }
}

pub(super) async fn run(bench: &Bench<'_>) -> Result<()> {
    if let Load::Open(schedule) = bench.plan.load {
        let most = crate::record::ratio(bench.sockets() as u64) / MANNERS.as_secs_f64();
        ensure!(
            schedule.rate() <= most,
            "{} sockets may say {most} messages a second at most: open more with --sockets",
            bench.sockets()
        );
    }
    let meter = bench.meter("ping");
    let sockets = hall::open_sockets(bench, bench.sockets()).await?;
    let actors = sockets.into_iter().map(|socket| Pings { socket, meter: Arc::clone(&meter) }).collect();
    let actors = bench.drive(actors).await?;
    hall::close_all(actors.into_iter().map(|actor| actor.socket)).await;
    Ok(())
}
