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
    let foreign =
        alice.at(Door::Replica(0)).request(Method::POST, "/api/refresh").header(header::HOST, "gatefold.test");
    let answer = send(foreign.header(header::ORIGIN, "https://evil.example")).await;
    assert_snapshot!(answer.snapshot(), @r#"
    403
    cache-control: no-store
    content-type: application/problem+json
    x-content-type-options: nosniff
    x-request-id: [request id]

    {
      "code": "forbidden_origin",
      "detail": "The request's Origin (https://evil.example) is neither the origin at which it arrived (http://gatefold.test, by its Host and a trusted proxy's X-Forwarded-Proto) nor one of ALLOWED_ORIGINS: have the proxy in between pass on Host unchanged, or add the Origin to ALLOWED_ORIGINS",
      "error": "The request's Origin (https://evil.example) is neither the origin at which it arrived (http://gatefold.test, by its Host and a trusted proxy's X-Forwarded-Proto) nor one of ALLOWED_ORIGINS: have the proxy in between pass on Host unchanged, or add the Origin to ALLOWED_ORIGINS",
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

/// As the short form of Vite's `server.proxy` does: `Host` is that of the target, and `Origin` is the browser's.
#[tokio::test]
async fn a_development_proxy_that_rewrites_host_is_told_what_was_compared_and_which_setting_allows_it() {
    let app = shared().await;
    let (arrived, page) = (app.url(Door::Nginx).to_owned(), "http://localhost:5173");
    let answer = from_page(&app.anonymous(), Method::POST, "/api/refresh", page).await;
    answer.assert_problem(403, "forbidden_origin");
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    for part in [&format!("({page})"), &format!("({arrived},"), "Host unchanged", "ALLOWED_ORIGINS"] {
        assert!(detail.contains(part), "{part} is not in {detail}");
    }
}

#[tokio::test]
async fn behind_two_proxies_the_scheme_is_the_clients() {
    let app = shared().await;
    let replica = app.anonymous().at(Door::Replica(0));
    for (proto, summary) in [("https,http", "401 missing_refresh_token"), ("http", "403 forbidden_origin")] {
        let request = replica.request(Method::POST, "/api/refresh").header(header::HOST, "gatefold.test");
        let request = request.header("x-forwarded-proto", proto).header("x-forwarded-for", "203.0.113.9:4711");
        let answer = send(request.header(header::ORIGIN, "https://gatefold.test")).await;
        assert_eq!(answer.summary(), summary, "{proto}");
    }
}
