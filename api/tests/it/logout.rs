//! `POST /api/logout`.

use insta::assert_snapshot;
use serde_json::json;

use crate::harness::{Door, shared};

#[tokio::test]
async fn it_ends_the_session_and_clears_the_cookie() {
    let app = shared().await;
    let alice = app.signed_in("logout.plain").await.at(Door::Replica(0));
    assert_snapshot!(alice.clone().logout().await.snapshot(), @r#"
    200
    cache-control: no-store
    content-type: application/json
    set-cookie: refreshToken=; HttpOnly; SameSite=Strict; Path=/api; Max-Age=0
    x-content-type-options: nosniff
    x-request-id: [request id]

    {
      "message": "Logged out",
      "sessions": [
        "[id]"
      ]
    }
    "#);
    assert_eq!(alice.at(Door::Replica(1)).refresh().await.summary(), "401 session_revoked");
}

#[tokio::test]
async fn whoever_is_logged_out_already_is_told_the_same() {
    let app = shared().await;
    let alice = app.signed_in("logout.same").await.at(Door::Replica(0));
    let first = alice.clone().logout().await;
    let expected = json!({ "message": "Logged out", "sessions": [alice.session().1] });
    assert_eq!(first.json(), expected);
    assert_eq!(alice.clone().logout().await.json(), expected, "again");
    let gone = app.signed_in("logout.gone").await.at(Door::Replica(0));
    app.redis_command(&["DEL", &gone.family_key()]).await;
    let expired = gone.clone().logout().await;
    assert_eq!(expired.json(), json!({ "message": "Logged out", "sessions": [gone.session().1] }));
    assert!(expired.clears_cookie());
}

/// Nothing of ours is there to be ended, and nothing else is claimed.
#[tokio::test]
async fn a_logout_without_a_cookie_succeeds_and_says_that_there_was_no_session() {
    let nobody = shared().await.anonymous().at(Door::Replica(0));
    assert_snapshot!(nobody.clone().logout().await.snapshot(), @r#"
    200
    cache-control: no-store
    content-type: application/json
    x-content-type-options: nosniff
    x-request-id: [request id]

    {
      "message": "There was no session to log out of",
      "sessions": []
    }
    "#);
}

/// Whoever holds a token of the session may end it, also one that lost a race with its own refresh.
#[tokio::test]
async fn a_token_that_was_rotated_ends_the_living_session_too() {
    let app = shared().await;
    let old = app.signed_in("logout.rotated").await;
    let mut owner = old.clone();
    owner.refresh().await;
    owner.refresh().await;
    assert_eq!(old.clone().logout().await.status, 200);
    assert_eq!(owner.refresh().await.summary(), "401 session_revoked");
}

#[tokio::test]
async fn it_is_logged_once_however_often_it_is_asked_for() {
    let app = shared().await;
    let alice = app.signed_in("logout.logged").await;
    let (user, family) = alice.session();
    for _ in 0..3 {
        alice.clone().logout().await;
    }
    let log = app.redis_command(&["XRANGE", &gatefold_shared::redis::keys::revocations(user), "-", "+"]).await;
    assert_eq!(log.matches(&family.to_string()).count(), 1, "{log}");
}

#[tokio::test]
async fn other_sessions_of_the_user_go_on() {
    let app = shared().await;
    let mut one = app.signed_in("logout.others").await;
    let mut other = app.logged_in("logout.others").await;
    one.logout().await;
    assert_eq!(other.refresh().await.status, 200);
}
