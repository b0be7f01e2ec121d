//! The administrator's commands, as they are run beside a cluster.

use std::process::{Output, Stdio};

use serde_json::Value;
use tokio::{io::AsyncWriteExt, process::Command};

use super::TestApp;

/// A command of an administrator on the cluster of `app`; its JSON.
pub async fn administer(app: &TestApp, arguments: &[&str], input: &str) -> Value {
    let output = command(app, &app.cluster.redis_url(), arguments, input).await;
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The same with a Redis that may be another, or none.
pub async fn command(app: &TestApp, redis_url: &str, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatefold-api"));
    command.arg("--json").args(arguments).env_clear();
    command.env("DATABASE_URL", app.cluster.replica_database_url()).env("REDIS_URL", redis_url);
    command.env("DATABASE_OWNER_URL", app.cluster.database_url());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    let mut stdin = process.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.ok(); // One that refuses before it reads closes it.
    drop(stdin);
    process.wait_with_output().await.unwrap()
}
