//! Registering, changing the password, and what administrators do to an account.

use http::Method;
use serde_json::json;

use crate::harness::{Answer, Door, PASSWORD, Requester, TestApp, administer, eventually, send, shared, two_replicas};

const NEW_PASSWORD: &str = "another correct horse";

async fn register(client: &Requester, name: &str, password: &str) -> Answer {
    let body = json!({ "username": name, "password": password });
    send(client.request(Method::POST, "/api/register").json(&body)).await
}

async fn change_password(client: &Requester, current: &str, new: &str) -> Answer {
    let body = json!({ "currentPassword": current, "newPassword": new });
    send(client.request(Method::POST, "/api/password").json(&body)).await
}

async fn is_refused_everywhere(client: &Requester) {
    for replica in 0..2 {
        let client = client.at(Door::Replica(replica));
        eventually("the access token is refused", async || {
            client.get("/api/protected").await.summary() == "401 session_revoked"
        })
        .await;
    }
}

#[tokio::test]
async fn whoever_registers_is_logged_in_and_may_log_in_again() {
    let app = shared().await;
    let answer = register(&app.anonymous(), "Register.Me", PASSWORD).await;
    assert_eq!((answer.status, answer.json()["user"]["username"].as_str()), (201, Some("Register.Me")), "{answer:?}");
    let mut client = app.anonymous();
    client.cookie = answer.cookie();
    assert_eq!(client.refresh().await.status, 200);
    assert_eq!(app.anonymous().login("register.me", PASSWORD).await.status, 200);
    register(&app.anonymous(), "REGISTER.ME", PASSWORD).await.assert_problem(409, "username_taken");
}

#[tokio::test]
async fn an_email_address_is_a_username_and_whitespace_around_it_is_not_part_of_it() {
    let app = shared().await;
    let answer = register(&app.anonymous(), " Mail+1@Example.com\t", PASSWORD).await;
    assert_eq!((answer.status, answer.json()["user"]["username"].as_str()), (201, Some("Mail+1@Example.com")));
    for name in ["mail+1@example.com", "\u{a0}MAIL+1@EXAMPLE.COM\n"] {
        assert_eq!(app.anonymous().login(name, PASSWORD).await.status, 200, "{name:?}");
        register(&app.anonymous(), name, PASSWORD).await.assert_problem(409, "username_taken");
    }
    assert_eq!(app.anonymous().login("mail+1@ example.com", PASSWORD).await.summary(), "401 invalid_credentials");
}

#[tokio::test]
async fn one_of_many_who_want_the_same_name_gets_it() {
    let app = shared().await;
    let mut all = tokio::task::JoinSet::new();
    for index in 0..8 {
        let client = app.anonymous().at(Door::Replica(index % 2));
        all.spawn(async move { register(&client, "register.race", PASSWORD).await.summary() });
    }
    let mut answers = all.join_all().await;
    answers.sort();
    assert_eq!(answers[0], "201", "{answers:?}");
    assert!(answers[1..].iter().all(|answer| answer == "409 username_taken"), "{answers:?}");
}

#[tokio::test]
async fn names_and_passwords_that_will_not_do_are_refused_with_the_reason() {
    let app = shared().await;
    for name in ["ab", "with space", "umläut", "", &"x".repeat(65), "--help", "_bob", "@bob", "+bob", "bob\u{0}"] {
        register(&app.anonymous(), name, PASSWORD).await.assert_problem(400, "invalid_request");
    }
    for name in ["admin", "ROOT", " system ", "Gate.fold", "support@example.com"] {
        register(&app.anonymous(), name, PASSWORD).await.assert_problem(409, "username_reserved");
    }
    for (password, reason) in [
        ("short", "at least 8"),
        (&*"x".repeat(257), "at most 256"),
        ("register.weak", "username"),
        ("password123", "attackers"),
    ] {
        let answer = register(&app.anonymous(), "register.weak", password).await;
        answer.assert_problem(400, "weak_password");
        assert!(answer.json()["detail"].as_str().unwrap().contains(reason), "{answer:?}");
    }
    assert_eq!(app.anonymous().login("register.weak", PASSWORD).await.summary(), "401 invalid_credentials");
}

#[tokio::test]
async fn where_registration_is_closed_nobody_registers() {
    let app = TestApp::start(two_replicas().env("REGISTRATION", "closed")).await;
    register(&app.anonymous(), "closed.out", PASSWORD).await.assert_problem(403, "registration_closed");
}

#[tokio::test]
async fn a_new_password_ends_all_other_sessions_and_only_those() {
    let app = shared().await;
    let mut own = app.signed_in("password.change").await;
    let mut other = app.logged_in("password.change").await;
    let mut stranger = app.signed_in("password.stranger").await;
    change_password(&own, "wrong", NEW_PASSWORD).await.assert_problem(401, "invalid_credentials");
    change_password(&own, PASSWORD, "12345678").await.assert_problem(400, "weak_password");
    assert_eq!(other.get("/api/protected").await.status, 200, "nothing has happened yet");
    assert_eq!(change_password(&own, PASSWORD, NEW_PASSWORD).await.status, 204);
    is_refused_everywhere(&other).await;
    assert_eq!(other.refresh().await.summary(), "401 session_revoked");
    assert_eq!((own.refresh().await.status, stranger.refresh().await.status), (200, 200));
    assert_eq!(app.anonymous().login("password.change", PASSWORD).await.summary(), "401 invalid_credentials");
    assert_eq!(app.anonymous().login("password.change", NEW_PASSWORD).await.status, 200);
}

/// Log-ins with the old password that are under way while it is changed must not leave a session behind.
/// And looks at no password, so that it counts as no guess.
#[tokio::test]
async fn a_current_password_that_nobody_can_have_is_refused_as_at_the_log_in() {
    let alice = shared().await.signed_in("account.long").await;
    for current in ["", &"x".repeat(257)] {
        let answer = change_password(&alice, current, "another horse battery staple").await;
        answer.assert_problem(400, "invalid_request");
        assert!(answer.json()["detail"].as_str().unwrap().contains("`currentPassword`"), "{answer:?}");
    }
    let longest = change_password(&alice, &"x".repeat(256), "another horse battery staple").await;
    longest.assert_problem(401, "invalid_credentials");
}

#[tokio::test]
async fn a_log_in_that_races_with_a_new_password_does_not_outlive_it() {
    let app = shared().await;
    let own = app.signed_in("password.race").await;
    let mut log_ins = tokio::task::JoinSet::new();
    for index in 0..12 {
        let mut client = app.anonymous().at(Door::Replica(index % 2));
        log_ins.spawn(async move {
            client.login("password.race", PASSWORD).await;
            client
        });
    }
    assert_eq!(change_password(&own, PASSWORD, NEW_PASSWORD).await.status, 204);
    for mut client in log_ins.join_all().await {
        if client.cookie.is_some() {
            assert_eq!(client.refresh().await.summary(), "401 session_revoked");
        }
    }
}

#[tokio::test]
async fn without_redis_a_password_is_not_half_changed() {
    let app = TestApp::start(two_replicas().redis_through_proxy()).await;
    let own = app.signed_in("password.outage").await;
    app.cluster.redis_faults().unwrap().refuse();
    change_password(&own, PASSWORD, NEW_PASSWORD).await.assert_problem(503, "unavailable");
    app.cluster.redis_faults().unwrap().pass();
    app.is_ready().await;
    assert_eq!(app.anonymous().login("password.outage", NEW_PASSWORD).await.summary(), "401 invalid_credentials");
    assert_eq!(change_password(&own, PASSWORD, NEW_PASSWORD).await.status, 204, "the same request again");
    assert_eq!(app.anonymous().login("password.outage", NEW_PASSWORD).await.status, 200);
}

#[tokio::test]
async fn a_disabled_user_is_out_at_once_and_learns_it_only_by_the_right_password() {
    let app = shared().await;
    let mut client = app.signed_in("admin.disable").await;
    let said = administer(app, &["user", "disable", "ADMIN.disable"], "").await;
    assert_eq!((said["state"].as_str(), said["sessionsEnded"].as_u64()), (Some("disabled"), Some(1)), "{said}");
    is_refused_everywhere(&client).await;
    assert_eq!(client.clone().refresh().await.summary(), "401 session_revoked");
    assert_eq!(app.anonymous().login("admin.disable", PASSWORD).await.summary(), "403 account_disabled");
    assert_eq!(app.anonymous().login("admin.disable", "wrong password").await.summary(), "401 invalid_credentials");
    administer(app, &["user", "enable", "admin.disable"], "").await;
    assert_eq!(app.anonymous().login("admin.disable", PASSWORD).await.status, 200);
    assert_eq!(client.refresh().await.summary(), "401 session_revoked", "the old session stays dead");
}

#[tokio::test]
async fn administrators_look_after_users_and_sessions() {
    let app = shared().await;
    let client = app.signed_in("admin.look").await;
    let (_, family) = client.session();
    let shown = administer(app, &["user", "show", "admin.look"], "").await;
    assert_eq!((shown[0]["state"].as_str(), shown[0]["sessions"].as_u64()), (Some("active"), Some(1)), "{shown}");
    let sessions = administer(app, &["session", "list", "admin.look"], "").await;
    assert_eq!(sessions[0]["id"].as_str(), Some(family.to_string().as_str()), "{sessions}");
    let ended = administer(app, &["session", "revoke", "admin.look", &family.to_string()], "").await;
    assert_eq!(ended["revoked"].as_u64(), Some(1));
    is_refused_everywhere(&client).await;

    let client = app.logged_in("admin.look").await;
    administer(app, &["user", "passwd", "admin.look"], &format!("{NEW_PASSWORD}\n")).await;
    is_refused_everywhere(&client).await;
    let mut client = app.anonymous();
    assert_eq!(client.login("admin.look", NEW_PASSWORD).await.status, 200);
    administer(app, &["user", "delete", "admin.look", "--yes"], "").await;
    is_refused_everywhere(&client).await;
    assert_eq!(client.login("admin.look", NEW_PASSWORD).await.summary(), "401 invalid_credentials");
    let events = administer(app, &["audit", "--limit", "1000"], "").await;
    let kinds: Vec<_> = events.as_array().unwrap().iter().filter_map(|event| event["kind"].as_str()).collect();
    for kind in ["session_ended", "password_changed", "user_deleted"] {
        assert!(kinds.contains(&kind), "{kind} in {kinds:?}");
    }
}

#[tokio::test]
async fn whoever_registers_with_decomposed_characters_can_log_in_with_them() {
    let app = shared().await;
    let password = "o\u{308}".repeat(200);
    assert_eq!(register(&app.anonymous(), "register.decomposed", &password).await.status, 201);
    assert_eq!(app.anonymous().login("register.decomposed", &password).await.status, 200);
    assert_eq!(app.anonymous().login("register.decomposed", &"\u{f6}".repeat(200)).await.status, 200);
}

#[tokio::test]
async fn a_name_is_still_free_after_a_registration_that_failed_for_lack_of_redis() {
    let app = TestApp::start(two_replicas().redis_through_proxy()).await;
    app.cluster.redis_faults().unwrap().refuse();
    register(&app.anonymous(), "register.outage", PASSWORD).await.assert_problem(503, "unavailable");
    app.cluster.redis_faults().unwrap().pass();
    app.is_ready().await;
    assert_eq!(register(&app.anonymous(), "register.outage", PASSWORD).await.status, 201);
}

/// The shell of an administrator need not know how long the replicas' access tokens live.
#[tokio::test]
async fn what_an_administrator_ends_is_refused_for_as_long_as_its_tokens_live() {
    let app = TestApp::start(two_replicas().env("ACCESS_TOKEN_EXPIRY", "1h")).await;
    let client = app.signed_in("admin.expiry").await;
    let (user, family) = client.session();
    let ended = administer(&app, &["session", "revoke", "admin.expiry", &family.to_string()], "").await;
    assert_eq!(ended["revoked"].as_u64(), Some(1));
    let log = app.redis_command(&["XRANGE", &gatefold_shared::redis::keys::revocations(user), "-", "+"]).await;
    let until = log.split("until").nth(1).unwrap();
    let until: i64 = until.chars().filter(char::is_ascii_digit).take(13).collect::<String>().parse().unwrap();
    let left = until - i64::try_from(gatefold_shared::clock::unix_millis()).unwrap();
    assert!(left > 59 * 60 * 1000, "it is of interest for another {left} ms: {log}");
    is_refused_everywhere(&client).await;
}
