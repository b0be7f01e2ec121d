//! The end of a token on an open socket: warning, expiry, grace, and a new token in time or too late.

use std::time::Duration;

use gatefold_cluster::Cluster;
use gatefold_shared::clock;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::harness::{Client, Gatefold, PASSWORD, refused, shared, unhurried};

/// Tokens live for nine seconds here, and sockets six seconds longer. Whatever has to be done in time has four at least.
async fn short_lived() -> &'static Gatefold {
    static CLUSTER: OnceCell<Gatefold> = OnceCell::const_new();
    let start = async || {
        let lifetimes = [("ACCESS_TOKEN_EXPIRY", "9s"), ("TOKEN_WARNING", "5s"), ("REAUTH_GRACE", "6s")];
        let builder = lifetimes
            .iter()
            .fold(unhurried(Cluster::builder().api(1).ws(1)), |builder, (name, value)| builder.env(name, *value));
        let gatefold = Gatefold::start(builder).await;
        gatefold.cluster.create_user("alice", PASSWORD).await.expect("a user");
        gatefold
    };
    CLUSTER.get_or_init(start).await
}

fn is_expiry(message: &Value) -> bool {
    message["type"] == "error" && message["payload"]["code"] == "token_expired"
}

#[tokio::test]
async fn a_token_is_warned_of_once_then_it_expires_then_the_socket_is_closed() {
    let gatefold = short_lived().await;
    let mut client = gatefold.client_with(&gatefold.log_in("alice").await.access_token).await;
    let (heard, code, reason) = client.hear_out().await;
    assert_eq!((code, reason.as_str()), (4401, "token_expired"));
    let [warning, expiry] = heard.try_into().expect("two messages");
    assert_eq!(warning["type"], "token_expiring");
    assert!(warning["payload"]["expiresAt"].as_u64().expect("milliseconds") < clock::unix_millis());
    assert!(is_expiry(&expiry), "{expiry}");
    assert_eq!(expiry["payload"]["requireReauth"], true);
}

#[tokio::test]
async fn a_late_reauth_within_the_grace_mends_everything_and_warns_anew() {
    let gatefold = short_lived().await;
    let mut login = gatefold.log_in("alice").await;
    let mut client = gatefold.client_with(&login.access_token).await;
    assert_eq!(client.hear().await["type"], "token_expiring");
    assert!(is_expiry(&client.hear().await));
    client.is_served().await;
    let refused = client.ask(json!({"type": "dance", "id": 1})).await;
    assert!(is_expiry(&refused) && refused["id"] == 1, "{refused}");

    let access = gatefold.refresh(&mut login).await;
    assert_eq!(client.ask(json!({"type": "reauth", "access": access})).await["type"], "reauth_success");
    assert_eq!(client.ask(json!({"type": "dance"})).await["payload"]["code"], "unknown_type");
    assert_eq!(client.hear().await["type"], "token_expiring");
    assert!(is_expiry(&client.hear().await));
    assert_eq!(client.closed().await, (4401, "token_expired".to_owned()));
}

#[tokio::test]
async fn a_reauth_in_time_keeps_the_socket_from_expiring() {
    let gatefold = short_lived().await;
    let mut login = gatefold.log_in("alice").await;
    let mut client = gatefold.client_with(&login.access_token).await;
    for _ in 0..3 {
        assert_eq!(client.hear().await["type"], "token_expiring");
        let access = gatefold.refresh(&mut login).await;
        assert_eq!(client.ask(json!({"type": "reauth", "access": access})).await["type"], "reauth_success");
    }
}

#[tokio::test]
async fn a_warning_that_is_due_comes_right_after_the_greeting() {
    let gatefold = shared().await;
    let token = gatefold.token_for(Duration::from_mins(1));
    let mut client = gatefold.client_with(&token).await;
    assert_eq!(client.hear().await["type"], "token_expiring");
}

#[tokio::test]
async fn a_token_past_its_expiry_opens_no_socket_not_even_within_the_leeway_of_requests() {
    let gatefold = shared().await;
    let token = gatefold.token_for(Duration::from_secs(0));
    for url in gatefold.everywhere() {
        let expired = refused(&format!("{url}?token={token}"), &[]).await;
        assert_eq!(expired, (401, "token_expired".to_owned()));
        let mut client = Client::connect(&url).await;
        client.say(json!({"type": "auth", "access": token})).await;
        assert_eq!(client.closed().await, (4401, "token_expired".to_owned()));
    }
}
