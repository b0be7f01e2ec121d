//! What clients say, and what they are answered.

use gatefold_shared::clock;
use serde_json::json;
use uuid::Uuid;

use crate::harness::shared;

#[tokio::test]
async fn a_ping_is_answered_with_the_time_and_with_its_id() {
    let gatefold = shared().await;
    let mut client = gatefold.client().await;
    for id in [json!("a"), json!(1), json!(-2.5), json!("ü\u{0}\"")] {
        let pong = client.ask(json!({"type": "ping", "id": id})).await;
        assert_eq!((&pong["type"], &pong["id"]), (&json!("pong"), &id));
        let timestamp = pong["payload"]["timestamp"].as_u64().expect("milliseconds");
        assert!(clock::unix_millis().abs_diff(timestamp) < 60_000);
    }
    let pong = client.ask(json!({"type": "ping", "later": [{}]})).await;
    assert!(pong.get("id").is_none(), "{pong}");
}

#[tokio::test]
async fn what_is_no_message_is_answered_with_an_error() {
    let gatefold = shared().await;
    let mut client = gatefold.client().await;
    insta::assert_json_snapshot!(client.ask("not JSON").await, @r#"
    {
      "payload": {
        "code": "invalid_message",
        "message": "Not a JSON object with the fields that its type needs",
        "requireReauth": false
      },
      "type": "error"
    }
    "#);
    for message in ["", "[]", "null", "{}", r#"{"type":7}"#, r#"{"type":"reauth"}"#, r#"{"type":"reauth","access":1}"#]
    {
        let error = client.ask(message).await;
        assert_eq!(error["payload"]["code"], "invalid_message", "{message}");
    }
    let error = client.ask(json!({"type": "reauth", "id": "mine"})).await;
    assert_eq!((&error["payload"]["code"], &error["id"]), (&json!("invalid_message"), &json!("mine")));
    client.is_served().await;
}

#[tokio::test]
async fn an_unknown_type_is_answered_with_an_error_and_its_id() {
    let gatefold = shared().await;
    let mut client = gatefold.client().await;
    insta::assert_json_snapshot!(client.ask(json!({"type": "dance", "id": 7})).await, @r#"
    {
      "id": 7,
      "payload": {
        "code": "unknown_type",
        "message": "There is no such type of message",
        "requireReauth": false
      },
      "type": "error"
    }
    "#);
}

#[tokio::test]
async fn reauth_with_a_token_of_the_same_session_moves_the_expiry() {
    let gatefold = shared().await;
    let mut login = gatefold.log_in("alice").await;
    let mut client = gatefold.client_with(&login.access_token).await;
    let access = gatefold.refresh(&mut login).await;
    let answer = client.ask(json!({"type": "reauth", "access": access, "id": 1})).await;
    assert_eq!((&answer["type"], &answer["id"]), (&json!("reauth_success"), &json!(1)));
    let left = answer["payload"]["expiresAt"].as_u64().expect("milliseconds") - clock::unix_millis();
    assert!((800_000..=900_000).contains(&left), "{left} ms left");
}

#[tokio::test]
async fn reauth_with_a_bad_token_is_answered_with_an_error_and_changes_nothing() {
    let gatefold = shared().await;
    let mut client = gatefold.client().await;
    insta::assert_json_snapshot!(client.ask(json!({"type": "reauth", "access": "a.b.c", "id": "r"})).await, @r#"
    {
      "id": "r",
      "payload": {
        "code": "reauth_failed",
        "message": "The access token is not valid, please reauthenticate",
        "requireReauth": true
      },
      "type": "error"
    }
    "#);
    client.is_served().await;
}

#[tokio::test]
async fn reauth_with_a_token_of_another_user_or_another_session_closes_the_socket() {
    let gatefold = shared().await;
    let family = Uuid::new_v4();
    for other in [gatefold.token_of(8, family), gatefold.token_of(7, Uuid::new_v4())] {
        let mut client = gatefold.client_with(&gatefold.token_of(7, family)).await;
        client.say(json!({"type": "reauth", "access": other})).await;
        assert_eq!(client.closed().await, (4509, "identity_mismatch".to_owned()));
    }
    let (alice, again, bob) = tokio::join!(gatefold.log_in("alice"), gatefold.log_in("alice"), gatefold.log_in("bob"));
    for other in [again, bob] {
        let mut client = gatefold.client_with(&alice.access_token).await;
        client.say(json!({"type": "reauth", "access": other.access_token})).await;
        assert_eq!(client.closed().await, (4509, "identity_mismatch".to_owned()));
    }
}

#[tokio::test]
async fn auth_is_only_for_the_first_message() {
    let gatefold = shared().await;
    let mut client = gatefold.client().await;
    let error = client.ask(json!({"type": "auth", "access": gatefold.token()})).await;
    assert_eq!(error["payload"]["code"], "unknown_type");
    client.is_served().await;
}
