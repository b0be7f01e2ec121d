//! No secret is in any log, however much is logged.

use std::{collections::BTreeSet, fs, path::Path};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use gatefold_cluster::Kind;
use http::{Method, header};
use serde_json::json;

use crate::harness::{Door, PASSWORD, Requester, TestApp, hex, raw_until, send, two_replicas};

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
async fn no_secret_is_in_any_log_at_any_level() {
    let app = TestApp::start(two_replicas().ws(1).env("LOG_LEVEL", "trace")).await;
    let mut secrets = Secrets::default();
    use_everything(&app, &mut secrets).await;
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
    println!("{} secrets, {bytes} bytes of logs", secrets.0.len());
    assert!(bytes > 10_000, "there is something to look through");
    assert!(found.is_empty(), "{} lines hold secrets: {:#?}", found.len(), &found[..found.len().min(10)]);
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
        sockets(app, &alice).await;
        assert_eq!(alice.logout().await.status, 200);
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

/// Sockets opened with the access token in each of its places.
async fn sockets(app: &TestApp, alice: &Requester) {
    let token = alice.access_token();
    let replica = app.cluster.replicas(Kind::Ws).remove(0).url;
    for url in [app.url(Door::Nginx), &replica] {
        for (query, more) in [
            (format!("?token={token}"), String::new()),
            (String::new(), format!("Authorization: Bearer {token}\r\n")),
            (String::new(), format!("Sec-WebSocket-Protocol: gatefold.v1, bearer.{token}\r\n")),
            (String::new(), String::new()),
        ] {
            let mut request = format!(
                "GET /ws{query} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
            )
            .into_bytes();
            for kind in ["auth", "reauth"] {
                request.extend(text_frame(&json!({ "type": kind, "access": token }).to_string()));
            }
            let answer = raw_until(url, &request, "reauth_success").await;
            assert!(answer.starts_with("HTTP/1.1 101 ") && answer.contains("reauth_success"), "{answer}");
        }
    }
}

/// A WebSocket message of some length from a client, masked with zeros.
fn text_frame(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap().to_be_bytes();
    [&[0x81, 0xfe], &length[..], &[0; 4], text.as_bytes()].concat()
}
