//! What is refused before there is a socket, and in which words.

use gatefold_cluster::Cluster;
use serde_json::Value;

use crate::harness::{Client, Gatefold, eventually, get, plain_get, refusal, refused, shared};

#[tokio::test]
async fn a_bad_token_is_refused_with_a_challenge() {
    let gatefold = shared().await;
    let (status, headers, problem) = refusal(&format!("{}?token=nonsense", gatefold.direct()), &[]).await;
    assert_eq!(status, 401);
    assert_eq!(headers["www-authenticate"], r#"Bearer error="invalid_token""#);
    insta::assert_json_snapshot!(problem, @r#"
    {
      "code": "invalid_token",
      "detail": "The access token is not valid",
      "error": "The access token is not valid",
      "requireReauth": false,
      "status": 401,
      "title": "Unauthorized",
      "type": "about:blank"
    }
    "#);
    let through_nginx = refusal(&format!("{}?token=nonsense", gatefold.cluster.ws_url()), &[]).await;
    assert_eq!(
        (status, &headers["www-authenticate"], problem),
        (through_nginx.0, &through_nginx.1["www-authenticate"], through_nginx.2)
    );
}

#[tokio::test]
async fn a_bad_token_is_refused_whichever_way_it_comes() {
    let gatefold = shared().await;
    let url = gatefold.direct();
    let bad = (401, "invalid_token".to_owned());
    for query in ["token=", "token=a.b.c", "token=%ff%00", "token=%", "ticket=abc"] {
        assert_eq!(refused(&format!("{url}?{query}"), &[]).await, bad, "{query}");
    }
    for header in [
        ("authorization", "Bearer"),
        ("authorization", "Bearer nonsense"),
        ("sec-websocket-protocol", "gatefold.v1, bearer.nonsense"),
    ] {
        assert_eq!(refused(&url, &[header]).await, bad, "{header:?}");
    }
}

#[tokio::test]
async fn more_than_one_token_is_refused() {
    let gatefold = shared().await;
    let url = format!("{}?token={}", gatefold.direct(), gatefold.token());
    let bearer = format!("Bearer {}", gatefold.token());
    assert_eq!(refused(&url, &[("authorization", &bearer)]).await, (400, "invalid_request".to_owned()));
    assert_eq!(refused(&format!("{url}&ticket=abc"), &[]).await, (400, "invalid_request".to_owned()));
}

#[tokio::test]
async fn pages_of_foreign_origins_are_refused_even_with_a_good_token() {
    let gatefold = shared().await;
    for url in gatefold.everywhere() {
        let url = format!("{url}?token={}", gatefold.token());
        for origin in ["https://evil.example", "null", "http://127.0.0.1.evil.example"] {
            let (status, _, problem) = refusal(&url, &[("origin", origin)]).await;
            assert_eq!((status, &problem["code"]), (403, &Value::from("forbidden_origin")), "{origin}");
            let detail = problem["detail"].as_str().expect("words");
            assert!(detail.contains(&format!("({origin})")) && detail.contains("ALLOWED_ORIGINS"), "{detail}");
        }
    }
}

#[tokio::test]
async fn what_is_no_handshake_is_told_to_be_one() {
    let gatefold = shared().await;
    for url in gatefold.everywhere() {
        let (status, headers, problem) = plain_get(&url, &[]).await;
        assert_eq!((status, &problem["code"]), (426, &Value::from("upgrade_required")));
        assert_eq!(headers["sec-websocket-version"], "13");
    }
    assert_eq!(plain_get(&gatefold.direct(), &[]).await.1["upgrade"], "websocket");
}

#[tokio::test]
async fn a_broken_handshake_is_refused() {
    let gatefold = shared().await;
    let url = format!("{}?token={}", gatefold.direct(), gatefold.token());
    let upgrade = [("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")];
    let refused = async |headers: &[(&'static str, &str)]| {
        let headers: Vec<_> = upgrade.iter().chain(headers).copied().collect();
        plain_get(&url, &headers).await.0
    };
    let (good_key, version) = (("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="), ("sec-websocket-version", "13"));
    assert_eq!(refused(&[good_key]).await, 426);
    assert_eq!(refused(&[good_key, ("sec-websocket-version", "8")]).await, 426);
    assert_eq!(refused(&[version]).await, 400);
    for key in ["", "c2hvcnQ=", "dGhlIHNhbXBsZSBub25jZSE=", "!!!!!!!!!!!!!!!!!!!!!!=="] {
        assert_eq!(refused(&[version, ("sec-websocket-key", key)]).await, 400, "{key}");
    }
}

#[tokio::test]
async fn other_paths_and_other_methods_have_their_problems() {
    let gatefold = shared().await;
    let replica = gatefold.replica_url("ws-1");
    let (status, _, problem) = plain_get(&format!("{replica}/nothing"), &[]).await;
    assert_eq!((status, &problem["code"]), (404, &Value::from("not_found")));
    let response = reqwest::Client::new().post(format!("{replica}/ws")).send().await.expect("an answer");
    assert_eq!(response.status(), 405);
    assert!(response.headers()["allow"].to_str().expect("text").contains("GET"));
    let problem: Value = response.json().await.expect("JSON");
    assert_eq!(problem["code"], "method_not_allowed");
}

#[tokio::test]
async fn a_replica_tells_that_it_lives_and_that_it_is_ready() {
    let gatefold = shared().await;
    let replica = gatefold.replica_url("ws-1");
    let (status, body) = get(&format!("{replica}/health")).await;
    let health: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((status, &health["status"]), (200, &Value::from("ok")));
    assert!(health["timestamp"].as_str().is_some_and(|text| text.contains('T') && text.ends_with('Z')), "{body}");
    let ready = get(&format!("{replica}/ready")).await;
    assert_eq!(ready, (200, r#"{"status":"ok","checks":{"redis":"ok","revocations":"ok","clock":"ok"}}"#.to_owned()));
}

#[tokio::test]
async fn a_replica_that_is_full_refuses_further_sockets_until_one_closes() {
    let gatefold = Gatefold::start(Cluster::builder().ws(1).env("MAX_CONNECTIONS", "4")).await;
    let url = format!("{}?token={}", gatefold.direct(), gatefold.token());
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(gatefold.client().await);
    }
    let (status, headers, problem) = refusal(&url, &[]).await;
    assert_eq!((status, &problem["code"]), (503, &Value::from("unavailable")));
    assert_eq!(headers["retry-after"], "1");
    for client in &mut clients {
        client.is_served().await;
    }
    let mut last = clients.pop().expect("a client");
    last.stream.close(None).await.expect("closed");
    eventually("the seat is free again", async || {
        let metrics = gatefold.metrics_of("ws-1").await;
        metrics.lines().any(|line| line == "gatefold_ws_connections 3")
    })
    .await;
    Client::connect(&url).await.hear().await;
}
