//! Who issues access tokens and for whom, and how services that verify them find out.

use gatefold_cluster::Builder;
use http::header;
use serde_json::json;
use tokio_tungstenite::tungstenite::{Error as SocketError, client::IntoClientRequest};

use crate::harness::{Door, Replica, Requester, TestApp, claims, eventually, shared, two_replicas, unhurried};

const ISSUER: &str = "https://auth.example.com";
const AUDIENCE: &str = "https://api.example.com";

fn with_issuer() -> Builder {
    unhurried(two_replicas()).ws(1).env("ISSUER", ISSUER).env("AUDIENCE", AUDIENCE)
}

/// The status with which a handshake with the token is answered.
async fn handshake(url: &str, user: &Requester) -> u16 {
    let mut request = url.into_client_request().unwrap();
    let bearer = format!("Bearer {}", user.access_token());
    request.headers_mut().insert(header::AUTHORIZATION, bearer.parse().unwrap());
    match tokio_tungstenite::connect_async(request).await {
        Ok((_, response)) => response.status().as_u16(),
        Err(SocketError::Http(response)) => response.status().as_u16(),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn tokens_name_the_configured_issuer_and_audience_and_all_replicas_accept_them() {
    let app = TestApp::start(with_issuer()).await;
    let alice = app.signed_in("issuer.alice").await;
    let claims = claims(alice.access_token());
    assert_eq!((&claims["iss"], &claims["aud"]), (&ISSUER.into(), &AUDIENCE.into()));
    assert_eq!(claims["client_id"], "gatefold");
    for door in [Door::Replica(0), Door::Replica(1)] {
        assert_eq!(alice.at(door).get("/api/protected").await.status, 200);
    }
    assert_eq!(handshake(&app.cluster.ws_url(), &alice).await, 101);
}

#[tokio::test]
async fn the_issuer_says_where_its_keys_are() {
    let app = TestApp::start(with_issuer()).await;
    for door in [Door::Nginx, Door::Replica(0)] {
        let answer = app.anonymous().at(door).get("/.well-known/oauth-authorization-server").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header(header::CONTENT_TYPE), Some("application/json"));
        assert_eq!(answer.header(header::CACHE_CONTROL), Some("public, max-age=300"));
        let metadata = json!({
            "issuer": "https://auth.example.com",
            "jwks_uri": "https://auth.example.com/.well-known/jwks.json",
            "service_documentation": "https://auth.example.com/api/docs/",
            "response_types_supported": [],
            "grant_types_supported": [],
        });
        assert_eq!(answer.json(), metadata);
    }
}

#[tokio::test]
async fn without_a_configured_issuer_tokens_are_those_of_before_and_there_is_no_metadata() {
    let app = shared().await;
    let alice = app.signed_in("issuer.default").await;
    let claims = claims(alice.access_token());
    assert_eq!((&claims["iss"], &claims["aud"]), (&"gatefold".into(), &"gatefold".into()));
    for door in [Door::Nginx, Door::Replica(0)] {
        let answer = alice.at(door).get("/.well-known/oauth-authorization-server").await;
        answer.assert_problem(404, "not_found");
        assert!(answer.json()["detail"].as_str().unwrap().contains("ISSUER"), "{answer:?}");
    }
}

/// The order in operations.md: while replicas are replaced, those of both configurations accept the tokens of both.
#[tokio::test]
async fn an_issuer_is_changed_without_logging_anybody_out() {
    let app = TestApp::start(unhurried(two_replicas()).ws(1).env("ACCEPTED_ISSUERS", ISSUER)).await;
    let old = app.signed_in("issuer.changed").await;
    assert_eq!(claims(old.access_token())["iss"], "gatefold");
    let changed = Replica::start(&app, &[("ISSUER", ISSUER), ("ACCEPTED_ISSUERS", "gatefold")]);
    eventually("the changed replica is ready", async || changed.ready().await == Some((200, "ok".into()))).await;
    let mut new = old.at_url(&changed.url);
    assert_eq!(new.get("/api/protected").await.status, 200, "a token of before");
    assert_eq!(new.refresh().await.status, 200);
    assert_eq!(claims(new.access_token())["iss"], ISSUER);
    assert_eq!(new.get("/api/protected").await.status, 200);
    let mut new_before = old;
    new_before.access_token.clone_from(&new.access_token);
    assert_eq!(new_before.get("/api/protected").await.status, 200, "a new token, before the change");
    assert_eq!(handshake(&app.cluster.ws_url(), &new_before).await, 101);
}
