//! Rooms keep Redis busy, and sessions end as fast as before: log-outs and `user disable`, with and without a storm.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use gatefold_shared::{
    config::StoreConfig,
    lifecycle::Lifecycle,
    redis::{Redis, Script},
};
use tokio::task::JoinSet;

use crate::harness::{Gatefold, many_sessions};

/// Of how many ws replicas the rooms keep Redis busy.
const REPLICAS: usize = 2;
/// What each wants of Redis at once, which is more than it may.
const CALLS: usize = 200;
const LOG_OUTS: usize = 40;
const DISABLED: usize = 10;
/// By what a storm may delay the end of a session.
const TARGET: Duration = Duration::from_millis(100);
/// What of its single core Redis is to spend at least, for it to be a storm.
const SATURATED: f64 = 0.9;

/// The CPU time that Redis has used.
async fn redis_cpu(gatefold: &Gatefold) -> f64 {
    let info = gatefold.redis_command("INFO cpu").await;
    let of = |field: &str| {
        let value = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.and_then(|value| value.trim().parse::<f64>().ok()).expect("seconds")
    };
    of("used_cpu_user") + of("used_cpu_sys")
}

fn store_of(gatefold: &Gatefold) -> StoreConfig {
    StoreConfig {
        redis_url: gatefold.cluster.redis_url().into(),
        redis_password: None,
        redis_ack_replicas: 0,
        revocation_staleness_limit: Duration::ZERO,
        backend_timeout: Duration::from_secs(2),
    }
}

/// How long something takes.
async fn timed(what: impl Future<Output = ()>) -> Duration {
    let began = Instant::now();
    what.await;
    began.elapsed()
}

/// Median and longest.
struct Times(Duration, Duration);

impl Times {
    fn of(mut all: Vec<Duration>) -> Self {
        all.sort_unstable();
        Self(all[all.len() / 2], all[all.len() - 1])
    }
}

async fn log_outs(gatefold: &Gatefold, user: &str) -> Times {
    let mut all = Vec::new();
    for _ in 0..LOG_OUTS {
        let session = gatefold.log_in(user).await;
        all.push(timed(gatefold.log_out_at("api-1", &session)).await);
    }
    Times::of(all)
}

async fn disablings(gatefold: &Gatefold) -> Times {
    let mut all = Vec::new();
    for _ in 0..DISABLED {
        let name = gatefold.new_user().await;
        gatefold.log_in(&name).await;
        all.push(timed(gatefold.admin(&["user", "disable", "--", &name])).await);
    }
    Times::of(all)
}

/// What a replica's rooms may have under way, always: more than that waits here. Each call takes as long as one of the
/// dearest that rooms make.
async fn storm(rooms: Redis) {
    static BUSY: Script = Script::new(
        "busy",
        &["local function now() local time = redis.call('TIME') return time[1] * 1000000 + time[2] end
           local began = now() while now() - began < 1000 do end return 1"],
    );
    let calls = (0..CALLS).map(|number| {
        let rooms = rooms.clone();
        async move {
            loop {
                let key = format!("room:{{{number}}}:storm");
                // Those that wait for too long are given up, as others are.
                rooms.run::<i64>(&BUSY, &[key], Vec::new(), rooms.deadline()).await.ok();
            }
        }
    });
    join_all(calls).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: ./test.sh --long"]
async fn sessions_end_as_fast_as_before_while_rooms_keep_redis_busy() {
    let gatefold = Gatefold::start(many_sessions().api(2).ws(2)).await;
    let victim = gatefold.new_user().await;
    let before = (log_outs(&gatefold, &victim).await, disablings(&gatefold).await);

    let life = Lifecycle::without_signals();
    let mut storms = JoinSet::new();
    for _ in 0..REPLICAS {
        let redis = Redis::connect(&store_of(&gatefold), &life).expect("a good URL");
        storms.spawn(storm(redis.rooms()));
    }
    let (began, used) = (Instant::now(), redis_cpu(&gatefold).await);
    let meanwhile = (log_outs(&gatefold, &victim).await, disablings(&gatefold).await);
    let busy = (redis_cpu(&gatefold).await - used) / began.elapsed().as_secs_f64();
    storms.shutdown().await;

    println!("Redis is busy for {:.0} % of the time; median and longest:", busy * 100.0);
    for (what, idle, busy) in [("log-out", &before.0, &meanwhile.0), ("user disable", &before.1, &meanwhile.1)] {
        println!("{what}: {:.1?} and {:.1?}, in the storm {:.1?} and {:.1?}", idle.0, idle.1, busy.0, busy.1);
    }
    assert!(busy > SATURATED, "{busy} is no storm");
    for (what, idle, busy) in [("log-out", &before.0, &meanwhile.0), ("user disable", &before.1, &meanwhile.1)] {
        assert!(busy.0 < idle.0 + TARGET, "{what}: {:?} instead of {:?}", busy.0, idle.0);
    }
}
