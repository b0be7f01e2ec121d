//! Tickets: one socket, once, soon, on any replica.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::sync::OnceCell;
use tokio_tungstenite::{connect_async, tungstenite::Error};

use crate::harness::{Client, Gatefold, Login, many_sessions, refused, unhurried};

async fn shared() -> &'static Gatefold {
    static SHARED: OnceCell<Gatefold> = OnceCell::const_new();
    SHARED.get_or_init(|| Gatefold::start(unhurried(many_sessions().api(2).ws(2)))).await
}

async fn logged_in(gatefold: &Gatefold) -> Login {
    gatefold.log_in(&gatefold.new_user().await).await
}

fn invalid() -> (u16, String) {
    (401, "invalid_token".to_owned())
}

#[tokio::test]
async fn a_ticket_opens_one_socket_on_any_replica_and_through_nginx_and_no_second_one() {
    let gatefold = shared().await;
    let login = logged_in(gatefold).await;
    for (issuer, url) in ["api-1", "api-2", "api-1"].into_iter().zip(gatefold.everywhere()) {
        let ticket = gatefold.ticket(issuer, &login).await;
        let url = format!("{url}?ticket={ticket}");
        let mut socket = Client::connect(&url).await;
        let greeting = socket.hear().await;
        assert_eq!(greeting["payload"]["userId"], login.user_id);
        socket.is_served().await;
        for again in gatefold.everywhere() {
            assert_eq!(refused(&format!("{again}?ticket={ticket}"), &[]).await, invalid());
        }
    }
}

#[tokio::test]
async fn a_socket_that_a_ticket_opened_lives_by_its_session_and_its_access_token() {
    let gatefold = shared().await;
    let mut login = logged_in(gatefold).await;
    let by_token = gatefold.client_with(&login.access_token).await;
    drop(by_token);
    let ticket = gatefold.ticket("api-1", &login).await;
    let mut socket = Client::connect(&format!("{}?ticket={ticket}", gatefold.direct())).await;
    let greeting = socket.hear().await;
    let now = gatefold_shared::clock::unix_millis();
    let left = greeting["payload"]["expiresAt"].as_u64().expect("milliseconds") - now;
    assert!((800_000..=900_000).contains(&left), "{left} ms left of 15 minutes");
    let renewed = gatefold.refresh(&mut login).await;
    assert_eq!(socket.ask(json!({"type": "reauth", "access": renewed})).await["type"], "reauth_success");
    gatefold.log_out_at("api-2", &login).await;
    assert_eq!(socket.closed().await, (4503, "logout".to_owned()));
}

#[tokio::test]
async fn of_two_uses_at_once_exactly_one_opens_a_socket() {
    let gatefold = shared().await;
    let login = logged_in(gatefold).await;
    for run in 0..50 {
        let ticket = gatefold.ticket(["api-1", "api-2"][run % 2], &login).await;
        let uses =
            gatefold.every_replica().into_iter().map(async |url| connect_async(format!("{url}?ticket={ticket}")).await);
        let outcomes = join_all(uses).await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
        let refused = |outcome| matches!(outcome, &Err(Error::Http(ref response)) if response.status() == 401);
        assert_eq!(outcomes.iter().filter(|outcome| refused(*outcome)).count(), 1);
    }
}

#[tokio::test]
async fn a_ticket_says_how_long_it_lives_and_redis_lets_it_live_no_longer() {
    let gatefold = Gatefold::start(many_sessions().api(1).ws(1)).await;
    let login = logged_in(&gatefold).await;
    let (status, body) = gatefold.post_to("api-1", "ws-ticket", &login).await;
    assert_eq!((status, &body["expiresIn"]), (200, &json!(30)));
    let ticket = body["ticket"].as_str().expect("a ticket");
    assert_eq!(ticket.len(), 22, "128 bits");
    let keys = gatefold.redis_command("KEYS ticket:*").await;
    let key = keys.lines().nth(2).expect("one key");
    assert!(!keys.contains(ticket), "redis does not know the ticket itself");
    let ttl = gatefold.redis_command(&format!("PTTL {key}")).await;
    let ttl: u64 = ttl.trim_start_matches(':').trim().parse().expect("a number");
    assert!((20_000..=30_000).contains(&ttl), "{ttl} ms");
    let value = gatefold.redis_command(&format!("GET {key}")).await;
    assert!(!value.contains(ticket) && !value.contains(&login.access_token));
}

#[tokio::test]
async fn a_ticket_dies_with_its_access_token() {
    let gatefold = shared().await;
    let mut login = logged_in(gatefold).await;
    login.access_token = gatefold.short_token_of(&login, Duration::from_secs(6));
    let (status, body) = gatefold.post_to("api-1", "ws-ticket", &login).await;
    assert_eq!(status, 200);
    assert!(body["expiresIn"].as_u64().expect("seconds") <= 6);
    let ticket = body["ticket"].as_str().expect("a ticket");
    tokio::time::sleep(Duration::from_millis(6100)).await;
    assert_eq!(refused(&format!("{}?ticket={ticket}", gatefold.direct()), &[]).await, invalid());
    // A request with the token would still be served, for clocks; but nothing can be opened with it.
    let (status, problem) = gatefold.post_to("api-2", "ws-ticket", &login).await;
    assert_eq!((status, &problem["code"]), (401, &json!("token_expired")));
}

#[tokio::test]
async fn a_ticket_of_a_session_that_has_ended_since_opens_nothing() {
    let gatefold = shared().await;
    let login = logged_in(gatefold).await;
    let ticket = gatefold.ticket("api-1", &login).await;
    let mut socket = gatefold.client_with(&login.access_token).await;
    gatefold.log_out_at("api-2", &login).await;
    assert_eq!(socket.closed().await.0, 4503);
    let refused = refused(&format!("{}?ticket={ticket}", gatefold.direct()), &[]).await;
    assert_eq!(refused, (401, "session_revoked".to_owned()));
}

#[tokio::test]
async fn what_is_no_ticket_is_refused_and_so_is_a_ticket_beside_a_token() {
    let gatefold = shared().await;
    let login = logged_in(gatefold).await;
    for garbage in ["", "x", "%00%ff", &"a".repeat(4000), &login.access_token] {
        for url in gatefold.everywhere() {
            assert_eq!(refused(&format!("{url}?ticket={garbage}"), &[]).await, invalid(), "{garbage}");
        }
    }
    let ticket = gatefold.ticket("api-1", &login).await;
    let both = format!("{}?ticket={ticket}&token={}", gatefold.direct(), login.access_token);
    assert_eq!(refused(&both, &[]).await, (400, "invalid_request".to_owned()));
    let foreign = format!("{}?ticket={ticket}", gatefold.direct());
    let origin = [("origin", "https://elsewhere.example")];
    assert_eq!(refused(&foreign, &origin).await, (403, "forbidden_origin".to_owned()));
    assert_eq!(Client::connect(&foreign).await.hear().await["type"], "connected", "what was refused used nothing up");
}

#[tokio::test]
async fn without_redis_there_are_no_tickets_and_none_is_redeemed() {
    let gatefold = Gatefold::start(many_sessions().api(1).ws(1)).await;
    let login = logged_in(&gatefold).await;
    let ticket = gatefold.ticket("api-1", &login).await;
    gatefold.cluster.stop("redis").await.expect("stopped");
    let (status, problem) = gatefold.post_to("api-1", "ws-ticket", &login).await;
    assert_eq!((status, &problem["code"]), (503, &json!("unavailable")));
    let refused = refused(&format!("{}?ticket={ticket}", gatefold.direct()), &[]).await;
    assert_eq!(refused, (503, "unavailable".to_owned()));
}

#[tokio::test]
async fn nobody_writes_a_ticket() {
    let gatefold = shared().await;
    let login = logged_in(gatefold).await;
    let mut tickets = Vec::new();
    for url in gatefold.everywhere() {
        let ticket = gatefold.ticket("api-1", &login).await;
        Client::connect(&format!("{url}?ticket={ticket}")).await.is_greeted().await;
        assert_eq!(refused(&format!("{url}?ticket={ticket}"), &[]).await, invalid());
        tickets.push(ticket);
    }
    let access_log = gatefold.cluster.process("nginx").expect("nginx").access_log.expect("a log");
    let access_log = std::fs::read_to_string(access_log).expect("a log");
    for ticket in &tickets {
        for name in ["api-1", "api-2", "ws-1", "ws-2", "nginx"] {
            assert!(!gatefold.log_of(name).contains(ticket), "{name} wrote a ticket");
        }
        assert!(!access_log.contains(ticket));
    }
}
