//! `GET /api/events`: page by page, and of one kind.

use serde_json::{Value, json};
use sqlx::Connection;

use crate::harness::{Requester, TestApp, eventually, shared};

/// Writes events as replicas do, in one statement; the first one is a replay and all others are log-ins.
async fn write_events(app: &TestApp, client: &Requester, log_ins: i32) {
    let statement = "INSERT INTO events (key, at, kind, user_id, family)
        SELECT gen_random_uuid(), now(), CASE WHEN n = 0 THEN 'refresh_token_reused' ELSE 'logged_in' END, $1, $2
        FROM generate_series(0, $3) AS n ORDER BY n";
    let (user, session) = client.session();
    let insert = sqlx::query(statement).bind(user).bind(session).bind(log_ins);
    insert.execute(&mut app.postgres().await).await.unwrap();
}

async fn page(client: &Requester, query: &str) -> Value {
    let answer = client.get(&format!("/api/events{query}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

fn kinds(page: &Value) -> Vec<&str> {
    page["events"].as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap()).collect()
}

/// A user whose own log-in is written, so that nothing comes in between.
async fn with_events(app: &TestApp, name: &str, log_ins: i32) -> Requester {
    let client = app.signed_in(name).await;
    eventually("the log-in is written", async || kinds(&page(&client, "").await) == ["logged_in"]).await;
    write_events(app, &client, log_ins).await;
    client
}

#[tokio::test]
async fn pages_follow_each_other_without_gap_or_overlap() {
    let app = shared().await;
    let client = with_events(app, "events.pages", 23).await;
    let all = page(&client, "").await;
    assert_eq!((kinds(&all).len(), &all["next"]), (25, &Value::Null));
    for limit in [1, 7, 24, 25, 100] {
        let (mut collected, mut query) = (Vec::new(), format!("?limit={limit}"));
        loop {
            let page = page(&client, &query).await;
            let events = page["events"].as_array().unwrap();
            assert!(!events.is_empty() && events.len() <= limit, "{limit}: {page}");
            collected.extend(events.iter().cloned());
            let Some(next) = page["next"].as_i64() else { break };
            query = format!("?limit={limit}&before={next}");
        }
        assert_eq!(json!(collected), all["events"], "in pages of {limit}");
    }
}

#[tokio::test]
async fn a_replay_is_found_behind_any_number_of_log_ins() {
    let app = shared().await;
    let client = with_events(app, "events.kind", 150).await;
    let newest = page(&client, "").await;
    assert_eq!(kinds(&newest), ["logged_in"; 100]);
    assert!(newest["next"].is_i64(), "{newest}");
    let replays = page(&client, "?kind=refresh_token_reused").await;
    assert_eq!(kinds(&replays), ["refresh_token_reused"]);
    assert_eq!(replays["next"], Value::Null);
    let log_ins = page(&client, "?kind=logged_in&limit=90").await;
    let older = page(&client, &format!("?kind=logged_in&limit=90&before={}", log_ins["next"])).await;
    assert_eq!((kinds(&log_ins).len(), kinds(&older).len()), (90, 61));
    assert_eq!(page(&client, "?kind=user_deleted").await["events"], json!([]));
}

#[tokio::test]
async fn nobody_sees_the_events_of_somebody_else_on_any_page() {
    let app = shared().await;
    let alice = with_events(app, "events.alice", 3).await;
    let mallory = with_events(app, "events.mallory", 0).await;
    let newest = page(&alice, "?limit=1").await["next"].as_i64().unwrap();
    let seen = page(&mallory, &format!("?before={}", newest + 1)).await;
    assert_eq!(seen["events"], json!([]), "all of mallory's own are newer");
}

#[tokio::test]
async fn malformed_pages_and_kinds_are_refused() {
    let app = shared().await;
    let client = app.signed_in("events.bad").await;
    for query in ["limit=0", "limit=101", "limit=x", "before=0", "kind=no_such_kind", "limit=1&limit=2"] {
        client.get(&format!("/api/events?{query}")).await.assert_problem(400, "invalid_request");
    }
}

/// The plans of both statements: in the order of an index, without sorting.
#[tokio::test]
async fn a_page_is_read_from_an_index() {
    let app = shared().await;
    let mut postgres = app.postgres().await;
    // What the planner prefers depends on how much there is: 800 events of user 1, 100 of each kind, among 40,000.
    let mut history = postgres.begin().await.unwrap();
    let many = "INSERT INTO events (at, kind, user_id)
        SELECT now(), CASE WHEN n / 50 % 8 = 0 THEN 'logged_in' ELSE 'kind ' || n / 50 % 8 END, n % 50
        FROM generate_series(1, 40000) n";
    sqlx::raw_sql(many).execute(&mut *history).await.unwrap();
    let without_sorting = "ANALYZE events; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off";
    sqlx::raw_sql(without_sorting).execute(&mut *history).await.unwrap();
    for (condition, index) in [("", "events_user_key"), ("AND kind = 'logged_in'", "events_user_kind_key")] {
        let statement = format!(
            "EXPLAIN SELECT id FROM events WHERE user_id = 1 {condition} AND id < 1000000000 ORDER BY id DESC LIMIT 101"
        );
        let lines: Vec<String> =
            sqlx::query_scalar(sqlx::AssertSqlSafe(statement)).fetch_all(&mut *history).await.unwrap();
        let plan = lines.join("\n");
        assert!(plan.contains(index) && !plan.contains("Sort"), "{plan}");
    }
    history.rollback().await.unwrap();
}
