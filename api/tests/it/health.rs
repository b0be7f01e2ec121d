//! `GET /api/health` and `GET /api/ready`.

use insta::assert_snapshot;

use crate::harness::{Door, shared};

#[tokio::test]
async fn health_says_that_the_process_lives_and_when() {
    let app = shared().await;
    let answer = app.anonymous().at(Door::Replica(0)).get("/api/health").await;
    assert_snapshot!(answer.snapshot(), @r#"
    200
    cache-control: no-store
    content-type: application/json
    x-content-type-options: nosniff
    x-request-id: [request id]

    {
      "status": "ok",
      "timestamp": "[time]"
    }
    "#);
    let body = answer.json();
    let timestamp = body["timestamp"].as_str().unwrap();
    let time = time::OffsetDateTime::parse(timestamp, &time::format_description::well_known::Rfc3339).unwrap();
    let now = time::OffsetDateTime::UNIX_EPOCH + gatefold_shared::clock::since_epoch();
    assert!((time - now).abs() < time::Duration::minutes(1), "{timestamp}");
}

#[tokio::test]
async fn ready_says_what_it_stands_on() {
    let app = shared().await;
    let answer = app.anonymous().at(Door::Replica(0)).get("/api/ready").await;
    assert_eq!(answer.status, 200);
    let checks = answer.json()["checks"].clone();
    assert_eq!((&checks["postgres"], &checks["redis"]), (&"ok".into(), &"ok".into()), "{checks}");
}

#[tokio::test]
async fn nginx_answers_for_health_at_the_root_as_well() {
    let app = shared().await;
    for path in ["/health", "/api/health"] {
        assert_eq!(app.anonymous().get(path).await.json()["status"], "ok", "{path}");
    }
}

#[tokio::test]
async fn metrics_have_a_port_of_their_own() {
    let app = shared().await;
    assert_eq!(app.anonymous().at(Door::Replica(0)).get("/metrics").await.summary(), "404 not_found");
    let metrics = app.metrics_of(0).await;
    assert!(metrics.contains("gatefold_http_requests_total{method=\"GET\",route=\"/api/ready\""), "{metrics}");
}
