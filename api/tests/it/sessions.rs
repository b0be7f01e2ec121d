//! The list of sessions, ending them, and the events that tell why they ended.

use http::Method;
use serde_json::Value;

use crate::harness::{Door, PASSWORD, Requester, TestApp, eventually, send, shared, two_replicas, unhurried, unique};

async fn list(client: &Requester) -> Vec<Value> {
    let answer = client.get("/api/sessions").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["sessions"].as_array().unwrap().clone()
}

async fn end(client: &Requester, id: &str) -> String {
    send(client.request(Method::DELETE, &format!("/api/sessions/{id}"))).await.summary()
}

/// The kinds of a user's events, newest first.
async fn events(client: &Requester) -> Vec<Value> {
    let answer = client.get("/api/events").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["events"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_user_sees_their_own_sessions_newest_first() {
    let app = shared().await;
    let first = app.signed_in("sessions.list").await;
    let mut second = app.logged_in("sessions.list").await;
    app.signed_in("sessions.somebody").await;
    second.refresh().await;
    let sessions = list(&second).await;
    let ids: Vec<_> = sessions.iter().map(|session| session["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [second.session().1.to_string(), first.session().1.to_string()]);
    let current: Vec<_> = sessions.iter().map(|session| session["current"].as_bool().unwrap()).collect();
    assert_eq!(current, [true, false]);
    let newest = &sessions[0];
    let time = |name: &str| newest[name].as_i64().unwrap();
    assert!(time("createdAt") <= time("lastUsedAt") && time("lastUsedAt") < time("expiresAt"), "{newest}");
    assert_eq!(newest["ip"].as_str(), Some("127.0.0.1"));
}

#[tokio::test]
async fn a_session_that_is_ended_from_another_is_dead_everywhere() {
    let app = shared().await;
    let one = app.signed_in("sessions.end").await;
    let mut other = app.logged_in("sessions.end").await;
    let id = other.session().1.to_string();
    assert_eq!(end(&one, &id).await, "204");
    for replica in 0..2 {
        let other = other.at(Door::Replica(replica));
        eventually("it is refused", async || other.get("/api/protected").await.summary() == "401 session_revoked")
            .await;
    }
    assert_eq!(other.refresh().await.summary(), "401 session_revoked");
    assert_eq!(list(&one).await.len(), 1);
}

#[tokio::test]
async fn a_session_of_somebody_else_or_of_nobody_is_not_found_and_lives_on() {
    let app = shared().await;
    let alice = app.signed_in("sessions.alice").await;
    // Users whose ids are 64 apart share a partition: the id of a session alone must not be enough.
    let (alices_id, _) = alice.session();
    let mallory = loop {
        let name = unique("sessions.other");
        if (app.add_user(&name).await - alices_id) % 64 == 0 {
            break name;
        }
    };
    let mut mallory = app.logged_in(&mallory).await;
    for id in [mallory.session().1.to_string(), uuid::Uuid::nil().to_string(), "x".to_owned()] {
        assert_eq!(end(&alice, &id).await, "404 session_not_found", "{id}");
    }
    assert_eq!(mallory.refresh().await.status, 200);
}

#[tokio::test]
async fn logging_out_everywhere_ends_every_session() {
    let app = shared().await;
    let mut one = app.signed_in("sessions.all").await;
    let mut other = app.logged_in("sessions.all").await;
    let answer = send(one.request(Method::POST, "/api/logout-all")).await;
    assert_eq!((answer.status, answer.json()["revoked"].as_u64()), (200, Some(2)));
    assert!(answer.clears_cookie());
    assert_eq!((one.refresh().await.summary(), other.refresh().await.summary()), revoked_twice());
}

fn revoked_twice() -> (String, String) {
    ("401 session_revoked".to_owned(), "401 session_revoked".to_owned())
}

#[tokio::test]
async fn one_session_too_many_ends_the_one_that_was_not_used_for_longest() {
    let app = TestApp::start(unhurried(two_replicas()).env("MAX_SESSIONS_PER_USER", "3")).await;
    let mut first = app.signed_in("sessions.many").await;
    let mut second = app.logged_in("sessions.many").await;
    let mut third = app.logged_in("sessions.many").await;
    assert_eq!(first.refresh().await.status, 200, "now the second one is the one not used for longest");
    let mut fourth = app.logged_in("sessions.many").await;
    assert_eq!(second.refresh().await.summary(), "401 session_revoked");
    for client in [&mut first, &mut third, &mut fourth] {
        assert_eq!(client.refresh().await.status, 200);
    }
}

#[tokio::test]
async fn a_session_ends_at_its_absolute_limit_however_often_it_is_refreshed() {
    let limits = unhurried(two_replicas()).env("SESSION_ABSOLUTE_EXPIRY", "4s").env("ACCESS_TOKEN_EXPIRY", "2s");
    let app = TestApp::start(limits.env("REFRESH_TOKEN_EXPIRY", "3s")).await;
    let started = std::time::Instant::now();
    let mut client = app.signed_in("sessions.limit").await;
    eventually("the session is over", async || client.refresh().await.summary() == "401 session_not_found").await;
    // Refreshes alone would keep it alive for as long as anybody waits.
    let lived = started.elapsed().as_secs_f32();
    // Counted from a moment after the log-in, and to the last second, which is too little for an access token.
    assert!(lived > 2.0, "it lived for {lived} s");
}

#[tokio::test]
async fn the_events_tell_a_user_why_they_were_logged_out() {
    let app = shared().await;
    let mut victim = app.signed_in("events.replay").await;
    let thief = victim.clone();
    eventually("a wrong password is refused", async || {
        app.anonymous().login("events.replay", "wrong password").await.summary() == "401 invalid_credentials"
    })
    .await;
    assert_eq!(victim.refresh().await.status, 200);
    thief.clone().refresh().await.assert_problem(401, "refresh_token_reused");
    let again = app.logged_in("events.replay").await;
    eventually("everything is written", async || {
        let kinds: Vec<_> =
            events(&again).await.iter().map(|event| event["kind"].as_str().unwrap().to_owned()).collect();
        println!("{kinds:?}");
        kinds == ["logged_in", "refresh_token_reused", "login_failed", "logged_in"]
    })
    .await;
    let replay = &events(&again).await[1];
    assert_eq!(replay["sessionId"].as_str(), Some(victim.session().1.to_string().as_str()));
    assert_eq!(
        (replay["ip"].as_str(), replay["details"]["lastAddress"].as_str()),
        (Some("127.0.0.1"), Some("127.0.0.1"))
    );
    let stranger = app.signed_in("events.stranger").await;
    eventually("strangers see their own", async || events(&stranger).await.len() == 1).await;
}

#[tokio::test]
async fn no_event_is_lost_while_postgres_is_away() {
    let app = TestApp::start(two_replicas().postgres_through_proxy()).await;
    let mut client = app.signed_in("events.outage").await;
    app.cluster.postgres_faults().unwrap().refuse();
    assert_eq!(client.logout().await.status, 200, "a log-out does not wait for its record");
    app.cluster.postgres_faults().unwrap().pass();
    let again = {
        let mut again = app.anonymous();
        eventually("postgres is back", async || again.login("events.outage", PASSWORD).await.status == 200).await;
        again
    };
    eventually("the log-out is written", async || {
        events(&again).await.iter().any(|event| event["kind"] == "logged_out")
    })
    .await;
}

#[tokio::test]
async fn the_audit_cannot_be_rewritten_in_passing() {
    let app = shared().await;
    app.signed_in("events.rewrite").await;
    let mut postgres = app.postgres().await;
    for statement in ["UPDATE events SET kind = 'x'", "DELETE FROM events", "TRUNCATE events"] {
        let error = sqlx::raw_sql(statement).execute(&mut postgres).await.unwrap_err().to_string();
        assert!(error.contains("append-only"), "{statement}: {error}");
    }
    let erasing = "BEGIN; SET LOCAL gatefold.erasing = 'on'; DELETE FROM events WHERE user_id = -1; COMMIT";
    sqlx::raw_sql(erasing).execute(&mut postgres).await.expect("a deliberate erasure is possible");
}
