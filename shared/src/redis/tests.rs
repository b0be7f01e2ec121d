//! Calls to a real Redis that is away for a while.

use std::net::SocketAddr;

use gatefold_cluster::{Cluster, faults::Faults};
use tokio::time::sleep;

use super::*;

#[tokio::test]
async fn what_was_given_up_before_it_could_be_sent_is_never_sent() {
    let cluster = Cluster::builder().start().await.expect("a Redis");
    let url = cluster.redis_url();
    let target: SocketAddr = url.trim_start_matches("redis://").trim_end_matches('/').parse().expect("an address");
    let faults = Faults::start(target).expect("a proxy");
    let life = Lifecycle::begin().expect("signals");
    let config = StoreConfig {
        redis_url: format!("redis://{}", faults.address()).into(),
        redis_password: None,
        redis_ack_replicas: 0,
        revocation_staleness_limit: Duration::ZERO,
        backend_timeout: Duration::from_mins(1),
    };
    let redis = Redis::connect(&config, &life).expect("a good URL");
    redis.check_writable().await.expect("connected");
    faults.refuse();
    while redis.reaches("calls") {
        sleep(Duration::from_millis(5)).await;
    }
    let count = async |until| redis.command::<i64>("INCR", "calls".to_owned(), &[], until).await;
    for _ in 0..3 {
        let given_up = count(Instant::now() + Duration::from_millis(100)).await;
        assert!(matches!(given_up, Err(RedisError::Timeout(_))), "{given_up:?}");
    }
    faults.pass();
    assert_eq!(count(redis.deadline()).await.expect("redis is back"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_do_not_wait_for_rooms() {
    static BUSY: Script = Script::new("busy", &[include_str!("tests/busy.lua")]);
    let cluster = Cluster::builder().start().await.expect("a Redis");
    let life = Lifecycle::without_signals();
    let config = StoreConfig {
        redis_url: cluster.redis_url().into(),
        redis_password: None,
        redis_ack_replicas: 0,
        revocation_staleness_limit: Duration::ZERO,
        backend_timeout: Duration::from_mins(1),
    };
    let redis = Redis::connect(&config, &life).expect("a good URL");
    redis.check_writable().await.expect("connected");
    let rooms = redis.rooms();
    rooms.check_writable().await.expect("connected");
    // Thirty seconds of Redis's time; 8 calls of them at once are 24 ms of it.
    let storm = join_all((0..10_000).map(|number| {
        let (rooms, key) = (rooms.clone(), format!("room:{number}"));
        async move { rooms.run::<i64>(&BUSY, &[key], vec![3.into()], rooms.deadline()).await }
    }));
    let measured = async {
        let mut longest = Duration::ZERO;
        for number in 0..20 {
            let began = Instant::now();
            redis
                .run::<i64>(&BUSY, &[format!("family:{number}")], vec![0.into()], redis.deadline())
                .await
                .expect("served");
            longest = longest.max(began.elapsed());
        }
        longest
    };
    let longest = tokio::select! {
        longest = measured => longest,
        _ = storm => panic!("the storm is over before the sessions are served"),
    };
    println!("while rooms keep redis busy, a session waits for {longest:?} at most");
    // In one line with the rooms it would be those thirty seconds, on the fastest machine.
    assert!(longest < Duration::from_secs(10), "{longest:?}");
}
