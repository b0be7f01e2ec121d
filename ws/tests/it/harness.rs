//! Clusters, tokens, and a client that says what it hears.

mod crowd;
pub mod member;
pub mod raw;
mod redis;
mod rest;
mod users;
pub mod visitor;
mod waiting;

use std::time::Duration;

use futures_util::{SinkExt, StreamExt, future::join_all};
use gatefold_cluster::{Builder, Cluster, Kind};
use gatefold_shared::jwt::{Signer, Subject};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    sync::OnceCell,
    time::{timeout, timeout_at},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest, protocol::CloseFrame},
};
use uuid::Uuid;

pub use self::{
    rest::many_sessions,
    users::{User, new_room},
    waiting::{eventually, within},
};

/// How long anything may take that should happen at once, also on a machine that is busy.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// A page from elsewhere that may open sockets all the same.
pub const ALLOWED_ORIGIN: &str = "https://app.example.com";
pub const PASSWORD: &str = "correct horse battery";

/// The cluster of all tests that break nothing.
pub async fn shared() -> &'static Gatefold {
    static SHARED: OnceCell<Gatefold> = OnceCell::const_new();
    let start = async || {
        let gatefold =
            Gatefold::start(unhurried(Cluster::builder().api(1).ws(2)).env("ALLOWED_ORIGINS", ALLOWED_ORIGIN)).await;
        for name in ["alice", "bob"] {
            gatefold.cluster.create_user(name, PASSWORD).await.expect("a user");
        }
        gatefold
    };
    SHARED.get_or_init(start).await
}

/// A cluster whose Redis answers, if not always at once: a machine that does nothing for some seconds is no outage.
pub fn unhurried(cluster: Builder) -> Builder {
    cluster.env("BACKEND_TIMEOUT", "10s")
}

/// A cluster, and its key to sign tokens with.
pub struct Gatefold {
    pub cluster: Cluster,
    signer: Signer,
}

/// What a login gives.
pub struct Login {
    pub access_token: String,
    pub user_id: i64,
    cookie: String,
}

impl Gatefold {
    pub async fn start(builder: Builder) -> Self {
        let cluster = builder.start().await.expect("a cluster");
        let key = cluster.keys_dir().join("private.pem");
        let signer = Signer::read(&key, Duration::from_mins(15)).expect("the cluster's key");
        Self { cluster, signer }
    }

    /// A good token of a session that nobody ever logged in to.
    pub fn token(&self) -> String {
        self.token_of(7, Uuid::new_v4())
    }

    pub fn token_of(&self, user_id: i64, family: Uuid) -> String {
        self.signer.sign(user_id, "grace".into(), family, [].into(), self.signer.lifetime()).expect("a token")
    }

    /// A good token that claims to be allowed into a private room.
    pub fn token_for_room(&self, user: Subject, room: &str) -> String {
        let rooms = [room.into()].into();
        self.signer.sign(user, "grace".into(), Uuid::new_v4(), rooms, self.signer.lifetime()).expect("a token")
    }

    /// A good token that lives so many seconds.
    pub fn token_for(&self, lifetime: Duration) -> String {
        self.signer.sign(7, "grace".into(), Uuid::new_v4(), [].into(), lifetime).expect("a token")
    }

    pub async fn log_in(&self, username: &str) -> Login {
        let credentials = json!({"username": username, "password": PASSWORD});
        let response = self.post("login", &[], credentials.to_string()).await;
        let cookie = cookie_of(&response);
        let body: Value = response.json().await.expect("JSON");
        let access_token = body["accessToken"].as_str().expect("a token").to_owned();
        Login { access_token, user_id: body["user"]["id"].as_i64().expect("an id"), cookie }
    }

    /// The session's next access token.
    pub async fn refresh(&self, login: &mut Login) -> String {
        let response = self.post("refresh", &[("cookie", &login.cookie)], String::new()).await;
        login.cookie = cookie_of(&response);
        let body: Value = response.json().await.expect("JSON");
        body["accessToken"].as_str().expect("a token").to_owned()
    }

    async fn post(&self, call: &str, headers: &[(&str, &str)], body: String) -> reqwest::Response {
        let url = format!("{}/api/{call}", self.cluster.url());
        let mut request = reqwest::Client::new().post(url).header("content-type", "application/json").body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 200, "{call}");
        response
    }

    /// `GET /ws` without anything in between.
    pub fn direct(&self) -> String {
        self.replica_url("ws-1").replacen("http", "ws", 1) + "/ws"
    }

    /// Nginx, and each replica directly.
    pub fn everywhere(&self) -> Vec<String> {
        let replicas = self.cluster.replicas(Kind::Ws).into_iter();
        let direct = replicas.map(|replica| replica.url.replacen("http", "ws", 1) + "/ws");
        direct.chain([self.cluster.ws_url()]).collect()
    }

    pub fn replica_url(&self, name: &str) -> String {
        self.cluster.process(name).expect("a replica").url
    }

    /// The memory of a process.
    pub fn resident_kib(&self, name: &str) -> u64 {
        let pid = self.cluster.process(name).expect("a process").pid.expect("it runs");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        resident.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    pub fn log_of(&self, name: &str) -> String {
        let log = self.cluster.process(name).expect("a process").log;
        std::fs::read_to_string(log).expect("a log")
    }

    pub async fn metrics_of(&self, name: &str) -> String {
        let url = self.cluster.process(name).expect("a replica").metrics_url.expect("metrics");
        get(&url).await.1
    }

    /// That one of these replicas has evicted another, and all who did for that reason: two may, if one took long.
    pub async fn has_evicted<const N: usize>(&self, replicas: [&str; N], why: &str) {
        let wanted = format!(r#"gatefold_ws_presence_evictions_total{{why="{why}"}} "#);
        within(PATIENCE, "the eviction is counted", async || {
            let metrics = join_all(replicas.map(|replica| self.metrics_of(replica))).await.concat();
            let mut told =
                metrics.lines().filter(|line| line.starts_with("gatefold_ws_presence_evictions_total")).peekable();
            told.peek().is_some() && told.all(|line| line.starts_with(&wanted))
        })
        .await;
    }

    /// What a replica is called among replicas.
    pub async fn replica_of(&self, name: &str) -> String {
        let url = self.replica_url(name).replacen("http", "ws", 1);
        let mut client = Client::connect(&format!("{url}/ws?token={}", self.token())).await;
        client.hear().await["payload"]["replica"].as_str().expect("an id").to_owned()
    }

    /// A client that has heard `connected`.
    pub async fn client(&self) -> Client {
        self.client_with(&self.token()).await
    }

    pub async fn client_with(&self, token: &str) -> Client {
        let mut client = Client::connect(&format!("{}?token={token}", self.direct())).await;
        assert_eq!(client.hear().await["type"], "connected");
        client
    }
}

fn cookie_of(response: &reqwest::Response) -> String {
    let cookie = response.headers()["set-cookie"].to_str().expect("text");
    cookie.split(';').next().expect("a cookie").to_owned()
}

pub async fn get(url: &str) -> (u16, String) {
    let response = reqwest::get(url).await.expect("an answer");
    (response.status().as_u16(), response.text().await.expect("text"))
}

fn header_map(headers: &[(&'static str, &str)]) -> HeaderMap {
    let header = |&(name, value): &(&'static str, &str)| {
        (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a header"))
    };
    headers.iter().map(header).collect()
}

/// A WebSocket client. It answers pings by itself, as all do.
pub struct Client {
    pub stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// The subprotocol that the server chose.
    pub subprotocol: Option<String>,
}

impl Client {
    pub async fn connect(url: &str) -> Self {
        Self::connect_with(url, &[]).await
    }

    pub async fn connect_with(url: &str, headers: &[(&'static str, &str)]) -> Self {
        let mut request = url.into_client_request().expect("a request");
        request.headers_mut().extend(header_map(headers));
        let connecting = timeout(PATIENCE, connect_async(request)).await.expect("an answer in time");
        let (stream, response) = connecting.expect("a socket");
        let subprotocol =
            response.headers().get("sec-websocket-protocol").map(|name| name.to_str().expect("text").into());
        Self { stream, subprotocol }
    }

    pub async fn say(&mut self, message: impl ToString) {
        self.stream.send(Message::text(message.to_string())).await.expect("sent");
    }

    /// Says something to a server that may have gone.
    pub async fn try_say(&mut self, message: String) -> Result<(), Error> {
        self.stream.send(Message::text(message)).await
    }

    /// Loses the connection, as a crash does.
    pub fn cut(self) {
        if let MaybeTlsStream::Plain(stream) = self.stream.get_ref() {
            stream.set_zero_linger().expect("an option");
        }
    }

    /// That the socket is open.
    pub async fn is_greeted(&mut self) {
        assert_eq!(self.hear().await["type"], "connected");
    }

    /// The next message of the server, which is not the end.
    pub async fn hear(&mut self) -> Value {
        serde_json::from_str(&self.hear_text().await).expect("JSON")
    }

    /// The text of the next message.
    pub async fn hear_text(&mut self) -> String {
        match self.next().await {
            Some(Message::Text(text)) => text.to_string(),
            other => panic!("expected a message instead of {other:?}"),
        }
    }

    /// The next message of a type; what comes before it is forgotten.
    pub async fn hear_of(&mut self, kind: &str) -> Value {
        loop {
            let heard = self.hear().await;
            if heard["type"] == kind {
                return heard;
            }
        }
    }

    /// Says something and hears what the server answers.
    pub async fn ask(&mut self, message: impl ToString) -> Value {
        self.say(message).await;
        self.hear().await
    }

    /// All that the server still says, and with which code and text it then closes.
    pub async fn hear_out(&mut self) -> (Vec<Value>, u16, String) {
        let mut heard = Vec::new();
        loop {
            match self.next().await {
                Some(Message::Text(text)) => heard.push(serde_json::from_str(&text).expect("JSON")),
                Some(Message::Close(Some(CloseFrame { code, reason }))) => {
                    return (heard, code.into(), reason.to_string());
                }
                other => panic!("expected a close frame instead of {other:?}"),
            }
        }
    }

    /// With which code and text the server closes, which it does without another word.
    pub async fn closed(&mut self) -> (u16, String) {
        let (heard, code, text) = self.hear_out().await;
        assert!(heard.is_empty(), "{heard:?}");
        (code, text)
    }

    async fn next(&mut self) -> Option<Message> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            match timeout_at(deadline, self.stream.next()).await.expect("to hear something in time") {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(message)) => return Some(message),
                Some(Err(_)) | None => return None,
            }
        }
    }

    /// That the socket serves, whatever it may have said before.
    pub async fn is_served(&mut self) {
        assert_eq!(self.ask(json!({"type": "ping"})).await["type"], "pong");
    }
}

/// How a handshake is refused: status, headers and problem, without what differs each time.
pub async fn refusal(url: &str, headers: &[(&'static str, &str)]) -> (u16, HeaderMap, Value) {
    let handshake = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let headers = handshake.iter().chain(headers).copied().collect::<Vec<_>>();
    plain_get(url, &headers).await
}

/// As [`refusal`], but with nothing of a handshake but what is in `headers`.
pub async fn plain_get(url: &str, headers: &[(&'static str, &str)]) -> (u16, HeaderMap, Value) {
    let request = reqwest::Client::new().get(url.replacen("ws", "http", 1)).headers(header_map(headers));
    let response = timeout(PATIENCE, request.send()).await.expect("an answer in time").expect("an answer");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    assert_eq!(headers["content-type"], "application/problem+json");
    let mut problem: Value = response.json().await.expect("JSON");
    let id = problem.as_object_mut().expect("an object").remove("requestId").expect("the request's id");
    assert_eq!(headers["x-request-id"], id.as_str().expect("text"));
    (status, headers, problem)
}

/// What a refusal is about, in short.
pub async fn refused(url: &str, headers: &[(&'static str, &str)]) -> (u16, String) {
    let (status, _, problem) = refusal(url, headers).await;
    (status, problem["code"].as_str().expect("a code").to_owned())
}
