//! What the runbook says to do in an incident, done word by word: it must work whatever users are called, and must not
//! succeed when it has not.

use std::{
    path::Path,
    process::{Output, Stdio},
};

use tokio::process::Command;

use crate::harness::{PASSWORD, TestApp, administer, eventually, two_replicas};

const RUNBOOK: &str = include_str!("../../../docs/runbook.md");

/// The indented block under a heading that begins with this line.
fn block(heading: &str, first: &str) -> String {
    let section = RUNBOOK.split_once(&format!("\n{heading}\n")).expect("the heading").1;
    let section = section.split("\n## ").next().unwrap();
    let lines = section.lines().skip_while(|line| line.trim() != first);
    let lines = lines.take_while(|line| line.starts_with("    ")).map(|line| &line[4..]);
    let block: String = lines.flat_map(|line| [line, "\n"]).collect();
    assert!(block.lines().count() >= 2, "{first} under {heading}");
    block
}

/// Runs a block in bash, as an administrator would.
async fn run(app: &TestApp, block: &str, redis_url: &str) -> Output {
    let programs = Path::new(env!("CARGO_BIN_EXE_gatefold-api")).parent().unwrap();
    let path = std::env::var_os("PATH").unwrap();
    let path = std::env::join_paths([programs.to_owned()].into_iter().chain(std::env::split_paths(&path))).unwrap();
    let mut command = Command::new("bash");
    command.arg("-c").arg(block).env_clear().env("PATH", path).env("REDIS_URL", redis_url);
    command.env("DATABASE_URL", app.cluster.replica_database_url()).stdin(Stdio::null());
    command.output().await.unwrap()
}

/// Adds a user with a name that nobody could take any more.
async fn add_user_of_before(app: &TestApp, name: &str) -> i64 {
    let mut postgres = app.postgres().await;
    sqlx::raw_sql("SET session_replication_role = replica").execute(&mut postgres).await.unwrap();
    let copy = "INSERT INTO users (username, password_hash) SELECT $1, password_hash FROM users LIMIT 1 RETURNING id";
    sqlx::query_scalar(copy).bind(name).fetch_one(&mut postgres).await.unwrap()
}

#[tokio::test]
async fn everybody_is_logged_out_whatever_they_are_called() {
    let app = TestApp::start(two_replicas().api(1)).await;
    let names = ["--help", "--version", "--all", "--json", "_old", "first.user", "alice+x@example.com"];
    for name in &names[..5] {
        add_user_of_before(&app, name).await;
    }
    app.add_user(names[6]).await;
    let mut clients = Vec::new();
    for name in names {
        clients.push(app.logged_in(name).await);
    }
    let block = block("## Log everybody out", "(");

    let nowhere = "redis://127.0.0.1:1";
    let failed = run(&app, &block, nowhere).await;
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    let said = String::from_utf8_lossy(&failed.stderr);
    assert_eq!(said.matches("asking Redis").count(), names.len(), "it goes on with the others: {said}");
    assert!(said.contains("NOT everybody"), "{said}");
    assert!(!String::from_utf8_lossy(&failed.stdout).contains("Everybody is"), "{failed:?}");
    for (client, name) in clients.iter().zip(names) {
        assert_eq!(client.get("/api/protected").await.status, 200, "{name}");
    }
    let failed = run(&app, &block.replace("user list", "user lost"), &app.cluster.redis_url()).await;
    assert!(!failed.status.success(), "without the list of users: {failed:?}");

    let done = run(&app, &block, &app.cluster.redis_url()).await;
    assert!(done.status.success(), "{done:?}");
    assert!(String::from_utf8_lossy(&done.stdout).ends_with("Everybody is logged out.\n"), "{done:?}");
    for (client, name) in clients.iter_mut().zip(names) {
        eventually("the access token is refused", async || {
            client.get("/api/protected").await.summary() == "401 session_revoked"
        })
        .await;
        assert_eq!(client.refresh().await.summary(), "401 session_revoked", "{name}");
    }
}

#[tokio::test]
async fn users_with_names_of_before_log_in_and_are_administered() {
    let app = TestApp::start(two_replicas().api(1)).await;
    for name in ["--help", "-rf"] {
        let id = add_user_of_before(&app, name).await;
        let mut client = app.logged_in(name).await;
        let shown = administer(&app, &["user", "show", "--", name], "").await;
        assert_eq!((shown[0]["id"].as_i64(), shown[0]["username"].as_str()), (Some(id), Some(name)), "{shown}");
        administer(&app, &["room", "grant", "--", name, "private:board"], "").await;
        assert_eq!(administer(&app, &["room", "list", "--", name], "").await[0]["room"], "private:board");
        administer(&app, &["room", "revoke", "--", name, "private:board"], "").await;
        let session = client.session().1.to_string();
        assert_eq!(administer(&app, &["session", "list", "--", name], "").await[0]["id"], session);
        assert_eq!(administer(&app, &["session", "revoke", "--", name, &session], "").await["revoked"], 1);
        administer(&app, &["user", "passwd", "--", name], "another correct horse").await;
        assert_eq!(client.login(name, PASSWORD).await.summary(), "401 invalid_credentials");
        assert_eq!(client.login(name, "another correct horse").await.status, 200);
        assert_eq!(administer(&app, &["session", "revoke", "--all", "--", name], "").await["revoked"], 1);
        administer(&app, &["user", "disable", "--", name], "").await;
        assert_eq!(client.login(name, "another correct horse").await.summary(), "403 account_disabled");
        administer(&app, &["user", "enable", "--", name], "").await;
        assert_eq!(administer(&app, &["user", "export", "--", name], "").await["account"]["username"], name);
        let events = administer(&app, &["audit", &format!("--user={name}")], "").await;
        assert!(events.as_array().unwrap().iter().all(|event| event["userId"] == id), "{events}");
        administer(&app, &["user", "delete", "--erase-events", "--yes", "--", name], "").await;
        assert_eq!(client.login(name, "another correct horse").await.summary(), "401 invalid_credentials");
    }
}
