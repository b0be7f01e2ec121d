//! Idle sockets in large numbers, in rooms if so wished: how fast they are opened, what they weigh, whether they stay and
//! the servers do not grow.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinSet;

use crate::bench::Bench;
use crate::failure::Failure;
use crate::hall::{close_all, deaf, join, room_names};
use crate::pace::{Load, Pace};
use crate::record::{Meter, ratio};
use crate::sample::{Sample, Usage};
use crate::setup::within;
use crate::socket::Socket;

/// What each socket adds to the memory of a kind of processes.
pub(crate) const MEMORY: &str = "memory for each socket";
/// In a closed loop: it ends when all sockets are open, and not before.
const EVER: Duration = Duration::from_hours(24);

pub(super) async fn run(bench: &Bench<'_>) -> Result<()> {
    let start = Instant::now() + Duration::from_millis(20);
    bench.measure(start, ramp_and_hold(bench, start)).await
}

async fn ramp_and_hold(bench: &Bench<'_>, start: Instant) -> Result<()> {
    let before = bench.sample().await;
    let connect = bench.meter("connect");
    let sockets = ramp(bench, start, &connect).await?;
    let ramped = start.elapsed().as_secs_f64();
    let opened = sockets.len();
    let after = bench.sample().await;
    bench.say(&format!("holding {opened} sockets"));
    let lost = hold(bench, &sockets).await;
    let held = bench.sample().await;
    connect.failed_times(start, &Failure::Connection("lost while held".to_owned()), lost);
    bench.fact("sockets open", ratio(opened as u64 - lost), "");
    bench.fact("opened", ratio(opened as u64) / ramped, "a second");
    let each = 1.0 / ratio(opened.max(1) as u64);
    for (kind, processes) in by_kind(&before) {
        // Of all of them or of none: the sum of some would be a figure too, and a wrong one.
        let sum = |of: &dyn Fn(&str) -> Option<f64>| processes.iter().map(|name| of(name)).sum::<Option<f64>>();
        let seconds = (held.at - after.at).as_secs_f64().max(f64::EPSILON);
        let facts = [
            (MEMORY, sum(&|name| gained(name, memory_of, &before, &held)), each, "bytes"),
            ("CPU to open one", sum(&|name| spent(name, &before, &after)), 1e6 * each, "us"),
            ("CPU to hold 100,000", sum(&|name| spent(name, &after, &held)), 1e5 * each / seconds, "cores"),
        ];
        for (what, value, factor, unit) in facts {
            if let Some(value) = value.filter(|value| *value > 0.0) {
                bench.fact(format!("{kind}: {what}"), value * factor, unit);
            }
        }
        let growth = [
            ("memory gained while held", memory_of as Of, "bytes"),
            ("open files gained while held", open_files_of, ""),
        ];
        for (what, of, unit) in growth {
            if let Some(value) = sum(&|name| gained(name, of, &after, &held)) {
                bench.fact(format!("{kind}: {what}"), value, unit);
            }
        }
    }
    close_all(sockets).await;
    Ok(())
}

async fn ramp(bench: &Bench<'_>, start: Instant, connect: &Arc<Meter>) -> Result<Vec<Socket>> {
    let count = bench.sockets();
    let length = match bench.plan.load {
        Load::Open(schedule) => Duration::from_secs_f64(ratio(count as u64) / schedule.rate()),
        Load::Closed { .. } => EVER,
    };
    let (pace, _) = Pace::start(bench.plan.load, start, start + length, count, &bench.stop)?;
    let (rooms, joins) = (room_names(bench.sizes.joined_rooms), bench.meter("join"));
    let mut opening = JoinSet::new();
    for number in 0..count {
        let room = rooms.get(number % rooms.len().max(1)).cloned();
        let (opener, user) = (bench.target.socket_for(number), Arc::clone(bench.user(number)));
        let (pace, connect, joins) = (Arc::clone(&pace), Arc::clone(connect), Arc::clone(&joins));
        let patience = bench.plan.timeout;
        opening.spawn(async move {
            let turn = pace.next().await?;
            let outcome = within(patience, opener.open(&user, deaf())).await;
            connect.record(turn.intended, &outcome.as_ref().map(drop).map_err(Clone::clone));
            let mut socket = outcome.ok()?;
            if let Some(room) = room {
                let begun = Instant::now();
                let joined = within(patience, join(&mut socket, &room)).await;
                joins.record(begun, &joined);
            }
            Some(socket)
        });
    }
    let mut sockets = Vec::with_capacity(count);
    while let Some(opened) = opening.join_next().await {
        sockets.extend(opened?);
    }
    Ok(sockets)
}

/// Lets them be, and counts those that are not there in the end.
async fn hold(bench: &Bench<'_>, sockets: &[Socket]) -> u64 {
    tokio::select! {
        () = tokio::time::sleep(bench.plan.duration) => {}
        () = bench.stop.cancelled() => {}
    }
    sockets.iter().filter(|socket| !socket.is_open()).count() as u64
}

/// Replicas of a kind share the sockets: `ws-1` and `ws-2` are counted together.
fn by_kind(sample: &Sample) -> BTreeMap<&str, Vec<&str>> {
    let mut kinds: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for name in sample.usages.keys() {
        let kind = name.rsplit_once('-').map_or(name.as_str(), |(kind, _)| kind);
        kinds.entry(kind).or_default().push(name);
    }
    kinds
}

/// What of a process is looked at.
type Of = fn(&Usage) -> Option<u64>;

fn memory_of(usage: &Usage) -> Option<u64> {
    usage.memory_bytes
}

fn open_files_of(usage: &Usage) -> Option<u64> {
    usage.open_files
}

#[expect(clippy::cast_precision_loss, reason = "2^52 bytes are enough")]
fn gained(name: &str, of: Of, before: &Sample, after: &Sample) -> Option<f64> {
    let (before, after) = (of(before.usages.get(name)?)?, of(after.usages.get(name)?)?);
    Some(after as f64 - before as f64)
}

fn spent(name: &str, before: &Sample, after: &Sample) -> Option<f64> {
    Some(after.usages.get(name)?.cpu_seconds? - before.usages.get(name)?.cpu_seconds?)
}
