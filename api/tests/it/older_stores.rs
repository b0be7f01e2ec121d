//! Stores that were restored from an older copy, with nobody told: what had ended stays ended, and what is whose stays so.

use std::{path::Path, process::Command};

use gatefold_shared::redis::keys;

use crate::harness::{Door, PASSWORD, Requester, TestApp, administer, eventually, two_replicas, unhurried};

async fn start() -> TestApp {
    TestApp::start(unhurried(two_replicas()).env("ARGON2_MEMORY_KIB", "8").env("ARGON2_PASSES", "1")).await
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(copied.success());
}

impl TestApp {
    /// Stops Redis for a copy of what it has.
    async fn copy_redis(&self) {
        self.cluster.stop("redis").await.unwrap();
        copy(&self.cluster.dir().join("redis"), &self.cluster.dir().join("redis-before"));
        self.cluster.start_process("redis").await.unwrap();
        self.is_ready().await;
    }

    /// Puts the copy back, in which marks are an hour old.
    async fn restore_redis(&self) {
        let (now, before) = (self.cluster.dir().join("redis"), self.cluster.dir().join("redis-before"));
        self.cluster.kill("redis").await.unwrap();
        std::fs::remove_dir_all(&now).unwrap();
        copy(&before, &now);
        self.cluster.start_process("redis").await.unwrap();
        self.cluster.wait_ready("redis").await.unwrap();
        for partition in 0..64 {
            self.redis_command(&["HINCRBY", &keys::mark(partition), "at", "-3600000"]).await;
        }
    }

    async fn execute(&self, statement: &'static str) {
        sqlx::query(statement).execute(&mut self.postgres().await).await.unwrap();
    }

    async fn events_of(&self, kind: &str) -> i64 {
        let count = sqlx::query_scalar("SELECT count(*) FROM events WHERE kind = $1").bind(kind);
        count.fetch_one(&mut self.postgres().await).await.unwrap()
    }

    async fn mark(&self, field: &str) -> i64 {
        self.redis_command(&["HGET", &keys::mark(0), field]).await.parse().unwrap_or(0)
    }
}

async fn refresh(client: &Requester, replica: usize) -> String {
    client.at(Door::Replica(replica)).refresh().await.summary()
}

/// Not only those that replicas remember: all of them were restarted, and the copy is an hour old.
#[tokio::test]
async fn sessions_that_ended_after_the_copy_of_redis_do_not_come_back() {
    let app = start().await;
    let mut sessions = Vec::new();
    for name in ["out", "everywhere", "disabled", "changed", "single", "living"] {
        sessions.push(app.signed_in(name).await);
    }
    let [mut out, everywhere, disabled, changed, single, living] = <[Requester; 6]>::try_from(sessions).ok().unwrap();
    let spared = app.logged_in("changed").await;
    app.copy_redis().await;

    out.clone().logout().await;
    let post = |client: &Requester, path: &str| client.request(http::Method::POST, path);
    assert_eq!(crate::harness::send(post(&everywhere, "/api/logout-all")).await.status, 200);
    let change = serde_json::json!({ "currentPassword": PASSWORD, "newPassword": "quite another battery" });
    let answer = crate::harness::send(post(&spared, "/api/password").json(&change)).await;
    assert_eq!(answer.status, 204);
    administer(&app, &["user", "disable", "disabled"], "").await;
    administer(&app, &["session", "revoke", "single", &single.session().1.to_string()], "").await;
    for kind in ["logged_out", "logged_out_everywhere", "password_changed", "user_disabled", "session_ended"] {
        eventually(kind, async || app.events_of(kind).await >= 1).await;
    }
    // As if it had gone on for an hour, and this is all that is left of it.
    app.execute("UPDATE store_marks SET redis = (SELECT array_agg(n + 720) FROM unnest(redis) AS n)").await;
    for replica in ["api-1", "api-2"] {
        app.cluster.stop(replica).await.unwrap();
    }
    app.cluster.stop("postgres").await.unwrap();
    app.restore_redis().await;
    for replica in ["api-1", "api-2"] {
        app.cluster.start_process(replica).await.unwrap();
    }
    for (index, client) in [&out, &living].into_iter().enumerate() {
        eventually("the replica answers", async || {
            matches!(client.at(Door::Replica(index)).try_get("/api/health").await, Ok(answer) if answer.status == 200)
        })
        .await;
        assert_eq!(refresh(client, index).await, "503 unavailable", "nobody knows how old Redis is");
    }
    app.cluster.start_process("postgres").await.unwrap();
    app.is_ready().await;
    eventually("it is known", async || refresh(&out, 0).await != "503 unavailable").await;
    for (index, ended) in [&out, &everywhere, &disabled, &changed, &single].into_iter().enumerate() {
        assert_eq!(refresh(ended, index % 2).await, "401 session_revoked", "{index}");
        let protected = ended.at(Door::Replica(1)).get("/api/protected").await;
        assert_eq!(protected.summary(), "401 session_revoked", "{index}");
    }
    for (index, live) in [&spared, &living].into_iter().enumerate() {
        assert_eq!(refresh(live, index).await, "200", "{index}");
    }
    assert_eq!(out.login("out", PASSWORD).await.status, 200);
    assert_eq!(refresh(&out, 1).await, "200");
}

/// The replicas live on, and Postgres was never told how far Redis had come.
#[tokio::test]
async fn a_replica_that_has_seen_more_of_redis_notices_it_too() {
    let app = start().await;
    let (out, living) = (app.signed_in("out").await, app.signed_in("living").await);
    app.copy_redis().await;
    out.clone().logout().await;
    eventually("it is recorded", async || app.events_of("logged_out").await == 1).await;
    for partition in 0..64 {
        app.redis_command(&["HINCRBY", &keys::mark(partition), "n", "720"]).await;
    }
    let reached = app.mark("n").await;
    eventually("replicas have seen it", async || app.mark("n").await > reached + 1).await;
    app.execute("UPDATE store_marks SET redis = array_fill(0::bigint, ARRAY[64])").await;
    app.restore_redis().await;
    let log = async |replica| app.log_of(replica).contains("what redis had forgotten was repaired");
    eventually("it is repaired", async || log(0).await || log(1).await).await;
    eventually("the session has ended", async || refresh(&out, 0).await == "401 session_revoked").await;
    assert_eq!(refresh(&living, 1).await, "200");
}

#[tokio::test]
async fn users_whom_a_copy_of_postgres_does_not_know_lose_their_sessions_and_their_numbers_are_not_given_out_again() {
    let app = start().await;
    let known = app.signed_in("known").await;
    let dump = app.cluster.dir().join("dump.sql");
    run(pg("pg_dump").args(["--clean", "--if-exists", "--file"]).arg(&dump).arg(app.cluster.database_url()));
    let forgotten = app.signed_in("forgotten").await;
    // As if it had gone on for an hour.
    app.execute("UPDATE store_marks SET postgres = postgres + 720").await;
    eventually("redis knows it", async || app.mark("accounts").await >= 720).await;

    let restore = ["--quiet", "--single-transaction", "--set", "ON_ERROR_STOP=1", "--file"];
    run(pg("psql").args(restore).arg(&dump).arg(app.cluster.database_url()));
    eventually("the replicas have noticed", async || app.mark("epoch").await >= 1).await;
    assert_eq!(refresh(&forgotten, 0).await, "401 session_revoked");
    assert_eq!(refresh(&known, 1).await, "200");
    eventually("its access token is refused", async || {
        forgotten.at(Door::Replica(1)).get("/api/protected").await.summary() == "401 session_revoked"
    })
    .await;
    eventually("its number is taken", async || {
        let query = sqlx::query_scalar::<_, i64>("SELECT last_value FROM users_id_seq");
        query.fetch_one(&mut app.postgres().await).await.unwrap() >= forgotten.session().0
    })
    .await;
    let someone = app.signed_in("someone").await;
    assert!(someone.session().0 > forgotten.session().0);
    assert_eq!(refresh(&someone, 0).await, "200");
}

/// A program of Postgres, which Debian keeps out of the way.
fn pg(name: &str) -> Command {
    let folders = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = folders.map(|version| version.path().join("bin").join(name)).find(|path| path.exists());
    Command::new(found.unwrap_or_else(|| name.into()))
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
}
