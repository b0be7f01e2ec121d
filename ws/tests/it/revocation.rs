//! A session that ends takes its sockets with it, on every replica, whichever replica and whatever ended it.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use gatefold_cluster::Builder;
use http::Method;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::harness::{Client, Gatefold, Login, PASSWORD, many_sessions, refusal, unhurried};

/// Two replicas of each kind, for all tests that break nothing.
async fn shared() -> &'static Gatefold {
    static SHARED: OnceCell<Gatefold> = OnceCell::const_new();
    SHARED.get_or_init(|| Gatefold::start(unhurried(two_and_two()))).await
}

fn two_and_two() -> Builder {
    many_sessions().api(2).ws(2)
}

/// A socket on every replica, and one of another session of the same user that must stay.
async fn sockets_and_a_bystander(gatefold: &Gatefold, login: &Login, name: &str) -> (Vec<Client>, Client) {
    let sockets = gatefold.sockets(login).await;
    let other = gatefold.log_in(name).await;
    (sockets, gatefold.client_with(&other.access_token).await)
}

async fn assert_all_closed(sockets: &mut [Client], why: &str) {
    for socket in sockets {
        assert_eq!(socket.closed().await, (4503, why.to_owned()));
    }
}

#[tokio::test]
async fn a_log_out_through_any_replica_closes_the_sessions_sockets_on_every_replica_at_once() {
    const RUNS: usize = 50;
    let gatefold = shared().await;
    let name = gatefold.new_user().await;
    let mut bystander = gatefold.client_with(&gatefold.log_in(&name).await.access_token).await;
    let mut times = Vec::new();
    for run in 0..RUNS {
        let login = gatefold.log_in(&name).await;
        let closing = gatefold.sockets(&login).await.into_iter().map(async |mut socket| {
            assert_eq!(socket.closed().await, (4503, "logout".to_owned()));
            Instant::now()
        });
        let logging_out = async {
            gatefold.log_out_at(["api-1", "api-2"][run % 2], &login).await;
            Instant::now()
        };
        let (answered, closed) = tokio::join!(logging_out, join_all(closing));
        times.extend(closed.into_iter().map(|closed| closed.saturating_duration_since(answered)));
    }
    times.sort();
    let (median, slowest) = (times[times.len() / 2], times[times.len() - 1]);
    println!(
        "from the answer to a log-out to the close frame, {} sockets: p50 {median:?}, max {slowest:?}",
        times.len()
    );
    // A replica that heard of it only when it looks by itself would take half a second.
    assert!(median < Duration::from_millis(250), "{times:?}");
    bystander.is_served().await;
}

#[tokio::test]
async fn logging_out_everywhere_closes_the_sockets_of_all_sessions_of_the_user_and_of_nobody_else() {
    let gatefold = shared().await;
    let (name, other) = (gatefold.new_user().await, gatefold.new_user().await);
    let (login, second) = (gatefold.log_in(&name).await, gatefold.log_in(&name).await);
    let mut bystander = gatefold.client_with(&gatefold.log_in(&other).await.access_token).await;
    let mut sockets = gatefold.sockets(&login).await;
    sockets.append(&mut gatefold.sockets(&second).await);
    assert_eq!(gatefold.post_to("api-2", "logout-all", &login).await, (200, json!({"revoked": 2})));
    assert_all_closed(&mut sockets, "logout_all").await;
    bystander.is_served().await;
}

#[tokio::test]
async fn a_change_of_the_password_closes_the_sockets_of_the_other_sessions_only() {
    let gatefold = shared().await;
    let name = gatefold.new_user().await;
    let (own, other) = (gatefold.log_in(&name).await, gatefold.log_in(&name).await);
    let (mut own_sockets, mut other_sockets) = (gatefold.sockets(&own).await, gatefold.sockets(&other).await);
    let change = json!({"currentPassword": PASSWORD, "newPassword": "quite another battery"});
    assert_eq!(gatefold.call("api-1", Method::POST, "password", &own, change).await.0, 204);
    assert_all_closed(&mut other_sockets, "password_changed").await;
    for socket in &mut own_sockets {
        socket.is_served().await;
    }
}

#[tokio::test]
async fn a_session_that_is_ended_from_another_one_loses_its_sockets() {
    let gatefold = shared().await;
    let name = gatefold.new_user().await;
    let login = gatefold.log_in(&name).await;
    let (mut sockets, mut bystander) = sockets_and_a_bystander(gatefold, &login, &name).await;
    let from = gatefold.log_in(&name).await;
    let path = format!("sessions/{}", login.family());
    assert_eq!(gatefold.call("api-2", Method::DELETE, &path, &from, Value::Null).await.0, 204);
    assert_all_closed(&mut sockets, "ended_by_user").await;
    bystander.is_served().await;
}

/// Long after the rotation its cookie comes again, with its key: a retry, which gives out another access token.
#[tokio::test]
async fn a_user_who_is_disabled_after_a_retry_of_an_old_refresh_stays_out() {
    let gatefold = shared().await;
    let name = gatefold.new_user().await;
    let old = gatefold.log_in(&name).await;
    let key = [("cookie", old.cookie()), ("idempotency-key", "the-key-of-the-thief")];
    assert_eq!(gatefold.refresh_at("api-1", &key).await.0, 200);
    // As if that had been so long ago that its own access token had expired by now.
    let family = gatefold_shared::redis::keys::family(old.user_id, old.family());
    let past = gatefold_shared::clock::unix_millis() - 1_000;
    gatefold.redis_command(&format!("HSET {family} access_until {past} last_used_at {}", past - 900_000)).await;
    let (status, retried) = gatefold.refresh_at("api-2", &key).await;
    assert_eq!(status, 200);
    let mut thief = old.clone();
    thief.access_token = retried["accessToken"].as_str().expect("a token").to_owned();
    let mut sockets = gatefold.sockets(&thief).await;
    gatefold.admin(&["user", "disable", &name]).await;
    assert_all_closed(&mut sockets, "disabled").await;
    // Each replica reads the log once a second and forgets what is over: several times meanwhile.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(4) {
        for replica in ["api-1", "api-2"] {
            let (status, problem) = gatefold.call(replica, Method::GET, "protected", &thief, Value::Null).await;
            assert_eq!((status, &problem["code"]), (401, &json!("session_revoked")), "after {:?}", begun.elapsed());
        }
        for url in gatefold.every_replica() {
            let (status, _, problem) = refusal(&format!("{url}?token={}", thief.access_token), &[]).await;
            assert_eq!((status, &problem["code"]), (401, &json!("session_revoked")), "after {:?}", begun.elapsed());
        }
        assert_eq!(gatefold.refresh_at("api-1", &key).await.0, 401);
    }
    let log = format!("XREVRANGE revocations:{{p{:02}}} + - COUNT 50", old.user_id % 64);
    let log = gatefold.redis_command(&log).await;
    let entry = log.split(&old.family().to_string()).nth(1).expect("an entry");
    let until = entry.split("until").nth(1).and_then(|rest| rest.split_ascii_whitespace().nth(1)).expect("its time");
    let expires: i64 = thief.claims()["exp"].as_i64().expect("a time");
    assert!(until.parse::<i64>().expect("a number") >= expires * 1000 + 5_000, "{until} {expires}");
}

#[tokio::test]
async fn a_replay_closes_the_sockets_of_the_thief_and_of_the_owner() {
    let gatefold = shared().await;
    let name = gatefold.new_user().await;
    let stolen = gatefold.log_in(&name).await;
    let mut owner = stolen.clone();
    gatefold.refresh(&mut owner).await;
    let (mut sockets, mut bystander) = sockets_and_a_bystander(gatefold, &stolen, &name).await;
    let (status, problem) = gatefold.post_to("api-1", "refresh", &stolen).await;
    assert_eq!((status, &problem["code"]), (401, &json!("refresh_token_reused")));
    assert_all_closed(&mut sockets, "refresh_token_reused").await;
    bystander.is_served().await;
}

#[tokio::test]
async fn an_administrator_who_disables_a_user_or_ends_a_session_closes_its_sockets() {
    let gatefold = shared().await;
    let name = gatefold.new_user().await;
    let login = gatefold.log_in(&name).await;
    let (mut sockets, mut bystander) = sockets_and_a_bystander(gatefold, &login, &name).await;
    gatefold.admin(&["session", "revoke", &name, &login.family().to_string()]).await;
    assert_all_closed(&mut sockets, "ended_by_admin").await;
    bystander.is_served().await;

    let login = gatefold.log_in(&name).await;
    let mut sockets = gatefold.sockets(&login).await;
    sockets.push(bystander);
    gatefold.admin(&["user", "disable", &name]).await;
    assert_all_closed(&mut sockets, "disabled").await;
}

#[tokio::test]
async fn the_oldest_session_of_too_many_loses_its_sockets() {
    let gatefold = Gatefold::start(two_and_two().env("MAX_SESSIONS_PER_USER", "2")).await;
    let name = gatefold.new_user().await;
    let (first, second) = (gatefold.log_in(&name).await, gatefold.log_in(&name).await);
    let (mut evicted, mut kept) = (gatefold.sockets(&first).await, gatefold.sockets(&second).await);
    gatefold.log_in(&name).await;
    assert_all_closed(&mut evicted, "evicted").await;
    for socket in &mut kept {
        socket.is_served().await;
    }
}

#[tokio::test]
async fn a_token_of_a_session_that_has_ended_opens_no_socket_anywhere_in_any_way() {
    let gatefold = shared().await;
    let login = gatefold.log_in(&gatefold.new_user().await).await;
    let mut sockets = gatefold.sockets(&login).await;
    let mut waiting = Vec::new();
    for url in gatefold.everywhere() {
        waiting.push(Client::connect(&url).await);
    }
    // The socket that closes tells that its replica knows.
    gatefold.log_out_at("api-1", &login).await;
    assert_all_closed(&mut sockets, "logout").await;
    let token = &login.access_token;
    // These have five seconds for their first message.
    for mut socket in waiting {
        socket.say(json!({"type": "auth", "access": token})).await;
        assert_eq!(socket.closed().await, (4503, "logout".to_owned()));
    }
    for url in gatefold.everywhere() {
        let (bearer, offered) = (format!("Bearer {token}"), format!("gatefold.v1, bearer.{token}"));
        let in_query = refusal(&format!("{url}?token={token}"), &[]).await;
        let in_header = refusal(&url, &[("authorization", bearer.as_str())]).await;
        let in_subprotocol = refusal(&url, &[("sec-websocket-protocol", offered.as_str())]).await;
        for (status, headers, problem) in [in_query, in_header, in_subprotocol] {
            assert_eq!(status, 401);
            assert_eq!(headers["www-authenticate"], r#"Bearer error="invalid_token""#);
            insta::allow_duplicates! {
                insta::assert_json_snapshot!(problem, @r#"
                {
                  "code": "session_revoked",
                  "detail": "The session was ended: log in again",
                  "error": "The session was ended: log in again",
                  "requireReauth": true,
                  "status": 401,
                  "title": "Unauthorized",
                  "type": "about:blank"
                }
                "#);
            }
        }
    }
}

#[tokio::test]
async fn a_socket_in_the_grace_after_its_token_expired_is_closed_too() {
    let gatefold = shared().await;
    let login = gatefold.log_in(&gatefold.new_user().await).await;
    let mut sockets = gatefold.sockets(&login).await;
    for socket in &mut sockets {
        // One may have expired on its way.
        while {
            let access = gatefold.short_token_of(&login, Duration::from_secs(2));
            socket.ask(json!({"type": "reauth", "access": access})).await["type"] != "reauth_success"
        } {}
        while socket.hear().await["payload"]["code"] != "token_expired" {}
    }
    gatefold.log_out_at("api-2", &login).await;
    assert_all_closed(&mut sockets, "logout").await;
}

#[tokio::test]
async fn a_replica_that_starts_later_knows_what_was_revoked_before() {
    let gatefold = Gatefold::start(unhurried(two_and_two())).await;
    let login = gatefold.log_in(&gatefold.new_user().await).await;
    gatefold.log_out_at("api-1", &login).await;
    gatefold.cluster.restart("ws-2").await.expect("it starts again");
    let late = gatefold.replica_url("ws-2").replacen("http", "ws", 1);
    let (status, _, problem) = refusal(&format!("{late}/ws?token={}", login.access_token), &[]).await;
    assert_eq!((status, &problem["code"]), (401, &json!("session_revoked")));
}

#[tokio::test]
async fn revocations_are_measured() {
    let gatefold = shared().await;
    let login = gatefold.log_in(&gatefold.new_user().await).await;
    let mut sockets = gatefold.sockets(&login).await;
    gatefold.log_out_at("api-1", &login).await;
    assert_all_closed(&mut sockets, "logout").await;
    crate::harness::eventually("all of it is counted", async || {
        let metrics = gatefold.metrics_of("ws-1").await;
        let series = [
            "gatefold_revocations_held ",
            "gatefold_revocations_ready 1",
            "gatefold_revocations_staleness_seconds ",
            r#"gatefold_ws_closed_total{code="4503"} "#,
        ];
        series.iter().all(|series| metrics.lines().any(|line| line.starts_with(series)))
    })
    .await;
}
