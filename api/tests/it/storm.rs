//! A storm of log-ins: what is cheap stays quick while every core hashes and the queue is full.

use std::{
    cell::RefCell,
    time::{Duration, Instant},
};

use tokio::{task::JoinSet, time::sleep};

use crate::harness::{Door, PASSWORD, Requester, TestApp, two_replicas, unhurried};

/// Measured calls of each kind.
const CALLS: usize = 300;
/// Between them.
const PAUSE: Duration = Duration::from_millis(5);
/// Log-ins that must be served meanwhile.
const LOG_INS: usize = 10;

/// How long calls took, shortest first.
struct Took(Vec<Duration>);

impl Took {
    fn new(mut took: Vec<Duration>) -> Self {
        took.sort();
        Self(took)
    }

    fn percentile(&self, percent: usize) -> Duration {
        self.0[self.0.len() * percent / 100]
    }
}

/// Calls at least so often, and until that is enough.
async fn measured(is_enough: impl Fn() -> bool, mut call: impl AsyncFnMut()) -> Took {
    let mut took = Vec::with_capacity(CALLS);
    while took.len() < CALLS || !is_enough() {
        let started = Instant::now();
        call().await;
        took.push(started.elapsed());
        // So that calls that wait are as many as the time in which they do: without, most would be made while none has to.
        sleep(PAUSE).await;
    }
    Took::new(took)
}

async fn cheap_calls(client: &mut Requester, is_enough: impl Fn() -> bool) -> [Took; 2] {
    let protected = client.clone();
    let protected = async || assert_eq!(protected.get("/api/protected").await.status, 200);
    let protected = measured(&is_enough, protected).await;
    let refresh = measured(&is_enough, async || assert_eq!(client.refresh().await.status, 200)).await;
    [protected, refresh]
}

/// The goal is three times the idle figure, which says little here: this machine runs the clients, both stores and other
/// tests on the same cores. But what waits neither for a hash nor in their queue takes far less than what does, at any time.
#[tokio::test]
async fn a_full_login_queue_refuses_log_ins_and_delays_nothing_else_for_long() {
    let app = TestApp::start(unhurried(two_replicas()).env("ARGON2_QUEUE", "4")).await;
    app.add_user("storm.victim").await;
    let mut client = app.signed_in("storm.client").await.at(Door::Replica(0));
    let idle = cheap_calls(&mut client, || true).await;
    let (served, refused) = (RefCell::new(Vec::new()), RefCell::new(0));
    let storm = async {
        while *refused.borrow() < 100_000 {
            let mut log_ins = JoinSet::new();
            for _ in 0..16 {
                let mut attacker = app.anonymous().at(Door::Replica(0));
                log_ins.spawn(async move { attacker.login("storm.victim", PASSWORD).await });
            }
            while let Some(answer) = log_ins.join_next().await {
                let answer = answer.unwrap();
                match answer.summary().as_str() {
                    "200" => served.borrow_mut().push(answer.took),
                    "503 unavailable" => *refused.borrow_mut() += 1,
                    other => panic!("{other}"),
                }
            }
        }
    };
    let is_enough = || served.borrow().len() >= LOG_INS;
    let busy = tokio::select! {
        busy = cheap_calls(&mut client, is_enough) => busy,
        () = storm => panic!("the storm ended first"),
    };
    let log_ins = Took::new(served.take());
    let refused = refused.take();
    println!("{} log-ins served, half of them within {:?}; {refused} refused", log_ins.0.len(), log_ins.percentile(50));
    assert!(refused > 0, "the queue was never full");
    for (what, idle, busy) in [("protected", &idle[0], &busy[0]), ("refresh", &idle[1], &busy[1])] {
        let [idle, median, p90, p99] =
            [idle.percentile(99), busy.percentile(50), busy.percentile(90), busy.percentile(99)];
        println!("{what}: p99 {idle:?} idle; in a storm p50 {median:?}, p90 {p90:?}, p99 {p99:?}");
        assert!(median * 8 < log_ins.percentile(50), "{what} waits for hashes: {median:?}");
    }
}
