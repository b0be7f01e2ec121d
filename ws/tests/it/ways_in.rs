//! Every way to open a socket, and what it says first.

use gatefold_shared::clock;
use serde_json::{Value, json};

use crate::harness::{ALLOWED_ORIGIN, Client, eventually, shared};

/// The greeting's payload, once it has been seen to be a greeting.
fn greeting(heard: &Value) -> &Value {
    assert_eq!(heard["type"], "connected");
    &heard["payload"]
}

#[tokio::test]
async fn a_logged_in_user_is_greeted_by_name_through_nginx_and_by_every_replica() {
    let gatefold = shared().await;
    let login = gatefold.log_in("alice").await;
    for url in gatefold.everywhere() {
        let mut client = Client::connect(&format!("{url}?token={}", login.access_token)).await;
        let heard = client.hear().await;
        let payload = greeting(&heard);
        assert_eq!(payload["userId"], login.user_id);
        assert_eq!(payload["username"], "alice");
        let left = payload["expiresAt"].as_u64().expect("milliseconds") - clock::unix_millis();
        assert!((800_000..=900_000).contains(&left), "{left} ms left of 15 minutes");
        let id = payload["connectionId"].as_str().expect("an id");
        assert_eq!(id.len(), 36);
        client.is_served().await;
    }
}

#[tokio::test]
async fn the_token_may_come_in_the_authorization_header() {
    let gatefold = shared().await;
    for url in gatefold.everywhere() {
        let mut client =
            Client::connect_with(&url, &[("authorization", &format!("Bearer {}", gatefold.token()))]).await;
        greeting(&client.hear().await);
        client.is_served().await;
    }
}

#[tokio::test]
async fn the_token_may_come_as_a_subprotocol_and_is_never_the_one_that_is_answered() {
    let gatefold = shared().await;
    for url in gatefold.everywhere() {
        let offered = format!("gatefold.v1, bearer.{}", gatefold.token());
        let mut client = Client::connect_with(&url, &[("sec-websocket-protocol", &offered)]).await;
        assert_eq!(client.subprotocol.as_deref(), Some("gatefold.v1"));
        greeting(&client.hear().await);
        client.is_served().await;
    }
}

#[tokio::test]
async fn the_token_may_come_in_the_first_message() {
    let gatefold = shared().await;
    for url in gatefold.everywhere() {
        let mut client = Client::connect_with(&url, &[("sec-websocket-protocol", "gatefold.v1")]).await;
        assert_eq!(client.subprotocol.as_deref(), Some("gatefold.v1"));
        let connected = client.ask(json!({"type": "auth", "access": gatefold.token(), "id": "first"})).await;
        assert_eq!(connected["id"], "first");
        greeting(&connected);
        client.is_served().await;
    }
}

#[tokio::test]
async fn a_bad_token_in_the_first_message_closes_the_socket() {
    let gatefold = shared().await;
    let mut client = Client::connect(&gatefold.direct()).await;
    client.say(json!({"type": "auth", "access": "a.b.c"})).await;
    assert_eq!(client.closed().await, (4401, "invalid_token".to_owned()));
}

#[tokio::test]
async fn a_token_in_the_query_may_be_percent_encoded() {
    let gatefold = shared().await;
    let encoded = gatefold.token().replace('.', "%2E").replace('e', "%65");
    for url in gatefold.everywhere() {
        let mut client = Client::connect(&format!("{url}?a=%26&%74oken={encoded}&b=")).await;
        greeting(&client.hear().await);
    }
}

#[tokio::test]
async fn pages_of_the_own_origin_and_of_allowed_ones_open_sockets() {
    let gatefold = shared().await;
    for url in gatefold.everywhere() {
        let own = url.replacen("ws", "http", 1).replace("/ws", "");
        for origin in [own.as_str(), ALLOWED_ORIGIN] {
            let url = format!("{url}?token={}", gatefold.token());
            let mut client = Client::connect_with(&url, &[("origin", origin)]).await;
            greeting(&client.hear().await);
        }
    }
}

#[tokio::test]
async fn a_socket_leaves_a_line_when_it_opens_and_when_it_closes_and_nobody_ever_writes_a_token() {
    let gatefold = shared().await;
    let token = gatefold.token();
    let mut client = Client::connect(&format!("{}?token={token}", gatefold.direct())).await;
    let id = greeting(&client.hear().await)["connectionId"].as_str().expect("an id").to_owned();
    client.stream.close(None).await.expect("closed");
    let mut through_nginx = Client::connect(&format!("{}?token={token}", gatefold.cluster.ws_url())).await;
    greeting(&through_nginx.hear().await);
    let bad = through_nginx.ask(json!({"type": "reauth", "access": format!("{token}x")})).await;
    assert_eq!(bad["payload"]["code"], "reauth_failed");
    let lines = || -> Vec<Value> {
        let log = gatefold.log_of("ws-1");
        log.lines().filter(|line| line.contains(&id)).map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    eventually("both lines are written", async || lines().len() == 2).await;
    let [opened, closed] = lines().try_into().expect("two lines");
    assert_eq!((&opened["message"], &closed["message"]), (&json!("socket opened"), &json!("socket closed")));
    for line in [&opened, &closed] {
        assert_eq!(line["user.id"], 7);
        assert_eq!(line["family.id"].as_str().map(str::len), Some(36));
    }
    assert_eq!(closed["close.code"], 1005);
    let secret = token.rsplit('.').next().expect("a signature");
    for name in ["ws-1", "ws-2", "nginx", "api-1"] {
        assert!(!gatefold.log_of(name).contains(secret), "{name} wrote a token");
    }
    let access_log = gatefold.cluster.process("nginx").expect("nginx").access_log.expect("a log");
    assert!(!std::fs::read_to_string(access_log).expect("a log").contains(secret));
}

#[tokio::test]
async fn sockets_are_counted() {
    let gatefold = shared().await;
    let mut client = gatefold.client().await;
    client.is_served().await;
    for series in [
        "gatefold_ws_connections ",
        r#"gatefold_ws_handshakes_total{result="accepted"} "#,
        r#"gatefold_ws_messages_total{type="ping",result="ok"} "#,
    ] {
        let is_told = async || gatefold.metrics_of("ws-1").await.lines().any(|line| line.starts_with(series));
        eventually(&format!("{series} is told"), is_told).await;
    }
}
