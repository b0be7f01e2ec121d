//! Requests that a page makes a browser send: our own page's are served, a foreign one's are not.

use http::{HeaderValue, Method, header};
use insta::assert_snapshot;

use crate::harness::{Answer, Door, Requester, TestApp, send, shared, two_replicas};

async fn from_page(requester: &Requester, method: Method, path: &str, origin: &str) -> Answer {
    let origin = HeaderValue::from_bytes(origin.as_bytes()).unwrap();
    send(requester.request(method, path).header(header::ORIGIN, origin)).await
}

#[tokio::test]
async fn a_foreign_page_changes_nothing() {
    let app = shared().await;
    let mut alice = app.signed_in("origin.foreign").await;
    let answer = from_page(&alice.at(Door::Replica(0)), Method::POST, "/api/refresh", "https://evil.example").await;
    assert_snapshot!(answer.snapshot(), @r#"
    403
    cache-control: no-store
    content-type: application/problem+json
    x-content-type-options: nosniff
    x-request-id: [request id]

    {
      "code": "forbidden_origin",
      "detail": "Requests from this origin are not allowed",
      "error": "Requests from this origin are not allowed",
      "requestId": "[request id]",
      "requireReauth": false,
      "status": 403,
      "title": "Forbidden",
      "type": "about:blank"
    }
    "#);
    let own = app.url(Door::Nginx).to_owned();
    for origin in [
        "null",
        "",
        "https://evil.example",
        &own.replace("http://", "https://"),
        &format!("{own}.evil.example"),
        &format!("{own}/path"),
        &format!("{own}, {own}"),
        "http://127.0.0.1",
        "file://",
        "caf\u{e9}",
    ] {
        for path in ["/api/login", "/api/refresh", "/api/logout", "/api/nothing"] {
            from_page(&alice, Method::POST, path, origin).await.assert_problem(403, "forbidden_origin");
        }
    }
    assert_eq!(alice.refresh().await.status, 200, "the session is as it was");
}

#[tokio::test]
async fn our_own_page_is_served_through_nginx() {
    let app = shared().await;
    let alice = app.signed_in("origin.own").await;
    let own = app.url(Door::Nginx).to_owned();
    let answer = from_page(&alice, Method::POST, "/api/refresh", &own).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(from_page(&alice, Method::POST, "/api/logout", &own).await.status, 200);
}

#[tokio::test]
async fn what_changes_nothing_is_served_to_anybody() {
    let app = shared().await;
    let alice = app.signed_in("origin.safe").await;
    assert_eq!(from_page(&alice, Method::GET, "/api/protected", "https://evil.example").await.status, 200);
}

#[tokio::test]
async fn a_page_that_is_listed_is_served() {
    let app =
        TestApp::start(two_replicas().env("ALLOWED_ORIGINS", "https://app.example.com,http://localhost:5173")).await;
    let alice = app.signed_in("origin.listed").await;
    assert_eq!(from_page(&alice, Method::POST, "/api/refresh", "https://app.example.com").await.status, 200);
    let refused = from_page(&alice, Method::POST, "/api/logout", "https://other.example.com").await;
    refused.assert_problem(403, "forbidden_origin");
    assert_eq!(from_page(&alice, Method::POST, "/api/logout", "http://localhost:5173").await.status, 200);
}
