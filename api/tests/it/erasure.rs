//! What is kept of a person, shown to them, and what is left when they want to be forgotten.

use http::StatusCode;
use serde_json::{Value, json};

use crate::harness::{PASSWORD, TestApp, administer, shared, unique};

/// The keys of Redis that hold this text, in name or value.
async fn keys_with(app: &TestApp, text: &str) -> Vec<String> {
    const SCRIPT: &str = "local found = {} for _, key in ipairs(redis.call('KEYS', '*')) do \
         local kind, held = redis.call('TYPE', key).ok, {} \
         if kind == 'hash' then held = redis.call('HGETALL', key) \
         elseif kind == 'string' then held = { redis.call('GET', key) } \
         elseif kind == 'set' then held = redis.call('SMEMBERS', key) \
         elseif kind == 'zset' then held = redis.call('ZRANGE', key, 0, -1) \
         elseif kind == 'stream' then \
           for _, entry in ipairs(redis.call('XRANGE', key, '-', '+')) do table.insert(held, table.concat(entry[2], ' ')) end end \
         table.insert(held, key) \
         if string.find(table.concat(held, '\\n'), ARGV[1], 1, true) then table.insert(found, key) end end \
         return table.concat(found, '\\n')";
    let found = app.redis_command(&["EVAL", SCRIPT, "0", text]).await;
    found.lines().map(str::to_owned).collect()
}

fn kinds(events: &Value) -> Vec<&str> {
    events.as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn all_that_is_kept_of_a_user_can_be_shown_to_them_and_no_secret_is_in_it() {
    let app = shared().await;
    let name = unique("erasure.export");
    let client = app.signed_in(&name).await;
    let (id, family) = client.session();
    administer(app, &["room", "grant", &name, "private:board"], "").await;
    app.anonymous().login(&name, "a wrong password").await;
    crate::harness::eventually("the events are written", async || {
        let all = administer(app, &["user", "export", &name], "").await;
        kinds(&all["events"]).contains(&"login_failed")
    })
    .await;
    let all = administer(app, &["user", "export", &name], "").await;
    assert_eq!((&all["account"]["id"], &all["account"]["username"]), (&json!(id), &json!(name)));
    assert!(all["account"]["createdAt"].as_str().unwrap().starts_with("20"), "{all}");
    assert_eq!(all["rooms"][0]["room"], "private:board");
    assert_eq!(all["sessions"][0]["id"], json!(family));
    for kind in ["logged_in", "login_failed", "room_granted", "user_exported"] {
        assert!(kinds(&all["events"]).contains(&kind), "{kind} in {all}");
    }
    let text = all.to_string();
    assert!(!text.contains("argon2") && !text.contains("digest"), "{text}");
}

#[tokio::test]
async fn who_wants_to_be_forgotten_is_out_everywhere_and_only_a_number_is_left_of_them() {
    let app = shared().await;
    let name = unique("erasure.delete");
    let mut client = app.signed_in(&name).await;
    let mut earlier = app.logged_in(&name).await;
    let (id, family) = client.session();
    assert_eq!(earlier.logout().await.status, 200);
    administer(app, &["room", "grant", &name, "private:board"], "").await;
    assert!(!keys_with(app, &name).await.is_empty(), "the sessions know their user");
    crate::harness::eventually("the events are written", async || {
        let count = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM events WHERE user_id = $1");
        count.bind(id).fetch_one(&mut app.postgres().await).await.unwrap() == 4
    })
    .await;

    let said = administer(app, &["user", "delete", &name, "--erase-events", "--yes"], "").await;
    assert_eq!(said["sessionsEnded"], 1, "{said}");
    assert!(said["eventsErased"].as_u64().unwrap() >= 4, "{said}");
    crate::harness::eventually("the token is refused", async || {
        client.get("/api/protected").await.summary() == "401 session_revoked"
    })
    .await;
    assert_eq!(client.refresh().await.summary(), "401 session_revoked");
    assert_eq!(app.anonymous().login(&name, PASSWORD).await.summary(), "401 invalid_credentials");
    assert_eq!(keys_with(app, &name).await, Vec::<String>::new(), "no key of redis names them");
    let family = keys_with(app, &family.to_string()).await;
    for key in family.iter().filter(|key| key.starts_with("family:")) {
        assert_eq!(app.redis_command(&["HEXISTS", key, "ip"]).await, "0", "an address in {key}");
    }

    // An event that was under way may come late; the number is enough to erase it.
    administer(app, &["audit", "erase", "--user-id", &id.to_string()], "").await;
    let left = sqlx::query_as::<_, (String, Option<String>)>("SELECT kind, user_agent FROM events WHERE user_id = $1");
    let left = left.bind(id).fetch_all(&mut app.postgres().await).await.unwrap();
    assert_eq!(left, [("events_erased".to_owned(), None)]);
    // The name is free for somebody else, who is somebody else.
    let other = app.signed_in(&name).await;
    assert_ne!(other.session().0, id);
    assert_eq!(other.get("/api/protected").await.status, StatusCode::OK.as_u16());
}

#[tokio::test]
async fn without_being_asked_to_a_deletion_leaves_the_audit_as_it_is() {
    let app = shared().await;
    let name = unique("erasure.kept");
    let id = app.add_user(&name).await;
    administer(app, &["user", "disable", &name], "").await;
    let said = administer(app, &["user", "delete", &name, "--yes"], "").await;
    assert_eq!(said["eventsErased"], 0, "{said}");
    let kinds = sqlx::query_scalar::<_, String>("SELECT kind FROM events WHERE user_id = $1 ORDER BY id");
    let kinds = kinds.bind(id).fetch_all(&mut app.postgres().await).await.unwrap();
    assert_eq!(kinds, ["user_disabled", "user_deleted"]);
}

#[tokio::test]
async fn events_are_erased_by_their_age_and_that_is_an_event() {
    let app = TestApp::start(crate::harness::two_replicas().api(1)).await;
    let mut postgres = app.postgres().await;
    let old =
        "INSERT INTO events (at, kind) SELECT now() - interval '400 days', 'logged_in' FROM generate_series(1, 7)";
    sqlx::query(old).execute(&mut postgres).await.unwrap();
    administer(&app, &["user", "disable", "first.user"], "").await;
    let said = administer(&app, &["audit", "erase", "--older-than", "365d"], "").await;
    assert_eq!(said["erased"], 7, "{said}");
    let events = administer(&app, &["audit"], "").await;
    assert_eq!(kinds(&events)[..2], ["events_erased", "user_disabled"]);
    assert_eq!(events[0]["details"]["events"], 7);
    // The permission ended with the transaction.
    assert!(sqlx::query("DELETE FROM events").execute(&mut postgres).await.is_err());
}
