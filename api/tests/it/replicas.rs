//! Any replica serves any session.

use crate::harness::{Door, PASSWORD, TestApp, eventually, shared, two_replicas};

#[tokio::test]
async fn a_session_of_one_replica_is_one_of_all() {
    let app = shared().await;
    app.add_user("replicas.any").await;
    let mut alice = app.anonymous().at(Door::Replica(0));
    assert_eq!(alice.login("replicas.any", PASSWORD).await.status, 200);
    let mut alice = alice.at(Door::Replica(1));
    assert_eq!(alice.refresh().await.status, 200);
    for door in [Door::Replica(0), Door::Replica(1), Door::Nginx] {
        assert_eq!(alice.at(door).get("/api/protected").await.status, 200, "{door:?}");
    }
    let mut alice = alice.at(Door::Replica(0));
    assert_eq!(alice.refresh().await.status, 200);
    assert_eq!(alice.at(Door::Replica(1)).logout().await.status, 200);
    assert_eq!(alice.refresh().await.summary(), "401 session_revoked");
}

#[tokio::test]
async fn nginx_spreads_the_requests_over_all_of_them() {
    let app = shared().await;
    let alice = app.signed_in("replicas.spread").await;
    for replica in app.cluster.replicas(gatefold_cluster::Kind::Api) {
        let (name, url) = (replica.name, replica.metrics_url.unwrap());
        let counted =
            |line: &str| line.starts_with("gatefold_http_requests_total") && line.contains("route=\"/api/protected\"");
        eventually(&format!("{name} has got something"), async || {
            assert_eq!(alice.get("/api/protected").await.status, 200);
            reqwest::get(&url).await.unwrap().text().await.unwrap().lines().any(counted)
        })
        .await;
    }
}

#[tokio::test]
async fn a_session_survives_the_replica_that_made_it() {
    let app = TestApp::start(two_replicas()).await;
    app.add_user("replicas.killed").await;
    let mut alice = app.anonymous().at(Door::Replica(0));
    alice.login("replicas.killed", PASSWORD).await;
    app.cluster.kill("api-1").await.unwrap();
    assert_eq!(alice.at(Door::Replica(1)).get("/api/protected").await.status, 200);
    let mut alice = alice.at(Door::Nginx);
    for _ in 0..5 {
        assert_eq!(alice.refresh().await.status, 200, "through nginx, which has to find out");
    }
    app.cluster.start_process("api-1").await.unwrap();
    app.is_ready().await;
    assert_eq!(alice.at(Door::Replica(0)).refresh().await.status, 200);
}
