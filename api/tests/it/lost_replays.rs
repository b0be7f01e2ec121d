//! Replays whose answer is lost between Redis and a replica: they have ended the session, and it can be known why.

use crate::harness::{Door, TestApp, eventually, two_replicas};

#[tokio::test]
async fn a_replay_whose_answer_is_lost_is_recorded_as_soon_as_it_can_be_known() {
    let app = TestApp::start(two_replicas().redis_through_proxy()).await;
    let faults = app.cluster.redis_faults().unwrap();
    let mut owner = app.signed_in("lost-replay.recorded").await.at(Door::Replica(0));
    let mut thief = owner.clone();
    assert_eq!(owner.refresh().await.status, 200);
    let family = owner.family_key();
    faults.drop_replies_matching(family.clone());
    thief.refresh().await.assert_problem(503, "unavailable");
    assert_eq!(app.redis_command(&["HGET", &family, "revoked_why"]).await, "refresh_token_reused");
    assert_eq!(app.replays_of(&owner).await, 0, "nobody knows yet");
    faults.pass();
    eventually("it is recorded", async || app.replays_of(&owner).await == 1).await;

    let said = app.metrics_of(0).await;
    for line in [
        "gatefold_family_rotations_total{outcome=\"replayed\"} 1",
        "gatefold_family_reopenings_total{outcome=\"replayed\"} 1",
    ] {
        assert!(said.contains(line), "{said}");
    }
    let log = app.log_of(0);
    assert_eq!(log.matches("a refresh token was replayed").count(), 1, "{log}");
    let again = app.logged_in("lost-replay.recorded").await;
    let events = again.get("/api/events").await.json()["events"].clone();
    let replay = events.as_array().unwrap().iter().find(|event| event["kind"] == "refresh_token_reused").unwrap();
    assert_eq!(replay["sessionId"], owner.session().1.to_string());
    assert_eq!((&replay["ip"], &replay["details"]["lastAddress"]), (&"127.0.0.1".into(), &"127.0.0.1".into()));
}
