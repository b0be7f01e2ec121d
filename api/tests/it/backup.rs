//! Copies of both stores, made and put back by the commands of docs/operations.md, word by word.

use std::{path::Path, process::Stdio};

use tokio::process::Command;

use crate::harness::{Door, PASSWORD, TestApp, two_replicas, unhurried};

const OPERATIONS: &str = include_str!("../../../docs/operations.md");

/// The first indented block after a piece of text.
fn block_after(text: &str) -> String {
    let rest = OPERATIONS.split_once(text).expect("the text").1;
    let lines = rest.lines().skip_while(|line| !line.starts_with("    ")).take_while(|line| line.starts_with("    "));
    lines.map(|line| &line[4..]).flat_map(|line| [line, "\n"]).collect()
}

/// Runs a block in bash, in a folder, as an administrator would.
async fn run(app: &TestApp, folder: &Path, block: &str) {
    let programs = Path::new(env!("CARGO_BIN_EXE_gatefold-api")).parent().expect("a folder");
    let path = std::env::var_os("PATH").expect("a path");
    let path =
        std::env::join_paths([programs.to_owned()].into_iter().chain(std::env::split_paths(&path))).expect("a path");
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", block]).current_dir(folder).env("PATH", path);
    command.env("REDIS_URL", app.cluster.redis_url()).env("REDIS_DIR", app.cluster.dir().join("redis"));
    let user = Command::new("id").arg("-un").output().await.expect("a user").stdout;
    command.env("REDIS_USER", String::from_utf8(user).expect("a name").trim());
    command.env("DATABASE_OWNER_URL", app.cluster.database_url());
    command.env("DATABASE_URL", app.cluster.replica_database_url());
    let output = command.stdin(Stdio::null()).output().await.expect("it runs");
    assert!(output.status.success(), "{block}\n{output:?}");
}

#[tokio::test]
async fn what_is_put_back_from_copies_is_what_there_was() {
    let app = TestApp::start(unhurried(two_replicas())).await;
    let folder = tempfile::tempdir().expect("a folder");
    let before = app.signed_in("backup.before").await;
    std::fs::create_dir(folder.path().join("keys")).expect("a folder");
    for key in ["private.pem", "public.pem", "refresh.key"] {
        std::fs::copy(app.cluster.keys_dir().join(key), folder.path().join("keys").join(key)).expect("a key");
    }
    run(&app, folder.path(), &block_after("### Making copies")).await;
    app.signed_in("backup.after").await;

    app.cluster.stop("redis").await.expect("stopped");
    run(&app, folder.path(), &block_after("**Redis.** With")).await;
    app.cluster.start_process("redis").await.expect("started");
    app.is_ready().await;
    assert_eq!(before.at(Door::Replica(0)).refresh().await.status, 200, "the session is there");

    sqlx::raw_sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        .execute(&mut app.postgres().await)
        .await
        .expect("empty");
    run(&app, folder.path(), &block_after("**Postgres.** Into")).await;
    app.is_ready().await;
    let mut client = app.anonymous();
    assert_eq!(client.login("backup.before", PASSWORD).await.status, 200);
    assert_eq!(
        client.login("backup.after", PASSWORD).await.summary(),
        "401 invalid_credentials",
        "it was not there yet"
    );
    for key in ["private.pem", "public.pem", "refresh.key"] {
        assert!(folder.path().join("backup/keys").join(key).exists(), "{key}");
    }
}
