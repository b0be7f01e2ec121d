//! Sessions: how they begin and end, through whichever REST replica a test chooses.

use std::{
    process::Stdio,
    sync::atomic::{AtomicU32, Ordering},
};

use http::Method;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
};

use super::{Builder, Client, Cluster, Duration, Gatefold, Kind, Login, PASSWORD, PATIENCE, Uuid, Value, json};

/// What clusters are made from whose tests log in often: they hash cheaply.
pub fn many_sessions() -> Builder {
    Cluster::builder().env("ARGON2_MEMORY_KIB", "8").env("ARGON2_PASSES", "1").env("ARGON2_QUEUE", "1000")
}

impl Login {
    /// The session, as the access token says.
    pub fn family(&self) -> Uuid {
        self.claims()["sid"].as_str().and_then(|sid| sid.parse().ok()).expect("a session")
    }

    /// What the access token says.
    pub fn claims(&self) -> Value {
        use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
        let claims = self.access_token.split('.').nth(1).expect("a JWT");
        let claims = URL_SAFE_NO_PAD.decode(claims).expect("base64");
        serde_json::from_slice(&claims).expect("JSON")
    }

    /// The cookie, as it is sent.
    pub fn cookie(&self) -> &str {
        &self.cookie
    }

    /// The same session with another cookie.
    pub fn with_cookie_of(&self, other: &Self) -> Self {
        Self { access_token: self.access_token.clone(), user_id: self.user_id, cookie: other.cookie.clone() }
    }
}

impl Clone for Login {
    fn clone(&self) -> Self {
        self.with_cookie_of(self)
    }
}

impl Gatefold {
    /// Adds a user whom no other test has; the name.
    pub async fn new_user(&self) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("user-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.cluster.create_user(&name, PASSWORD).await.expect("a user");
        name
    }

    /// Makes a call of the REST API to one replica, as the bearer of a session.
    pub async fn call(&self, replica: &str, method: Method, path: &str, login: &Login, body: Value) -> (u16, Value) {
        let url = format!("{}/api/{path}", self.replica_url(replica));
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().expect("a client");
        let request = client.request(method, url).bearer_auth(&login.access_token).header("cookie", &login.cookie);
        let request = if body.is_null() { request } else { request.json(&body) };
        let response = request.send().await.expect("an answer");
        let status = response.status().as_u16();
        (status, response.json().await.unwrap_or_default())
    }

    /// A refresh at one replica, with these headers.
    pub async fn refresh_at(&self, replica: &str, headers: &[(&str, &str)]) -> (u16, Value) {
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().expect("a client");
        let request = client.post(format!("{}/api/refresh", self.replica_url(replica)));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let response = request.send().await.expect("an answer");
        (response.status().as_u16(), response.json().await.unwrap_or_default())
    }

    pub async fn post_to(&self, replica: &str, path: &str, login: &Login) -> (u16, Value) {
        self.call(replica, Method::POST, path, login, Value::Null).await
    }

    pub async fn log_out_at(&self, replica: &str, login: &Login) {
        let (status, body) = self.post_to(replica, "logout", login).await;
        assert_eq!((status, &body["message"]), (200, &json!("Logged out")), "{body}");
    }

    /// A ticket for a socket of this session.
    pub async fn ticket(&self, replica: &str, login: &Login) -> String {
        let (status, body) = self.post_to(replica, "ws-ticket", login).await;
        assert_eq!(status, 200, "{body}");
        body["ticket"].as_str().expect("a ticket").to_owned()
    }

    /// An access token of a session that lives so many seconds.
    pub fn short_token_of(&self, login: &Login, lifetime: Duration) -> String {
        self.signer.sign(login.user_id, "grace".into(), login.family(), [].into(), lifetime).expect("a token")
    }

    /// `GET /ws` of each replica, without anything in between.
    pub fn every_replica(&self) -> Vec<String> {
        let replicas = self.cluster.replicas(Kind::Ws).into_iter();
        replicas.map(|replica| replica.url.replacen("http", "ws", 1) + "/ws").collect()
    }

    /// A socket of a session on every ws replica.
    pub async fn sockets(&self, login: &Login) -> Vec<Client> {
        let mut sockets = Vec::new();
        for url in self.every_replica() {
            let mut socket = Client::connect(&format!("{url}?token={}", login.access_token)).await;
            assert_eq!(socket.hear().await["type"], "connected");
            sockets.push(socket);
        }
        sockets
    }

    /// Runs one of the administrator's commands. It asks the stores directly, whatever is between them and the replicas.
    pub async fn admin(&self, arguments: &[&str]) {
        let test = std::env::current_exe().expect("a program");
        let program = test.parent().and_then(|deps| deps.parent()).expect("a folder").join("gatefold-api");
        let keys = self.cluster.keys_dir();
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env("DATABASE_URL", self.cluster.replica_database_url()).env("REDIS_URL", self.cluster.redis_url());
        command.env("DATABASE_OWNER_URL", self.cluster.database_url());
        command.env("PRIVATE_KEY_PATH", keys.join("private.pem")).env("PUBLIC_KEY_PATH", keys.join("public.pem"));
        command.env("REFRESH_KEY_PATH", keys.join("refresh.key"));
        let output = command.output().await.expect("it runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Has Redis itself execute a command, given as words; the beginning of its reply.
    pub async fn redis_command(&self, command: &str) -> String {
        let reply = self.redis_reply(command).await.expect("redis is there");
        assert!(!reply.starts_with('-'), "{command}: {reply}");
        reply
    }

    /// As [`Self::redis_command`], where Redis may refuse, or be away.
    pub async fn redis_reply(&self, command: &str) -> std::io::Result<String> {
        let address = self.cluster.redis_url().replacen("redis://", "", 1);
        let mut connection = TcpStream::connect(address.trim_end_matches('/')).await?;
        connection.write_all(format!("{command}\r\n").as_bytes()).await?;
        let mut reply = vec![0; 64 * 1024];
        let length = connection.read(&mut reply).await?;
        Ok(String::from_utf8_lossy(&reply[..length]).into_owned())
    }

    /// Whether a replica says that it is ready, and what it says of its revocations.
    pub async fn readiness(&self, replica: &str) -> (u16, String) {
        let (status, body) = super::get(&format!("{}/ready", self.replica_url(replica))).await;
        let body: Value = serde_json::from_str(&body).expect("JSON");
        (status, body["checks"]["revocations"].as_str().expect("a check").to_owned())
    }
}
