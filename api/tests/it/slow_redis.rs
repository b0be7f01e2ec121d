//! A Redis that is slow and not away: what could not be awaited is counted rightly all the same.

use std::time::Duration;

use crate::harness::{PASSWORD, TestApp, eventually, two_replicas};

/// Longer than a request waits for a limit, and much shorter than for anything else.
const SLOW: Duration = Duration::from_millis(200);
/// Longer than anybody waits for Redis.
const TOO_SLOW: Duration = Duration::from_millis(2200);
/// Failures that lock an account; none is forgotten while a test runs.
const FAILURES: usize = 3;

async fn app() -> TestApp {
    let builder = two_replicas().redis_through_proxy().postgres_through_proxy();
    TestApp::start(builder.env("LIMIT_LOGIN_ACCOUNT", format!("{FAILURES}/3h"))).await
}

/// Logs in as a client that comes again after a 503.
async fn log_in(app: &TestApp, name: &str) {
    eventually("somebody is logged in", async || {
        let answer = app.anonymous().login(name, PASSWORD).await;
        assert!(matches!(answer.status, 200 | 503), "{answer:?}");
        answer.status == 200
    })
    .await;
}

#[tokio::test]
async fn what_was_answered_503_counts_nothing() {
    let app = app().await;
    app.add_user("slow.unavailable").await;
    let (redis, postgres) = (app.cluster.redis_faults().unwrap(), app.cluster.postgres_faults().unwrap());
    let unavailable = async || {
        for _ in 0..=FAILURES {
            let answer = app.anonymous().login("slow.unavailable", PASSWORD).await;
            assert_eq!(answer.summary(), "503 unavailable");
        }
    };

    redis.delay(SLOW);
    postgres.refuse();
    unavailable().await;
    postgres.pass();
    log_in(&app, "slow.unavailable").await;

    // Each was counted, and the replica was not told.
    redis.delay(TOO_SLOW);
    unavailable().await;
    redis.pass();
    log_in(&app, "slow.unavailable").await;
}
