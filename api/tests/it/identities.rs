//! Numbers of users that were given out again, and sessions that do not say whose they are: nobody gets into the account of
//! another owner of the same number.

use gatefold_shared::redis::keys;
use http::Method;
use serde_json::json;

use crate::harness::{Door, PASSWORD, Requester, TestApp, administer, claims, eventually, send, shared, unique};

impl TestApp {
    async fn identity_of(&self, user_id: i64) -> String {
        let query = sqlx::query_scalar("SELECT uid::text FROM users WHERE id = $1").bind(user_id);
        query.fetch_one(&mut self.postgres().await).await.expect("a user")
    }

    /// What happens when Postgres is restored from before a user was added, and somebody else is added then.
    async fn give_number_to(&self, name: &str, user_id: i64) {
        let mut postgres = self.postgres().await;
        let delete = sqlx::query("DELETE FROM users WHERE id = $1").bind(user_id);
        delete.execute(&mut postgres).await.expect("the user is gone");
        let insert = "INSERT INTO users (id, username, password_hash) OVERRIDING SYSTEM VALUE
                      SELECT $1, $2, password_hash FROM users WHERE username = 'first.user'";
        let insert = sqlx::query(insert).bind(user_id).bind(name);
        insert.execute(&mut postgres).await.expect("another user has the number");
    }
}

async fn protected(client: &Requester) -> String {
    client.at(Door::Replica(1)).get("/api/protected").await.summary()
}

#[tokio::test]
async fn whoever_is_given_the_number_of_another_user_inherits_neither_sessions_nor_rooms() {
    let app = shared().await;
    let (before, after) = (unique("identity.before"), unique("identity.after"));
    let mut old = app.signed_in(&before).await;
    let (user_id, _) = old.session();
    administer(app, &["room", "grant", &before, "private:old"], "").await;
    assert_eq!(old.refresh().await.status, 200);
    assert_eq!(claims(old.access_token())["uid"], app.identity_of(user_id).await);
    assert_eq!(claims(old.access_token())["rooms"], json!(["private:old"]));

    app.give_number_to(&after, user_id).await;
    let mut new = app.logged_in(&after).await;
    assert_eq!(new.session().0, user_id);
    eventually("the old access token is refused", async || protected(&old).await == "401 session_revoked").await;
    assert_eq!(old.refresh().await.summary(), "401 session_revoked");
    eventually("it is recorded that the old session has ended", async || {
        let query = "SELECT count(*) FROM events
            WHERE kind = 'session_ended' AND user_id = $1 AND family = $2 AND details->>'why' = 'account_replaced'";
        let query = sqlx::query_scalar::<_, i64>(query).bind(user_id).bind(old.session().1);
        query.fetch_one(&mut app.postgres().await).await.expect("a count") == 1
    })
    .await;
    assert_eq!(new.refresh().await.status, 200);
    let new_claims = claims(new.access_token());
    assert_eq!((&new_claims["uid"], new_claims.get("rooms")), (&json!(app.identity_of(user_id).await), None));
    let why = app.redis_command(&["HGET", &keys::grants(user_id), "rooms"]).await;
    assert!(!why.contains("private:old"), "{why}");
}

#[tokio::test]
async fn calls_that_read_postgres_are_refused_to_another_owner_of_the_number() {
    let app = shared().await;
    let old = app.signed_in(&unique("identity.calls")).await;
    let other = unique("identity.calls-other");
    app.give_number_to(&other, old.session().0).await;
    // Nobody has told Redis yet.
    assert_eq!(protected(&old).await, "200");
    let change = json!({ "currentPassword": PASSWORD, "newPassword": "quite another battery" });
    let answer = send(old.request(Method::POST, "/api/password").json(&change)).await;
    assert_eq!(answer.summary(), "401 session_revoked");
    let new = app.logged_in(&other).await;
    let query = "SELECT count(*) FROM events WHERE user_id = $1 AND uid::text = $2";
    let uid = app.identity_of(new.session().0).await;
    eventually("its events say whose they are", async || {
        let query = sqlx::query_scalar::<_, i64>(query).bind(new.session().0).bind(&uid);
        query.fetch_one(&mut app.postgres().await).await.expect("a count") >= 1
    })
    .await;
    let events = new.get("/api/events").await.json();
    let theirs = json!(old.session().1);
    let mut logins = events["events"].as_array().unwrap().iter().filter(|event| event["kind"] == "logged_in");
    assert!(logins.all(|event| event["sessionId"] != theirs), "{events}");
}

#[tokio::test]
async fn a_command_for_the_present_owner_of_a_number_ends_the_sessions_of_the_former_one() {
    let app = shared().await;
    let mut old = app.signed_in(&unique("identity.granted")).await;
    let other = unique("identity.granted-other");
    app.give_number_to(&other, old.session().0).await;
    administer(app, &["room", "grant", &other, "private:x"], "").await;
    eventually("the old access token is refused", async || protected(&old).await == "401 session_revoked").await;
    assert_eq!(old.refresh().await.summary(), "401 session_revoked");
}

/// As version 0.1.0 leaves it behind.
async fn forget_identity(app: &TestApp, session: &Requester) {
    app.redis_command(&["HDEL", &session.family_key(), "uid"]).await;
    app.redis_command(&["DEL", &keys::identity(session.session().0)]).await;
}

#[tokio::test]
async fn a_session_that_does_not_say_whose_it_is_learns_it_at_its_next_refresh() {
    let app = shared().await;
    let mut session = app.signed_in(&unique("identity.unbound")).await;
    let uid = app.identity_of(session.session().0).await;
    forget_identity(app, &session).await;
    assert_eq!(session.refresh().await.status, 200);
    assert_eq!(claims(session.access_token()).get("uid"), None, "and nobody has waited for it");
    assert_eq!(protected(&session).await, "200");
    let family = session.family_key();
    eventually("it is bound", async || app.redis_command(&["HGET", &family, "uid"]).await == uid).await;
    assert_eq!(session.refresh().await.status, 200);
    assert_eq!(claims(session.access_token())["uid"], uid);
}

#[tokio::test]
async fn a_session_that_is_older_than_its_users_account_ends() {
    let app = shared().await;
    let mut session = app.signed_in(&unique("identity.older")).await;
    forget_identity(app, &session).await;
    let long_ago = (gatefold_shared::clock::unix_millis() - 600_000).to_string();
    app.redis_command(&["HSET", &session.family_key(), "created_at", &long_ago]).await;
    session.refresh().await;
    eventually("it has ended", async || protected(&session).await == "401 session_revoked").await;
    assert_eq!(session.refresh().await.summary(), "401 session_revoked");
}

#[tokio::test]
async fn the_sessions_of_a_user_who_does_not_exist_any_more_can_be_ended_by_their_number() {
    let app = shared().await;
    let mut session = app.signed_in(&unique("identity.gone")).await;
    let user_id = session.session().0;
    let delete = sqlx::query("DELETE FROM users WHERE id = $1").bind(user_id);
    delete.execute(&mut app.postgres().await).await.expect("the user is gone");
    let ended = administer(app, &["session", "revoke", "--user-id", &user_id.to_string()], "").await;
    assert_eq!(ended, json!({ "revoked": 1 }));
    assert_eq!(session.refresh().await.summary(), "401 session_revoked");
    let ended = administer(app, &["session", "revoke", "--user-id", &user_id.to_string()], "").await;
    assert_eq!(ended, json!({ "revoked": 0 }));
}
