//! Rate limits: the same on every replica, for whoever calls too often and for nobody else.
//!
//! Each test calls from addresses of its own, as a trusted proxy would say them.

use std::fmt::Write;

use futures_util::future::join_all;
use gatefold_cluster::{Builder, Cluster, Signal};
use http::Method;
use insta::assert_snapshot;
use serde_json::json;
use tokio::{sync::OnceCell, task::JoinSet};

use crate::harness::{Answer, Door, PASSWORD, PATIENCE, TestApp, administer, eventually, send, unhurried};

const WRONG: &str = "wrong horse battery staple";
const REPLICAS: usize = 4;

/// Limits of which nothing comes back while a test runs.
fn limited() -> Builder {
    let cluster = Cluster::builder().api(4);
    let cluster = cluster.env("LIMIT_LOGIN_ADDRESS", "10/10h").env("LIMIT_LOGIN_ACCOUNT", "3/3h");
    let cluster = cluster.env("LIMIT_REFRESH_ADDRESS", "20/20h").env("LIMIT_REGISTER_ADDRESS", "20/20h:5");
    cluster.env("LIMIT_API_ADDRESS", "30/30h")
}

/// The cluster of all tests that break nothing.
async fn app() -> &'static TestApp {
    static SHARED: OnceCell<TestApp> = OnceCell::const_new();
    SHARED.get_or_init(|| TestApp::start(unhurried(limited()))).await
}

/// A client at an address, at one replica.
struct Client {
    app: &'static TestApp,
    address: &'static str,
    replica: usize,
}

/// Where a client is; it begins at the first replica.
async fn at(address: &'static str) -> Client {
    Client { app: app().await, address, replica: 0 }
}

impl Client {
    fn at_replica(&self, replica: usize) -> Self {
        Self { replica: replica % REPLICAS, ..*self }
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.app.anonymous().at(Door::Replica(self.replica)).request(method, path);
        request.header("x-forwarded-for", self.address)
    }

    async fn login(&self, name: &str, password: &str) -> Answer {
        let body = json!({ "username": name, "password": password });
        send(self.request(Method::POST, "/api/login").json(&body)).await
    }

    async fn refresh(&self, cookie: &str) -> Answer {
        send(self.request(Method::POST, "/api/refresh").header("cookie", format!("refreshToken={cookie}"))).await
    }

    /// From a device that has this cookie.
    async fn login_on(&self, device: &str, name: &str, password: &str) -> Answer {
        let body = json!({ "username": name, "password": password });
        send(self.request(Method::POST, "/api/login").header("cookie", device).json(&body)).await
    }

    /// Without what the call needs: it counts all the same.
    async fn call(&self, method: &Method, path: &str) -> Answer {
        send(self.request(method.clone(), path)).await
    }
}

#[track_caller]
fn assert_refused(answer: &Answer, policy: &str) {
    answer.assert_problem(429, "rate_limited");
    let told = answer.header("ratelimit").expect("the standing");
    let wait = answer.header("retry-after").expect("when to come back");
    assert_eq!(told, format!("\"{policy}\";r=0;t={wait}"));
    assert!(answer.header("ratelimit-policy").expect("the policy").contains(policy), "{answer:?}");
}

/// How many of twice the burst are not refused, one after the other, each at the next of so many replicas.
async fn passed(address: &'static str, replicas: usize, method: Method, path: &str, burst: usize) -> usize {
    let client = at(address).await;
    let mut passed = 0;
    for request in 0..2 * burst {
        passed += usize::from(client.at_replica(request % replicas).call(&method, path).await.status != 429);
    }
    passed
}

#[tokio::test]
async fn the_same_limit_holds_whether_a_client_meets_one_replica_or_four() {
    assert_eq!(passed("198.51.100.1", 1, Method::POST, "/api/login", 10).await, 10);
    assert_eq!(passed("198.51.100.2", 4, Method::POST, "/api/login", 10).await, 10);
    assert_eq!(passed("198.51.100.1", 1, Method::POST, "/api/register", 5).await, 5);
    assert_eq!(passed("198.51.100.2", 4, Method::POST, "/api/register", 5).await, 5);
    // These do not wait for the count: each replica lets through what it does not know of yet. Counting for itself, it
    // would let through all of it again.
    for (path, method, burst) in [("/api/refresh", Method::POST, 20), ("/api/protected", Method::GET, 30)] {
        assert_eq!(passed("198.51.100.1", 1, method.clone(), path, burst).await, burst, "{path}");
        let passed = passed("198.51.100.2", 4, method, path, burst).await;
        assert!((burst..2 * burst).contains(&passed), "{path}: {passed}");
    }
    eventually("every replica knows", async || {
        let client = at("198.51.100.2").await;
        for replica in 0..REPLICAS {
            if client.at_replica(replica).call(&Method::POST, "/api/refresh").await.status != 429 {
                return false;
            }
        }
        true
    })
    .await;
}

#[tokio::test]
async fn many_log_ins_at_once_are_no_way_around_it() {
    let client = at("198.51.100.3").await;
    let mut requests = JoinSet::new();
    for request in 0..40 {
        let client = client.at_replica(request);
        requests.spawn(async move { client.call(&Method::POST, "/api/login").await.status });
    }
    let statuses = requests.join_all().await;
    assert_eq!(statuses.iter().filter(|status| **status != 429).count(), 10, "{statuses:?}");
}

#[tokio::test]
async fn an_ipv6_client_is_its_64_and_another_address_is_somebody_else() {
    for host in 0..10 {
        let address: &str = format!("2001:db8:0:1::{host:x}").leak();
        assert_eq!(at(address).await.call(&Method::POST, "/api/login").await.status, 415);
    }
    assert_refused(&at("2001:db8:0:1:ffff::1").await.call(&Method::POST, "/api/login").await, "login-ip");
    assert_eq!(at("2001:db8:0:2::1").await.call(&Method::POST, "/api/login").await.status, 415);
}

#[tokio::test]
async fn failed_log_ins_from_anywhere_lock_the_log_in_of_an_account_and_not_its_sessions() {
    let app = app().await;
    app.add_user("limits.guessed").await;
    app.add_user("limits.neighbour").await;
    let owner = at("198.51.100.10").await;
    let session = owner.login("limits.guessed", PASSWORD).await;
    assert_eq!(session.status, 200, "{session:?}");
    let guesses =
        [("198.51.100.11", "limits.guessed"), ("198.51.100.12", "Limits.Guessed"), ("2001:db8:1::1", "LIMITS.GUESSED")];
    for (replica, (address, name)) in guesses.into_iter().enumerate() {
        let answer = at(address).await.at_replica(replica).login(name, WRONG).await;
        assert_eq!(answer.summary(), "401 invalid_credentials");
    }
    for (address, password) in [("198.51.100.13", WRONG), ("198.51.100.10", PASSWORD)] {
        assert_refused(&at(address).await.at_replica(3).login("limits.guessed", password).await, "login-account");
    }
    assert_eq!(owner.refresh(&session.cookie().unwrap()).await.status, 200);
    let protected = owner.request(Method::GET, "/api/protected").bearer_auth(session.access_token().unwrap());
    assert_eq!(send(protected).await.status, 200);
    assert_eq!(at("198.51.100.11").await.login("limits.neighbour", PASSWORD).await.status, 200, "others log in");
}

#[tokio::test]
async fn who_has_no_account_is_limited_alike() {
    app().await.add_user("limits.somebody").await;
    let mut told = Vec::new();
    for (address, name) in [
        ("198.51.100.20", "limits.somebody"),
        ("198.51.100.21", "limits.nobody"),
        ("198.51.100.22", "no name at all {}:"),
    ] {
        let client = at(address).await;
        let mut answers = Vec::new();
        for _ in 0..4 {
            let answer = client.login(name, WRONG).await;
            answers.push((answer.summary(), answer.header("ratelimit-policy").map(str::to_owned)));
        }
        told.push(answers);
    }
    assert_eq!(told[0][3].0, "429 rate_limited");
    assert!(told.iter().all(|answers| *answers == told[0]), "{told:?}");
}

#[tokio::test]
async fn a_success_forgets_the_failures() {
    app().await.add_user("limits.forgetful").await;
    let addresses = ["198.51.100.30", "198.51.100.31", "198.51.100.32"];
    for (round, address) in addresses.into_iter().enumerate() {
        let client = at(address).await.at_replica(round);
        for _ in 0..2 {
            assert_eq!(client.login("limits.forgetful", WRONG).await.summary(), "401 invalid_credentials");
        }
        let answer = client.login("limits.forgetful", PASSWORD).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("ratelimit").and_then(|told| told.split(';').nth(1)), Some("r=3"), "{answer:?}");
    }
    let client = at("198.51.100.33").await;
    for _ in 0..3 {
        assert_eq!(client.login("limits.forgetful", WRONG).await.summary(), "401 invalid_credentials");
    }
    assert_refused(&client.login("limits.forgetful", PASSWORD).await, "login-account");
}

#[tokio::test]
async fn a_stolen_access_token_is_no_way_to_guess_the_password() {
    app().await.add_user("limits.stolen").await;
    let client = at("198.51.100.35").await;
    let session = client.login("limits.stolen", PASSWORD).await;
    let guess = async |replica: usize, password: &str| {
        let body = json!({ "currentPassword": password, "newPassword": "another horse battery staple" });
        let client = client.at_replica(replica);
        let request = client.request(Method::POST, "/api/password").bearer_auth(session.access_token().unwrap());
        send(request.json(&body)).await
    };
    for replica in 0..3 {
        assert_eq!(guess(replica, WRONG).await.summary(), "401 invalid_credentials");
    }
    assert_refused(&guess(3, PASSWORD).await, "password-session");
    assert_eq!(client.login("limits.stolen", PASSWORD).await.status, 200, "the owner has guesses of their own");
}

/// Refuses to answer to anything but the policy that a login was counted for.
#[track_caller]
fn assert_counted(answer: &Answer, summary: &str, policy: &str) {
    assert_eq!(answer.summary(), summary, "{answer:?}");
    let policies = answer.header("ratelimit-policy").expect("the policies");
    assert!(policies.contains(policy), "{policy} in {policies}");
}

#[tokio::test]
async fn guesses_from_anywhere_do_not_lock_out_a_device_that_has_logged_in_before() {
    app().await.add_user("limits.known").await;
    let owner = at("198.51.100.90").await;
    let session = owner.login("limits.known", PASSWORD).await;
    let device = session.device_cookie().expect("a device cookie");
    for (replica, address) in ["198.51.100.91", "198.51.100.92", "2001:db8:9::1"].into_iter().enumerate() {
        let answer = at(address).await.at_replica(replica).login("limits.known", WRONG).await;
        assert_counted(&answer, "401 invalid_credentials", "login-account");
    }
    let stranger = at("198.51.100.93").await;
    assert_refused(&stranger.login("limits.known", PASSWORD).await, "login-account");

    // From wherever the device is now, at whichever replica, in whatever letters.
    let elsewhere = at("198.51.100.94").await.at_replica(2);
    let wrong = elsewhere.login_on(&device, "Limits.Known", WRONG).await;
    assert_counted(&wrong, "401 invalid_credentials", "login-device");
    assert_eq!(wrong.device_cookie(), None);
    let right = elsewhere.login_on(&device, "limits.known", PASSWORD).await;
    assert_counted(&right, "200", "login-device");
    let next = right.device_cookie().expect("the next device cookie");
    assert_ne!(next, device);
    assert_refused(&stranger.login("limits.known", PASSWORD).await, "login-account");

    // The session, too, is out of the strangers' reach.
    let new = "another horse battery staple";
    let body = json!({ "currentPassword": PASSWORD, "newPassword": new });
    let change = owner.request(Method::POST, "/api/password").bearer_auth(session.access_token().unwrap());
    let changed = send(change.json(&body)).await;
    assert_eq!(changed.status, 204, "{changed:?}");
    // A new password ends what devices had, but for the one that changed it.
    for old in [&device, &next] {
        assert_refused(&elsewhere.login_on(old, "limits.known", new).await, "login-account");
    }
    let current = changed.device_cookie().expect("a device cookie");
    assert_counted(&elsewhere.login_on(&current, "limits.known", new).await, "200", "login-device");
}

#[tokio::test]
async fn a_stolen_device_cookie_is_worth_the_guesses_of_one_device() {
    app().await.add_user("limits.copied").await;
    app().await.add_user("limits.other").await;
    let owner = at("198.51.100.95").await;
    let device = owner.login("limits.copied", PASSWORD).await.device_cookie().unwrap();
    let thief = at("198.51.100.96").await;
    for replica in 0..2 {
        let answer = thief.at_replica(replica).login_on(&device, "limits.copied", WRONG).await;
        assert_counted(&answer, "401 invalid_credentials", "login-device");
    }
    // The owner's login does not give the thief new guesses; it gives the owner's device another cookie.
    let right = owner.at_replica(2).login_on(&device, "limits.copied", PASSWORD).await;
    assert_counted(&right, "200", "login-device");
    assert_counted(&thief.login_on(&device, "limits.copied", WRONG).await, "401 invalid_credentials", "login-device");
    // Then it is as good as none.
    for _ in 0..3 {
        let answer = thief.login_on(&device, "limits.copied", WRONG).await;
        assert_counted(&answer, "401 invalid_credentials", "login-account");
    }
    assert_refused(&thief.login_on(&device, "limits.copied", PASSWORD).await, "login-account");
    let next = right.device_cookie().unwrap();
    assert_counted(&owner.login_on(&next, "limits.copied", PASSWORD).await, "200", "login-device");

    // Neither another account's nor a forged one counts.
    let stranger = at("198.51.100.97").await;
    let others = stranger.login("limits.other", PASSWORD).await.device_cookie().unwrap();
    let forged = format!("{}A", &next[..next.len() - 1]);
    let forged = if forged == next { format!("{}E", &next[..next.len() - 1]) } else { forged };
    for device in [&others, &forged] {
        assert_refused(&stranger.login_on(device, "limits.copied", PASSWORD).await, "login-account");
    }
}

#[tokio::test]
async fn the_device_cookie_of_a_numbers_former_owner_counts_as_none() {
    let app = app().await;
    app.add_user("limits.renumbered").await;
    let client = at("198.51.100.98").await;
    let device = client.login("limits.renumbered", PASSWORD).await.device_cookie().unwrap();
    assert_counted(
        &client.login_on(&device, "limits.renumbered", WRONG).await,
        "401 invalid_credentials",
        "login-device",
    );
    // As after a restore: the number belongs to somebody else, whose security version is the same.
    let other = "UPDATE users SET uid = gen_random_uuid() WHERE username = 'limits.renumbered'";
    sqlx::query(other).execute(&mut app.postgres().await).await.expect("another user");
    assert_counted(
        &client.login_on(&device, "limits.renumbered", WRONG).await,
        "401 invalid_credentials",
        "login-account",
    );
}

/// An office behind one address: Nginx has limits, too, and they are beyond those of the replicas.
#[tokio::test]
async fn through_nginx_an_address_gets_what_the_settings_of_the_replicas_say() {
    let limits = [("LIMIT_REFRESH_ADDRESS", "50/50h"), ("LIMIT_API_ADDRESS", "80/80h")];
    let cluster = limits.iter().fold(Cluster::builder().api(2), |cluster, (name, limit)| cluster.env(name, *limit));
    let app = TestApp::start(unhurried(cluster.rate_limits(true))).await;
    let mut client = app.signed_in("limits.office").await;
    // Each of the replicas may grant one call more, before it knows of those at the other one.
    let mut answers = vec![client.refresh().await];
    while answers.last().is_some_and(|answer| answer.status == 200) {
        answers.push(client.refresh().await);
    }
    assert!((51..=53).contains(&answers.len()), "{} refreshes", answers.len());
    assert_refused(answers.last().expect("one"), "refresh-ip");
    let mut answers = vec![client.get("/api/protected").await];
    while answers.last().is_some_and(|answer| answer.status == 200) {
        answers.push(client.get("/api/protected").await);
    }
    assert!((81..=83).contains(&answers.len()), "{} calls", answers.len());
    assert_refused(answers.last().expect("one"), "api-ip");
}

#[tokio::test]
async fn successes_lock_nobody_out() {
    app().await.add_user("limits.busy").await;
    let client = at("198.51.100.40").await;
    for replica in 0..8 {
        assert_eq!(client.at_replica(replica).login("limits.busy", PASSWORD).await.status, 200);
    }
}

#[tokio::test]
async fn every_limited_answer_says_how_the_client_stands() {
    app().await.add_user("limits.told").await;
    let client = at("198.51.100.50").await;
    let mut said = String::new();
    let mut say = |what: &str, answer: &Answer| {
        // Without the time, which passes.
        let standing = answer.header("ratelimit").map(|told| told.rsplit_once(";t=").expect("a time").0);
        let policy = answer.header("ratelimit-policy").unwrap_or("-");
        let _ = writeln!(said, "{what}: {}\n  {policy}\n  {}", answer.summary(), standing.unwrap_or("-"));
    };
    say("wrong", &client.login("limits.told", WRONG).await);
    let session = client.login("limits.told", PASSWORD).await;
    say("right", &session);
    say("no body", &client.call(&Method::POST, "/api/login").await);
    say("refresh", &client.refresh(&session.cookie().unwrap()).await);
    say("register", &client.call(&Method::POST, "/api/register").await);
    say("protected", &client.call(&Method::GET, "/api/protected").await);
    for (method, path) in [
        (Method::GET, "/api/health"),
        (Method::GET, "/api/ready"),
        (Method::GET, "/nowhere"),
        (Method::GET, "/api/login"),
    ] {
        say(path, &client.call(&method, path).await);
    }
    assert_snapshot!(said, @r#"
    wrong: 401 invalid_credentials
      "login-ip";q=10;w=36000, "login-account";q=3;w=10800
      "login-account";r=2
    right: 200
      "login-ip";q=10;w=36000, "login-account";q=3;w=10800
      "login-account";r=3
    no body: 415 unsupported_media_type
      "login-ip";q=10;w=36000
      "login-ip";r=7
    refresh: 200
      "refresh-ip";q=20;w=72000
      "refresh-ip";r=19
    register: 415 unsupported_media_type
      "register-ip";q=20;w=72000
      "register-ip";r=4
    protected: 401 missing_token
      "api-ip";q=30;w=108000
      "api-ip";r=29
    /api/health: 200
      -
      -
    /api/ready: 200
      -
      -
    /nowhere: 404 not_found
      -
      -
    /api/login: 405 method_not_allowed
      -
      -
    "#);
}

#[tokio::test]
async fn a_refused_refresh_has_not_happened() {
    app().await.add_user("limits.refreshing").await;
    let client = at("198.51.100.60").await;
    let session = client.login("limits.refreshing", PASSWORD).await;
    for _ in 0..20 {
        assert_eq!(client.refresh("nonsense").await.status, 401);
    }
    let refused = client.refresh(&session.cookie().unwrap()).await;
    assert_refused(&refused, "refresh-ip");
    assert_eq!(refused.cookie(), None, "the cookie stays");
    assert_eq!(at("198.51.100.61").await.refresh(&session.cookie().unwrap()).await.status, 200);
}

#[tokio::test]
async fn a_log_in_without_a_verdict_does_not_count() {
    let app: &'static TestApp = Box::leak(Box::new(TestApp::start(limited()).await));
    app.add_user("limits.unlucky").await;
    let client = Client { app, address: "198.51.100.70", replica: 0 };
    app.cluster.kill("postgres").await.unwrap();
    for _ in 0..5 {
        assert_eq!(client.login("limits.unlucky", WRONG).await.summary(), "503 unavailable");
    }
    app.cluster.start_process("postgres").await.unwrap();
    app.is_ready().await;
    for _ in 0..3 {
        assert_eq!(client.login("limits.unlucky", WRONG).await.summary(), "401 invalid_credentials");
    }
    assert_refused(&client.login("limits.unlucky", WRONG).await, "login-account");

    // However often that is, the audit has one event for it.
    for refused in 0..30 {
        let address: &str = format!("203.0.113.{}", 1 + refused / 5).leak();
        let client = Client { app, address, replica: 0 };
        assert_refused(&client.login("limits.unlucky", PASSWORD).await, "login-account");
    }
    app.cluster.signal("api-1", Signal::SIGTERM).unwrap();
    app.cluster.await_exit("api-1", PATIENCE).await.unwrap();
    let events = administer(app, &["audit", "--user=limits.unlucky"], "").await;
    let events = events.as_array().unwrap();
    let of_kind = |kind: &str| events.iter().filter(|event| event["kind"] == kind).collect::<Vec<_>>();
    let limited = of_kind("logins_limited");
    assert_eq!((limited.len(), of_kind("login_failed").len(), events.len()), (1, 3, 4), "{events:?}");
    assert_eq!(limited[0]["details"]["attempts"], 31, "{limited:?}");
    let addresses = ["198.51.100.70", "203.0.113.1", "203.0.113.2", "203.0.113.3", "203.0.113.4"];
    assert_eq!(limited[0]["details"]["addresses"], json!(addresses), "{limited:?}");
}

/// Four times the limit is what the memory of each replica allows.
#[tokio::test]
async fn without_redis_nobody_guesses_and_the_fence_stands() {
    let app: &'static TestApp = Box::leak(Box::new(TestApp::start(limited().env("ARGON2_MEMORY_KIB", "8")).await));
    app.add_user("limits.outage").await;
    let client = Client { app, address: "198.51.100.80", replica: 0 };
    let session = client.login("limits.outage", PASSWORD).await;
    app.cluster.signal("redis", Signal::SIGSTOP).unwrap();
    // Right or wrong: an outage must not be the time for guessing.
    let device = session.device_cookie().unwrap();
    let (client, device) = (&client, &device);
    let guesses = (0..60).map(async |guess| {
        let password = if guess % 2 == 0 { WRONG } else { PASSWORD };
        let device = if guess % 3 == 0 { device } else { "none=" };
        client.login_on(device, "limits.outage", password).await
    });
    let mut fenced = 0;
    for answer in join_all(guesses).await {
        match answer.summary().as_str() {
            "503 unavailable" => {}
            "429 rate_limited" => fenced += 1,
            other => panic!("{other}"),
        }
    }
    assert!((10..30).contains(&fenced), "{fenced} of 60 met the fence, which stands at 40");
    assert_eq!(client.at_replica(1).login("limits.outage", WRONG).await.status, 503, "each replica has its own");
    let protected = client.request(Method::GET, "/api/protected").bearer_auth(session.access_token().unwrap());
    // A limit is waited for for 100 ms.
    eventually("a protected call does not wait for its limit", async || {
        let answer = send(protected.try_clone().unwrap()).await;
        assert_eq!(answer.status, 200);
        answer.took.as_millis() < 90
    })
    .await;

    let metrics = app.metrics_of(0).await;
    for (policy, outcome) in [("login-ip", "skipped"), ("login-ip", "fenced"), ("api-ip", "passed")] {
        let line = format!("gatefold_rate_limits_total{{policy=\"{policy}\",outcome=\"{outcome}\"}}");
        assert!(metrics.contains(&line), "{line}");
    }

    app.cluster.signal("redis", Signal::SIGCONT).unwrap();
    app.is_ready().await;
    eventually("the limits are back", async || client.at_replica(2).login("limits.outage", WRONG).await.status == 429)
        .await;
}
