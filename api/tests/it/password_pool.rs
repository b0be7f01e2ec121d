//! Where the work of choosing a password is done: on the pool of password hashes, which is bounded and gives way to all
//! other work, and after the limits.

use http::Method;
use serde_json::json;

use crate::harness::{Answer, Door, PASSWORD, Requester, TestApp, eventually, send, two_replicas, unhurried};

/// A pattern search of this takes longest: its characters can each stand for several letters.
const DEAR: &str = "{[69$!+517|<@8[390!25%74<(8{[<6#";

async fn register(client: &Requester, address: &str, name: &str, password: &str) -> Answer {
    let body = json!({ "username": name, "password": password });
    let request = client.request(Method::POST, "/api/register").header("x-forwarded-for", address);
    send(request.json(&body)).await
}

async fn change_password(client: &Requester, current: &str, new: &str) -> String {
    let body = json!({ "currentPassword": current, "newPassword": new });
    send(client.request(Method::POST, "/api/password").json(&body)).await.summary()
}

/// How many jobs the pool of the first replica has done.
async fn jobs(app: &TestApp) -> u64 {
    let metrics = app.metrics_of(0).await;
    let line = metrics.lines().find_map(|line| line.strip_prefix("gatefold_password_hash_duration_seconds_count "));
    line.map_or(0, |count| count.parse().unwrap())
}

/// Waits until it has done so many; a job is counted just after its result is there.
async fn await_jobs(app: &TestApp, expected: u64, what: &str) {
    eventually(what, async || jobs(app).await >= expected).await;
    assert_eq!(jobs(app).await, expected, "{what}");
}

#[tokio::test]
async fn chosen_passwords_are_judged_on_the_pool_and_behind_the_limits() {
    let cluster = unhurried(two_replicas()).api(1).env("LIMIT_REGISTER_ADDRESS", "10/10h");
    let app = TestApp::start(cluster).await;
    let client = app.anonymous().at(Door::Replica(0));
    let owner = app.signed_in("pool.owner").await.at(Door::Replica(0));

    eventually("the owner's login is counted", async || jobs(&app).await >= 1).await;
    let before = jobs(&app).await;
    for _ in 0..10 {
        let answer = register(&client, "198.51.100.1", "pool.new", "password123").await;
        answer.assert_problem(400, "weak_password");
    }
    await_jobs(&app, before + 10, "each was judged there").await;
    register(&client, "198.51.100.1", "pool.new", "password123").await.assert_problem(429, "rate_limited");
    for password in ["short", "pool.new"] {
        register(&client, "198.51.100.2", "pool.new", password).await.assert_problem(400, "weak_password");
    }
    await_jobs(&app, before + 10, "what is refused otherwise is not").await;

    assert_eq!(change_password(&owner, "wrong", "password123").await, "401 invalid_credentials");
    await_jobs(&app, before + 11, "without the current password no new one is judged").await;
    assert_eq!(change_password(&owner, PASSWORD, "password123").await, "400 weak_password");
    await_jobs(&app, before + 13, "the right password and the new one were judged").await;

    assert_eq!(register(&client, "198.51.100.2", "pool.dear", DEAR).await.status, 201);
}
