//! Everybody at once, as after a network has come back: all sockets break, and all are opened again in the same moment.
//! Wave follows wave, each as soon as the one before is over. Latencies count from the beginning of the wave.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use tokio::task::JoinSet;

use crate::bench::Bench;
use crate::hall::{close_all, deaf, open_sockets};
use crate::record::{Meter, ratio};
use crate::setup::within;
use crate::socket::Socket;

pub(super) async fn run(bench: &Bench<'_>) -> Result<()> {
    let meter = bench.meter("reconnect");
    let sockets = open_sockets(bench, bench.sockets()).await?;
    let from = Instant::now() + bench.plan.warm_up;
    bench.measure(from, waves(bench, sockets, &meter, from + bench.plan.duration)).await
}

async fn waves(bench: &Bench<'_>, mut sockets: Vec<Socket>, meter: &Arc<Meter>, end: Instant) -> Result<()> {
    let mut waves = 0;
    loop {
        drop(sockets); // broken, not closed
        sockets = wave(bench, meter).await?;
        waves += 1;
        if Instant::now() >= end || bench.stop.is_cancelled() {
            break;
        }
    }
    bench.fact("waves, warm-up included", ratio(waves), "");
    close_all(sockets).await;
    Ok(())
}

async fn wave(bench: &Bench<'_>, meter: &Arc<Meter>) -> Result<Vec<Socket>> {
    let begun = Instant::now();
    let mut opening = JoinSet::new();
    for number in 0..bench.sockets() {
        let (opener, user) = (bench.target.socket_for(number), Arc::clone(bench.user(number)));
        let (meter, patience) = (Arc::clone(meter), bench.plan.timeout);
        opening.spawn(async move {
            let outcome = within(patience, opener.open(&user, deaf())).await;
            meter.record(begun, &outcome.as_ref().map(drop).map_err(Clone::clone));
            outcome.ok()
        });
    }
    let mut sockets = Vec::with_capacity(opening.len());
    while let Some(opened) = opening.join_next().await {
        sockets.extend(opened?);
    }
    Ok(sockets)
}
