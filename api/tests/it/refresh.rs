//! `POST /api/refresh`: what a client gets for its cookie, and for what is none.

use gatefold_shared::clock;
use http::{Method, header};
use insta::assert_snapshot;

use crate::harness::{Door, TestApp, claims, send, shared, two_replicas, unhurried};

#[tokio::test]
async fn it_trades_the_cookie_for_the_next_one_and_an_access_token() {
    let app = shared().await;
    let mut alice = app.signed_in("refresh.plain").await.at(Door::Replica(0));
    let before = alice.clone();
    assert_snapshot!(alice.refresh().await.snapshot(), @r#"
    200
    cache-control: no-store
    content-type: application/json
    set-cookie: refreshToken=[token]; HttpOnly; SameSite=Strict; Path=/api; Max-Age=604800
    x-content-type-options: nosniff
    x-request-id: [request id]

    {
      "accessToken": "[access token]",
      "expiresIn": 900
    }
    "#);
    assert_ne!(alice.cookie, before.cookie);
    assert_ne!(alice.access_token, before.access_token);
    assert_eq!(alice.refresh().await.status, 200, "the next one works as well");
}

#[tokio::test]
async fn without_a_cookie_there_is_nothing_to_trade() {
    let mut nobody = shared().await.anonymous().at(Door::Replica(0));
    assert_snapshot!(nobody.refresh().await.snapshot(), @r#"
    401
    cache-control: no-store
    content-type: application/problem+json
    x-content-type-options: nosniff
    x-request-id: [request id]

    {
      "code": "missing_refresh_token",
      "detail": "No refresh token: log in first",
      "error": "No refresh token: log in first",
      "requestId": "[request id]",
      "requireReauth": false,
      "status": 401,
      "title": "Unauthorized",
      "type": "about:blank"
    }
    "#);
}

#[tokio::test]
async fn a_cookie_that_is_not_ours_is_refused_and_not_cleared() {
    let mut nobody = shared().await.anonymous().at(Door::Replica(0)).with_cookie("not-one-of-ours");
    assert_snapshot!(nobody.refresh().await.snapshot(), @r#"
    401
    cache-control: no-store
    content-type: application/problem+json
    x-content-type-options: nosniff
    x-request-id: [request id]

    {
      "code": "invalid_refresh_token",
      "detail": "The refresh token is not valid",
      "error": "The refresh token is not valid",
      "requestId": "[request id]",
      "requireReauth": false,
      "status": 401,
      "title": "Unauthorized",
      "type": "about:blank"
    }
    "#);
}

#[tokio::test]
async fn a_session_that_is_gone_is_refused_and_cleared() {
    let app = shared().await;
    let mut alice = app.signed_in("refresh.gone").await.at(Door::Replica(0));
    app.redis_command(&["DEL", &alice.family_key()]).await;
    assert_snapshot!(alice.refresh().await.snapshot(), @r#"
    401
    cache-control: no-store
    content-type: application/problem+json
    set-cookie: refreshToken=; HttpOnly; SameSite=Strict; Path=/api; Max-Age=0
    x-content-type-options: nosniff
    x-request-id: [request id]

    {
      "code": "session_not_found",
      "detail": "The session has expired: log in again",
      "error": "The session has expired: log in again",
      "requestId": "[request id]",
      "requireReauth": true,
      "status": 401,
      "title": "Unauthorized",
      "type": "about:blank"
    }
    "#);
}

#[tokio::test]
async fn a_session_that_was_ended_is_refused_and_cleared() {
    let app = shared().await;
    let mut alice = app.signed_in("refresh.ended").await.at(Door::Replica(0));
    alice.clone().logout().await;
    assert_snapshot!(alice.refresh().await.snapshot(), @r#"
    401
    cache-control: no-store
    content-type: application/problem+json
    set-cookie: refreshToken=; HttpOnly; SameSite=Strict; Path=/api; Max-Age=0
    x-content-type-options: nosniff
    x-request-id: [request id]

    {
      "code": "session_revoked",
      "detail": "The session was ended: log in again",
      "error": "The session was ended: log in again",
      "requestId": "[request id]",
      "requireReauth": true,
      "status": 401,
      "title": "Unauthorized",
      "type": "about:blank"
    }
    "#);
}

#[tokio::test]
async fn a_replayed_token_is_refused_and_cleared() {
    let app = shared().await;
    let mut alice = app.signed_in("refresh.replayed").await.at(Door::Replica(0));
    alice.clone().refresh().await;
    assert_snapshot!(alice.refresh().await.snapshot(), @r#"
    401
    cache-control: no-store
    content-type: application/problem+json
    set-cookie: refreshToken=; HttpOnly; SameSite=Strict; Path=/api; Max-Age=0
    x-content-type-options: nosniff
    x-request-id: [request id]

    {
      "code": "refresh_token_reused",
      "detail": "The refresh token had been used before, so the session was ended: log in again",
      "error": "The refresh token had been used before, so the session was ended: log in again",
      "requestId": "[request id]",
      "requireReauth": true,
      "status": 401,
      "title": "Unauthorized",
      "type": "about:blank"
    }
    "#);
}

#[tokio::test]
async fn the_token_of_another_family_with_the_same_name_is_of_no_use() {
    let app = shared().await;
    let mut alice = app.signed_in("refresh.swapped").await;
    // As after a restore of somebody else's data: the family is there, and its secret is another one.
    app.redis_command(&["HSET", &alice.family_key(), "secret_digest", &"0".repeat(64)]).await;
    assert_eq!(alice.refresh().await.summary(), "401 session_not_found");
}

#[tokio::test]
async fn an_idempotency_key_that_is_none_is_refused_and_the_session_goes_on() {
    let app = shared().await;
    let mut alice = app.signed_in("refresh.key").await.at(Door::Replica(0));
    for key in ["", " ", "two words", &"x".repeat(256), "caf\u{e9}"] {
        let answer = alice.refresh_with_key(key).await;
        answer.assert_problem(400, "invalid_request");
        assert!(answer.cookie().is_none(), "{key:?}");
    }
    let two = alice.request(Method::POST, "/api/refresh").header("idempotency-key", "a").header("idempotency-key", "b");
    send(two).await.assert_problem(400, "invalid_request");
    assert_eq!(alice.refresh_with_key(&"x".repeat(255)).await.status, 200);
}

#[tokio::test]
async fn the_cookie_is_found_among_others() {
    let app = shared().await;
    let alice = app.signed_in("refresh.others").await;
    let cookies = format!("theme=dark; refreshToken={}; b=\"2\"", alice.cookie());
    let request = alice.with_cookie("").request(Method::POST, "/api/refresh");
    let mut request = request.build().unwrap();
    request.headers_mut().insert(header::COOKIE, cookies.parse().unwrap());
    let answer = reqwest::Client::builder().no_proxy().build().unwrap().execute(request).await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn the_body_of_a_refresh_does_not_matter() {
    let app = shared().await;
    let alice = app.signed_in("refresh.body").await;
    let request = alice.request(Method::POST, "/api/refresh").header(header::CONTENT_TYPE, "text/plain").body("{");
    assert_eq!(send(request).await.status, 200);
}

/// The cookie lives as long as the family: from the last refresh, and never past the absolute limit.
#[tokio::test]
async fn a_session_slides_and_ends_at_its_absolute_limit() {
    let app = TestApp::start(
        unhurried(two_replicas())
            .env("REFRESH_TOKEN_EXPIRY", "60s")
            .env("ACCESS_TOKEN_EXPIRY", "30s")
            .env("SESSION_ABSOLUTE_EXPIRY", "90s"),
    )
    .await;
    let mut alice = app.signed_in("refresh.sliding").await;
    let family = alice.family_key();
    let max_age = |answer: &crate::harness::Answer| {
        let cookie = answer.header(header::SET_COOKIE).unwrap().to_owned();
        cookie.rsplit_once("Max-Age=").unwrap().1.parse::<u64>().unwrap()
    };
    let first = alice.refresh().await;
    assert!((58..=60).contains(&max_age(&first)), "{first:?}");
    assert_eq!(first.json()["expiresIn"], 30);

    // As if it were 70 seconds later: twenty are left of the ninety.
    let limit: i64 = app.redis_command(&["HGET", &family, "expires_at"]).await.parse().unwrap();
    app.redis_command(&["HSET", &family, "expires_at", &(limit - 70_000).to_string()]).await;
    let last = alice.refresh().await;
    assert!((5..=20).contains(&max_age(&last)), "{last:?}");
    // Whatever ends sessions finds no session beyond its limit: so no access token lives there.
    assert!((5..=20).contains(&last.json()["expiresIn"].as_u64().unwrap()), "{last:?}");
    assert!(claims(alice.access_token())["exp"].as_i64().unwrap() * 1000 <= limit - 70_000, "{last:?}");
    let lives: i64 = app.redis_command(&["PTTL", &family]).await.parse().unwrap();
    assert!((3_000..=20_000).contains(&lives), "{lives}");

    // Less than a second is too little for a token: the session is over.
    app.redis_command(&["HSET", &family, "expires_at", &(clock::unix_millis() + 900).to_string()]).await;
    let over = alice.refresh().await;
    over.assert_problem(401, "session_not_found");
    assert!(over.clears_cookie() && over.json()["requireReauth"] == true, "{over:?}");
}
