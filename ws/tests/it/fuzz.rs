//! Thousands of sockets that say anything at all: a replica neither falls over, nor forgets to clean up, nor lets others wait.
//!
//! Every socket's behaviour follows from one number, which a failure tells: `GATEFOLD_FUZZ_SEED=<number>` repeats the run.

mod babble;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use gatefold_cluster::Cluster;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::Value;
use tokio::time::timeout;

use self::babble::{Babble, Exit};
use crate::harness::{
    Gatefold, eventually,
    raw::{Heard, Raw},
};

/// So many sockets warm the replica up, before its memory is measured.
const WARM_UP: u64 = 500;
const SOCKETS: u64 = 6000;
const AT_ONCE: usize = 48;
/// No babbler keeps a socket for longer.
const ENOUGH: Duration = Duration::from_secs(30);
/// What the allocator may keep of what was once needed.
const MEMORY_KIB: u64 = 12 * 1024;

/// What a replica holds that must not grow.
#[derive(Debug)]
struct Held {
    sockets: u64,
    descriptors: usize,
    resident_kib: u64,
}

impl Held {
    async fn by(gatefold: &Gatefold) -> Self {
        let pid = gatefold.cluster.process("ws-1").expect("a replica").pid.expect("a process");
        let metrics = gatefold.metrics_of("ws-1").await;
        let sockets = metrics.lines().find_map(|line| line.strip_prefix("gatefold_ws_connections ")).expect("a gauge");
        Self {
            sockets: sockets.parse().expect("a number"),
            descriptors: std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it is alive").count(),
            resident_kib: gatefold.resident_kib("ws-1"),
        }
    }
}

/// One socket, from its handshake to whatever its end is.
async fn babble(replica: &str, token: &str, seed: u64) {
    let mut babble = Babble::new(StdRng::seed_from_u64(seed));
    let mut raw = Raw::open(replica, token).await;
    for _ in 0..babble.moves() {
        let bytes = babble.next();
        for segment in babble.segments(&bytes) {
            // A server that has had enough of this has every right to be gone.
            if raw.try_send(segment).await.is_err() {
                return;
            }
        }
        if babble.listens() {
            while let Some(heard) = raw.hear_within(Duration::from_millis(1)).await {
                if makes_sense(&heard) == Sense::Over {
                    return;
                }
            }
        }
    }
    match babble.exit() {
        Exit::Cut => raw.cut(),
        Exit::Drop => {}
        Exit::Finish => {
            let _ = raw.finish().await;
            while makes_sense(&raw.hear().await) == Sense::GoesOn {}
        }
        Exit::Goodbye(frame) => {
            // What was cut short before may swallow the goodbye: the end of the connection is understood all the same.
            let _ = raw.try_send(&frame).await;
            let _ = raw.finish().await;
            while makes_sense(&raw.hear().await) == Sense::GoesOn {}
        }
    }
}

#[derive(PartialEq)]
enum Sense {
    GoesOn,
    Over,
}

/// Whatever a client says, what it hears is well-formed (which [`Raw`] sees to) and has a type and a payload.
fn makes_sense(heard: &Heard) -> Sense {
    match heard {
        Heard::Text(text) => {
            let message: Value = serde_json::from_str(text).expect("JSON");
            assert!(message["type"].is_string() && message["payload"].is_object(), "{message}");
            Sense::GoesOn
        }
        Heard::Ping(_) | Heard::Pong(_) => Sense::GoesOn,
        Heard::Close(..) | Heard::End => Sense::Over,
    }
}

async fn babble_with_all(gatefold: &Gatefold, seeds: impl Iterator<Item = u64>) {
    let replica = gatefold.replica_url("ws-1");
    // Some are the same session twice, some the same user.
    let tokens: Vec<_> = (0..8).map(|user| gatefold.token_of(1000 + user % 4, uuid::Uuid::new_v4())).collect();
    let sockets = stream::iter(seeds).map(async |seed| {
        let token = &tokens[usize::try_from(seed % 8).expect("small")];
        let in_time = timeout(ENOUGH, babble(&replica, token, seed)).await.is_ok();
        assert!(in_time, "socket {seed} was neither served nor closed within {ENOUGH:?}");
    });
    sockets.buffer_unordered(AT_ONCE).collect::<()>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_survives_anything_that_is_said_and_forgets_who_said_it() {
    let seed = std::env::var_os("GATEFOLD_FUZZ_SEED").and_then(|seed| seed.into_string().ok()?.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| rand::rng().random());
    println!("GATEFOLD_FUZZ_SEED={seed}");
    let gatefold = Gatefold::start(Cluster::builder().ws(1)).await;
    let mut bystander = gatefold.client().await;
    let seeds = |range: std::ops::Range<u64>| range.map(move |number| seed.wrapping_add(number));
    babble_with_all(&gatefold, seeds(0..WARM_UP)).await;
    eventually("the first sockets are gone", async || Held::by(&gatefold).await.sockets == 1).await;
    let before = Held::by(&gatefold).await;

    let started = Instant::now();
    let over = AtomicBool::new(false);
    let babbling = async {
        babble_with_all(&gatefold, seeds(WARM_UP..WARM_UP + SOCKETS)).await;
        over.store(true, Ordering::Relaxed);
    };
    let bystanding = async {
        let mut slowest = Duration::ZERO;
        while !over.load(Ordering::Relaxed) {
            let asked = Instant::now();
            bystander.is_served().await;
            slowest = slowest.max(asked.elapsed());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        slowest
    };
    let ((), slowest) = tokio::join!(babbling, bystanding);
    println!("{SOCKETS} sockets in {:?}, meanwhile an answer took at most {slowest:?}", started.elapsed());
    assert!(slowest < Duration::from_secs(8), "somebody else waited for {slowest:?}");

    eventually("nothing is held for sockets that are gone", async || {
        let now = Held::by(&gatefold).await;
        let is_small = now.resident_kib < before.resident_kib + MEMORY_KIB;
        now.sockets == before.sockets && now.descriptors <= before.descriptors + 2 && is_small
    })
    .await;
    let after = Held::by(&gatefold).await;
    println!("before {before:?}, after {after:?}");
    assert!(!gatefold.log_of("ws-1").contains("panic"), "{}", gatefold.log_of("ws-1"));
    bystander.is_served().await;
}
