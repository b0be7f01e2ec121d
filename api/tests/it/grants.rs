//! Grants: who may enter private rooms, from the administrator's command to the claim in a token.

use gatefold_shared::redis::keys;
use serde_json::{Value, json};

use crate::harness::{
    Door, Listener, PASSWORD, Requester, TestApp, administer, claims, command, shared, two_replicas, unique,
};

/// Nobody listens there.
const NO_REDIS: &str = "redis://127.0.0.1:9";

/// The rooms that the access token claims; null if there is no such claim.
fn rooms(client: &Requester) -> Value {
    claims(client.access_token())["rooms"].clone()
}

/// The claim after a refresh.
async fn rooms_after_refresh(client: &mut Requester) -> Value {
    let answer = client.refresh().await;
    assert_eq!(answer.status, 200, "{answer:?}");
    rooms(client)
}

/// A command that fails; what it says.
async fn fails(app: &TestApp, redis_url: &str, arguments: &[&str]) -> String {
    let output = command(app, redis_url, arguments, "").await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let said: Value = serde_json::from_slice(&output.stderr).expect("JSON");
    said["error"].as_str().expect("what went wrong").to_owned()
}

async fn granted(app: &TestApp, name: &str) -> Vec<Value> {
    let list = administer(app, &["room", "list", name], "").await;
    list.as_array().unwrap().iter().map(|grant| grant["room"].clone()).collect()
}

#[tokio::test]
async fn a_grant_is_in_the_token_from_the_next_refresh_or_log_in_on() {
    let app = shared().await;
    let name = unique("grants.given");
    let mut client = app.signed_in(&name).await;
    assert_eq!(rooms(&client), Value::Null);
    assert_eq!(rooms_after_refresh(&mut client).await, Value::Null);

    let said = administer(app, &["room", "grant", &name, "private:a"], "").await;
    assert_eq!(said, json!({ "id": client.session().0, "room": "private:a", "granted": true, "changed": true }));
    administer(app, &["room", "grant", &name.to_uppercase(), "private:b"], "").await;
    for replica in [Door::Replica(0), Door::Replica(1)] {
        client = client.at(replica);
        assert_eq!(rooms_after_refresh(&mut client).await, json!(["private:a", "private:b"]));
        let mut other = app.anonymous().at(replica);
        assert_eq!(other.login(&name, PASSWORD).await.status, 200);
        assert_eq!(rooms(&other), json!(["private:a", "private:b"]));
    }
    assert_eq!(granted(app, &name).await, ["private:a", "private:b"]);
}

#[tokio::test]
async fn what_was_taken_away_is_gone_at_the_next_refresh_and_log_in() {
    let app = shared().await;
    let name = unique("grants.taken");
    app.add_user(&name).await;
    for room in ["private:a", "private:b"] {
        administer(app, &["room", "grant", &name, room], "").await;
    }
    let mut client = app.logged_in(&name).await;
    assert_eq!(rooms(&client), json!(["private:a", "private:b"]));
    administer(app, &["room", "revoke", &name, "private:a"], "").await;
    assert_eq!(rooms_after_refresh(&mut client).await, json!(["private:b"]));
    assert_eq!(rooms(&app.logged_in(&name).await), json!(["private:b"]));
    administer(app, &["room", "revoke", &name, "private:b"], "").await;
    assert_eq!(rooms_after_refresh(&mut client).await, Value::Null);
    assert_eq!(rooms(&app.logged_in(&name).await), Value::Null);

    // The copy that grants nothing goes by itself; one that grants something stays.
    let key = keys::grants(client.session().0);
    let lives: i64 = app.redis_command(&["PTTL", &key]).await.parse().unwrap();
    assert!((1..=24 * 60 * 60 * 1000).contains(&lives), "{lives}");
    administer(app, &["room", "grant", &name, "private:a"], "").await;
    assert_eq!(app.redis_command(&["PTTL", &key]).await, "-1");
}

#[tokio::test]
async fn a_log_in_that_is_under_way_cannot_bring_back_what_is_taken_away() {
    let app = shared().await;
    let name = unique("grants.race");
    app.add_user(&name).await;
    for _ in 0..5 {
        administer(app, &["room", "grant", &name, "private:a"], "").await;
        let log_in = async |replica| {
            let mut client = app.anonymous().at(Door::Replica(replica));
            assert_eq!(client.login(&name, PASSWORD).await.status, 200);
            client
        };
        let revoke = ["room", "revoke", &name, "private:a"];
        let (mut first, mut second, mut third, _) =
            tokio::join!(log_in(0), log_in(1), log_in(0), administer(app, &revoke, ""));
        for client in [&mut first, &mut second, &mut third] {
            assert_eq!(rooms_after_refresh(client).await, Value::Null);
        }
    }
}

#[tokio::test]
async fn the_commands_may_be_repeated_and_the_audit_has_each_change_once() {
    let app = shared().await;
    let name = unique("grants.again");
    app.add_user(&name).await;
    for (verb, granted) in [("grant", true), ("revoke", false)] {
        for changed in [true, false] {
            let said = administer(app, &["room", verb, &name, "private:a"], "").await;
            assert_eq!((&said["granted"], &said["changed"]), (&json!(granted), &json!(changed)), "{said}");
        }
    }
    assert!(granted(app, &name).await.is_empty());
    let audit = administer(app, &["audit", "--user", &name], "").await;
    let events = audit.as_array().unwrap().iter().map(|event| (event["kind"].as_str().unwrap(), &event["details"]));
    let room = json!({ "room": "private:a" });
    assert_eq!(events.collect::<Vec<_>>(), [("room_revoked", &room), ("room_granted", &room)]);
}

#[tokio::test]
async fn what_cannot_be_granted_is_refused_with_a_reason() {
    let app = shared().await;
    let name = unique("grants.refused");
    app.add_user(&name).await;
    let redis = app.cluster.redis_url();
    let too_long = format!("private:{}", "x".repeat(121));
    for room in ["", "lobby", "user:7", "private:", "Private:a", "private:a b", "private:é", &too_long] {
        for verb in ["grant", "revoke"] {
            let said = fails(app, &redis, &["room", verb, &name, room]).await;
            assert!(said.contains("`private:` and 1 to 120"), "{room}: {said}");
        }
    }
    for arguments in [&["room", "grant", "grants.nobody", "private:a"][..], &["room", "list", "grants.nobody"]] {
        let said = fails(app, &redis, arguments).await;
        assert!(said.contains("there is no user grants.nobody"), "{said}");
    }
    assert!(granted(app, &name).await.is_empty());
    let misused = command(app, &redis, &["room", "grant", &name], "").await;
    assert_eq!(misused.status.code(), Some(64), "{misused:?}");
}

#[tokio::test]
async fn a_token_with_all_the_grants_that_can_be_is_accepted_everywhere() {
    let app = shared().await;
    let name = unique("grants.many");
    app.add_user(&name).await;
    for number in 0..16 {
        administer(app, &["room", "grant", &name, &format!("private:{number:0>120}")], "").await;
    }
    let said = fails(app, &app.cluster.redis_url(), &["room", "grant", &name, "private:one-more"]).await;
    assert!(said.contains("has 16 grants already"), "{said}");
    let client = app.logged_in(&name).await;
    assert_eq!(rooms(&client).as_array().unwrap().len(), 16);
    let length = client.access_token().len();
    assert!(length <= 4096, "{length} bytes");
    for door in [Door::Nginx, Door::Replica(0), Door::Replica(1)] {
        assert_eq!(client.at(door).get("/api/protected").await.status, 200);
    }
}

#[tokio::test]
async fn without_redis_a_change_is_not_in_effect_and_repeating_the_command_mends_that() {
    let app = shared().await;
    let name = unique("grants.outage");
    let mut client = app.signed_in(&name).await;

    let said = fails(app, NO_REDIS, &["room", "grant", &name, "private:a"]).await;
    assert!(said.contains("not in effect yet: repeat the command"), "{said}");
    assert_eq!(rooms_after_refresh(&mut client).await, Value::Null);
    let said = administer(app, &["room", "grant", &name, "private:a"], "").await;
    assert_eq!(said["changed"], json!(false));
    assert_eq!(rooms_after_refresh(&mut client).await, json!(["private:a"]));

    let channel = keys::room("private:a");
    let mut members = Listener::start(app, &format!("SSUBSCRIBE {channel}"), ":1").await;
    let said = fails(app, NO_REDIS, &["room", "revoke", &name, "private:a"]).await;
    assert!(said.contains("not in effect yet: repeat the command"), "{said}");
    assert_eq!(rooms_after_refresh(&mut client).await, json!(["private:a"]));
    let said = administer(app, &["room", "revoke", &name, "private:a"], "").await;
    assert_eq!(said["changed"], json!(false));
    assert_eq!(rooms_after_refresh(&mut client).await, Value::Null);
    members.until(&format!("\"expel\":{}}}", client.session().0)).await;
}

#[tokio::test]
async fn a_user_who_is_deleted_leaves_no_grant_behind() {
    let app = shared().await;
    let name = unique("grants.deleted");
    let id = app.add_user(&name).await;
    administer(app, &["room", "grant", &name, "private:a"], "").await;
    administer(app, &["user", "delete", &name, "--yes"], "").await;
    let key = keys::grants(id);
    assert_eq!(app.redis_command(&["HGET", &key, "rooms"]).await, "[]");
    assert_ne!(app.redis_command(&["PTTL", &key]).await, "-1");
    let left = sqlx::query_scalar("SELECT count(*) FROM grants WHERE user_id = $1").bind(id);
    let left: i64 = left.fetch_one(&mut app.postgres().await).await.unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_refresh_with_grants_is_still_one_round_trip_and_needs_no_postgres() {
    let app = TestApp::start(two_replicas().api(1)).await;
    administer(&app, &["room", "grant", "first.user", "private:a"], "").await;
    let mut client = app.logged_in("first.user").await;
    // From its second use on Redis knows the script.
    rooms_after_refresh(&mut client).await;
    app.cluster.kill("postgres").await.unwrap();
    let mut monitor = Listener::start(&app, "MONITOR", "+OK").await;
    for _ in 0..5 {
        assert_eq!(rooms_after_refresh(&mut client).await, json!(["private:a"]));
    }
    app.redis_command(&["ECHO", "that was all"]).await;
    let (user, session) = client.session();
    let (grants, session) = (keys::grants(user), session.to_string());
    let heard = monitor.until("that was all").await;
    let of_this_user = heard.iter().filter(|line| line.contains(&grants) || line.contains(&session));
    // What a script does, Redis does by itself.
    let asked: Vec<_> = of_this_user.filter(|line| !line.contains("lua]")).collect();
    assert_eq!(asked.len(), 5, "{asked:?}");
    assert!(asked.iter().all(|line| line.contains("EVALSHA")), "{asked:?}");
}
