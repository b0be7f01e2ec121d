//! What every test stands on: a cluster, its users, and requesters who speak to it through any of its doors.
//!
//! Tests share one cluster unless they break theirs; each has users of its own, so that none gets in another's way.

mod answer;
pub mod collector;
mod command;
mod listener;
mod raw;
mod replica;
mod requester;

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use gatefold_cluster::{Builder, Cluster, Kind};
use sqlx::{Connection, PgConnection};
use tokio::sync::OnceCell;

pub use self::{
    answer::Answer,
    command::{administer, command},
    listener::Listener,
    raw::{raw, raw_until_closed},
    replica::{Replica, free_port},
    requester::{Door, Requester, claims, send},
};

/// Everybody's password.
pub const PASSWORD: &str = "correct horse battery staple";
/// How long anything may take that is awaited: far longer than it does, on a machine that is busy compiling.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// The longest that a client waits for a 503 while a store is away: the two seconds that are promised, and a little for a
/// machine that is busy with other tests. It may also stand still for some seconds: see [`in_time`].
pub const PROMISED: Duration = Duration::from_millis(2_000 + 250);

/// A cluster and what a test needs of it.
pub struct TestApp {
    pub cluster: Cluster,
    nginx: String,
    replicas: Vec<String>,
    /// Of [`PASSWORD`], made by the program itself: users are then added without hashing anew.
    password_hash: String,
}

/// The cluster of all tests that break nothing: two replicas behind Nginx.
pub async fn shared() -> &'static TestApp {
    static SHARED: OnceCell<TestApp> = OnceCell::const_new();
    SHARED.get_or_init(|| TestApp::start(unhurried(two_replicas()))).await
}

/// What a test's own cluster is made from.
pub fn two_replicas() -> Builder {
    Cluster::builder().api(2)
}

/// A cluster whose stores answer, if not always at once: a machine that does nothing for some seconds is no outage.
pub fn unhurried(cluster: Builder) -> Builder {
    cluster.env("BACKEND_TIMEOUT", "10s")
}

impl TestApp {
    pub async fn start(builder: Builder) -> Self {
        let cluster = builder.start().await.expect("the cluster starts");
        let replicas = cluster.replicas(Kind::Api).into_iter().map(|replica| replica.url).collect();
        cluster.create_user("first.user", PASSWORD).await.expect("the first user is added");
        let mut app = Self { nginx: cluster.url(), replicas, password_hash: String::new(), cluster };
        let mut postgres = app.postgres().await;
        let hash = sqlx::query_scalar("SELECT password_hash FROM users").fetch_one(&mut postgres).await;
        app.password_hash = hash.expect("the first user has a hash");
        app
    }

    /// Where a door is.
    pub fn url(&self, door: Door) -> &str {
        match door {
            Door::Nginx => &self.nginx,
            Door::Replica(index) => &self.replicas[index],
        }
    }

    /// A connection to Postgres itself.
    pub async fn postgres(&self) -> PgConnection {
        let mut postgres = PgConnection::connect(&self.cluster.database_url()).await.expect("postgres is there");
        // Clusters of tests may forget what was committed a moment before they are killed; not what a test has put there.
        let durable = sqlx::query("SET synchronous_commit = on").execute(&mut postgres).await;
        durable.expect("a setting of postgres");
        postgres
    }

    /// Has Redis itself execute a command; the reply as text.
    pub async fn redis_command(&self, command: &[&str]) -> String {
        use fred::{
            interfaces::ClientLike,
            prelude::{Builder, Config, Value},
            types::{ClusterHash, CustomCommand},
        };
        let config = Config::from_url(&self.cluster.redis_url()).expect("a URL");
        let redis = Builder::from_config(config).build().expect("a client");
        redis.init().await.expect("redis is there");
        let (name, arguments) = command.split_first().expect("a command");
        let command = CustomCommand::new(*name, ClusterHash::FirstKey, false);
        let arguments: Vec<Value> = arguments.iter().map(|argument| (*argument).into()).collect();
        let reply: Value = redis.custom(command, arguments).await.expect("redis accepts the command");
        reply.as_string().unwrap_or_else(|| format!("{reply:?}"))
    }

    /// How often a replay of the session is recorded.
    pub async fn replays_of(&self, client: &Requester) -> i64 {
        let query = "SELECT count(*) FROM events WHERE kind = 'refresh_token_reused' AND family = $1";
        let count = sqlx::query_scalar(query).bind(client.session().1).fetch_one(&mut self.postgres().await).await;
        count.expect("a count")
    }

    /// The metrics of a replica, as it tells them.
    pub async fn metrics_of(&self, replica: usize) -> String {
        let url = self.cluster.replicas(Kind::Api)[replica].metrics_url.clone().expect("a port for metrics");
        reqwest::get(url).await.expect("metrics").text().await.expect("text")
    }

    /// What a replica has logged.
    pub fn log_of(&self, replica: usize) -> String {
        std::fs::read_to_string(&self.cluster.replicas(Kind::Api)[replica].log).expect("a log")
    }

    /// Adds a user with [`PASSWORD`]; their id.
    pub async fn add_user(&self, name: &str) -> i64 {
        let insert = sqlx::query_scalar("INSERT INTO users (username, password_hash) VALUES ($1, $2) RETURNING id");
        let id = insert.bind(name).bind(&self.password_hash).fetch_one(&mut self.postgres().await).await;
        id.expect("the name is this test's own")
    }

    /// Somebody without cookie or token, before Nginx.
    pub fn anonymous(&self) -> Requester {
        Requester::new([&self.nginx].into_iter().chain(&self.replicas).cloned().collect())
    }

    /// A new user of this name, logged in through Nginx.
    pub async fn signed_in(&self, name: &str) -> Requester {
        self.add_user(name).await;
        self.logged_in(name).await
    }

    /// A user who is there already, logged in through Nginx. It may take several attempts: the proxies of stores are threads of
    /// this process, which may stand still for so long that it is an outage.
    pub async fn logged_in(&self, name: &str) -> Requester {
        let mut requester = self.anonymous();
        eventually(&format!("{name} is logged in"), async || {
            let answer = requester.login(name, PASSWORD).await;
            assert!(matches!(answer.status, 200 | 503), "{answer:?}");
            answer.status == 200
        })
        .await;
        requester
    }

    /// Waits until every replica says that it is ready.
    pub async fn is_ready(&self) {
        for replica in 0..self.replicas.len() {
            let requester = self.anonymous().at(Door::Replica(replica));
            eventually(
                "the replica is ready",
                async || matches!(requester.try_get("/api/ready").await, Ok(answer) if answer.status == 200),
            )
            .await;
        }
    }
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// A name that no other test has.
pub fn unique(name: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Waits until `condition` holds.
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let holds = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, holds).await.is_ok(), "not within {PATIENCE:?}: {what}");
}

/// Tries again what took longer than was promised, four times: that may have been the machine.
pub async fn in_time(what: &str, mut attempt: impl AsyncFnMut() -> Duration) {
    let mut all = Vec::new();
    while all.last().is_none_or(|took| *took > PROMISED) {
        assert!(all.len() < 5, "{what} took {all:?}");
        all.push(attempt().await);
    }
}
