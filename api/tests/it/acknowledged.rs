//! `REDIS_ACK_REPLICAS`: a change counts only when enough of Redis's own replicas have it.

use std::process::Stdio;

use tokio::process::{Child, Command};

use crate::harness::{PASSWORD, TestApp, eventually, two_replicas};

/// A replica of the cluster's Redis; it ends with the test.
fn redis_replica(app: &TestApp) -> (Child, tempfile::TempDir) {
    let url = app.cluster.redis_url();
    let (_, port) = url.rsplit_once(':').unwrap();
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("redis.sock");
    let mut command = Command::new("redis-server");
    command.args(["--port", "0", "--save", "", "--repl-diskless-sync-delay", "0", "--unixsocket"]).arg(socket);
    command.arg("--dir").arg(directory.path()).args(["--replicaof", "127.0.0.1", port]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    (command.spawn().unwrap(), directory)
}

#[tokio::test]
async fn what_no_replica_of_redis_has_is_not_acknowledged_and_can_be_asked_for_again() {
    let app = TestApp::start(two_replicas().env("REDIS_ACK_REPLICAS", "1").env("BACKEND_TIMEOUT", "1s")).await;
    app.add_user("acknowledged").await;
    let mut client = app.anonymous();
    client.login("acknowledged", PASSWORD).await.assert_problem(503, "unavailable");
    let (mut replica, _directory) = redis_replica(&app);
    eventually("a replica has what was changed", async || client.login("acknowledged", PASSWORD).await.status == 200)
        .await;
    eventually("so it goes on", async || client.refresh().await.status == 200).await;

    replica.kill().await.unwrap();
    let before = client.cookie().to_owned();
    client.refresh().await.assert_problem(503, "unavailable");
    client.clone().logout().await.assert_problem(503, "unavailable");
    let (_replica, _directory) = redis_replica(&app);
    // The log-out took effect although nobody dared to confirm it; asked for again, it is confirmed.
    eventually("the log-out is confirmed", async || client.with_cookie(&before).logout().await.status == 200).await;
    assert_eq!(client.with_cookie(&before).refresh().await.summary(), "401 session_revoked");
}

/// It has ended the session all the same, so it has to be known.
#[tokio::test]
async fn a_replay_that_is_not_acknowledged_is_recorded() {
    let app = TestApp::start(two_replicas().env("REDIS_ACK_REPLICAS", "1").env("BACKEND_TIMEOUT", "1s")).await;
    let (mut replica, _directory) = redis_replica(&app);
    app.add_user("acknowledged.replay").await;
    let mut owner = app.anonymous();
    let log_in = async || owner.login("acknowledged.replay", PASSWORD).await.status == 200;
    eventually("a replica has what was changed", log_in).await;
    let mut thief = owner.clone();
    // The replica may take longer than that on a busy machine.
    eventually("the owner goes on", async || owner.refresh().await.status == 200).await;
    replica.kill().await.unwrap();
    thief.refresh().await.assert_problem(503, "unavailable");
    eventually("it is recorded", async || app.replays_of(&owner).await == 1).await;
}
