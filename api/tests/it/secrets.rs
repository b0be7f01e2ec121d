//! No secret is in any log or trace, however much is logged.

use std::{collections::BTreeSet, fs, path::Path};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::{SinkExt, StreamExt};
use http::{Method, header};
use serde_json::json;

use crate::harness::{
    Door, PASSWORD, Requester, TestApp, collector::Collector, eventually, hex, send, two_replicas, unhurried,
};

/// Everything that was secret at some time.
#[derive(Default)]
struct Secrets(BTreeSet<String>);

impl Secrets {
    fn add(&mut self, secret: &str) {
        self.0.insert(secret.to_owned());
    }

    /// What a requester holds, whole and in the parts that are secret by themselves.
    fn add_session(&mut self, requester: &Requester) {
        self.add(requester.cookie());
        let token = URL_SAFE_NO_PAD.decode(requester.cookie()).unwrap();
        let (secret, tag) = (&token[29..45], &token[45..]);
        for bytes in [secret, tag] {
            self.add(&hex(bytes));
            self.add(&URL_SAFE_NO_PAD.encode(bytes));
        }
        self.add(&sha256_hex(secret));
        self.add(&sha256_hex(requester.cookie().as_bytes()));
        self.add(requester.access_token());
        self.add(requester.access_token().rsplit('.').next().unwrap());
    }
}

fn sha256_hex(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

#[tokio::test]
async fn no_secret_is_in_any_log_at_any_level_nor_in_any_trace() {
    let collector = Collector::start().await;
    let builder = unhurried(two_replicas()).ws(1).env("LOG_LEVEL", "trace");
    let app = TestApp::start(builder.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint())).await;
    let mut secrets = Secrets::default();
    use_everything(&app, &mut secrets).await;
    everything_is_exported(&collector).await;
    for key in ["private.pem", "refresh.key"] {
        let text = fs::read_to_string(app.cluster.keys_dir().join(key)).unwrap();
        text.lines().filter(|line| !line.starts_with("---")).for_each(|line| secrets.add(line));
    }
    secrets.add("$argon2id$");

    let logs = app.cluster.process("api-1").unwrap().log;
    let mut bytes = 0;
    let mut found = Vec::new();
    for log in fs::read_dir(logs.parent().unwrap()).unwrap() {
        let path = log.unwrap().path();
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        bytes += text.len();
        found.extend(text.lines().filter_map(|line| leak(&path, line, &secrets)));
    }
    let exported = collector.raw();
    let spans = Path::new("a span");
    for (headers, body) in &exported {
        let text = format!("{headers:?} {}", String::from_utf8_lossy(body).replace('\n', " "));
        found.extend(leak(spans, &text, &secrets));
    }
    println!("{} secrets, {bytes} bytes of logs", secrets.0.len());
    assert!(bytes > 10_000, "there is something to look through");
    assert!(found.is_empty(), "{} lines hold secrets: {:#?}", found.len(), &found[..found.len().min(10)]);
}

/// The last of what was used, of both kinds of replica, which tell a collector each in its own time; and what is in between.
async fn everything_is_exported(collector: &Collector) {
    // Each of three doors is used alike: one log-out, two tickets and two sockets.
    for (name, times) in [
        ("POST /api/logout", 3),
        ("GET /ws", 12),
        ("POST /api/login", 3),
        ("POST /api/ws-ticket", 3),
        ("rotate", 3),
        ("issue_ticket", 3),
        ("user_by_name", 3),
    ] {
        let is_told = async || collector.spans().iter().filter(|span| span.name == name).count() >= times;
        eventually(&format!("{name} is exported"), is_told).await;
    }
}

fn leak(log: &Path, line: &str, secrets: &Secrets) -> Option<String> {
    let secret = secrets.0.iter().find(|secret| line.contains(secret.as_str()))?;
    Some(format!("{}: {secret} in {}", log.display(), &line[..line.floor_char_boundary(500)]))
}

async fn use_everything(app: &TestApp, secrets: &mut Secrets) {
    app.cluster.create_user("secrets.alice", "a-password-to-look-for").await.unwrap();
    secrets.add("a-password-to-look-for");
    secrets.add("a-wrong-password");
    secrets.add(PASSWORD);
    secrets.add("an-idempotency-key");
    secrets.add(&sha256_hex(b"an-idempotency-key"));
    for door in [Door::Nginx, Door::Replica(0), Door::Replica(1)] {
        let mut alice = app.anonymous().at(door);
        assert_eq!(alice.login("secrets.alice", "a-password-to-look-for").await.status, 200);
        assert_eq!(app.anonymous().at(door).login("secrets.alice", "a-wrong-password").await.status, 401);
        assert_eq!(app.anonymous().at(door).login("secrets.nobody", "a-wrong-password").await.status, 401);
        secrets.add_session(&alice);
        let stolen = alice.clone();
        assert_eq!(alice.refresh_with_key("an-idempotency-key").await.status, 200);
        secrets.add_session(&alice);
        assert_eq!(alice.get("/api/protected").await.status, 200);
        assert_eq!(stolen.clone().refresh().await.status, 401);
        assert_eq!(alice.refresh().await.status, 401);

        let mut alice = app.anonymous().at(door);
        assert_eq!(alice.login("secrets.alice", "a-password-to-look-for").await.status, 200);
        secrets.add_session(&alice);
        refused_requests(&alice).await;
        account_requests(&alice, secrets).await;
        socket_messages(app, &alice).await;
        assert_eq!(alice.logout().await.status, 200);
    }
}

/// What else an account needs, with a ticket that is used and one that is wrong.
async fn account_requests(alice: &Requester, secrets: &mut Secrets) {
    let ticket = send(alice.request(Method::POST, "/api/ws-ticket")).await;
    assert_eq!(ticket.status, 200, "{ticket:?}");
    let ticket = ticket.json()["ticket"].as_str().unwrap().to_owned();
    for ticket in [&ticket, "a-ticket-that-never-was"] {
        secrets.add(ticket);
        secrets.add(&sha256_hex(ticket.as_bytes()));
        send(alice.at(Door::Nginx).request(Method::GET, &format!("/ws?ticket={ticket}"))).await;
    }
    for (path, body) in [
        ("/api/register", json!({ "username": "secrets.alice", "password": "a-password-to-look-for" })),
        (
            "/api/password",
            json!({ "currentPassword": "a-wrong-password", "newPassword": "a-newer-password-to-look-for" }),
        ),
        ("/api/password", json!({ "currentPassword": "a-password-to-look-for", "newPassword": "a-wrong-password" })),
        ("/api/password", json!({ "currentPassword": "a-wrong-password", "newPassword": "a-password-to-look-for" })),
    ] {
        send(alice.request(Method::POST, path).json(&body)).await;
    }
    secrets.add("a-newer-password-to-look-for");
    for path in ["/api/sessions", "/api/events", "/.well-known/jwks.json"] {
        assert_eq!(alice.get(path).await.status, 200);
    }
}

/// Tokens in all the places in which a socket takes them.
async fn socket_messages(app: &TestApp, alice: &Requester) {
    let token = alice.access_token();
    for query in [format!("?token={token}"), String::new()] {
        let url = format!("{}{query}", app.cluster.ws_url());
        let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
        let mut messages =
            vec![json!({ "type": "reauth", "access": token }), json!({ "type": "reauth", "access": "x" })];
        if query.is_empty() {
            messages.insert(0, json!({ "type": "auth", "access": token }));
        }
        for message in &messages {
            socket.send(message.to_string().into()).await.unwrap();
        }
        for answer in 0..3 {
            assert!(socket.next().await.is_some_and(|answer| answer.is_ok()), "answer {answer}");
        }
        socket.close(None).await.unwrap();
    }
}

/// Requests that are refused for something else than the secrets that they hold.
async fn refused_requests(alice: &Requester) {
    let (token, cookie) = (alice.access_token(), alice.cookie());
    for (method, path) in [
        (Method::GET, format!("/api/protected?token={token}&cookie={cookie}")),
        (Method::GET, format!("/api/{token}")),
        (Method::POST, format!("/api/login?password=a-password-to-look-for&c={cookie}")),
    ] {
        send(alice.request(method, &path)).await;
    }
    let login = alice.request(Method::POST, "/api/login").header(header::CONTENT_TYPE, "application/json");
    send(login.body(format!("{{\"username\":\"secrets.alice\",\"password\":\"a-password-to-look-for\"{token}"))).await;
    let login = alice.request(Method::POST, "/api/login");
    send(login.json(&json!({ "username": ["a-wrong-password"], "password": { "a-wrong-password": cookie } }))).await;
    send(alice.with_cookie(format!("{cookie}x")).request(Method::POST, "/api/refresh")).await;
}
