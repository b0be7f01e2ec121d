//! Revocations while Redis, or the way to it, is out of order: nothing is forgotten, and a replica says when it cannot know.

use std::time::{Duration, Instant};

use gatefold_cluster::{Signal, faults::Faults};
use serde_json::json;
use tokio_tungstenite::{connect_async, tungstenite::Error};

use crate::harness::{Client, Gatefold, Login, eventually, many_sessions, refusal, refused};

/// How soon after the return of Redis, or of the way to it, a replica must have caught up: two seconds, on a machine that
/// has nothing else to do.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(15);

/// One replica, which asks Redis through a proxy, with a session and a socket of it.
async fn one_socket() -> (Gatefold, String, Login, Client) {
    let gatefold = Gatefold::start(many_sessions().api(1).ws(1).redis_through_proxy()).await;
    let name = gatefold.new_user().await;
    let login = gatefold.log_in(&name).await;
    let socket = gatefold.client_with(&login.access_token).await;
    (gatefold, name, login, socket)
}

async fn unready(gatefold: &Gatefold) {
    eventually("the replica is not ready", async || {
        gatefold.readiness("ws-1").await == (503, "unavailable".to_owned())
    })
    .await;
}

/// Waits for the socket to be closed and the replica to be ready, and tells how long that took.
async fn caught_up(gatefold: &Gatefold, socket: &mut Client, why: &str) -> Duration {
    let returned = Instant::now();
    assert_eq!(socket.closed().await, (4503, why.to_owned()));
    let closed = returned.elapsed();
    eventually("the replica is ready", async || gatefold.readiness("ws-1").await.0 == 200).await;
    let ready = returned.elapsed();
    println!("after the return: socket closed within {closed:?}, replica ready within {ready:?}");
    ready
}

#[tokio::test]
async fn a_replica_that_was_cut_off_closes_what_was_revoked_meanwhile_and_is_not_ready_in_between() {
    type Break = fn(&Faults);
    let breaks: [(&str, Break); 3] =
        [("refused", Faults::refuse), ("silent", Faults::black_hole), ("stalled", Faults::stall)];
    for (how, break_it) in breaks {
        println!("connections are {how}");
        let (gatefold, name, login, mut socket) = one_socket().await;
        let faults = gatefold.cluster.redis_faults().expect("a proxy");
        break_it(faults);
        unready(&gatefold).await;
        gatefold.admin(&["session", "revoke", &name, &login.family().to_string()]).await;
        socket.is_served().await;
        faults.pass();
        assert!(caught_up(&gatefold, &mut socket, "ended_by_admin").await < CAUGHT_UP_WITHIN, "{how}");
    }
}

#[tokio::test]
async fn subscriptions_that_are_killed_all_the_time_hide_nothing() {
    let (gatefold, name, login, mut socket) = one_socket().await;
    let killing = async {
        for _ in 0..100 {
            gatefold.redis_command("CLIENT KILL TYPE pubsub").await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let revoking = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        unready(&gatefold).await;
        gatefold.admin(&["session", "revoke", &name, &login.family().to_string()]).await;
    };
    tokio::join!(killing, revoking);
    assert!(caught_up(&gatefold, &mut socket, "ended_by_admin").await < CAUGHT_UP_WITHIN);
}

#[tokio::test]
async fn a_replica_is_ready_soon_after_redis_was_paused() {
    let (gatefold, _, login, mut socket) = one_socket().await;
    gatefold.cluster.signal("redis", Signal::SIGSTOP).expect("paused");
    unready(&gatefold).await;
    socket.is_served().await;
    gatefold.cluster.signal("redis", Signal::SIGCONT).expect("goes on");
    let returned = Instant::now();
    eventually("the replica is ready", async || gatefold.readiness("ws-1").await.0 == 200).await;
    println!("ready {:?} after redis went on", returned.elapsed());
    assert!(returned.elapsed() < CAUGHT_UP_WITHIN);
    eventually("redis answers the REST replica", async || gatefold.post_to("api-1", "logout", &login).await.0 == 200)
        .await;
    assert_eq!(socket.closed().await, (4503, "logout".to_owned()));
}

#[tokio::test]
async fn when_nothing_was_read_for_too_long_no_socket_is_opened_and_none_is_closed() {
    let gatefold = Gatefold::start(many_sessions().api(1).ws(1).env("REVOCATION_STALENESS_LIMIT", "10s")).await;
    let mut login = gatefold.log_in(&gatefold.new_user().await).await;
    let mut socket = gatefold.client_with(&login.access_token).await;
    let renewed = gatefold.refresh(&mut login).await;
    gatefold.cluster.kill("redis").await.expect("killed");
    let mut without_token = Client::connect(&gatefold.direct()).await;
    let url = format!("{}?token={}", gatefold.direct(), login.access_token);
    without_token.say(json!({"type": "auth", "access": login.access_token})).await;
    assert_eq!(without_token.hear().await["type"], "connected", "not yet too long");

    let too_long = async || {
        let socket = connect_async(&url).await;
        matches!(socket, Err(Error::Http(ref response)) if response.status() == 503)
    };
    eventually("it is too long", too_long).await;
    let (status, headers, problem) = refusal(&url, &[]).await;
    assert_eq!((status, &problem["code"]), (503, &json!("unavailable")));
    assert_eq!(headers["retry-after"], "1");
    let mut another = Client::connect(&gatefold.direct()).await;
    another.say(json!({"type": "auth", "access": login.access_token})).await;
    assert_eq!(another.closed().await, (1013, "overloaded".to_owned()));
    socket.is_served().await;
    let answer = socket.ask(json!({"type": "reauth", "access": renewed})).await;
    assert_eq!(answer["payload"]["code"], "unavailable");

    gatefold.cluster.start_process("redis").await.expect("started");
    let opens = async || {
        let (status, _, _) = refusal(&url, &[("origin", "https://elsewhere.example")]).await;
        assert_eq!(status, 403);
        gatefold.readiness("ws-1").await.0 == 200
    };
    eventually("the replica is ready", opens).await;
    gatefold.client_with(&renewed).await.is_served().await;
    assert_eq!(socket.ask(json!({"type": "reauth", "access": renewed})).await["type"], "reauth_success");
    assert_eq!(refused(&format!("{}?token=x", gatefold.direct()), &[]).await.0, 401);
}
