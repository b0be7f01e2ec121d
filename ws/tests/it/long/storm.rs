//! Rooms keep Redis busy, and sessions end as fast as before: log-outs and `user disable`, with and without a storm of joins.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    amplification::full_room,
    harness::{
        Gatefold, User, many_sessions,
        raw::{Heard, Raw, TEXT, whole},
    },
};

const ATTACKERS: usize = 48;
/// Joins that each of them has under way: when they are answered, they are asked again.
const UNDER_WAY: usize = 20;
const LOG_OUTS: usize = 40;
const DISABLED: usize = 10;
/// By what a storm may delay the end of a session.
const TARGET: Duration = Duration::from_millis(100);
/// What of its single core Redis is to spend at least, for it to be a storm.
const SATURATED: f64 = 0.6;

/// The CPU time that Redis has used.
async fn redis_cpu(gatefold: &Gatefold) -> f64 {
    let info = gatefold.redis_command("INFO cpu").await;
    let of = |field: &str| {
        let value = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.and_then(|value| value.trim().parse::<f64>().ok()).expect("seconds")
    };
    of("used_cpu_user") + of("used_cpu_sys")
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

/// Joins a room with all of its history again and again, until the socket ends.
async fn storm(mut socket: Raw, room: String) {
    let join = whole(TEXT, json!({"type": "join", "room": room, "since": "0-0"}).to_string());
    loop {
        if socket.try_send(&join.repeat(UNDER_WAY)).await.is_err() {
            return;
        }
        let mut answered = 0;
        while answered < UNDER_WAY {
            match socket.hear().await {
                Heard::Text(text) => {
                    answered += usize::from(text.contains("\"joined\"") || text.contains("\"error\""));
                }
                Heard::Ping(_) => {}
                _ => return,
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: ./test.sh --long"]
async fn sessions_end_as_fast_as_before_while_rooms_keep_redis_busy() {
    let builder = many_sessions().api(2).ws(2).env("LIMIT_USER_JOINS", "1000000/1s:1000000");
    let gatefold = Gatefold::start(builder).await;
    let victim = gatefold.new_user().await;
    let before = (log_outs(&gatefold, &victim).await, disablings(&gatefold).await);

    let mut attack = JoinSet::new();
    for number in 0..ATTACKERS {
        let replica = gatefold.replica_url(["ws-1", "ws-2"][number % 2]);
        let socket = Raw::open(&replica, &gatefold.token_of_user(&User::new())).await;
        attack.spawn(storm(socket, full_room(&gatefold).await));
    }
    let (began, used) = (Instant::now(), redis_cpu(&gatefold).await);
    let meanwhile = (log_outs(&gatefold, &victim).await, disablings(&gatefold).await);
    let busy = (redis_cpu(&gatefold).await - used) / began.elapsed().as_secs_f64();
    let attackers = attack.len();
    attack.shutdown().await;

    println!("Redis is busy for {:.0} % of the time; median and longest:", busy * 100.0);
    for (what, idle, busy) in
        [("log-out", &before.0, &meanwhile.0), ("user disable", &before.1, &meanwhile.1)]
    {
        println!("{what}: {:.1?} and {:.1?}, in the storm {:.1?} and {:.1?}", idle.0, idle.1, busy.0, busy.1);
    }
    assert!(busy > SATURATED, "{busy}");
    assert_eq!(attackers, ATTACKERS);
    for (what, idle, busy) in
        [("log-out", &before.0, &meanwhile.0), ("user disable", &before.1, &meanwhile.1)]
    {
        assert!(busy.0 < idle.0 + TARGET, "{what}: {:?} instead of {:?}", busy.0, idle.0);
    }
}
