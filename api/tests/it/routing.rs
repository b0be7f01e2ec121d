//! What every answer has, whatever was asked: an id, headers that keep it private, and on refusals the documented shape.

use http::{Method, header};
use insta::assert_snapshot;

use crate::harness::{Door, send, shared};

const X_REQUEST_ID: &str = "x-request-id";

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let nobody = shared().await.anonymous().at(Door::Replica(0));
    assert_snapshot!(nobody.get("/api/nothing").await.snapshot(), @r#"
    404
    cache-control: no-store
    content-type: application/problem+json
    x-content-type-options: nosniff
    x-request-id: [request id]

    {
      "code": "not_found",
      "detail": "There is nothing here",
      "error": "There is nothing here",
      "requestId": "[request id]",
      "requireReauth": false,
      "status": 404,
      "title": "Not Found",
      "type": "about:blank"
    }
    "#);
    for path in ["/", "/api", "/api/", "/api/login/", "/API/login", "/api//login", "/api/%6Cogin%00", "/..%2fapi/login"]
    {
        nobody.get(path).await.assert_problem(404, "not_found");
    }
}

/// What libraries would refuse in their own words.
#[tokio::test]
async fn what_is_no_name_of_anything_is_not_found_either() {
    let alice = shared().await.signed_in("routing.names").await.at(Door::Replica(0));
    for id in ["%FF", "x"] {
        let answer = send(alice.request(Method::DELETE, &format!("/api/sessions/{id}"))).await;
        answer.assert_problem(404, "session_not_found");
    }
    for page in ["nothing", "%FF"] {
        alice.get(&format!("/api/docs/{page}")).await.assert_problem(404, "not_found");
    }
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_one() {
    let nobody = shared().await.anonymous().at(Door::Replica(0));
    assert_snapshot!(nobody.get("/api/login").await.snapshot(), @r#"
    405
    allow: POST
    cache-control: no-store
    content-type: application/problem+json
    x-content-type-options: nosniff
    x-request-id: [request id]

    {
      "code": "method_not_allowed",
      "detail": "This path does not answer to that method; see the Allow header",
      "error": "This path does not answer to that method; see the Allow header",
      "requestId": "[request id]",
      "requireReauth": false,
      "status": 405,
      "title": "Method Not Allowed",
      "type": "about:blank"
    }
    "#);
    for (path, method, allowed) in [
        ("/api/login", Method::PUT, "POST"),
        ("/api/refresh", Method::GET, "POST"),
        ("/api/logout", Method::DELETE, "POST"),
        ("/api/protected", Method::POST, "GET,HEAD"),
        ("/api/health", Method::PATCH, "GET,HEAD"),
        ("/api/ready", Method::OPTIONS, "GET,HEAD"),
        ("/api/login", Method::TRACE, "POST"),
        ("/api/login", Method::from_bytes(b"BREW").unwrap(), "POST"),
    ] {
        let answer = send(nobody.request(method.clone(), path)).await;
        answer.assert_problem(405, "method_not_allowed");
        assert_eq!(answer.header(header::ALLOW), Some(allowed), "{method} {path}");
    }
}

#[tokio::test]
async fn through_nginx_refusals_look_the_same() {
    let nobody = shared().await.anonymous();
    nobody.get("/api/nothing").await.assert_problem(404, "not_found");
    nobody.get("/api/login").await.assert_problem(405, "method_not_allowed");
    nobody.get("/nothing").await.assert_problem(404, "not_found");
    nobody.get("/.git/config").await.assert_problem(404, "not_found");
}

#[tokio::test]
async fn every_answer_has_one_request_id_and_problems_repeat_it() {
    let app = shared().await;
    let alice = app.signed_in("routing.ids").await;
    let mut seen = Vec::new();
    for door in [Door::Nginx, Door::Replica(0)] {
        for (method, path) in [
            (Method::GET, "/api/health"),
            (Method::GET, "/api/protected"),
            (Method::GET, "/api/nothing"),
            (Method::GET, "/api/login"),
            (Method::POST, "/api/login"),
        ] {
            let answer = send(alice.at(door).request(method, path)).await;
            let ids: Vec<_> = answer.headers.get_all(X_REQUEST_ID).iter().collect();
            let [id] = ids[..] else { panic!("{ids:?} at {path}") };
            if answer.status >= 400 {
                assert_eq!(answer.json()["requestId"].as_str().unwrap(), id, "{path}");
            }
            assert_eq!(answer.header(header::CACHE_CONTROL), Some("no-store"), "{path}");
            seen.push(id.clone());
        }
    }
    let all = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), all, "an id was given twice");
}

#[tokio::test]
async fn the_id_of_a_proxy_is_taken_and_that_of_a_client_is_not() {
    let app = shared().await;
    let id_at = async |door, id: &str| {
        let request = app.anonymous().at(door).request(Method::GET, "/api/health").header(X_REQUEST_ID, id);
        send(request).await.header(X_REQUEST_ID).unwrap().to_owned()
    };
    // The tests stand where Nginx stands.
    assert_eq!(id_at(Door::Replica(0), "from-the-proxy").await, "from-the-proxy");
    assert_ne!(id_at(Door::Nginx, "from-the-client").await, "from-the-client");
    for harmful in ["", "two words", "\"quoted\"", "a\u{e9}b", &"x".repeat(65)] {
        assert_ne!(id_at(Door::Replica(0), harmful).await, harmful);
    }
}

#[tokio::test]
async fn head_is_answered_as_get_without_the_body() {
    let nobody = shared().await.anonymous().at(Door::Replica(0));
    let answer = send(nobody.request(Method::HEAD, "/api/health")).await;
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    let answer = send(nobody.request(Method::HEAD, "/api/protected")).await;
    assert_eq!((answer.status, answer.body.len()), (401, 0));
}
