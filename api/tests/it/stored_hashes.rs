//! Password hashes that Gatefold did not make: those of the legacy system, and those that nothing can verify.

use http::Method;
use serde_json::json;

use crate::harness::{PASSWORD, TestApp, administer, eventually, send, shared};

/// Adds a user with this hash; their id.
async fn add_user(app: &TestApp, name: &str, hash: &str) -> i64 {
    let insert = sqlx::query_scalar("INSERT INTO users (username, password_hash) VALUES ($1, $2) RETURNING id");
    insert.bind(name).bind(hash).fetch_one(&mut app.postgres().await).await.unwrap()
}

async fn hash_of(app: &TestApp, id: i64) -> String {
    let select = sqlx::query_scalar("SELECT password_hash FROM users WHERE id = $1");
    select.bind(id).fetch_one(&mut app.postgres().await).await.unwrap()
}

/// What `user show` says of how the password is kept.
async fn format_of(app: &TestApp, name: &str) -> String {
    let shown = administer(app, &["user", "show", "--", name], "").await;
    shown[0]["passwordFormat"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn legacy_bcrypt_hashes_verify_and_are_upgraded() {
    let app = shared().await;
    let id = add_user(app, "password.bcrypt", &bcrypt::hash(PASSWORD, 4).unwrap()).await;
    assert_eq!(format_of(app, "password.bcrypt").await, "bcrypt");
    assert_eq!(app.anonymous().login("password.bcrypt", "wrong password").await.summary(), "401 invalid_credentials");
    assert_eq!(app.anonymous().login("password.bcrypt", PASSWORD).await.status, 200);
    assert!(hash_of(app, id).await.starts_with("$argon2id$"));
    assert_eq!(format_of(app, "password.bcrypt").await, "argon2id");
    assert_eq!(app.anonymous().login("password.bcrypt", PASSWORD).await.status, 200);
}

#[tokio::test]
async fn what_bcrypt_did_not_see_lets_nobody_in_and_replaces_no_hash() {
    let app = shared().await;
    let long = "0123456789ab".repeat(6) + " and the rest";
    let hash = bcrypt::hash(&long, 4).unwrap();
    let id = add_user(app, "password.long", &hash).await;
    let mut client = app.anonymous();
    for password in [&long[..], &format!("{}another end", &long[..72]), &format!("{}\0", &long[..72])] {
        client.login("password.long", password).await.assert_problem(403, "password_reset_required");
    }
    for password in [&"x".repeat(80)[..], &long[..71], &format!("{}\0x", &long[..70])] {
        assert_eq!(client.login("password.long", password).await.summary(), "401 invalid_credentials");
    }
    assert_eq!(hash_of(app, id).await, hash);
    eventually("it is recorded why", async || {
        let events = administer(app, &["audit", "--user=password.long"], "").await;
        let why = events.as_array().unwrap().iter().filter(|event| event["details"]["why"] == "longer_than_bcrypt_saw");
        why.count() == 3
    })
    .await;
    // The way out.
    administer(app, &["user", "passwd", "--", "password.long"], &long).await;
    assert_eq!(client.login("password.long", &long).await.status, 200);
    assert_eq!(client.login("password.long", &format!("{}!", &long[..72])).await.summary(), "401 invalid_credentials");
}

#[tokio::test]
async fn a_hash_of_unknown_format_is_told_to_its_user_and_its_operator() {
    let app = shared().await;
    let id = add_user(app, "password.unreadable", "5f4dcc3b5aa765d61d8327deb882cf99").await;
    let mut client = app.anonymous();
    for _ in 0..15 {
        client.login("password.unreadable", "password").await.assert_problem(403, "password_reset_required");
    }
    assert_eq!(format_of(app, "password.unreadable").await, "unreadable");
    let logs = app.log_of(0) + &app.log_of(1);
    assert!(logs.contains("unreadable_hash") && logs.contains("gatefold-api user passwd"), "an operator looks here");
    assert!(!logs.contains("5f4dcc3b"), "a hash is no message");
    administer(app, &["user", "passwd", "--", "password.unreadable"], PASSWORD).await;
    assert_eq!(client.login("password.unreadable", PASSWORD).await.status, 200);

    // It may also become so while its user is logged in.
    let spoil = sqlx::query("UPDATE users SET password_hash = '$argon2id$' WHERE id = $1").bind(id);
    spoil.execute(&mut app.postgres().await).await.unwrap();
    let body = json!({ "currentPassword": PASSWORD, "newPassword": "another correct horse" });
    let answer = send(client.request(Method::POST, "/api/password").json(&body)).await;
    answer.assert_problem(403, "password_reset_required");
    assert_eq!(client.refresh().await.status, 200, "the session goes on");
}
