//! The audit: each event once, and nothing that administrators change without one.

use sqlx::{PgConnection, raw_sql};
use uuid::Uuid;

use crate::harness::{PASSWORD, TestApp, administer, command, eventually, shared, two_replicas};

/// How many events of a kind there are about a user.
async fn count(postgres: &mut PgConnection, kind: &str, user_id: i64) -> i64 {
    let count = sqlx::query_scalar("SELECT count(*) FROM events WHERE kind = $1 AND user_id = $2");
    count.bind(kind).bind(user_id).fetch_one(postgres).await.unwrap()
}

#[tokio::test]
async fn an_event_is_one_even_if_nobody_heard_that_it_was_written() {
    let app = TestApp::start(two_replicas().api(1).postgres_through_proxy()).await;
    let mut client = app.signed_in("audit.once").await;
    let (user, _) = client.session();
    let mut postgres = app.postgres().await;
    eventually("the log-in is written", async || count(&mut postgres, "logged_in", user).await == 1).await;
    let faults = app.cluster.postgres_faults().unwrap();
    faults.drop_next_reply_matching("logged_out");
    assert_eq!(client.logout().await.status, 200);
    eventually("the answer was lost", async || faults.lost_replies() == 1).await;
    // Events are written one after the other: this one when the other has been written again.
    eventually("it is back", async || app.anonymous().login("audit.once", PASSWORD).await.status == 200).await;
    eventually("a later one is written", async || count(&mut postgres, "logged_in", user).await == 2).await;
    assert_eq!(count(&mut postgres, "logged_out", user).await, 1);
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_done() {
    let app = TestApp::start(two_replicas().api(1)).await;
    let user = app.add_user("audit.refused").await;
    let mut postgres = app.postgres().await;
    raw_sql("ALTER TABLE events ADD CONSTRAINT none CHECK (false) NOT VALID").execute(&mut postgres).await.unwrap();
    let all = "SELECT string_agg(users::text, ' ') FROM users";
    let before: String = sqlx::query_scalar(all).fetch_one(&mut postgres).await.unwrap();
    for arguments in [
        &["user", "add", "audit.added"][..],
        &["user", "disable", "audit.refused"],
        &["user", "passwd", "audit.refused"],
        &["user", "export", "audit.refused"],
        &["user", "delete", "audit.refused", "--yes"],
        &["room", "grant", "audit.refused", "private:board"],
        &["audit", "erase", "--user-id", &user.to_string()],
    ] {
        let output = command(&app, &app.cluster.redis_url(), arguments, "another horse battery staple\n").await;
        assert!(!output.status.success() && output.stdout.is_empty(), "{arguments:?}: {output:?}");
        let after: String = sqlx::query_scalar(all).fetch_one(&mut postgres).await.unwrap();
        assert_eq!(after, before, "{arguments:?}");
    }
}

/// As after a first time whose answer was lost.
#[tokio::test]
async fn a_session_that_has_ended_may_be_ended_again_and_one_that_never_was_may_not() {
    let app = shared().await;
    let client = app.signed_in("audit.again").await;
    let (user, family) = client.session();
    let revoke = ["session", "revoke", "audit.again", &family.to_string()];
    assert_eq!(administer(app, &revoke, "").await["revoked"], 1);
    assert_eq!(administer(app, &revoke, "").await["revoked"], 0);
    assert_eq!(count(&mut app.postgres().await, "session_ended", user).await, 2);
    let never = ["session", "revoke", "audit.again", &Uuid::new_v4().to_string()];
    let output = command(app, &app.cluster.redis_url(), &never, "").await;
    assert!(String::from_utf8_lossy(&output.stderr).contains("has no session"), "{output:?}");
}
