//! Answers that are lost between Redis and a replica, and clients who did nothing wrong: no session is lost by it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use gatefold_cluster::Signal;
use http::header;
use tokio::{sync::Barrier, task::JoinSet};

use crate::harness::{Answer, Door, Requester, TestApp, eventually, two_replicas};

/// Twice as patient as usual: the proxy is a thread of this process, which may stand still for some seconds.
async fn breakable() -> TestApp {
    TestApp::start(two_replicas().redis_through_proxy().env("BACKEND_TIMEOUT", "4s")).await
}

#[track_caller]
fn assert_unavailable(answer: &Answer) {
    answer.assert_problem(503, "unavailable");
    assert!(answer.cookie().is_none(), "the cookie stays: {answer:?}");
}

/// The same token until the answer is another than 503; how often that was.
async fn refresh_until_answered(requester: &mut Requester) -> (Answer, u32) {
    let (mut last, mut refused) = (None, 0);
    eventually("the refresh is answered", async || {
        let answer = requester.refresh().await;
        let answered = answer.status != 503;
        refused += u32::from(!answered);
        last = Some(answer);
        answered
    })
    .await;
    (last.unwrap(), refused)
}

#[tokio::test]
async fn one_lost_answer_is_made_good_within_the_request() {
    let app = breakable().await;
    let faults = app.cluster.redis_faults().unwrap();
    let mut alice = app.signed_in("lost.once").await.at(Door::Replica(0));
    for lost in 1..=5 {
        faults.drop_next_reply_matching(alice.family_key());
        let answer = alice.refresh().await;
        assert_eq!((answer.status, faults.lost_replies()), (200, lost), "{answer:?}");
    }
    assert_eq!(app.redis_command(&["HGET", &alice.family_key(), "gen"]).await, "5", "each counted once");
    assert_eq!(alice.at(Door::Replica(1)).refresh().await.status, 200, "and the last one works");
}

/// The rotation has happened, its answer has not arrived, and the client has been told 503.
#[tokio::test]
async fn when_the_request_gave_up_the_same_token_works_without_any_key() {
    let app = breakable().await;
    let faults = app.cluster.redis_faults().unwrap();
    let mut alice = app.signed_in("lost.given-up").await.at(Door::Replica(0));
    let family = alice.family_key();
    alice.refresh().await; // Redis knows the script from here on.
    for round in 2..=4 {
        faults.drop_replies_matching(family.clone());
        assert_unavailable(&alice.refresh().await);
        faults.pass();
        assert_eq!(app.redis_command(&["HGET", &family, "gen"]).await, round.to_string(), "it did happen");
        let (answer, _) = refresh_until_answered(&mut alice).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(app.redis_command(&["HGET", &family, "gen"]).await, round.to_string(), "the same successor");
    }
    assert_eq!(alice.refresh().await.status, 200, "and it works");
}

/// Only one replica lost the answer, and the other one knows nothing of it: a client that waits for as long as it was
/// told to finds the rotation reopened there too.
#[tokio::test]
async fn the_same_token_works_on_the_other_replica_after_the_time_that_was_given() {
    let app = breakable().await;
    let faults = app.cluster.redis_faults().unwrap();
    let mut alice = app.signed_in("lost.elsewhere").await.at(Door::Replica(0));
    alice.refresh().await;
    faults.drop_replies_matching(alice.family_key());
    let refused = alice.refresh().await;
    assert_unavailable(&refused);
    faults.pass();
    let seconds = refused.header(header::RETRY_AFTER).unwrap().parse().unwrap();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    // By then it is, unless the machine stood still.
    let metrics = app.cluster.process("api-1").unwrap().metrics_url.unwrap();
    eventually("the rotation is reopened", async || {
        let metrics = reqwest::get(&metrics).await.unwrap().text().await.unwrap();
        metrics.contains(r#"gatefold_family_reopenings_total{outcome="reopened"}"#)
    })
    .await;
    assert_eq!(alice.at(Door::Replica(1)).refresh().await.status, 200);
}

/// With a key there is nothing to wait for.
#[tokio::test]
async fn with_its_key_a_client_may_go_to_the_other_replica_at_once() {
    let app = breakable().await;
    let faults = app.cluster.redis_faults().unwrap();
    let mut alice = app.signed_in("lost.keyed").await.at(Door::Replica(0));
    alice.refresh().await;
    faults.drop_replies_matching(alice.family_key());
    assert_unavailable(&alice.refresh_with_key("a-key").await);
    faults.pass();
    assert_eq!(alice.at(Door::Replica(1)).refresh_with_key("a-key").await.status, 200);
}

/// In a Redis Cluster one shard may be away while the others answer.
#[tokio::test]
async fn what_cannot_be_reopened_yet_holds_up_nothing_else() {
    let app = breakable().await;
    let faults = app.cluster.redis_faults().unwrap();
    let mut stuck = app.signed_in("lost.stuck").await.at(Door::Replica(0));
    let mut other = app.logged_in("lost.stuck").await.at(Door::Replica(0));
    stuck.refresh().await; // Redis knows the script from here on.
    faults.drop_replies_matching(gatefold_shared::redis::keys::family_prefix(stuck.session().0));
    assert_unavailable(&stuck.refresh().await);
    assert_unavailable(&other.refresh().await);
    faults.drop_replies_matching(stuck.family_key());
    let family = other.family_key();
    assert_eq!(app.redis_command(&["HGET", &family, "gen"]).await, "1", "it did happen");
    eventually("it is reopened", async || app.redis_command(&["HGET", &family, "reopened_until"]).await != "0").await;
}

#[tokio::test]
async fn what_was_reopened_is_no_licence_for_older_tokens() {
    let app = breakable().await;
    let faults = app.cluster.redis_faults().unwrap();
    let old = app.signed_in("lost.licence").await.at(Door::Replica(0));
    let mut owner = old.clone();
    owner.refresh().await;
    faults.drop_replies_matching(owner.family_key());
    assert_unavailable(&owner.refresh().await);
    faults.pass();
    let (answer, _) = refresh_until_answered(&mut old.clone()).await;
    assert_eq!(answer.summary(), "401 refresh_token_reused");
}

/// Once the successor was used, the client has it: whoever brings the old token now is another.
#[tokio::test]
async fn what_was_reopened_closes_when_the_successor_is_used() {
    let app = breakable().await;
    let faults = app.cluster.redis_faults().unwrap();
    let old = app.signed_in("lost.closed").await.at(Door::Replica(0));
    let mut owner = old.clone();
    faults.drop_replies_matching(owner.family_key());
    assert_unavailable(&owner.refresh().await);
    faults.pass();
    assert_eq!(refresh_until_answered(&mut owner).await.0.status, 200);
    assert_eq!(refresh_until_answered(&mut owner).await.0.status, 200);
    assert_eq!(refresh_until_answered(&mut old.clone()).await.0.summary(), "401 refresh_token_reused");
}

/// The script that waited in a frozen Redis comes to its turn after the client was told 503.
#[tokio::test]
async fn a_script_that_comes_too_late_changes_nothing() {
    let app = breakable().await;
    let mut alice = app.signed_in("lost.late").await.at(Door::Replica(0));
    let family = alice.family_key();
    let before = app.redis_command(&["HGETALL", &family]).await;
    for _ in 0..2 {
        app.cluster.signal("redis", Signal::SIGSTOP).unwrap();
        let mut login = app.anonymous().at(Door::Replica(1));
        let (refresh, login) = tokio::join!(alice.refresh(), login.login("lost.late", crate::harness::PASSWORD));
        assert_unavailable(&refresh);
        assert_unavailable(&login);
        app.cluster.signal("redis", Signal::SIGCONT).unwrap();
        app.is_ready().await;
        assert_eq!(app.redis_command(&["HGETALL", &family]).await, before, "as if it had never been asked");
    }
    let sessions = gatefold_shared::redis::keys::families(alice.session().0);
    assert_eq!(app.redis_command(&["ZCARD", &sessions]).await, "1", "nor was there a log-in");
    let (answer, _) = refresh_until_answered(&mut alice).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(app.redis_command(&["HGET", &family, "gen"]).await, "1");
}

/// Bytes that a network held back arrive when it is mended.
#[tokio::test]
async fn a_script_that_was_held_back_by_the_network_changes_nothing_either() {
    let app = breakable().await;
    let faults = app.cluster.redis_faults().unwrap();
    let mut alice = app.signed_in("lost.stalled").await.at(Door::Replica(0));
    let family = alice.family_key();
    faults.stall();
    assert_unavailable(&alice.refresh().await);
    faults.pass();
    app.is_ready().await;
    assert_eq!(app.redis_command(&["HGET", &family, "gen"]).await, "0");
    assert_eq!(refresh_until_answered(&mut alice).await.0.status, 200);
}

/// A client that refreshes all the time and without a key, each time at the other replica, and repeats what was answered
/// 503; it stops when told to, and says how often it was refreshed and refused. All of them together do not keep the machine
/// so busy that a call takes longer than the time-out for that reason alone.
async fn refresh_all_the_time(mut client: Requester, mut replica: usize, phases: Arc<Phases>) -> (u32, u32) {
    let (mut refreshed, mut refused) = (0, 0);
    while !phases.over.load(Ordering::Relaxed) {
        let mut here = client.at(Door::Replica(replica % 2));
        replica += 1;
        let answer = here.refresh().await;
        match answer.status {
            200 => {
                client.cookie = here.cookie;
                refreshed += 1;
                tokio::time::sleep(Duration::from_millis(25)).await;
                phases.warm.fetch_add(u32::from(refreshed == 3), Ordering::Relaxed);
            }
            503 => {
                refused += 1;
                if refused == 1 {
                    phases.hit.wait().await;
                }
            }
            _ => panic!("after {refreshed} refreshes and {refused} refusals: {answer:?}"),
        }
    }
    (refreshed, refused)
}

struct Phases {
    /// How many clients are under way.
    warm: AtomicU32,
    /// Where each waits after the first 503.
    hit: Barrier,
    over: AtomicBool,
}

const CLIENTS: usize = 40;

async fn sessions_live_through(app: &TestApp, name: &str, begin: impl AsyncFnOnce(), end: impl AsyncFnOnce()) {
    app.add_user(name).await;
    let phases = Arc::new(Phases { warm: 0.into(), hit: Barrier::new(CLIENTS + 1), over: false.into() });
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(refresh_all_the_time(app.logged_in(name).await, number, Arc::clone(&phases)));
    }
    let is_warm = async || phases.warm.load(Ordering::Relaxed) as usize == CLIENTS;
    eventually("all clients are under way", is_warm).await;
    begin().await;
    phases.hit.wait().await; // Every client has been told 503 once, and asks again.
    end().await;
    app.is_ready().await;
    replays_are_judged(app, name).await;
    phases.over.store(true, Ordering::Relaxed);
    let counts = clients.join_all().await;
    println!("{name}: refreshed and refused {counts:?}");
    assert!(counts.iter().all(|(refreshed, _)| *refreshed > 3), "everybody is refreshed again: {counts:?}");
}

/// Waits until each replica takes a replay for one again, which it does not while an answer may have been lost.
async fn replays_are_judged(app: &TestApp, name: &str) {
    for replica in [Door::Replica(0), Door::Replica(1)] {
        let mut owner = app.logged_in(name).await.at(replica);
        let mut thief = owner.clone();
        assert_eq!(owner.refresh().await.status, 200);
        assert_eq!(refresh_until_answered(&mut thief).await.0.summary(), "401 refresh_token_reused");
    }
}

#[tokio::test]
async fn every_session_survives_the_death_of_redis_under_load() {
    let app = breakable().await;
    let kill = async || app.cluster.kill("redis").await.unwrap();
    let start = async || app.cluster.start_process("redis").await.unwrap();
    sessions_live_through(&app, "lost.killed", kill, start).await;
}

#[tokio::test]
async fn every_session_survives_a_network_that_is_cut_under_load() {
    let app = breakable().await;
    let faults = app.cluster.redis_faults().unwrap();
    sessions_live_through(&app, "lost.cut", async || faults.refuse(), async || faults.pass()).await;
    sessions_live_through(&app, "lost.silent", async || faults.black_hole(), async || faults.pass()).await;
}
