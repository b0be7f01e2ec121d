//! Connections to Postgres that are of no use although nobody has closed them: to a server that takes no writes any more, to
//! one that is gone, or through something that has forgotten them.

use std::time::Duration;

use futures_util::future::join_all;
use http::{Method, header};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use sqlx::PgConnection;
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use crate::harness::{Answer, Door, PASSWORD, Requester, TestApp, eventually, send, two_replicas, unique};

/// As many as `DB_POOL_SIZE` allows.
const POOL: i64 = 5;

/// What these tests do to Postgres everybody notices, so they take turns.
async fn cluster() -> MutexGuard<'static, TestApp> {
    static CLUSTER: OnceCell<Mutex<TestApp>> = OnceCell::const_new();
    let start = async || Mutex::new(TestApp::start(two_replicas().env("DB_POOL_SIZE", POOL.to_string())).await);
    let app = CLUSTER.get_or_init(start).await.lock().await;
    app.is_ready().await;
    app
}

async fn execute(postgres: &mut PgConnection, statement: &'static str) {
    sqlx::raw_sql(statement).execute(postgres).await.unwrap();
}

async fn register(client: &Requester, name: &str) -> Answer {
    let body = json!({ "username": name, "password": PASSWORD }).to_string();
    let request = client.request(Method::POST, "/api/register").header(header::CONTENT_TYPE, "application/json");
    send(request.body(body)).await
}

/// The processes that serve one of the replicas, or both.
async fn sessions(app: &TestApp) -> Vec<i32> {
    let query =
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'gatefold-api' AND backend_type = 'client backend'";
    sqlx::query_scalar(query).fetch_all(&mut app.postgres().await).await.unwrap()
}

/// Has one replica open all connections that it may: while nobody can read users, each log-in holds one.
async fn fill_pool(app: &TestApp, name: &str) {
    let mut postgres = app.postgres().await;
    let log_ins = (0..POOL * 2).map(|_| async {
        let mut client = app.anonymous().at(Door::Replica(0));
        client.try_login(name, PASSWORD).await.unwrap()
    });
    let hold = async {
        execute(&mut postgres, "BEGIN; LOCK TABLE users").await;
        let query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'gatefold-api' AND wait_event_type = 'Lock'";
        let mut watcher = app.postgres().await;
        // As far as they come before they are told 503.
        let _ = tokio::time::timeout(Duration::from_secs(1), async {
            while sqlx::query_scalar::<_, i64>(query).fetch_one(&mut watcher).await.unwrap() < POOL {
                tokio::task::yield_now().await;
            }
        })
        .await;
        execute(&mut postgres, "ROLLBACK").await;
    };
    tokio::join!(hold, join_all(log_ins));
    let mut client = app.anonymous().at(Door::Replica(0));
    eventually("a log-in is served", async || client.login(name, PASSWORD).await.status == 200).await;
}

#[tokio::test]
async fn while_postgres_takes_no_writes_log_ins_go_on_and_the_replica_is_not_ready() {
    let app = cluster().await;
    let name = unique("failover.reads");
    app.add_user(&name).await;
    let client = app.anonymous().at(Door::Replica(0));
    let mut postgres = app.postgres().await;
    execute(&mut postgres, "SET default_transaction_read_only = off").await;
    execute(&mut postgres, "ALTER SYSTEM SET default_transaction_read_only = on").await;
    execute(&mut postgres, "SELECT pg_reload_conf()").await;
    eventually("the replica notices", async || {
        let answer = client.get("/api/ready").await;
        answer.status == 503 && answer.json()["checks"]["postgres"] == "read_only"
    })
    .await;
    eventually("a log-in is served", async || client.clone().login(&name, PASSWORD).await.status == 200).await;
    register(&client, &unique("failover.nobody")).await.assert_problem(503, "unavailable");
    execute(&mut postgres, "ALTER SYSTEM RESET default_transaction_read_only").await;
    execute(&mut postgres, "SELECT pg_reload_conf()").await;
    app.is_ready().await;
    assert_eq!(register(&client, &unique("failover.writes")).await.status, 201);
}

/// As after a failover behind one address: the connections that there are lead to the former primary, new ones to the new.
#[tokio::test]
async fn connections_to_a_former_primary_are_replaced() {
    let app = cluster().await;
    let name = unique("failover.former");
    app.add_user(&name).await;
    let client = app.anonymous().at(Door::Replica(0));
    let mut postgres = app.postgres().await;
    execute(&mut postgres, "SET default_transaction_read_only = off").await;
    execute(&mut postgres, "ALTER ROLE gatefold_api SET default_transaction_read_only = on").await;
    let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'gatefold-api'";
    execute(&mut postgres, terminate).await;
    fill_pool(&app, &name).await;
    eventually("all are of the former primary", async || register(&client, &unique("failover.no")).await.status == 503)
        .await;
    execute(&mut postgres, "ALTER ROLE gatefold_api RESET default_transaction_read_only").await;
    eventually("a write succeeds", async || register(&client, &unique("failover.yes")).await.status == 201).await;
    // And none is left to meet.
    for _ in 0..POOL * 2 {
        assert_eq!(register(&client, &unique("failover.yes")).await.status, 201);
    }
    let metrics = app.metrics_of(0).await;
    assert!(metrics.contains(r#"gatefold_postgres_connections_closed_total{why="read_only"}"#), "{metrics}");
}

#[tokio::test]
async fn sessions_that_postgres_ends_cost_nobody_a_log_in() {
    let app = cluster().await;
    let name = unique("failover.ended");
    app.add_user(&name).await;
    fill_pool(&app, &name).await;
    let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'gatefold-api'";
    execute(&mut app.postgres().await, terminate).await;
    for _ in 0..POOL * 2 {
        let mut client = app.anonymous().at(Door::Replica(0));
        assert_eq!(client.login(&name, PASSWORD).await.summary(), "200");
    }
}

/// As behind a NAT that has forgotten them: nothing is closed, nothing is answered, and new connections work.
#[tokio::test]
async fn sessions_that_fall_silent_cost_nobody_a_log_in() {
    let app = cluster().await;
    let name = unique("failover.silent");
    app.add_user(&name).await;
    fill_pool(&app, &name).await;
    let silent: Vec<_> = sessions(&app).await.into_iter().filter_map(Pid::from_raw).collect();
    assert!(silent.len() >= usize::try_from(POOL).unwrap(), "{silent:?}");
    for pid in &silent {
        kill_process(*pid, Signal::STOP).unwrap();
    }
    let mut answers = Vec::new();
    for _ in 0..POOL * 2 {
        answers.push(app.anonymous().at(Door::Replica(0)).login(&name, PASSWORD).await.summary());
    }
    for pid in &silent {
        kill_process(*pid, Signal::CONT).unwrap();
    }
    assert_eq!(answers, vec!["200"; answers.len()]);
    let metrics = app.metrics_of(0).await;
    assert!(metrics.contains(r#"gatefold_postgres_connections_closed_total{why="silent"}"#), "{metrics}");
}

/// The session of a log-in that is under way while the password changes is not known to whoever ends the others.
#[tokio::test]
async fn a_log_in_waits_for_a_change_that_is_being_made() {
    let app = cluster().await;
    let name = unique("failover.waits");
    let id = app.add_user(&name).await;
    for change in
        ["UPDATE users SET security_version = security_version + 1 WHERE id = $1", "DELETE FROM users WHERE id = $1"]
    {
        let mut changing = app.postgres().await;
        execute(&mut changing, "BEGIN").await;
        sqlx::query(change).bind(id).execute(&mut changing).await.unwrap();
        let finish = async {
            let mut watcher = app.postgres().await;
            let waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)";
            eventually("the log-in waits", async || {
                sqlx::query_scalar::<_, bool>(waiting).fetch_one(&mut watcher).await.unwrap()
            })
            .await;
            execute(&mut changing, "COMMIT").await;
        };
        let mut client = app.anonymous().at(Door::Replica(0));
        let (answer, ()) = tokio::join!(client.login(&name, PASSWORD), finish);
        assert_eq!(answer.summary(), "401 invalid_credentials", "{change}");
    }
}
