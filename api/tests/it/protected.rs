//! `GET /api/protected`, and access tokens as they arrive over HTTP. That forgeries of every kind are no tokens is tested
//! where tokens are verified; here a few of them must meet the same end.

use gatefold_cluster::Cluster;
use gatefold_shared::clock;
use http::{Method, header};
use insta::assert_snapshot;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::harness::{Answer, Door, Requester, claims, send, shared};

async fn with_authorization(requester: &Requester, value: &str) -> Answer {
    send(requester.request(Method::GET, "/api/protected").header(header::AUTHORIZATION, value)).await
}

#[tokio::test]
async fn it_greets_whoever_has_an_access_token() {
    let app = shared().await;
    let alice = app.signed_in("Protected.Plain").await;
    assert_snapshot!(alice.at(Door::Replica(1)).get("/api/protected").await.snapshot(), @r#"
    200
    cache-control: no-store
    content-type: application/json
    x-content-type-options: nosniff
    x-request-id: [request id]

    {
      "message": "You are logged in",
      "user": {
        "id": "[id]",
        "username": "Protected.Plain"
      }
    }
    "#);
}

#[tokio::test]
async fn without_a_token_nobody_is_greeted() {
    let nobody = shared().await.anonymous().at(Door::Replica(0));
    assert_snapshot!(nobody.get("/api/protected").await.snapshot(), @r#"
    401
    cache-control: no-store
    content-type: application/problem+json
    www-authenticate: Bearer error="invalid_token"
    x-content-type-options: nosniff
    x-request-id: [request id]

    {
      "code": "missing_token",
      "detail": "No access token: send Authorization: Bearer <token>",
      "error": "No access token: send Authorization: Bearer <token>",
      "requestId": "[request id]",
      "requireReauth": false,
      "status": 401,
      "title": "Unauthorized",
      "type": "about:blank"
    }
    "#);
}

#[tokio::test]
async fn with_a_bad_token_nobody_is_greeted() {
    let nobody = shared().await.anonymous().at(Door::Replica(0));
    assert_snapshot!(with_authorization(&nobody, "Bearer nonsense").await.snapshot(), @r#"
    401
    cache-control: no-store
    content-type: application/problem+json
    www-authenticate: Bearer error="invalid_token"
    x-content-type-options: nosniff
    x-request-id: [request id]

    {
      "code": "invalid_token",
      "detail": "The access token is not valid",
      "error": "The access token is not valid",
      "requestId": "[request id]",
      "requireReauth": false,
      "status": 401,
      "title": "Unauthorized",
      "type": "about:blank"
    }
    "#);
}

#[tokio::test]
async fn with_an_expired_token_nobody_is_greeted() {
    let app = shared().await;
    let alice = app.signed_in("protected.expired").await;
    let token = resigned(&app.cluster, &alice, json!({ "exp": clock::unix_seconds() - 10 }));
    let nobody = app.anonymous().at(Door::Replica(0));
    assert_snapshot!(with_authorization(&nobody, &format!("Bearer {token}")).await.snapshot(), @r#"
    401
    cache-control: no-store
    content-type: application/problem+json
    www-authenticate: Bearer error="invalid_token"
    x-content-type-options: nosniff
    x-request-id: [request id]

    {
      "code": "token_expired",
      "detail": "The access token has expired: refresh it",
      "error": "The access token has expired: refresh it",
      "requestId": "[request id]",
      "requireReauth": false,
      "status": 401,
      "title": "Unauthorized",
      "type": "about:blank"
    }
    "#);
    let token = resigned(&app.cluster, &alice, json!({ "exp": clock::unix_seconds() - 2 }));
    assert_eq!(with_authorization(&nobody, &format!("Bearer {token}")).await.status, 200, "within the leeway");
}

#[tokio::test]
async fn the_claims_are_what_the_contract_says() {
    let app = shared().await;
    let alice = app.signed_in("Protected.Claims").await;
    let token = alice.access_token();
    let header = jsonwebtoken::decode_header(token).unwrap();
    assert_eq!((header.alg, header.typ.as_deref()), (Algorithm::RS256, Some("at+jwt")));
    assert!(header.kid.is_some());
    let claims = claims(token);
    let names: Vec<&str> = claims.as_object().unwrap().keys().map(String::as_str).collect();
    for name in ["aud", "exp", "iat", "iss", "jti", "sid", "sub", "username"] {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
    assert_eq!(claims["username"], "Protected.Claims");
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 900);
}

#[tokio::test]
async fn the_scheme_is_bearer_in_any_case_and_nothing_else() {
    let app = shared().await;
    let alice = app.signed_in("protected.scheme").await;
    let (token, nobody) = (alice.access_token(), app.anonymous());
    for value in [format!("Bearer {token}"), format!("bearer {token}"), format!("BEARER   {token} ")] {
        assert_eq!(with_authorization(&nobody, &value).await.status, 200, "{value}");
    }
    for (value, code) in [
        (String::new(), "missing_token"),
        ("Bearer".to_owned(), "missing_token"),
        ("Bearer ".to_owned(), "missing_token"),
        (token.to_owned(), "missing_token"),
        (format!("Basic {token}"), "missing_token"),
        (format!("Token {token}"), "missing_token"),
        (format!("Bearer{token}"), "missing_token"),
        (format!("Bearer {token} {token}"), "invalid_token"),
        (format!("Bearer {token}, Bearer {token}"), "invalid_token"),
        (format!("Bearer \"{token}\""), "invalid_token"),
        (format!("Bearer {}", "x".repeat(8_000)), "invalid_token"),
        ("Bearer caf\u{e9}".to_owned(), "invalid_token"),
    ] {
        with_authorization(&nobody, &value).await.assert_problem(401, code);
    }
    // Nginx would not even pass them on.
    let two = alice
        .at(Door::Replica(0))
        .request(Method::GET, "/api/protected")
        .header(header::AUTHORIZATION, format!("Bearer {token}"));
    send(two).await.assert_problem(401, "invalid_token");
}

#[tokio::test]
async fn a_token_counts_in_its_header_only() {
    let app = shared().await;
    let alice = app.signed_in("protected.elsewhere").await;
    let nobody = app.anonymous();
    for path in
        [format!("/api/protected?token={0}&access_token={0}", alice.access_token()), "/api/protected".to_owned()]
    {
        let request = nobody.with_cookie(alice.access_token()).request(Method::GET, &path);
        send(request).await.assert_problem(401, "missing_token");
    }
    let refresh_token = format!("Bearer {}", alice.cookie());
    with_authorization(&nobody, &refresh_token).await.assert_problem(401, "invalid_token");
}

#[tokio::test]
async fn forgeries_meet_the_same_end_over_http() {
    let app = shared().await;
    let alice = app.signed_in("protected.forged").await;
    let nobody = app.anonymous();
    let public = std::fs::read(app.cluster.keys_dir().join("public.pem")).unwrap();
    let token = alice.access_token();
    let mut header = jsonwebtoken::decode_header(token).unwrap();
    header.alg = Algorithm::HS256;
    let with_public_key = encode(&header, &claims(token), &EncodingKey::from_secret(&public)).unwrap();
    let (_, payload_and_signature) = token.split_once('.').unwrap();
    let (payload, signature) = payload_and_signature.split_once('.').unwrap();
    for (forgery, token) in [
        ("alg none", format!("eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0.{payload}.")),
        ("HS256 with the public key", with_public_key),
        ("no signature", token.trim_end_matches(signature).to_owned()),
        ("truncated", token[..token.len() - 1].to_owned()),
        ("another issuer", resigned(&app.cluster, &alice, json!({ "iss": "attacker" }))),
        ("another audience", resigned(&app.cluster, &alice, json!({ "aud": "attacker" }))),
        ("of the future", resigned(&app.cluster, &alice, json!({ "iat": clock::unix_seconds() + 60 }))),
    ] {
        let answer = with_authorization(&nobody, &format!("Bearer {token}")).await;
        assert_eq!(answer.summary(), "401 invalid_token", "{forgery}");
        assert_eq!(answer.header(header::WWW_AUTHENTICATE), Some("Bearer error=\"invalid_token\""), "{forgery}");
    }
    assert_eq!(with_authorization(&nobody, &format!("Bearer {token}")).await.status, 200, "the real one");
}

/// The token of a requester with some claims changed, signed with the cluster's own key.
fn resigned(cluster: &Cluster, requester: &Requester, changes: Value) -> String {
    let mut claims = claims(requester.access_token());
    let Value::Object(changes) = changes else { panic!("claims are an object") };
    claims.as_object_mut().unwrap().extend(changes);
    let header: Header = jsonwebtoken::decode_header(requester.access_token()).unwrap();
    let key = std::fs::read(cluster.keys_dir().join("private.pem")).unwrap();
    encode(&header, &claims, &EncodingKey::from_rsa_pem(&key).unwrap()).unwrap()
}
