//! Stores elsewhere, over TLS: they are spoken to if somebody whom we believe vouches for them, and not otherwise.

use std::{fs::File, path::Path, process::Stdio};

use gatefold_cluster::tls::make_authority;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::harness::{TestApp, eventually, two_replicas};

/// A further replica, which believes `authority` alone, and writes its log to `log`.
fn replica(app: &TestApp, authority: &Path, log: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatefold-api"));
    let keys = app.cluster.keys_dir();
    command.env_clear().env("HOST", "127.0.0.1").env("PORT", "0").env("METRICS_PORT", "0");
    command.env("PRIVATE_KEY_PATH", keys.join("private.pem")).env("PUBLIC_KEY_PATH", keys.join("public.pem"));
    command.env("REFRESH_KEY_PATH", keys.join("refresh.key"));
    command.envs(app.cluster.stores_over_tls()).env("SSL_CERT_FILE", authority);
    command.stdout(File::create(log).unwrap()).stdin(Stdio::null()).kill_on_drop(true).spawn().unwrap()
}

/// Where it serves, once it does.
async fn address_in(log: &Path) -> String {
    let mut address = None;
    eventually("the replica serves", async || {
        let text = std::fs::read_to_string(log).unwrap();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut addresses = lines.filter(|line| line["message"] == "serving");
        address = addresses.find_map(|line| line["address"].as_str().map(str::to_owned));
        address.is_some()
    })
    .await;
    address.unwrap()
}

#[tokio::test]
async fn a_log_in_works_with_stores_that_an_authority_vouches_for() {
    let app = TestApp::start(two_replicas().ws(1).stores_over_tls()).await;
    let mut alice = app.signed_in("tls.alice").await;
    assert_eq!(alice.refresh().await.status, 200);
    let of_replicas = "SELECT count(*), count(*) FILTER (WHERE ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                       WHERE application_name = 'gatefold-api'";
    let counts: (i64, i64) = sqlx::query_as(of_replicas).fetch_one(&mut app.postgres().await).await.unwrap();
    assert!(counts.0 >= 1 && counts.0 == counts.1, "{counts:?} connections, and those over TLS");
}

#[tokio::test]
async fn a_replica_that_believes_another_authority_is_not_ready_and_says_why() {
    let app = TestApp::start(two_replicas().stores_over_tls()).await;
    let folder = TempDir::new().unwrap();
    make_authority(folder.path()).await.unwrap();
    let log = folder.path().join("log");
    let _replica = replica(&app, &folder.path().join("authority.pem"), &log);
    let ready = reqwest::get(format!("http://{}/api/ready", address_in(&log).await)).await.unwrap();
    assert_eq!(ready.status(), 503);
    let checks = ready.json::<Value>().await.unwrap()["checks"].clone();
    assert_eq!((&checks["postgres"], &checks["redis"]), (&"unavailable".into(), &"unavailable".into()));
    eventually("it says why", async || {
        let said = std::fs::read_to_string(&log).unwrap();
        let has = |what, why| said.lines().any(|line| line.contains(what) && line.contains(why));
        has("postgres", "invalid peer certificate") && has("no connection to redis", "InvalidCertificate")
    })
    .await;
}
