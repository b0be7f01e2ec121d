//! Replicas, each asked directly, and sessions that have a cookie and an access token.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use gatefold_cluster::{Builder, Cluster, Kind};
use gatefold_shared::redis::keys;
use http::{HeaderMap, Method};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
};
use uuid::Uuid;

const NAME: &str = "alice";
const PASSWORD: &str = "correct horse battery staple";
/// How long anything may take that is awaited.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Replicas {
    pub cluster: Cluster,
    urls: Vec<String>,
    http: reqwest::Client,
}

pub struct Session {
    pub user_id: i64,
    pub family: Uuid,
    access_token: String,
    cookie: String,
}

impl Replicas {
    pub async fn start(cluster: Builder) -> Self {
        let cluster = cluster.start().await.expect("the cluster starts");
        cluster.create_user(NAME, PASSWORD).await.expect("a user");
        let urls = cluster.replicas(Kind::Api).into_iter().map(|replica| replica.url).collect();
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().expect("a client");
        Self { cluster, urls, http }
    }

    fn request(&self, replica: usize, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.urls[replica]))
    }

    pub async fn log_in(&self, replica: usize) -> Session {
        let request = self.request(replica, Method::POST, "/api/login");
        let answer = request.json(&json!({"username": NAME, "password": PASSWORD})).send().await.expect("an answer");
        let cookie = answer.headers()["set-cookie"].to_str().expect("text");
        let cookie = cookie.split(';').next().expect("a cookie").to_owned();
        let body: Value = answer.json().await.expect("JSON");
        let access_token = body["accessToken"].as_str().expect("a token").to_owned();
        let claims = URL_SAFE_NO_PAD.decode(access_token.split('.').nth(1).expect("a JWT")).expect("base64");
        let claims: Value = serde_json::from_slice(&claims).expect("JSON");
        let family = claims["sid"].as_str().and_then(|sid| sid.parse().ok()).expect("a session");
        Session { user_id: body["user"]["id"].as_i64().expect("an id"), family, access_token, cookie }
    }

    pub async fn user_id(&self) -> i64 {
        self.log_in(0).await.user_id
    }

    /// Status and code of the answer.
    pub async fn log_out(&self, replica: usize, session: &Session) -> String {
        summary(self.request(replica, Method::POST, "/api/logout").header("cookie", &session.cookie)).await.0
    }

    pub async fn refresh(&self, replica: usize, session: &Session) -> String {
        summary(self.request(replica, Method::POST, "/api/refresh").header("cookie", &session.cookie)).await.0
    }

    pub async fn protected(&self, replica: usize, session: &Session) -> String {
        summary(self.request(replica, Method::GET, "/api/protected").bearer_auth(&session.access_token)).await.0
    }

    pub async fn protected_headers(&self, replica: usize, session: &Session) -> HeaderMap {
        summary(self.request(replica, Method::GET, "/api/protected").bearer_auth(&session.access_token)).await.1
    }

    /// Whether a replica says that revocations reach it.
    pub async fn is_ready(&self, replica: usize) -> bool {
        let answer = self.request(replica, Method::GET, "/api/ready").send().await.expect("an answer");
        let status = answer.status();
        let body: Value = answer.json().await.expect("JSON");
        let hears = body["checks"]["revocations"] == "ok";
        assert!(hears || status == 503, "{body}");
        hears && status == 200
    }

    pub async fn are_ready_within(&self, patience: Duration) {
        let begun = Instant::now();
        for replica in 0..self.urls.len() {
            eventually("the replica is ready", async || self.is_ready(replica).await).await;
        }
        assert!(begun.elapsed() < patience, "ready only after {:?}", begun.elapsed());
    }

    /// Ends a session with the command line, which asks the stores directly.
    pub async fn revoke_as_administrator(&self, session: &Session) {
        let keys = self.cluster.keys_dir();
        let mut command = Command::new(env!("CARGO_BIN_EXE_gatefold-api"));
        command.args(["session", "revoke", NAME, &session.family.to_string()]);
        command.env("DATABASE_URL", self.cluster.database_url()).env("REDIS_URL", self.cluster.redis_url());
        command.env("PRIVATE_KEY_PATH", keys.join("private.pem")).env("PUBLIC_KEY_PATH", keys.join("public.pem"));
        command.env("REFRESH_KEY_PATH", keys.join("refresh.key")).stdin(Stdio::null());
        let output = command.output().await.expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Has Redis itself execute a command, given as words; the beginning of its reply.
    pub async fn redis(&self, command: &str) -> String {
        self.redis_transaction(&[command.to_owned()]).await
    }

    /// As [`Self::redis`], with several commands at once.
    pub async fn redis_transaction(&self, commands: &[String]) -> String {
        let address = self.cluster.redis_url().replacen("redis://", "", 1);
        let mut connection = TcpStream::connect(address.trim_end_matches('/')).await.expect("redis is there");
        let several = commands.len() > 1;
        let lines = if several { format!("MULTI\r\n{}\r\nEXEC", commands.join("\r\n")) } else { commands[0].clone() };
        connection.write_all(format!("{lines}\r\nQUIT\r\n").as_bytes()).await.expect("sent");
        let mut reply = String::new();
        connection.read_to_string(&mut reply).await.expect("a reply");
        assert!(!reply.lines().any(|line| line.starts_with('-')), "{commands:?}: {reply}");
        reply.trim_end().trim_end_matches("+OK").trim_end().to_owned()
    }

    /// `active`, `revoked` or nothing.
    pub async fn state_in_redis(&self, session: &Session) -> String {
        let reply = self.redis(&format!("HGET {} state", keys::family(session.user_id, session.family))).await;
        reply.lines().nth(1).unwrap_or_default().to_owned()
    }

    /// A metric without labels, if the replica has it.
    pub async fn metric(&self, replica: usize, name: &str) -> Option<u64> {
        let url = self.cluster.replicas(Kind::Api)[replica].metrics_url.clone().expect("metrics");
        let metrics = self.http.get(url).send().await.ok()?.text().await.ok()?;
        metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    /// How many revocations all replicas together have put back.
    pub fn reasserted(&self) -> usize {
        let log_of = |replica: gatefold_cluster::Process| std::fs::read_to_string(replica.log).expect("a log");
        let logs = self.cluster.replicas(Kind::Api).into_iter().map(log_of);
        logs.map(|log| log.matches("redis had forgotten a revocation").count()).sum()
    }
}

async fn summary(request: reqwest::RequestBuilder) -> (String, HeaderMap) {
    let answer = request.send().await.expect("an answer");
    let (status, headers) = (answer.status(), answer.headers().clone());
    let body: Value = answer.json().await.unwrap_or_default();
    (format!("{} {}", status.as_u16(), body["code"].as_str().unwrap_or_default()).trim_end().to_owned(), headers)
}

pub async fn eventually(what: &str, check: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !check().await {
        assert!(Instant::now() < deadline, "never so: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
