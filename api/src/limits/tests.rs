//! The shared counts, on a real Redis and without one.

use std::{sync::Arc, time::Duration};

use gatefold_cluster::Cluster;
use gatefold_shared::{config::StoreConfig, lifecycle::Lifecycle, redis::Redis};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{Count, Counter, Network, Policy, Rule, Tally};

/// As long as a count on its way to Redis may take on a busy machine.
const WAIT: Duration = Duration::from_secs(5);

fn rule(policy: Policy, limit: &str) -> Rule {
    Rule { policy, limit: limit.parse().unwrap() }
}

fn network() -> Network {
    Network::of("203.0.113.9".parse().unwrap())
}

/// What one replica has; clocks and counts are Redis's.
fn counter(redis_url: &str, wait: Duration) -> (Arc<Counter>, Lifecycle) {
    let life = Lifecycle::begin().unwrap();
    let config = StoreConfig {
        redis_url: redis_url.into(),
        redis_password: None,
        redis_ack_replicas: 0,
        revocation_staleness_limit: Duration::ZERO,
        backend_timeout: Duration::from_secs(2),
    };
    (Arc::new(Counter::new(Redis::connect(&config, &life).unwrap(), wait, &life)), life)
}

fn remaining(taken: Count) -> Option<u32> {
    match taken {
        Count::Counted(standing) => Some(standing.remaining()),
        Count::Refused(_) => None,
        Count::Unknown => panic!("redis does not answer"),
    }
}

fn is_counted(taken: Count) -> bool {
    matches!(taken, Count::Counted(_))
}

/// Repeats `check` until it holds.
async fn eventually(check: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + 4 * WAIT;
    while !check().await {
        assert!(Instant::now() < deadline, "it never holds");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_burst_passes_and_then_one_at_a_time_and_a_refusal_costs_nothing() {
    let cluster = Cluster::builder().start().await.unwrap();
    let (counter, _life) = counter(&cluster.redis_url(), WAIT);
    // One more every six seconds: a machine that does nothing for some changes no count.
    let rule = rule(Policy::LoginAddress, "2/12s:3");
    for left in [2, 1, 0] {
        assert_eq!(remaining(counter.take(rule, "burst").await), Some(left));
    }
    let began = Instant::now();
    let Count::Refused(standing) = counter.take(rule, "burst").await else { panic!("a fourth passed") };
    for _ in 0..10 {
        let Count::Refused(later) = counter.take(rule, "burst").await else { panic!("a fifth passed") };
        assert!(later.until_one_more() <= standing.until_one_more());
    }
    let told = standing.until_one_more();
    assert!(told > Duration::ZERO && told <= Duration::from_secs(6), "{told:?}");
    sleep(told.saturating_sub(began.elapsed())).await;
    assert_eq!(remaining(counter.take(rule, "burst").await), Some(0));
    assert_eq!(remaining(counter.take(rule, "other").await), Some(2), "others count for themselves");
}

#[tokio::test]
async fn what_was_taken_can_be_given_back_or_forgotten() {
    let cluster = Cluster::builder().start().await.unwrap();
    let (counter, _life) = counter(&cluster.redis_url(), WAIT);
    let rule = rule(Policy::LoginAccount, "10/15m");
    for _ in 0..10 {
        assert!(remaining(counter.take(rule, "account").await).is_some());
    }
    assert!(remaining(counter.take(rule, "account").await).is_none());
    assert_eq!(counter.give_back(rule, "account").await.unwrap().remaining(), 1);
    assert_eq!(counter.clear(rule, "account").await.unwrap().remaining(), 10);
    assert_eq!(counter.give_back(rule, "account").await.unwrap().remaining(), 10, "no more than there is");
    assert_eq!(remaining(counter.take(rule, "account").await), Some(9));
}

/// As with a Redis that is slower than anybody waits for a limit, and while nobody waits for it at all.
#[tokio::test]
async fn what_was_taken_is_given_back_and_forgotten_though_nobody_waits_for_it() {
    let cluster = Cluster::builder().start().await.unwrap();
    let (counter, _life) = counter(&cluster.redis_url(), Duration::ZERO);
    let (rule, other) = (rule(Policy::LoginAccount, "2/2h"), rule(Policy::LoginAddress, "1000000/1h"));
    let take = async || !matches!(counter.take_for_sure(rule, "account").await, Count::Refused(_));
    for forgotten in [true, false, true] {
        while take().await {}
        while is_counted(counter.take(other, "address").await) {}
        // Nobody waits for a count now, for a while.
        if forgotten {
            counter.clear(rule, "account").await;
        } else {
            counter.give_back(rule, "account").await;
        }
        let begun = Instant::now();
        while !take().await {
            assert!(begun.elapsed() < Duration::from_secs(30), "it was not taken back");
        }
    }
}

#[tokio::test]
async fn of_many_at_once_on_many_replicas_exactly_the_burst_passes() {
    let cluster = Cluster::builder().start().await.unwrap();
    let rule = rule(Policy::RegisterAddress, "10/1h:5");
    let replicas: Vec<_> = (0..4).map(|_| counter(&cluster.redis_url(), WAIT)).collect();
    let mut requests = JoinSet::new();
    for request in 0..80 {
        let counter = Arc::clone(&replicas[request % 4].0);
        requests.spawn(async move { remaining(counter.take(rule, "crowd").await).is_some() });
    }
    assert_eq!(requests.join_all().await.into_iter().filter(|passed| *passed).count(), 5);
}

#[tokio::test]
async fn copies_agree_and_a_flood_does_not_reach_redis() {
    let cluster = Cluster::builder().start().await.unwrap();
    let rule = rule(Policy::RefreshAddress, "20/1h");
    let replicas = [counter(&cluster.redis_url(), WAIT), counter(&cluster.redis_url(), WAIT)];
    let tallies = replicas.each_ref().map(|(counter, life)| Tally::start(Arc::clone(counter), life));
    let counted = async || replicas[0].0.charge(rule, network(), 0).await.unwrap().remaining();
    let mut passed = 0;
    for request in 0..40 {
        if is_counted(tallies[request % 2].take(rule, network())) {
            passed += 1;
            eventually(async || counted().await == 20_u32.saturating_sub(passed)).await;
            // The reply is there, or as good as there.
            sleep(Duration::from_millis(20)).await;
        }
    }
    // One more for each further replica, and some should a reply be late; each for itself they would have let through 40.
    assert!((20..=24).contains(&passed), "{passed} passed");
    let before = replicas[0].0.charge(rule, network(), 0).await.unwrap();
    for _ in 0..1000 {
        assert!(tallies.iter().all(|tally| !is_counted(tally.take(rule, network()))));
    }
    sleep(Duration::from_millis(100)).await;
    let after = replicas[0].0.charge(rule, network(), 0).await.unwrap();
    assert!(after.recovers_in() <= before.recovers_in(), "what is refused is not counted");
}

#[tokio::test]
async fn without_redis_limits_wait_shortly_and_only_once_and_copies_hold_alone() {
    let wait = Duration::from_secs(1);
    let (counter, life) = counter("redis://127.0.0.1:1", wait);
    let strict = rule(Policy::LoginAddress, "30/1m:10");
    let began = Instant::now();
    for _ in 0..20 {
        assert_eq!(counter.take(strict, "somebody").await, Count::Unknown);
    }
    // Not each of them has waited, also if the machine was slow and some came after the pause.
    assert!(began.elapsed() < wait * 10, "{:?}", began.elapsed());
    let tally = Tally::start(counter, &life);
    let rule = rule(Policy::ApiAddress, "60/1h:10");
    assert_eq!((0..20).filter(|_| is_counted(tally.take(rule, network()))).count(), 10);
}
