//! Keys are replaced while everybody works: `generate-keys.sh rotate` as an operator or cron runs it, and what replicas make
//! of good and of bad new keys.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::{SinkExt, StreamExt};
use gatefold_cluster::{Builder, Cluster, Kind, Signal};
use http::{Method, StatusCode};
use serde_json::{Value as Json, json};
use tokio::{
    net::TcpStream,
    process::Command,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error as SocketError, Message},
};

use crate::harness::{Door, PATIENCE, Requester, TestApp, eventually, send, unhurried};

const JWKS: &str = "/.well-known/jwks.json";
const EVERYWHERE: [Door; 3] = [Door::Nginx, Door::Replica(0), Door::Replica(1)];

/// A cluster whose keys may be changed.
fn cluster() -> Builder {
    unhurried(Cluster::builder()).api(2).ws(2)
}

/// The keys of a cluster, and what an operator does to them.
struct Keys<'a> {
    app: &'a TestApp,
    dir: PathBuf,
}

impl<'a> Keys<'a> {
    fn of(app: &'a TestApp) -> Self {
        Self { app, dir: app.cluster.keys_dir() }
    }

    /// `generate-keys.sh rotate …`: whether it did something, and what it said.
    async fn try_rotate(&self, arguments: &str) -> (bool, String) {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../generate-keys.sh");
        let mut command = Command::new(script);
        command.env("ACCESS_TOKEN_EXPIRY", "10s").env("REFRESH_TOKEN_EXPIRY", "12s").arg("rotate");
        let output = command.args(arguments.split_whitespace()).arg("--dir").arg(&self.dir).output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (output.status.success(), said.into_owned())
    }

    async fn rotate(&self, arguments: &str) -> String {
        let (done, said) = self.try_rotate(arguments).await;
        assert!(done, "{said}");
        said
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.join(name)).unwrap()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir.join(name), text).unwrap();
    }

    /// Asks every replica to read its keys, and waits until each has counted that as `outcome` once more.
    async fn reload(&self, outcome: &str) {
        let replicas = || [Kind::Api, Kind::Ws].into_iter().flat_map(|kind| self.app.cluster.replicas(kind));
        for replica in replicas() {
            let url = replica.metrics_url.unwrap();
            let before = reloads(&url, outcome).await;
            self.app.cluster.signal(&replica.name, Signal::SIGHUP).unwrap();
            eventually("the keys are read", async || reloads(&url, outcome).await > before).await;
        }
    }
}

async fn reloads(metrics_url: &str, outcome: &str) -> u32 {
    let metrics = reqwest::get(metrics_url).await.unwrap().text().await.unwrap();
    let name = format!("gatefold_key_reloads_total{{outcome=\"{outcome}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or(0)
}

/// The names of the published keys, as a replica tells them.
async fn kids(app: &TestApp, door: Door) -> Vec<String> {
    let answer = app.anonymous().at(door).get(JWKS).await;
    let jwks = answer.json();
    jwks["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

/// The name of the key that has signed an access token.
fn kid_of(access_token: &str) -> String {
    let header = URL_SAFE_NO_PAD.decode(access_token.split('.').next().unwrap()).unwrap();
    serde_json::from_slice::<Json>(&header).unwrap()["kid"].as_str().unwrap().to_owned()
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A socket of this token, or the status with which it is refused.
async fn open(url: &str, access_token: &str) -> Result<Socket, StatusCode> {
    let connecting = timeout(PATIENCE, connect_async(format!("{url}?token={access_token}"))).await.unwrap();
    match connecting {
        Ok((mut socket, _)) => {
            hear(&mut socket, "connected").await;
            Ok(socket)
        }
        Err(SocketError::Http(response)) => Err(response.status()),
        Err(error) => panic!("{error}"),
    }
}

/// Waits for a message of a type; others may come before it.
async fn hear(socket: &mut Socket, wanted: &str) {
    let heard = async {
        loop {
            let Some(Ok(message)) = socket.next().await else { panic!("closed instead of {wanted}") };
            let Message::Text(text) = message else { continue };
            let message: Json = serde_json::from_str(&text).unwrap();
            assert_ne!(message["type"], "error", "{message}");
            if message["type"] == wanted {
                return;
            }
        }
    };
    timeout(PATIENCE, heard).await.unwrap_or_else(|_| panic!("no {wanted}"));
}

fn socket_urls(app: &TestApp) -> Vec<String> {
    let replicas = app.cluster.replicas(Kind::Ws).into_iter();
    replicas.map(|replica| replica.url.replacen("http", "ws", 1) + "/ws").chain([app.cluster.ws_url()]).collect()
}

/// A user at work: refreshes, uses the new token and the one before it at every door, opens sockets with it, and keeps one
/// socket alive with it. Nothing may ever be refused.
async fn work(mut user: Requester, sockets: Vec<String>, over: Arc<AtomicBool>, rounds: Arc<AtomicU32>) {
    let mut kept = open(&sockets[2], user.access_token()).await.expect("a socket");
    while !over.load(Ordering::Relaxed) {
        let before = user.clone();
        for door in EVERYWHERE {
            user = user.at(door);
            let answer = user.refresh().await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        for door in EVERYWHERE {
            for requester in [&before, &user] {
                let answer = requester.at(door).get("/api/protected").await;
                assert_eq!(answer.status, 200, "{door:?}: {answer:?}");
            }
        }
        for url in &sockets {
            open(url, user.access_token()).await.expect("a socket");
        }
        let reauth = json!({ "type": "reauth", "access": user.access_token() });
        kept.send(Message::text(reauth.to_string())).await.expect("sent");
        hear(&mut kept, "reauth_success").await;
        rounds.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_millis(50)).await;
    }
}

/// As cron does it: the same command again and again, which takes the steps when they are due.
#[tokio::test(flavor = "multi_thread")]
async fn a_whole_rotation_of_all_keys_goes_unnoticed() {
    let app = TestApp::start(cluster().env("ACCESS_TOKEN_EXPIRY", "10s").env("REFRESH_TOKEN_EXPIRY", "12s")).await;
    let keys = Keys::of(&app);
    let (over, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let mut users = JoinSet::new();
    let mut first_kid = String::new();
    for name in ["keys-a", "keys-b", "keys-c"] {
        let user = app.signed_in(name).await;
        first_kid = kid_of(user.access_token());
        users.spawn(work(user, socket_urls(&app), Arc::clone(&over), Arc::clone(&rounds)));
    }
    let (old_private, old_refresh) = (keys.read("private.pem"), keys.read("refresh.key"));
    keys.rotate("begin").await;
    let mut said = String::new();
    let rotating = async {
        while !said.contains("access: one key") || !said.contains("refresh: one key") {
            sleep(Duration::from_millis(500)).await;
            assert!(users.try_join_next().is_none(), "somebody was refused");
            said = keys.rotate("--settle 10s").await;
        }
    };
    timeout(Duration::from_mins(3), rotating).await.expect("an end");
    for door in [Door::Replica(0), Door::Replica(1)] {
        eventually("the old key is gone", async || kids(&app, door).await.len() == 1).await;
    }
    let before = rounds.load(Ordering::Relaxed);
    eventually("everybody goes on", async || rounds.load(Ordering::Relaxed) > before + 6).await;
    over.store(true, Ordering::Relaxed);
    while let Some(ended) = users.join_next().await {
        ended.expect("nobody was refused");
    }
    assert_ne!(kids(&app, Door::Nginx).await, [first_kid]);
    assert!(keys.read("private.pem") != old_private && keys.read("refresh.key") != old_refresh);
}

#[tokio::test]
async fn what_a_retired_key_has_signed_is_refused_everywhere_and_the_session_goes_on() {
    let app = TestApp::start(cluster()).await;
    let keys = Keys::of(&app);
    let mut user = app.signed_in("retired").await;
    let old = user.clone();
    keys.rotate("begin access").await;
    keys.reload("reloaded").await;
    user.refresh().await;
    assert_eq!(kid_of(user.access_token()), kid_of(old.access_token()), "published, and does not sign yet");

    keys.rotate("activate access --force").await;
    keys.reload("reloaded").await;
    user.refresh().await;
    assert_ne!(kid_of(user.access_token()), kid_of(old.access_token()));
    for door in EVERYWHERE {
        assert_eq!(kids(&app, door).await.len(), 2);
        for requester in [&old, &user] {
            assert_eq!(requester.at(door).get("/api/protected").await.status, 200);
        }
    }

    keys.rotate("retire access --force").await;
    keys.reload("reloaded").await;
    for door in EVERYWHERE {
        assert_eq!(kids(&app, door).await, [kid_of(user.access_token())]);
        old.at(door).get("/api/protected").await.assert_problem(401, "invalid_token");
        assert_eq!(user.at(door).get("/api/protected").await.status, 200);
    }
    for url in socket_urls(&app) {
        assert_eq!(open(&url, old.access_token()).await.err(), Some(StatusCode::UNAUTHORIZED));
        assert!(open(&url, user.access_token()).await.is_ok());
    }
    assert_eq!(user.refresh().await.status, 200);
}

#[tokio::test]
async fn sessions_outlive_their_refresh_key_as_long_as_it_is_kept() {
    let app = TestApp::start(cluster()).await;
    let keys = Keys::of(&app);
    let (mut active, mut idle) = (app.signed_in("active").await, app.signed_in("idle").await);
    keys.rotate("begin refresh").await;
    keys.reload("reloaded").await;
    assert_eq!(active.refresh().await.status, 200);
    keys.rotate("activate refresh --force").await;
    keys.reload("reloaded").await;
    let mut replayed = active.clone();
    assert_eq!(active.refresh().await.status, 200);
    assert_eq!(replayed.refresh_with_key("other").await.summary(), "401 refresh_token_reused");
    let mut active = app.logged_in("active").await;

    keys.rotate("retire refresh --force").await;
    keys.reload("reloaded").await;
    assert_eq!(active.refresh().await.status, 200);
    assert_eq!(idle.refresh().await.summary(), "401 invalid_refresh_token");
}

#[tokio::test]
async fn new_keys_that_cannot_be_used_change_nothing() {
    let app = TestApp::start(cluster()).await;
    let keys = Keys::of(&app);
    let mut user = app.signed_in("steadfast").await;
    let kid = kid_of(user.access_token());
    let (public, private, refresh) = (keys.read("public.pem"), keys.read("private.pem"), keys.read("refresh.key"));
    let other = tempfile::TempDir::new().unwrap();
    let openssl = |arguments: &'static str| {
        let mut command = Command::new("openssl");
        command.args(arguments.split(' ')).current_dir(other.path());
        async move { assert!(command.output().await.unwrap().status.success()) }
    };
    openssl("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out short.pem").await;
    openssl("pkey -in short.pem -pubout -out short-public.pem").await;
    openssl("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out unpublished.pem").await;
    let made = |name: &str| std::fs::read_to_string(other.path().join(name)).unwrap();

    for bad in ["", "garbage", &public[..public.len() / 2], &(public.clone() + &made("short-public.pem"))] {
        keys.write("public.pem", bad);
        keys.reload("refused").await;
        assert_eq!(kids(&app, Door::Replica(0)).await, [kid.as_str()]);
        for url in socket_urls(&app) {
            assert!(open(&url, user.access_token()).await.is_ok());
        }
    }
    keys.write("public.pem", &public);
    keys.reload("reloaded").await;

    let replica = app.cluster.replicas(Kind::Api).remove(0);
    for (name, good, bad) in [
        ("private.pem", &private, made("short.pem")),
        ("private.pem", &private, made("unpublished.pem")),
        ("refresh.key", &refresh, "c2hvcnQ=\n".to_owned()),
        ("refresh.key", &refresh, String::new()),
    ] {
        let refused = reloads(replica.metrics_url.as_deref().unwrap(), "refused").await;
        keys.write(name, &bad);
        // Nobody says anything: the change itself is noticed.
        eventually("the bad key is noticed", async || {
            reloads(replica.metrics_url.as_deref().unwrap(), "refused").await > refused
        })
        .await;
        assert_eq!(user.at(Door::Replica(0)).refresh().await.status, 200);
        user = app.logged_in("steadfast").await;
        assert_eq!(kid_of(user.access_token()), kid);
        keys.write(name, good);
        keys.reload("reloaded").await;
    }
    let log = std::fs::read_to_string(&replica.log).unwrap();
    assert!(log.contains("the new keys cannot be used; the old ones stay"), "{log}");
    assert!(log.contains("the public half of PRIVATE_KEY_PATH is not among PUBLIC_KEY_PATH"), "{log}");
    let is_secret = |line: &&str| line.len() > 30 && !line.starts_with("-----");
    for secret in [&private, &made("short.pem"), &refresh].into_iter().flat_map(|text| text.lines()).filter(is_secret) {
        assert!(!log.contains(secret), "a key is in the log");
    }
}

#[tokio::test]
async fn steps_that_come_too_early_are_refused_and_interrupted_ones_go_on() {
    let app = TestApp::start(Cluster::builder().api(2)).await;
    let keys = Keys::of(&app);
    for (step, complaint) in
        [("activate", "first comes 'rotate begin access'"), ("retire", "there is no old access key")]
    {
        let (done, said) = keys.try_rotate(step).await;
        assert!(!done && said.contains(complaint), "{said}");
    }
    keys.rotate("begin").await;
    for (step, complaint) in [("begin", "published already"), ("activate", "too early"), ("retire access", "no old")] {
        let (done, said) = keys.try_rotate(step).await;
        assert!(!done && said.contains(complaint), "{said}");
    }
    assert_eq!(keys.rotate("--quiet").await.matches("next is").count(), 0);
    // As if the machine had gone down between the two moves of `begin`.
    let first = keys.read("public.pem").find("-----END PUBLIC KEY-----\n").unwrap() + 25;
    keys.write("public.pem", &keys.read("public.pem")[..first]);
    keys.write("refresh.key", keys.read("refresh.key").lines().next().unwrap());
    assert!(keys.rotate("status").await.contains("was made and not published"));
    let next = keys.read("private.next.pem");
    keys.rotate("").await;
    assert_eq!(keys.read("private.next.pem"), next, "the same next key");
    assert_eq!(keys.read("public.pem").matches("BEGIN").count(), 2);
    assert_eq!(keys.read("refresh.key").lines().count(), 2);

    keys.rotate("activate --force").await;
    assert_eq!(keys.read("private.pem"), next);
    let (done, said) = keys.try_rotate("begin").await;
    assert!(!done && said.contains("still accepted"), "{said}");
    keys.rotate("retire --force").await;
    assert_eq!(keys.read("public.pem").matches("BEGIN").count(), 1);
    let names: Vec<_> = std::fs::read_dir(&keys.dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    for (name, mode) in [("private.pem", 0o600), ("public.pem", 0o644), ("refresh.key", 0o600)] {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(keys.dir.join(name)).unwrap().permissions().mode() & 0o777, mode, "{name}");
    }
    keys.reload("reloaded").await;
    assert_eq!(app.signed_in("afterwards").await.get("/api/protected").await.status, 200);
}

#[tokio::test]
async fn the_public_keys_are_published_and_nothing_else() {
    let app = crate::harness::shared().await;
    for door in EVERYWHERE {
        let answer = send(app.anonymous().at(door).request(Method::GET, JWKS)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("cache-control"), Some("public, max-age=300"));
        assert_eq!(answer.header("content-type"), Some("application/jwk-set+json"));
        let jwks = answer.json();
        let [key] = &jwks["keys"].as_array().unwrap()[..] else { panic!("one key: {jwks}") };
        let names: Vec<_> = key.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ["alg", "e", "kid", "kty", "n", "use"]);
        assert_eq!([&key["alg"], &key["kty"], &key["use"]], ["RS256", "RSA", "sig"]);
    }
}

#[tokio::test]
async fn keys_are_listed_without_secrets() {
    let app = TestApp::start(Cluster::builder().api(2)).await;
    let keys = Keys::of(&app);
    keys.rotate("begin").await;
    let list = async |json: bool| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gatefold-api"));
        command.env_clear().args(["keys", "list"]).args(json.then_some("--json"));
        for (variable, name) in [
            ("PRIVATE_KEY_PATH", "private.pem"),
            ("PUBLIC_KEY_PATH", "public.pem"),
            ("REFRESH_KEY_PATH", "refresh.key"),
        ] {
            command.env(variable, keys.dir.join(name));
        }
        let output = command.output().await.unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr))
    };
    let (done, said) = list(true).await;
    assert!(done, "{said}");
    let rows: Vec<Json> = serde_json::from_str(&said).unwrap();
    let row = |row: &Json| (row["kind"].as_str().unwrap().to_owned(), row["signs"].as_bool().unwrap());
    let expected = [("private", true), ("public", true), ("public", false), ("refresh", true), ("refresh", false)];
    assert_eq!(rows.iter().map(row).collect::<Vec<_>>(), expected.map(|(kind, signs)| (kind.to_owned(), signs)));
    assert_eq!(rows[1]["bits"], 2048);
    assert_eq!(rows[0]["kid"], rows[1]["kid"]);
    let kids = kids(&app, Door::Replica(0)).await;
    assert_eq!(rows[1]["kid"], kids[0]);
    assert_ne!(rows[3]["fingerprint"], rows[4]["fingerprint"]);

    let (done, table) = list(false).await;
    assert!(done && table.contains("KIND") && table.contains(&kids[0]), "{table}");
    for secret in keys.read("refresh.key").lines().map(str::to_owned) {
        assert!(!said.contains(&secret) && !table.contains(&secret));
    }
    keys.write("refresh.key", "short");
    let (done, said) = list(true).await;
    assert!(!done && said.contains("refresh.key"), "{said}");
}
