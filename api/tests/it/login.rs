//! `POST /api/login`.

use std::collections::BTreeMap;

use http::{Method, header};
use insta::assert_snapshot;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{Answer, Door, PASSWORD, Requester, TestApp, send, shared, two_replicas, unhurried, unique};

async fn login_with(requester: &Requester, body: &Value) -> Answer {
    send(requester.request(Method::POST, "/api/login").json(body)).await
}

#[tokio::test]
async fn it_answers_with_an_access_token_the_user_and_a_cookie() {
    let app = shared().await;
    app.add_user("Login.Plain").await;
    let answer = app.anonymous().at(Door::Replica(0)).login("Login.Plain", PASSWORD).await;
    assert_snapshot!(answer.snapshot(), @r#"
    200
    cache-control: no-store
    content-type: application/json
    set-cookie: refreshToken-device=[token]; HttpOnly; SameSite=Strict; Path=/api/login; Max-Age=31536000
    set-cookie: refreshToken=[token]; HttpOnly; SameSite=Strict; Path=/api; Max-Age=604800
    x-content-type-options: nosniff
    x-request-id: [request id]

    {
      "accessToken": "[access token]",
      "expiresIn": 900,
      "user": {
        "id": "[id]",
        "username": "Login.Plain"
      }
    }
    "#);
}

#[tokio::test]
async fn through_nginx_it_is_the_same_with_the_headers_of_a_site() {
    let app = shared().await;
    app.add_user("login.nginx").await;
    let answer = app.anonymous().login("login.nginx", PASSWORD).await;
    assert_snapshot!(answer.snapshot(), @r#"
    200
    cache-control: no-store
    content-security-policy: default-src 'none'; connect-src 'self'; img-src 'self'; script-src 'self'; style-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'
    content-type: application/json
    permissions-policy: camera=(), geolocation=(), microphone=(), payment=(), usb=()
    referrer-policy: no-referrer
    set-cookie: refreshToken-device=[token]; HttpOnly; SameSite=Strict; Path=/api/login; Max-Age=31536000
    set-cookie: refreshToken=[token]; HttpOnly; SameSite=Strict; Path=/api; Max-Age=604800
    x-content-type-options: nosniff
    x-frame-options: DENY
    x-replica: [replica]
    x-request-id: [request id]

    {
      "accessToken": "[access token]",
      "expiresIn": 900,
      "user": {
        "id": "[id]",
        "username": "login.nginx"
      }
    }
    "#);
}

#[tokio::test]
async fn the_user_is_who_they_are_in_any_case_of_letters() {
    let app = shared().await;
    let id = app.add_user("Login.CamelCase").await;
    for name in ["Login.CamelCase", "login.camelcase", "LOGIN.CAMELCASE"] {
        let answer = app.anonymous().login(name, PASSWORD).await;
        assert_eq!(answer.json()["user"], json!({ "id": id, "username": "Login.CamelCase" }), "{answer:?}");
    }
}

#[tokio::test]
async fn every_log_in_opens_a_session_of_its_own() {
    let app = shared().await;
    let name = unique("login.twice");
    let (mut first, mut second) = (app.signed_in(&name).await, app.logged_in(&name).await);
    assert_ne!(first.cookie, second.cookie);
    first.logout().await;
    assert_eq!(second.refresh().await.status, 200);
}

#[tokio::test]
async fn an_unknown_user_and_a_wrong_password_get_the_same_answer() {
    let app = shared().await;
    app.add_user("login.known").await;
    let mut client = app.anonymous().at(Door::Replica(0));
    let wrong = client.login("login.known", "wrong horse battery staple").await;
    assert_snapshot!(wrong.snapshot(), @r#"
    401
    cache-control: no-store
    content-type: application/problem+json
    x-content-type-options: nosniff
    x-request-id: [request id]

    {
      "code": "invalid_credentials",
      "detail": "Invalid credentials",
      "error": "Invalid credentials",
      "requestId": "[request id]",
      "requireReauth": false,
      "status": 401,
      "title": "Unauthorized",
      "type": "about:blank"
    }
    "#);
    for (name, password) in [
        ("login.unknown", PASSWORD),
        ("LOGIN.KNOWN", "x"),
        ("no username at all!", PASSWORD),
        ("' OR 1=1 --", PASSWORD),
        ("login.known", &"x".repeat(256)),
        ("x", "x"),
        (&"x".repeat(64), "x"),
    ] {
        let answer = client.login(name, password).await;
        assert_eq!(answer.snapshot(), wrong.snapshot(), "{name}");
        assert_eq!(answer.header(header::CONTENT_LENGTH), wrong.header(header::CONTENT_LENGTH), "{name}");
    }
}

/// Without the work for unknown users they would be answered in a tenth of the time.
#[tokio::test]
async fn an_unknown_user_and_a_wrong_password_take_the_same_time() {
    const SAMPLES: usize = 30;
    let app = shared().await;
    app.add_user("login.timed").await;
    let mut client = app.anonymous().at(Door::Replica(0));
    let cases = ["login.timed", "login.nobody", "no username at all!"];
    let mut times = cases.map(|_| Vec::with_capacity(SAMPLES));
    // Taken in turns, so that whatever else the machine does hits all of them alike.
    for turn in 0..SAMPLES * cases.len() {
        let case = turn % cases.len();
        let answer = client.login(cases[case], "wrong horse battery staple").await;
        assert_eq!(answer.summary(), "401 invalid_credentials");
        times[case].push(answer.took);
    }
    // The fastest of many is the work itself; the others measure what else the machine does.
    let fastest = times.map(|times| times.into_iter().min().unwrap());
    println!("fastest of {SAMPLES}: {fastest:?} for {cases:?}");
    let (least, most) = (fastest.iter().min().unwrap(), fastest.iter().max().unwrap());
    assert!(most.as_secs_f64() < least.as_secs_f64() * 1.5, "{fastest:?} for {cases:?}");
}

/// More log-ins at once than can be hashed must not starve what is cheap.
#[tokio::test]
async fn a_storm_of_log_ins_is_refused_in_part_and_refreshes_go_on() {
    let app = TestApp::start(unhurried(two_replicas()).env("ARGON2_PASSES", "20").env("ARGON2_QUEUE", "0")).await;
    let mut alice = app.signed_in("login.storm").await.at(Door::Replica(0));
    let mut storm = JoinSet::new();
    for _ in 0..24 {
        let mut client = app.anonymous().at(Door::Replica(0));
        storm.spawn(async move { client.login("login.storm", PASSWORD).await });
    }
    let mut outcomes = BTreeMap::<String, u32>::new();
    while let Some(answer) = storm.join_next().await {
        let answer = answer.unwrap();
        assert_eq!(alice.refresh().await.status, 200);
        if answer.status != 200 {
            answer.assert_problem(503, "unavailable");
        }
        *outcomes.entry(answer.summary()).or_default() += 1;
    }
    assert_eq!(outcomes.keys().collect::<Vec<_>>(), ["200", "503 unavailable"], "{outcomes:?}");
    assert_eq!(alice.login("login.storm", PASSWORD).await.status, 200, "and afterwards all is well");
}

#[tokio::test]
async fn a_field_that_is_missing_or_not_right_is_named() {
    let client = shared().await.anonymous().at(Door::Replica(0));
    let mut said = String::new();
    for body in [
        json!({}),
        json!({ "username": "alice" }),
        json!({ "password": "x" }),
        json!({ "username": null, "password": "x" }),
        json!({ "username": 1, "password": "x" }),
        json!({ "username": "alice", "password": ["x"] }),
        json!({ "username": "", "password": "x" }),
        json!({ "username": "x".repeat(65), "password": "x" }),
        json!({ "username": "alice", "password": "" }),
        json!({ "username": "alice", "password": "x".repeat(257) }),
        json!({ "Username": "alice", "password": "x" }),
    ] {
        let answer = login_with(&client, &body).await;
        answer.assert_problem(400, "invalid_request");
        said += answer.json()["detail"].as_str().unwrap();
        said.push('\n');
    }
    assert_snapshot!(said, @r"
    `username` is missing
    `password` is missing
    `username` is missing
    `username` has the wrong type
    `username` has the wrong type
    `password` has the wrong type
    `username` must have 1 to 64 characters
    `username` must have 1 to 64 characters
    `password` must have 1 to 256 characters
    `password` must have 1 to 256 characters
    `username` is missing
    ");
}

#[tokio::test]
async fn fields_that_we_do_not_know_do_no_harm() {
    let app = shared().await;
    app.add_user("login.more").await;
    let body = json!({ "username": "login.more", "password": PASSWORD, "remember": true });
    assert_eq!(login_with(&app.anonymous(), &body).await.status, 200);
}

#[tokio::test]
async fn a_password_is_counted_in_characters_and_compared_composed() {
    let app = shared().await;
    let composed = "p\u{e4}ssw\u{f6}rd \u{1f511}".repeat(20);
    assert!(composed.len() > 256 && composed.chars().count() <= 256);
    app.cluster.create_user("login.unicode", &composed).await.unwrap();
    let decomposed = composed.replace('\u{e4}', "a\u{308}");
    for password in [composed, decomposed] {
        assert_eq!(app.anonymous().login("login.unicode", &password).await.status, 200);
    }
}
