//! A store that is away: what needs it is answered 503 in time, what does not goes on, and everything resumes by itself.

use std::time::Duration;

use gatefold_cluster::{ProcessState, Signal, faults::Faults};
use serde_json::json;

use crate::harness::{Answer, Door, PASSWORD, Requester, TestApp, in_time, two_replicas, unique};

/// How a store can be away.
#[derive(Clone, Copy, Debug)]
enum Outage {
    /// Its process does nothing any more, and its connections stand.
    Frozen,
    /// Its process is gone.
    Killed,
    /// Whoever connects is refused.
    Refused,
    /// Connections and bytes are accepted, and nothing comes back.
    Silent,
    /// The network holds everything back, and delivers it when it is over.
    Stalled,
}

impl Outage {
    async fn begin(self, app: &TestApp, store: &str) {
        match self {
            Self::Frozen => app.cluster.signal(store, Signal::SIGSTOP).unwrap(),
            Self::Killed => app.cluster.kill(store).await.unwrap(),
            Self::Refused => faults(app, store).refuse(),
            Self::Silent => faults(app, store).black_hole(),
            Self::Stalled => faults(app, store).stall(),
        }
    }

    async fn end(self, app: &TestApp, store: &str) {
        match self {
            Self::Frozen => app.cluster.signal(store, Signal::SIGCONT).unwrap(),
            Self::Killed => {
                app.cluster.start_process(store).await.unwrap();
                app.cluster.wait_ready(store).await.unwrap();
            }
            Self::Refused | Self::Silent | Self::Stalled => faults(app, store).pass(),
        }
    }
}

fn faults<'a>(app: &'a TestApp, store: &str) -> &'a Faults {
    let faults = if store == "redis" { app.cluster.redis_faults() } else { app.cluster.postgres_faults() };
    faults.unwrap()
}

#[track_caller]
fn assert_unavailable(what: &str, answer: &Answer) {
    answer.assert_problem(503, "unavailable");
    assert_eq!(answer.header("retry-after"), Some("1"), "{what}");
    assert!(answer.cookie().is_none(), "{what}: the cookie stays");
    println!("{what}: 503 after {:?}", answer.took);
}

/// As a client would: the same again for as long as the answer is 503, and then it must be the next token.
async fn refresh_until_answered(requester: &mut Requester) {
    crate::harness::eventually("the session is refreshed", async || {
        let answer = requester.refresh().await;
        assert!(matches!(answer.status, 200 | 503), "{answer:?}");
        answer.status == 200
    })
    .await;
}

/// What a replica says of its stores, and how long it took for that.
async fn ready(requester: &Requester) -> ((u16, serde_json::Value), Duration) {
    let answer = requester.get("/api/ready").await;
    let body = answer.json();
    let checks = json!({ "postgres": body["checks"]["postgres"], "redis": body["checks"]["redis"] });
    ((answer.status, checks), answer.took)
}

fn assert_running(app: &TestApp) {
    for replica in ["api-1", "api-2"] {
        assert_eq!(app.cluster.process(replica).unwrap().state, ProcessState::Running, "{replica}");
    }
}

/// The longest that anybody waited.
async fn redis_is_away(app: &TestApp, outage: Outage) -> Duration {
    let name = unique("outage.redis");
    let mut alice = app.signed_in(&name).await.at(Door::Replica(0));
    let mut other_tab = app.logged_in(&name).await.at(Door::Replica(1));
    let nobody = app.anonymous().at(Door::Replica(0));
    outage.begin(app, "redis").await;

    let (mut refreshing, mut leaving, mut coming) = (alice.clone(), other_tab.clone(), nobody.clone());
    let (mut wrong, mut gone) = (nobody.clone(), nobody.clone());
    let (refresh, other_refresh, login, logout, mistake, goodbye, protected, health, readiness) = tokio::join!(
        refreshing.refresh(),
        leaving.refresh(),
        coming.login(&name, PASSWORD),
        async { alice.clone().logout().await },
        wrong.login(&name, "wrong horse battery staple"),
        gone.logout(),
        alice.get("/api/protected"),
        alice.get("/api/health"),
        ready(&nobody),
    );
    // A wrong password too: nobody may guess while failures cannot be counted.
    let refused =
        [("refresh", refresh), ("refresh", other_refresh), ("login", login), ("mistake", mistake), ("logout", logout)];
    let (readiness, mut slowest) = readiness;
    for (what, answer) in refused {
        assert_unavailable(what, &answer);
        slowest = slowest.max(answer.took);
    }
    assert_eq!(readiness, (503, json!({ "postgres": "ok", "redis": "unavailable" })));
    assert_eq!((protected.status, health.status), (200, 200));
    assert_eq!(goodbye.status, 200, "there is no session to end");

    outage.end(app, "redis").await;
    app.is_ready().await;
    assert_running(app);
    refresh_until_answered(&mut other_tab).await;
    app.logged_in(&name).await;
    // The log-out may have reached redis after all; otherwise the session is as it was.
    crate::harness::eventually("the session is refreshed or over", async || {
        let answer = alice.refresh().await;
        assert!(matches!(answer.summary().as_str(), "200" | "401 session_revoked" | "503 unavailable"), "{answer:?}");
        answer.status != 503
    })
    .await;
    slowest
}

/// The longest that anybody waited.
async fn postgres_is_away(app: &TestApp, outage: Outage) -> Duration {
    let name = unique("outage.postgres");
    let mut alice = app.signed_in(&name).await.at(Door::Replica(0));
    let mut other_tab = app.logged_in(&name).await.at(Door::Replica(1));
    let nobody = app.anonymous().at(Door::Replica(0));
    outage.begin(app, "postgres").await;

    let (mut coming, mut stranger) = (nobody.clone(), nobody.at(Door::Replica(1)));
    let (login, other_login, refresh, logout, protected, readiness) = tokio::join!(
        coming.login(&name, PASSWORD),
        stranger.login("outage.nobody", PASSWORD),
        alice.refresh(),
        other_tab.logout(),
        async { nobody.clone().get("/api/health").await },
        ready(&nobody),
    );
    assert_unavailable("login", &login);
    assert_unavailable("login of nobody", &other_login);
    let (readiness, slowest) = readiness;
    assert_eq!((refresh.status, logout.status, protected.status), (200, 200, 200));
    assert_eq!(alice.get("/api/protected").await.status, 200);
    assert_eq!(readiness, (503, json!({ "postgres": "unavailable", "redis": "ok" })));

    outage.end(app, "postgres").await;
    app.is_ready().await;
    assert_running(app);
    for replica in [Door::Replica(0), Door::Replica(1)] {
        let mut client = app.anonymous().at(replica);
        crate::harness::eventually("a log-in is served", async || client.login(&name, PASSWORD).await.status == 200)
            .await;
    }
    assert_eq!(alice.refresh().await.status, 200);
    slowest.max(login.took).max(other_login.took)
}

#[tokio::test]
async fn without_redis_what_needs_it_is_unavailable_and_the_rest_goes_on() {
    let app = TestApp::start(two_replicas().redis_through_proxy()).await;
    for outage in [Outage::Frozen, Outage::Killed, Outage::Refused, Outage::Silent, Outage::Stalled] {
        println!("redis {outage:?}");
        in_time("a 503", async || redis_is_away(&app, outage).await).await;
    }
}

/// Frozen is not among them: the processes that serve open connections would not notice that their parent is.
#[tokio::test]
async fn without_postgres_nobody_logs_in_and_all_sessions_go_on() {
    let app = TestApp::start(two_replicas().postgres_through_proxy()).await;
    for outage in [Outage::Killed, Outage::Refused, Outage::Silent, Outage::Stalled] {
        println!("postgres {outage:?}");
        in_time("a 503", async || postgres_is_away(&app, outage).await).await;
    }
}

#[tokio::test]
async fn without_both_a_log_in_is_still_answered_in_time_and_a_replica_starts() {
    let app = TestApp::start(two_replicas().redis_through_proxy().postgres_through_proxy()).await;
    let mut alice = app.signed_in("outage.both").await.at(Door::Replica(0));
    Outage::Stalled.begin(&app, "redis").await;
    Outage::Silent.begin(&app, "postgres").await;
    in_time("a 503", async || {
        let login = app.anonymous().at(Door::Replica(0)).login("outage.both", PASSWORD).await;
        assert_unavailable("login", &login);
        login.took
    })
    .await;
    assert_eq!(ready(&alice).await.0, (503, json!({ "postgres": "unavailable", "redis": "unavailable" })));

    // A replica that comes while they are away waits for them, and says so.
    app.cluster.stop("api-2").await.unwrap();
    app.cluster.start_process("api-2").await.unwrap();
    let late = app.anonymous().at(Door::Replica(1));
    crate::harness::eventually("it listens", async || late.try_get("/api/health").await.is_ok()).await;
    assert_eq!(ready(&late).await.0, (503, json!({ "postgres": "unavailable", "redis": "unavailable" })));

    Outage::Stalled.end(&app, "redis").await;
    Outage::Silent.end(&app, "postgres").await;
    app.is_ready().await;
    refresh_until_answered(&mut alice).await;
    assert_eq!(alice.at(Door::Replica(1)).get("/api/protected").await.status, 200);
}
