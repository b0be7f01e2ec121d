//! Clocks that do not agree: of a replica, of Redis, of Postgres.

use gatefold_cluster::ShiftedReplica;
use serde_json::Value;

use crate::harness::{TestApp, eventually, two_replicas};

/// What a replica says of itself, as soon as it says anything.
async fn ready(url: &str) -> Option<(u16, Value)> {
    let answer = reqwest::get(format!("{url}/api/ready")).await.ok()?;
    let status = answer.status().as_u16();
    Some((status, answer.json::<Value>().await.ok()?["checks"]["clock"].take()))
}

async fn becomes(replica: &ShiftedReplica, status: u16, clock: &str) {
    let expected = Some((status, clock.into()));
    eventually(&format!("{status} and {clock}"), async || ready(&replica.url).await == expected).await;
}

/// A gauge of a replica.
async fn gauge(replica: &ShiftedReplica, name: &str) -> f64 {
    let metrics = reqwest::get(&replica.metrics_url).await.unwrap().text().await.unwrap();
    let line = metrics.lines().find(|line| line.starts_with(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("no {name} in {metrics}")).rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_replica_whose_clock_is_off_is_not_ready_unless_redis_is_the_one_that_is_off() {
    let app = TestApp::start(two_replicas()).await;
    let replica = ShiftedReplica::start(&app.cluster, "api-1", 60).unwrap();
    becomes(&replica, 503, "off").await;
    let skew = gauge(&replica, "gatefold_clock_skew_seconds").await;
    assert!((50.0..=60.5).contains(&skew), "{skew}");
    app.is_ready().await;

    replica.shift(0).unwrap();
    becomes(&replica, 200, "ok").await;
    replica.shift(-60).unwrap();
    becomes(&replica, 503, "off").await;

    // A Postgres that agrees with the replica and not with Redis.
    let mut postgres = app.postgres().await;
    let shifted = "CREATE SCHEMA shifted; GRANT USAGE ON SCHEMA shifted TO PUBLIC;
                   CREATE FUNCTION shifted.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS
                   $$ SELECT pg_catalog.clock_timestamp() - interval '1 minute' $$;
                   ALTER ROLE gatefold_api SET search_path = shifted, pg_catalog, public;
                   SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'gatefold-api'";
    sqlx::raw_sql(shifted).execute(&mut postgres).await.unwrap();
    becomes(&replica, 200, "ok").await;
    let stores = gauge(&replica, "gatefold_clock_stores_skew_seconds").await;
    assert!((-60.5..=-50.0).contains(&stores), "{stores}");
    // Nor are those that agree with Redis taken out.
    app.is_ready().await;
}
