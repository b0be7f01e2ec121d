//! Requests that were given up, and repeated, and arrive all the same: at any moment, at any replica, any number of times.

use std::time::Duration;

use gatefold_cluster::Signal;
use tokio::{task::JoinSet, time::timeout};

use crate::harness::{Answer, Door, Requester, TestApp, shared, two_replicas, unhurried};

const SESSIONS: usize = 20;
/// Each with two rotations.
const ROUNDS: usize = 25;

fn door(number: usize) -> Door {
    match number % 3 {
        2 => Door::Nginx,
        replica => Door::Replica(replica),
    }
}

/// The duplicates of one request.
#[derive(Default)]
struct Duplicates(JoinSet<Answer>);

impl Duplicates {
    fn send(&mut self, from: &Requester, key: &str) {
        for _ in 0..2 {
            let (mut duplicate, key) = (from.at(door(self.0.len())), key.to_owned());
            self.0.spawn(async move { duplicate.refresh_with_key(&key).await });
        }
    }

    /// Each got the successor of its token, or was told that it came too late; how many of each.
    async fn judge(self, successor: &str) -> (usize, usize) {
        let (mut retried, mut superseded) = (0, 0);
        for answer in self.0.join_all().await {
            match answer.summary().as_str() {
                "200" => {
                    assert_eq!(answer.cookie().as_deref(), Some(successor));
                    retried += 1;
                }
                "409 refresh_superseded" => {
                    assert!(answer.cookie().is_none(), "the newer cookie stays: {answer:?}");
                    superseded += 1;
                }
                _ => panic!("{answer:?}"),
            }
        }
        (retried, superseded)
    }
}

#[tokio::test]
async fn a_duplicate_of_a_refresh_ends_no_session_whenever_and_wherever_it_arrives() {
    let app = shared().await;
    let mut sessions = JoinSet::new();
    for index in 0..SESSIONS {
        let mut client = app.signed_in(&format!("late.{index}")).await;
        sessions.spawn(async move {
            let (mut retried, mut superseded) = (0, 0);
            for round in 0..ROUNDS {
                let (given_up, key) = (client.clone(), format!("round-{round}"));
                let mut duplicates = Duplicates::default();
                duplicates.send(&given_up, &key);
                client = client.at(door(index + round));
                assert_eq!(client.refresh_with_key(&key).await.status, 200);
                let successor = client.cookie().to_owned();
                duplicates.send(&given_up, &key);
                client = client.at(door(index + round + 1));
                let answer = client.refresh_with_key(&format!("{key}-next")).await;
                assert_eq!(answer.status, 200, "{answer:?}");
                duplicates.send(&given_up, &key);
                let counted = duplicates.judge(&successor).await;
                (retried, superseded) = (retried + counted.0, superseded + counted.1);
            }
            assert_eq!(client.refresh().await.status, 200, "the session lives");
            (retried, superseded)
        });
    }
    let counts = sessions.join_all().await;
    let (retried, superseded) = counts.iter().fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
    println!("{retried} duplicates got the same successor, {superseded} came too late");
    assert_eq!(retried + superseded, SESSIONS * ROUNDS * 6);
    assert!(retried >= SESSIONS && superseded >= SESSIONS * ROUNDS * 2, "{counts:?}");
}

/// Nobody holds the requests back here but a replica that stood still, with each in its hands when its client gave up.
#[tokio::test]
async fn what_a_replica_that_stood_still_does_with_what_was_given_up_ends_no_session() {
    let app = TestApp::start(unhurried(two_replicas())).await;
    app.add_user("late.still").await;
    let mut clients = Vec::new();
    for _ in 0..40 {
        clients.push(app.logged_in("late.still").await.at(Door::Replica(1)));
    }
    app.cluster.signal("api-1", Signal::SIGSTOP).unwrap();
    let mut going_on = JoinSet::new();
    for mut client in clients {
        going_on.spawn(async move {
            let mut given_up = client.at(Door::Replica(0));
            let patience = Duration::from_millis(500);
            assert!(timeout(patience, given_up.refresh_with_key("first")).await.is_err(), "nobody answers");
            for key in ["first", "second", "third"] {
                assert_eq!(client.refresh_with_key(key).await.status, 200);
            }
            client
        });
    }
    let clients = going_on.join_all().await;
    app.cluster.signal("api-1", Signal::SIGCONT).unwrap();
    app.is_ready().await;
    for mut client in clients {
        assert_eq!(client.at(Door::Replica(0)).get("/api/protected").await.status, 200);
        assert_eq!(client.refresh().await.summary(), "200");
    }
}

/// It would be taken for a retry that comes late, and make the successor worthless that the client has got elsewhere.
#[tokio::test]
async fn what_a_replica_holds_that_stood_still_for_minutes_is_no_late_retry() {
    let app = TestApp::start(unhurried(two_replicas())).await;
    let mut client = app.signed_in("late.minutes").await.at(Door::Replica(1));
    let family = client.family_key();
    app.cluster.signal("api-1", Signal::SIGSTOP).unwrap();
    let mut held = client.at(Door::Replica(0));
    let mut asked = JoinSet::new();
    asked.spawn(async move { held.refresh_with_key("first").await });
    // Longer than a busy machine stands still.
    let begun = std::time::Instant::now();
    assert_eq!(client.refresh_with_key("first").await.status, 200);
    let long_ago = gatefold_shared::clock::unix_millis() - 180_000;
    app.redis_command(&["HSET", &family, "rotated_at", &long_ago.to_string()]).await;
    tokio::time::sleep(Duration::from_secs(4).saturating_sub(begun.elapsed())).await;
    app.cluster.signal("api-1", Signal::SIGCONT).unwrap();
    assert_eq!(asked.join_next().await.unwrap().unwrap().summary(), "503 unavailable");
    assert_eq!(client.refresh_with_key("second").await.summary(), "200");
}
