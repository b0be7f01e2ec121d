//! Sockets that open, authenticate or re-authenticate at the very moment when their session ends: none survives.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use serde_json::json;
use tokio_tungstenite::{connect_async, tungstenite::Error};

use crate::harness::{Client, Gatefold, Login, many_sessions, unhurried};

/// How often each race is run.
const RUNS: usize = 200;
/// How many of them at once.
const AT_ONCE: usize = 4;

/// What became of a socket that was opened while its session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Refused before the upgrade.
    Refused,
    /// Closed without a greeting.
    ClosedBefore,
    /// Greeted, and closed then.
    ClosedAfter,
}

async fn two_and_two() -> Gatefold {
    Gatefold::start(unhurried(many_sessions().api(2).ws(2))).await
}

/// Opens a socket, which must come to an end.
async fn open_and_see(url: &str) -> Fate {
    let socket = match connect_async(url).await {
        Ok((stream, _)) => stream,
        Err(Error::Http(response)) => {
            assert_eq!(response.status(), 401);
            return Fate::Refused;
        }
        Err(error) => panic!("{error}"),
    };
    let mut socket = Client { stream: socket, subprotocol: None };
    let (heard, code, why) = socket.hear_out().await;
    assert_eq!((code, why.as_str()), (4503, "logout"));
    if heard.is_empty() { Fate::ClosedBefore } else { Fate::ClosedAfter }
}

/// Runs a race many times, each with a session of its own and with another head start for the one or the other.
async fn run<R: std::fmt::Debug>(gatefold: &Gatefold, race: impl AsyncFn(Login, Duration, Duration) -> R) -> Vec<R> {
    let name = gatefold.new_user().await;
    let mut results = Vec::new();
    for first in (0..RUNS).step_by(AT_ONCE) {
        let races = (first..first + AT_ONCE).map(async |run| {
            let login = gatefold.log_in(&name).await;
            let step = u64::try_from(run % 50).expect("few");
            let (socket_waits, log_out_waits) = (Duration::from_micros(step * 100), Duration::from_micros(2500));
            race(login, socket_waits, log_out_waits).await
        });
        results.append(&mut join_all(races).await);
    }
    results
}

#[tokio::test]
async fn a_socket_that_is_opened_while_its_session_ends_never_survives() {
    let gatefold = two_and_two().await;
    let urls = gatefold.every_replica();
    // The one that came too late starts earlier next time, and the other way round: so they meet, whatever the machine.
    let head_start = AtomicU64::new(0);
    let fates = run(&gatefold, async |login, _, log_out_waits| {
        let url =
            format!("{}?token={}", urls[usize::from(login.family().as_bytes()[0]) % urls.len()], login.access_token);
        let opening = async {
            tokio::time::sleep(Duration::from_micros(head_start.load(Ordering::Relaxed))).await;
            open_and_see(&url).await
        };
        let ending = async {
            tokio::time::sleep(log_out_waits).await;
            gatefold.log_out_at("api-2", &login).await;
        };
        let fate = tokio::join!(opening, ending).0;
        match fate {
            Fate::Refused => {
                head_start.store(head_start.load(Ordering::Relaxed).saturating_sub(100), Ordering::Relaxed);
            }
            Fate::ClosedBefore => {}
            Fate::ClosedAfter => _ = head_start.fetch_add(100, Ordering::Relaxed),
        }
        fate
    })
    .await;
    let count = |fate| fates.iter().filter(|it| **it == fate).count();
    println!(
        "of {RUNS} sockets {} were refused, {} closed before their greeting and {} after it",
        count(Fate::Refused),
        count(Fate::ClosedBefore),
        count(Fate::ClosedAfter)
    );
}

#[tokio::test]
async fn a_socket_that_authenticates_by_message_while_its_session_ends_never_survives() {
    let gatefold = two_and_two().await;
    let urls = gatefold.every_replica();
    run(&gatefold, async |login, socket_waits, log_out_waits| {
        let mut socket = Client::connect(&urls[0]).await;
        let authenticating = async {
            tokio::time::sleep(socket_waits).await;
            socket.say(json!({"type": "auth", "access": login.access_token})).await;
            let (_, code, why) = socket.hear_out().await;
            assert_eq!((code, why.as_str()), (4503, "logout"));
        };
        let ending = async {
            tokio::time::sleep(log_out_waits).await;
            gatefold.log_out_at("api-1", &login).await;
        };
        tokio::join!(authenticating, ending);
    })
    .await;
}

#[tokio::test]
async fn a_socket_that_re_authenticates_while_its_session_ends_never_survives() {
    let gatefold = two_and_two().await;
    let urls = gatefold.every_replica();
    run(&gatefold, async |login, _, log_out_waits| {
        let mut socket = Client::connect(&format!("{}?token={}", urls[1], login.access_token)).await;
        assert_eq!(socket.hear().await["type"], "connected");
        let re_authenticating = async {
            // As many as a connection may send at once.
            for _ in 0..50 {
                let reauth = json!({"type": "reauth", "access": login.access_token}).to_string();
                if socket.try_say(reauth).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
            let (heard, code, why) = socket.hear_out().await;
            assert!(heard.iter().all(|message| message["type"] == "reauth_success"), "{heard:?}");
            assert_eq!((code, why.as_str()), (4503, "logout"));
        };
        let ending = async {
            tokio::time::sleep(log_out_waits).await;
            gatefold.log_out_at("api-2", &login).await;
        };
        tokio::join!(re_authenticating, ending);
    })
    .await;
}
