//! Answers that never arrive: 10,000 refreshes are thrown away and asked for again under the same key.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::task::JoinSet;

use crate::harness::{Door, shared};

const SESSIONS: usize = 25;
const REFRESHES: usize = 50;
/// At a time, for each refresh of each session.
const ASKERS: usize = 8;

#[tokio::test]
async fn whoever_asks_again_with_the_same_key_gets_the_same_successor_however_often_and_where() {
    let app = shared().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let mut sessions = JoinSet::new();
    for index in 0..SESSIONS {
        let (client, asked) = (app.signed_in(&format!("retries.{index}")).await, Arc::clone(&asked));
        sessions.spawn(async move {
            let mut client = client;
            for round in 0..REFRESHES {
                let mut askers = JoinSet::new();
                for asker in 0..ASKERS {
                    let mut tab = client.at(Door::Replica((index + round + asker) % 2));
                    askers.spawn(async move {
                        let answer = tab.refresh_with_key(&format!("round-{round}")).await;
                        assert_eq!(answer.status, 200, "{answer:?}");
                        tab
                    });
                    asked.fetch_add(1, Ordering::Relaxed);
                }
                let tabs = askers.join_all().await;
                let successor = tabs[0].cookie().to_owned();
                assert!(tabs.iter().all(|tab| tab.cookie() == successor), "all get the same one");
                client.cookie = Some(successor);
                client.access_token.clone_from(&tabs[0].access_token);
            }
            client
        });
    }
    let mut survivors = sessions.join_all().await;
    assert_eq!(asked.load(Ordering::Relaxed), 10_000);
    for client in &mut survivors {
        assert_eq!(client.get("/api/protected").await.status, 200);
    }
    // A replay without the key ends exactly that family, and no other.
    let (thief, mut others) = {
        let thief = survivors.swap_remove(0);
        (thief, survivors)
    };
    let mut victim = thief.clone();
    assert_eq!(victim.refresh().await.status, 200);
    assert_eq!(thief.clone().refresh().await.summary(), "401 refresh_token_reused");
    assert_eq!(victim.refresh().await.summary(), "401 session_revoked");
    for client in &mut others {
        assert_eq!(client.refresh().await.status, 200);
    }
}
