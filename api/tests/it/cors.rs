//! Pages of other origins: those that are listed may read what we answer, whatever the answer is, and no others.

use http::{Method, header};
use serde_json::json;

use crate::harness::{Answer, Door, PASSWORD, Requester, TestApp, send, shared, two_replicas};

const OURS: &str = "https://app.example.com";
const FOREIGN: &str = "https://evil.example";

/// What a browser asks before its page may send `method` with what our client sends.
async fn preflight(requester: &Requester, origin: &str, method: &str, path: &str) -> Answer {
    let request = requester.request(Method::OPTIONS, path).header(header::ORIGIN, origin);
    let wanted = "authorization,content-type,idempotency-key,traceparent";
    let request = request.header(header::ACCESS_CONTROL_REQUEST_METHOD, method);
    send(request.header(header::ACCESS_CONTROL_REQUEST_HEADERS, wanted)).await
}

async fn call(requester: &Requester, origin: &str, method: Method, path: &str) -> Answer {
    send(requester.request(method, path).header(header::ORIGIN, origin)).await
}

/// That a page of [`OURS`] may read an answer, and no cache gives it to another's.
#[track_caller]
fn assert_shared(answer: &Answer) {
    assert_eq!(answer.header(header::ACCESS_CONTROL_ALLOW_ORIGIN), Some(OURS), "{answer:?}");
    assert_eq!(answer.header(header::ACCESS_CONTROL_ALLOW_CREDENTIALS), Some("true"), "{answer:?}");
    assert_eq!(answer.header(header::VARY), Some("origin"), "{answer:?}");
}

#[track_caller]
fn assert_allows_preflight(answer: &Answer) {
    assert_eq!((answer.status, answer.body.len()), (200, 0), "{answer:?}");
    assert_shared(answer);
    assert_eq!(answer.header(header::ACCESS_CONTROL_ALLOW_METHODS), Some("GET,POST,DELETE"));
    let headers = answer.header(header::ACCESS_CONTROL_ALLOW_HEADERS);
    assert_eq!(headers, Some("authorization,content-type,idempotency-key,traceparent"));
    assert_eq!(answer.header(header::ACCESS_CONTROL_MAX_AGE), Some("3600"));
    assert!(answer.header("x-request-id").is_some(), "{answer:?}");
}

async fn with_listed_pages() -> TestApp {
    let cluster = two_replicas().env("ALLOWED_ORIGINS", format!("http://localhost:5173,{OURS}"));
    TestApp::start(cluster.env("LIMIT_REFRESH_ADDRESS", "1/1h:1").redis_through_proxy()).await
}

#[tokio::test]
async fn a_page_that_is_listed_uses_the_api_whatever_the_answer_is() {
    let app = with_listed_pages().await;
    let alice = app.signed_in("cors.listed").await;
    for door in [Door::Nginx, Door::Replica(0)] {
        let page = alice.at(door);
        // More of them than the limit of refreshes, and its fence, would let through.
        for _ in 0..6 {
            assert_allows_preflight(&preflight(&page, OURS, "POST", "/api/refresh").await);
        }
        assert_allows_preflight(&preflight(&page, OURS, "DELETE", "/api/sessions/1").await);
        let answer = call(&page, OURS, Method::GET, "/api/protected").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_shared(&answer);
        let readable = "retry-after,www-authenticate,ratelimit,ratelimit-policy,x-replica,x-request-id";
        assert_eq!(answer.header(header::ACCESS_CONTROL_EXPOSE_HEADERS), Some(readable));
        for (expected, method, path) in [
            ("404 not_found", Method::GET, "/api/nothing"),
            ("405 method_not_allowed", Method::GET, "/api/login"),
            ("403 forbidden_room", Method::GET, "/api/rooms/private:x/presence"),
        ] {
            let answer = call(&page, OURS, method, path).await;
            assert_eq!(answer.summary(), expected);
            assert_shared(&answer);
        }
        let refused = call(&app.anonymous().at(door), OURS, Method::GET, "/api/protected").await;
        assert_eq!(refused.summary(), "401 missing_token");
        assert_shared(&refused);
    }
    let refreshed = call(&alice, OURS, Method::POST, "/api/refresh").await;
    assert_eq!(refreshed.status, 200, "no preflight was counted: {refreshed:?}");
    assert_shared(&refreshed);
    let mut fenced = 0;
    for _ in 0..6 {
        let refused = call(&app.anonymous().at(Door::Replica(0)), OURS, Method::POST, "/api/refresh").await;
        fenced += i32::from(refused.status == 429);
        assert_shared(&refused);
    }
    assert!(fenced >= 2, "the fence and the limit have refused");
    app.cluster.redis_faults().unwrap().refuse();
    let login = app.anonymous().request(Method::POST, "/api/login").header(header::ORIGIN, OURS);
    let unavailable = send(login.json(&json!({ "username": "cors.listed", "password": PASSWORD }))).await;
    unavailable.assert_problem(503, "unavailable");
    assert_shared(&unavailable);
}

#[tokio::test]
async fn a_page_that_is_not_listed_reads_nothing() {
    let app = with_listed_pages().await;
    let alice = app.signed_in("cors.foreign").await;
    for door in [Door::Nginx, Door::Replica(0)] {
        let page = alice.at(door);
        for origin in [FOREIGN, "null", "https://app.example.com.evil.example", "http://app.example.com"] {
            let answers = [
                preflight(&page, origin, "POST", "/api/refresh").await,
                call(&page, origin, Method::GET, "/api/protected").await,
                call(&page, origin, Method::POST, "/api/refresh").await,
            ];
            for answer in answers {
                assert_eq!(answer.header(header::ACCESS_CONTROL_ALLOW_ORIGIN), None, "{origin}: {answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn without_a_listed_page_there_is_nothing_of_the_kind() {
    let app = shared().await;
    let alice = app.signed_in("cors.none").await;
    for door in [Door::Nginx, Door::Replica(0)] {
        let page = alice.at(door);
        let asked = preflight(&page, OURS, "POST", "/api/refresh").await;
        asked.assert_problem(405, "method_not_allowed");
        let called = call(&page, OURS, Method::GET, "/api/protected").await;
        assert_eq!(called.status, 200, "{called:?}");
        for answer in [asked, called] {
            let names = answer.headers.keys().map(header::HeaderName::as_str);
            let about = names.filter(|name| name.starts_with("access-control") || *name == "vary").collect::<Vec<_>>();
            assert!(about.is_empty(), "{about:?}");
        }
    }
}
