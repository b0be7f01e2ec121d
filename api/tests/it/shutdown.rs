//! The end of a replica: asked for, it finishes what it has begun; unasked for, the others take over.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

use gatefold_cluster::Signal;
use http::header;
use tokio::task::{JoinSet, LocalSet, spawn_local};

use crate::harness::{Answer, Door, PASSWORD, PATIENCE, Requester, TestApp, eventually, two_replicas, unhurried};

/// A draining replica asks to be left alone: its answers end their connections.
async fn is_draining(replica: &Requester) {
    eventually("it is draining", async || {
        let answer = replica.try_get("/api/health").await;
        matches!(answer, Ok(answer) if answer.header(header::CONNECTION) == Some("close"))
    })
    .await;
}

#[tokio::test]
async fn what_is_in_flight_is_finished() {
    let app = TestApp::start(two_replicas().postgres_through_proxy().env("BACKEND_TIMEOUT", "20s")).await;
    app.add_user("shutdown.flight").await;
    let log_ins = log_ins_that_wait(&app, "shutdown.flight", 6).await;
    app.cluster.signal("api-1", Signal::SIGTERM).unwrap();
    let replica = app.anonymous().at(Door::Replica(0));
    is_draining(&replica).await;
    app.cluster.postgres_faults().unwrap().pass();
    for log_in in log_ins.join_all().await {
        assert_eq!(log_in.expect("an answer").status, 200);
    }
    app.cluster.await_exit("api-1", PATIENCE).await.unwrap();
    assert!(replica.try_get("/api/health").await.is_err(), "and then it is gone");
}

/// So many log-ins at the first replica, which all wait for a Postgres that says nothing any more.
async fn log_ins_that_wait(app: &TestApp, name: &'static str, count: usize) -> JoinSet<reqwest::Result<Answer>> {
    let faults = app.cluster.postgres_faults().unwrap();
    faults.stall(); // All but one have to wait for a new connection.
    let before = faults.connections();
    let mut log_ins = JoinSet::new();
    for _ in 0..count {
        let mut client = app.anonymous().at(Door::Replica(0));
        log_ins.spawn(async move { client.try_login(name, PASSWORD).await });
    }
    eventually("all of them wait for postgres", async || faults.connections() >= before + count - 1).await;
    log_ins
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    // Without the second one it would wait for longer than anybody waits here.
    let builder = two_replicas().postgres_through_proxy().env("DRAIN_SECONDS", "60s").env("BACKEND_TIMEOUT", "60s");
    let app = TestApp::start(builder).await;
    app.add_user("shutdown.twice").await;
    let _log_ins = log_ins_that_wait(&app, "shutdown.twice", 2).await;
    app.cluster.signal("api-1", Signal::SIGTERM).unwrap();
    is_draining(&app.anonymous().at(Door::Replica(0))).await;
    app.cluster.signal("api-1", Signal::SIGINT).unwrap();
    app.cluster.await_exit("api-1", PATIENCE).await.unwrap();
}

#[tokio::test]
async fn draining_lasts_no_longer_than_it_was_told() {
    let builder = two_replicas().postgres_through_proxy().env("DRAIN_SECONDS", "3s").env("BACKEND_TIMEOUT", "60s");
    let app = TestApp::start(builder).await;
    app.add_user("shutdown.deadline").await;
    let log_ins = log_ins_that_wait(&app, "shutdown.deadline", 2).await;
    let told = Instant::now();
    app.cluster.signal("api-1", Signal::SIGTERM).unwrap();
    app.cluster.await_exit("api-1", PATIENCE).await.unwrap();
    assert!(told.elapsed() >= Duration::from_secs(3), "it gave up after {:?}", told.elapsed());
    for log_in in log_ins.join_all().await {
        // Either the connection went first, or the call that it was told to give up.
        assert!(log_in.as_ref().is_ok_and(|answer| answer.status == 503) || log_in.is_err(), "{log_in:?}");
    }
}

/// A session whose rotation was lost at the first replica, which cannot reach Redis any more.
async fn lost_rotation(app: &TestApp, name: &str) -> Requester {
    let faults = app.cluster.redis_faults().unwrap();
    let mut client = app.signed_in(name).await.at(Door::Replica(0));
    client.refresh().await; // Redis knows the script from here on.
    faults.drop_replies_matching(client.family_key());
    client.refresh().await.assert_problem(503, "unavailable");
    faults.refuse();
    assert_eq!(app.redis_command(&["HGET", &client.family_key(), "gen"]).await, "2", "it did happen");
    // As if it had not been reopened already, which only the answers said that were lost as well.
    app.redis_command(&["HSET", &client.family_key(), "reopened_until", "0"]).await;
    client
}

#[tokio::test]
async fn what_clients_are_owed_is_made_good_before_it_goes() {
    let app = TestApp::start(two_replicas().redis_through_proxy()).await;
    let client = lost_rotation(&app, "shutdown.owed").await;
    app.cluster.signal("api-1", Signal::SIGTERM).unwrap();
    app.cluster.await_exit("api-1", Duration::from_secs(5)).await.expect_err("it waits for redis");
    app.cluster.redis_faults().unwrap().pass();
    app.cluster.await_exit("api-1", Duration::from_secs(30)).await.unwrap();
    let mut elsewhere = client.at(Door::Replica(1));
    eventually("the same token works without any key", async || {
        let answer = elsewhere.refresh().await;
        assert!(matches!(answer.status, 200 | 503), "{answer:?}");
        answer.status == 200
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_made_good_in_time_is_told() {
    let app = TestApp::start(two_replicas().redis_through_proxy().env("DRAIN_SECONDS", "3s")).await;
    let client = lost_rotation(&app, "shutdown.lost").await;
    app.cluster.signal("api-1", Signal::SIGTERM).unwrap();
    app.cluster.await_exit("api-1", Duration::from_secs(30)).await.unwrap();
    let log = app.log_of(0);
    let told = log.lines().find(|line| line.contains("cannot be looked after any more")).expect(&log);
    assert!(told.contains(&client.session().1.to_string()), "{told}");
}

/// Clients that never pause until it is over, or one of them gets an answer that is not what it should be.
#[derive(Clone, Default)]
struct Load {
    over: Rc<Cell<bool>>,
    /// By each client.
    served: Rc<RefCell<Vec<u32>>>,
    failures: Rc<RefCell<Vec<String>>>,
}

impl Load {
    fn add(&self, mut client: Requester, ask: impl AsyncFn(&mut Requester) -> reqwest::Result<Answer> + 'static) {
        let load = self.clone();
        let number = load.served.borrow().len();
        load.served.borrow_mut().push(0);
        drop(spawn_local(async move {
            while !load.over.get() {
                match ask(&mut client).await {
                    Ok(answer) if answer.status < 300 => load.served.borrow_mut()[number] += 1,
                    failure => {
                        load.failures.borrow_mut().push(format!("{failure:?}"));
                        load.over.set(true);
                    }
                }
            }
        }));
    }

    /// Waits until every client has been served this often again, so that none has an older request under way.
    async fn go_on(&self, times: u32) {
        let before = self.served.borrow().clone();
        let all = || self.served.borrow().iter().zip(&before).all(|(served, before)| *served >= before + times);
        eventually("requests are served", async || self.over.get() || all()).await;
        assert!(self.failures.borrow().is_empty(), "after {} requests: {:#?}", self.total(), self.failures);
    }

    fn total(&self) -> u32 {
        self.served.borrow().iter().sum()
    }
}

async fn under_load(name: &str, app: &TestApp, what_happens: impl AsyncFnOnce(&Load)) {
    let load = Load::default();
    app.add_user(name).await;
    let everybody = LocalSet::new();
    everybody
        .run_until(async {
            for _ in 0..4 {
                load.add(app.logged_in(name).await, async |client| client.try_refresh(None).await);
                load.add(app.logged_in(name).await, async |client| client.try_get("/api/protected").await);
            }
            // Somebody else, whose many sessions end nobody's but their own oldest.
            let somebody = format!("{name}.logs-in");
            app.add_user(&somebody).await;
            load.add(app.anonymous(), async move |client| client.try_login(&somebody, PASSWORD).await);
            load.go_on(3).await;
            what_happens(&load).await;
            load.go_on(3).await;
            println!("{name}: {} requests were served", load.total());
        })
        .await;
}

#[tokio::test]
async fn nobody_notices_that_the_replicas_restart_one_after_the_other() {
    let app = TestApp::start(unhurried(two_replicas())).await;
    under_load("shutdown.rolling", &app, async |load| {
        for replica in ["api-1", "api-2"] {
            app.cluster.restart(replica).await.unwrap();
            load.go_on(3).await;
        }
    })
    .await;
}

#[tokio::test]
async fn nobody_is_logged_out_when_a_replica_is_killed() {
    let app = TestApp::start(unhurried(two_replicas())).await;
    under_load("shutdown.killed", &app, async |load| {
        for replica in ["api-1", "api-2", "api-1"] {
            app.cluster.kill(replica).await.unwrap();
            load.go_on(3).await;
            app.cluster.start_process(replica).await.unwrap();
            app.is_ready().await;
            load.go_on(3).await;
        }
    })
    .await;
}
