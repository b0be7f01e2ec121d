//! Garbage of every kind gets the documented refusal: never a 5xx, a panic or a hang.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use gatefold_cluster::{Kind, ProcessState};
use http::{HeaderValue, Method, header};
use proptest::{prelude::*, test_runner::TestRunner};
use serde_json::json;

use crate::harness::{Answer, Door, PASSWORD, Requester, TestApp, raw, raw_until_closed, send, shared};

async fn post_login(requester: &Requester, content_type: &str, body: Vec<u8>) -> Answer {
    let request = requester.request(Method::POST, "/api/login").header(header::CONTENT_TYPE, content_type);
    send(request.body(body)).await
}

async fn refresh_with(requester: &Requester, cookies: &[u8]) -> Answer {
    let cookies = HeaderValue::from_bytes(cookies).unwrap();
    send(requester.request(Method::POST, "/api/refresh").header(header::COOKIE, cookies)).await
}

/// The replicas serve, are those of the beginning, and have nothing to be ashamed of.
async fn assert_unharmed(app: &TestApp) {
    for (index, replica) in app.cluster.replicas(Kind::Api).iter().enumerate() {
        assert_eq!(replica.state, ProcessState::Running);
        assert_eq!(app.anonymous().at(Door::Replica(index)).get("/api/health").await.status, 200);
        let log = std::fs::read_to_string(&replica.log).unwrap();
        for line in log.lines() {
            assert!(!line.contains("panicked") && !line.contains("\"http.status\":500"), "{line}");
        }
    }
}

#[tokio::test]
async fn bodies() {
    let app = shared().await;
    app.add_user("garbage.body").await;
    let nobody = app.anonymous();
    let right = json!({ "username": "garbage.body", "password": PASSWORD }).to_string();
    let login = |username: &str| format!("{{\"username\":\"{username}\",\"password\":\"x\"}}").into_bytes();
    let nested = |with: &str| format!("{{\"username\":{}1{}}}", with.repeat(1_000), "]".repeat(1_000)).into_bytes();
    let padded = |to: usize| format!("{right}{}", " ".repeat(to - right.len())).into_bytes();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("nothing", vec![], "400 invalid_request"),
        ("a NUL", vec![0], "400 invalid_request"),
        ("no JSON", b"username=alice&password=x".to_vec(), "400 invalid_request"),
        (
            "XML",
            b"<?xml version=\"1.0\"?><!DOCTYPE a [<!ENTITY b SYSTEM \"file:///etc/passwd\">]>".to_vec(),
            "400 invalid_request",
        ),
        ("truncated", right.as_bytes()[..right.len() - 1].to_vec(), "400 invalid_request"),
        ("more behind it", format!("{right}{right}").into_bytes(), "400 invalid_request"),
        ("null", b"null".to_vec(), "400 invalid_request"),
        ("a number", b"1".to_vec(), "400 invalid_request"),
        ("text", b"\"username\"".to_vec(), "400 invalid_request"),
        ("a list", b"[]".to_vec(), "400 invalid_request"),
        ("a list of the fields", b"[\"garbage.body\",\"x\"]".to_vec(), "400 invalid_request"),
        ("a list of the right thing", format!("[{right}]").into_bytes(), "400 invalid_request"),
        ("an object without fields", b"{}".to_vec(), "400 invalid_request"),
        ("1,000 lists in each other", nested("["), "400 invalid_request"),
        ("1,000 objects in each other", nested("{\"a\":["), "400 invalid_request"),
        (
            "1,000 of them in a field that is not ours",
            format!("{{\"x\":{}", "[".repeat(1_000)).into_bytes(),
            "400 invalid_request",
        ),
        (
            "a field twice",
            br#"{"username":"a","username":"garbage.body","password":"x"}"#.to_vec(),
            "400 invalid_request",
        ),
        ("the other field twice", br#"{"username":"a","password":"x","password":"y"}"#.to_vec(), "400 invalid_request"),
        ("invalid UTF-8", b"{\"username\":\"\xff\xfe\",\"password\":\"x\"}".to_vec(), "400 invalid_request"),
        ("overlong UTF-8", b"{\"username\":\"\xc0\xaf\",\"password\":\"x\"}".to_vec(), "400 invalid_request"),
        ("a byte order mark", format!("\u{feff}{right}").into_bytes(), "400 invalid_request"),
        ("UTF-16", right.encode_utf16().flat_map(u16::to_le_bytes).collect(), "400 invalid_request"),
        ("a lone surrogate", login("\\ud800"), "400 invalid_request"),
        ("a surrogate the wrong way round", login("\\udc00\\ud800"), "400 invalid_request"),
        ("a raw control character", login("a\u{1}b"), "400 invalid_request"),
        ("a number that no computer holds", br#"{"username":1e999999,"password":"x"}"#.to_vec(), "400 invalid_request"),
        ("NaN", br#"{"username":NaN,"password":"x"}"#.to_vec(), "400 invalid_request"),
        ("a NUL in the username", login("garbage.body\\u0000"), "401 invalid_credentials"),
        ("a line break in the username", login("garbage.body\\n"), "401 invalid_credentials"),
        ("a wildcard", login("garbage%"), "401 invalid_credentials"),
        ("letters that only look right", login("g\u{430}rbage.body"), "401 invalid_credentials"),
        ("letters that become right in lower case", login("garbage.body\u{130}"), "401 invalid_credentials"),
        ("16 KiB", padded(16 * 1024), "200"),
        ("a byte more", padded(16 * 1024 + 1), "413 payload_too_large"),
        ("1 MB", padded(1_000_000), "413 payload_too_large"),
    ];
    for door in [Door::Replica(0), Door::Nginx] {
        for (what, body, expected) in &cases {
            let answer = post_login(&nobody.at(door), "application/json", body.clone()).await;
            assert_eq!(&answer.summary(), expected, "{what} through {door:?}");
            if answer.status >= 400 {
                answer.assert_problem(answer.status, &answer.code());
            }
        }
    }
    assert_unharmed(app).await;
}

#[tokio::test]
async fn no_refusal_repeats_what_was_sent() {
    let nobody = shared().await.anonymous();
    for body in [
        r#"{"username":"alice","password":{"hunter2":"hunter2"}}"#,
        r#"{"username":{"hunter2":1},"password":"x"}"#,
        r#"{"hunter2":"hunter2"}"#,
        r#"{"username":"alice","password":"hunter2"#,
        r#"{"username":"alice","password":hunter2}"#,
        r#""hunter2""#,
    ] {
        let answer = post_login(&nobody, "application/json", body.into()).await;
        answer.assert_problem(400, "invalid_request");
        assert!(!String::from_utf8_lossy(&answer.body).contains("hunter2"), "{answer:?}");
    }
}

#[tokio::test]
async fn content_types() {
    let app = shared().await;
    app.add_user("garbage.type").await;
    let nobody = app.anonymous();
    let right = json!({ "username": "garbage.type", "password": PASSWORD }).to_string();
    for accepted in ["application/json", "Application/JSON", "application/json; charset=utf-8", "application/json;"] {
        assert_eq!(post_login(&nobody, accepted, right.clone().into()).await.status, 200, "{accepted}");
    }
    for refused in [
        "",
        "json",
        "text/json",
        "text/plain",
        "application/jsonp",
        "application/problem+json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain; application/json",
        "text/plain, application/json",
        "\"application/json\"",
    ] {
        let answer = post_login(&nobody, refused, right.clone().into()).await;
        answer.assert_problem(415, "unsupported_media_type");
    }
    let without = nobody.request(Method::POST, "/api/login").body(right);
    send(without).await.assert_problem(415, "unsupported_media_type");
}

#[tokio::test]
async fn cookies() {
    let app = shared().await;
    let mut alice = app.signed_in("garbage.cookie").await.at(Door::Replica(0));
    let token = alice.cookie().to_owned();
    let nobody = app.anonymous().at(Door::Replica(0));
    let half = &token[..token.len() / 2];
    for (cookies, code) in [
        (String::new(), "missing_refresh_token"),
        (";;; = ;".to_owned(), "missing_refresh_token"),
        (token.clone(), "missing_refresh_token"),
        (format!("refreshtoken={token}"), "missing_refresh_token"),
        (format!("refreshToken{token}"), "missing_refresh_token"),
        ("refreshToken".to_owned(), "missing_refresh_token"),
        ("refreshToken=".to_owned(), "invalid_refresh_token"),
        (format!("refreshToken={half}"), "invalid_refresh_token"),
        (format!("refreshToken={token}="), "invalid_refresh_token"),
        (format!("refreshToken={token}{token}"), "invalid_refresh_token"),
        (format!("refreshToken={half} {half}"), "invalid_refresh_token"),
        (format!("refreshToken=%00{token}"), "invalid_refresh_token"),
        (format!("refreshToken={}", alice.access_token()), "invalid_refresh_token"),
        (format!("refreshToken={}", URL_SAFE_NO_PAD.encode([0; 77])), "invalid_refresh_token"),
        (format!("refreshToken={}", URL_SAFE_NO_PAD.encode([255; 77])), "invalid_refresh_token"),
        (format!("refreshToken={}", "a".repeat(10_000)), "invalid_refresh_token"),
        ("refreshToken=\u{1f36a}".to_owned(), "invalid_refresh_token"),
    ] {
        let answer = refresh_with(&nobody, cookies.as_bytes()).await;
        answer.assert_problem(401, code);
        assert!(answer.cookie().is_none(), "{cookies}");
    }
    refresh_with(&nobody, b"refreshToken=\xff\xfe").await.assert_problem(401, "invalid_refresh_token");
    assert_eq!(alice.refresh().await.status, 200, "the session is as it was");
    assert_unharmed(app).await;
}

#[tokio::test]
async fn a_real_cookie_with_any_byte_changed() {
    let app = shared().await;
    let mut alice = app.signed_in("garbage.flipped").await.at(Door::Replica(0));
    let bytes = URL_SAFE_NO_PAD.decode(alice.cookie()).unwrap();
    for index in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[index] ^= 1 << (index % 8);
        let answer = alice.with_cookie(URL_SAFE_NO_PAD.encode(flipped)).refresh().await;
        assert_eq!(answer.summary(), "401 invalid_refresh_token", "byte {index}");
        assert!(answer.cookie().is_none());
    }
    assert_eq!(alice.refresh().await.status, 200, "the session is as it was");
}

#[tokio::test]
async fn heads_that_are_too_large() {
    let app = shared().await;
    let (replica, nginx) = (app.url(Door::Replica(0)), app.url(Door::Nginx));
    for size in [100_000, 1_000_000] {
        for name in ["Cookie: refreshToken=", "Authorization: Bearer ", "X-Whatever: "] {
            let line = format!("{name}{}", "a".repeat(size));
            let head = format!("GET /api/protected HTTP/1.1\r\nHost: localhost\r\n{line}\r\n\r\n");
            let answer = raw(replica, head.as_bytes()).await;
            // The server closes while we still send: its last words may be lost on the way.
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{size} of {name}: {answer}");
            let answer = raw(nginx, head.as_bytes()).await;
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{size} of {name}: {answer}");
            assert!(answer.is_empty() || answer.contains("application/problem+json"), "{size} of {name}: {answer}");
        }
        let path = format!("GET /api/{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(size));
        let answer = raw(replica, path.as_bytes()).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 414 ") || answer.starts_with("HTTP/1.1 431 "),
            "{answer}"
        );
        let answer = raw(nginx, path.as_bytes()).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 414 "), "{answer}");
    }
    let many = format!("GET /api/health HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(1_000));
    assert!(raw(replica, many.as_bytes()).await.starts_with("HTTP/1.1 431 "));
    assert_unharmed(app).await;
}

#[tokio::test]
async fn what_is_no_http() {
    let app = shared().await;
    for (what, request) in [
        ("nothing", &b""[..]),
        ("line breaks", b"\r\n\r\n\r\n\r\n"),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("HTTP/9", b"GET / HTTP/9.9\r\nHost: a\r\n\r\n"),
        ("garbage", b"\x00\xff\xfe garbage \x01\r\n\r\n"),
        ("no path", b"GET\r\n\r\n"),
        ("a path with a NUL", b"GET /api/\x00 HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a header without a colon", b"GET /api/health HTTP/1.1\r\nHost a\r\n\r\n"),
        ("a header with a NUL", b"GET /api/health HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n"),
        ("two lengths", b"POST /api/login HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}"),
        ("a negative length", b"POST /api/login HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n{}"),
        ("a chunk of no size", b"POST /api/login HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"),
        ("another coding", b"POST /api/login HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n{}"),
    ] {
        for door in [Door::Replica(0), Door::Nginx] {
            let answer = raw(app.url(door), request).await;
            let status = answer.split(' ').nth(1).unwrap_or_default();
            assert!(
                status.is_empty() || status.starts_with('4') || ["501", "505"].contains(&status),
                "{what} at {door:?}: {answer}"
            );
        }
    }
    assert_unharmed(app).await;
}

#[tokio::test]
async fn a_body_that_is_shorter_than_announced() {
    let app = shared().await;
    let request =
        b"POST /api/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"user";
    for door in [Door::Replica(0), Door::Nginx] {
        let answer = raw(app.url(door), request).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{door:?}: {answer}");
    }
    assert_unharmed(app).await;
}

/// One request smuggled behind another: whoever stands before a replica must see as many requests as it does.
#[tokio::test]
async fn two_framings_in_one_request_are_refused() {
    let app = shared().await;
    let request = b"POST /api/login HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /api/health HTTP/1.1\r\nHost: a\r\n\r\n";
    for door in [Door::Replica(0), Door::Nginx] {
        let answer = raw_until_closed(app.url(door), request).await;
        assert!(!answer.contains("\"status\":\"ok\""), "{door:?} answered the second one: {answer}");
    }
}

#[test]
fn arbitrary_bodies() {
    against_the_cluster(96, prop::collection::vec(any::<u8>(), 0..200), async |nobody, body| {
        post_login(nobody, "application/json", body).await.assert_problem(400, "invalid_request");
    });
}

#[test]
fn arbitrary_names_and_passwords() {
    // Most passwords are hashed before they are refused, which takes its time.
    against_the_cluster(48, (".{0,70}", "\\PC{0,20}"), async |nobody, (username, password): (String, String)| {
        let body = json!({ "username": username, "password": password }).to_string();
        let answer = post_login(nobody, "application/json", body.into()).await;
        match answer.status {
            400 => answer.assert_problem(400, "invalid_request"),
            _ => answer.assert_problem(401, "invalid_credentials"),
        }
    });
}

#[test]
fn arbitrary_json() {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        "-?[0-9]{1,30}(e[0-9]{1,3})?",
        "\"\\PC{0,10}\"",
        Just("\"\\ud83d\"".to_owned())
    ];
    let json = leaf.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            ("(username|password|x)", inner).prop_map(|(name, value)| format!("{{\"{name}\":{value}}}")),
        ]
    });
    against_the_cluster(96, json, async |nobody, body| {
        post_login(nobody, "application/json", body.into()).await.assert_problem(400, "invalid_request");
    });
}

#[test]
fn arbitrary_cookies() {
    let text = prop::collection::vec(prop_oneof![32u8..127, 128u8..], 0..300);
    against_the_cluster(128, (any::<bool>(), text), async |nobody, (named, text): (bool, Vec<u8>)| {
        let cookies = [if named { &b"refreshToken="[..] } else { b"" }, &text].concat();
        let answer = refresh_with(nobody, &cookies).await;
        assert!(answer.cookie().is_none(), "{answer:?}");
        let code = answer.code();
        assert!(code == "invalid_refresh_token" || code == "missing_refresh_token", "{answer:?}");
        answer.assert_problem(401, &code);
    });
}

#[test]
fn arbitrary_authorization() {
    let text = prop::collection::vec(prop_oneof![32u8..127, 128u8..], 0..300);
    against_the_cluster(128, (any::<bool>(), text), async |nobody, (bearer, text): (bool, Vec<u8>)| {
        let value = [if bearer { &b"Bearer "[..] } else { b"" }, &text].concat();
        let value = HeaderValue::from_bytes(&value).unwrap();
        let request = nobody.request(Method::GET, "/api/protected").header(header::AUTHORIZATION, value);
        let answer = send(request).await;
        let code = answer.code();
        assert!(code == "invalid_token" || code == "missing_token", "{answer:?}");
        answer.assert_problem(401, &code);
    });
}

/// Has a replica meet `cases` values of a kind, and looks whether it is unharmed afterwards.
#[expect(clippy::needless_pass_by_value, reason = "reads better where it is called")]
fn against_the_cluster<S: Strategy>(cases: u32, values: S, meet: impl AsyncFn(&Requester, S::Value)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let app = runtime.block_on(shared());
    let nobody = app.anonymous().at(Door::Replica(1));
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) };
    let outcome = TestRunner::new(config).run(&values, |value| {
        runtime.block_on(meet(&nobody, value));
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    runtime.block_on(assert_unharmed(app));
}

/// A body in chunks of a byte is no larger for it, and one that nobody asked for is not read to its end.
#[tokio::test]
async fn bodies_in_chunks_of_a_byte() {
    let app = shared().await;
    let head = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
    };
    // Never ended: 16 KiB are the end of it, or the answer.
    let chunks = "1\r\n{\r\n".to_owned() + &"1\r\n \r\n".repeat(100_000);
    for (path, status) in [("/api/login", "413"), ("/api/logout", "200"), ("/api/logout-all", "401"), ("/no", "404")] {
        let request = [head(path), chunks.clone()].concat();
        let answer = raw_until_closed(app.url(Door::Replica(0)), request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
    }
    // Extensions of chunks, which mean nothing, are bounded as well.
    let extensions = format!("1;{}\r\n{{\r\n", "x".repeat(1000)).repeat(100);
    let request = [head("/api/login"), extensions].concat();
    let answer = raw_until_closed(app.url(Door::Replica(0)), request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_unharmed(app).await;
}

/// Whoever never comes to an end is not waited for.
#[tokio::test]
async fn requests_that_never_end() {
    let app = shared().await;
    let head = b"GET /api/health HTTP/1.1\r\nHost: a";
    let body =
        b"POST /api/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"user";
    let (replica, nginx) = (app.url(Door::Replica(0)), app.url(Door::Nginx));
    let (_, of_replica, _, _) = tokio::join!(
        raw_until_closed(replica, head),
        raw_until_closed(replica, body),
        raw_until_closed(nginx, head),
        raw_until_closed(nginx, body),
    );
    assert!(of_replica.starts_with("HTTP/1.1 400 ") && of_replica.contains("took too long"), "{of_replica}");
    assert_unharmed(app).await;
}
