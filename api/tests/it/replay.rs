//! Refresh tokens that are used twice: by a thief, by a race, by a client that never got its answer.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use gatefold_shared::redis::keys;
use tokio::task::JoinSet;

use crate::harness::{Door, Requester, TestApp, hex, shared, two_replicas};

#[tokio::test]
async fn a_token_used_twice_ends_its_family() {
    let app = shared().await;
    let mut owner = app.signed_in("replay.twice").await;
    let mut thief = owner.clone();
    assert_eq!(owner.refresh().await.status, 200);
    assert_eq!(thief.refresh().await.summary(), "401 refresh_token_reused");
    assert_eq!(owner.refresh().await.summary(), "401 session_revoked", "whoever of the two is the thief");
}

#[tokio::test]
async fn an_old_token_ends_its_family_too() {
    let app = shared().await;
    // Where the client sends no key, Nginx adds one: another for each request.
    for (name, key) in [("replay.old", Some("a-key")), ("replay.old-and-bare", None)] {
        let mut owner = app.signed_in(name).await;
        let mut thief = owner.clone();
        for _ in 0..3 {
            assert_eq!(owner.refresh().await.status, 200);
        }
        assert_eq!(thief.try_refresh(key).await.unwrap().summary(), "401 refresh_token_reused", "{key:?}");
        assert_eq!(owner.refresh().await.summary(), "401 session_revoked");
    }
}

#[tokio::test]
async fn the_other_sessions_of_the_user_go_on() {
    let app = shared().await;
    let mut one = app.signed_in("replay.others").await;
    let mut other = app.logged_in("replay.others").await;
    one.clone().refresh().await;
    assert_eq!(one.refresh().await.summary(), "401 refresh_token_reused");
    assert_eq!(other.refresh().await.status, 200);
}

#[tokio::test]
async fn of_sixteen_uses_at_once_on_two_replicas_exactly_one_wins_and_the_family_is_ended() {
    let app = shared().await;
    for round in 0..8 {
        let alice = app.signed_in(&format!("replay.race-{round}")).await;
        let mut race = JoinSet::new();
        for runner in 0..16 {
            let mut runner = alice.at(Door::Replica(runner % 2));
            race.spawn(async move { (runner.refresh().await, runner) });
        }
        let (winners, losers): (Vec<_>, Vec<_>) = race.join_all().await.into_iter().partition(|(a, _)| a.status == 200);
        let [(_, winner)] = &winners[..] else { panic!("{} won", winners.len()) };
        let mut refusals: Vec<String> = losers.iter().map(|(answer, _)| answer.summary()).collect();
        refusals.sort();
        assert_eq!(refusals.remove(0), "401 refresh_token_reused", "one of them was the first replay");
        assert!(refusals.iter().all(|refusal| refusal == "401 session_revoked"), "{refusals:?}");
        assert!(losers.iter().all(|(answer, _)| answer.clears_cookie()));
        assert_eq!(winner.clone().refresh().await.summary(), "401 session_revoked");
    }
}

/// Sixteen requests with one key are one client that asks again and again.
#[tokio::test]
async fn of_sixteen_uses_at_once_with_one_key_all_get_the_same_successor() {
    let app = shared().await;
    let alice = app.signed_in("replay.one-key").await;
    let mut race = JoinSet::new();
    for runner in 0..16 {
        let mut runner = alice.at(Door::Replica(runner % 2));
        race.spawn(async move { runner.refresh_with_key("one-key").await });
    }
    let mut successors: Vec<_> = race.join_all().await.iter().map(|answer| (answer.status, answer.cookie())).collect();
    successors.dedup();
    assert_eq!(successors.len(), 1, "{successors:?}");
    let mut alice = alice.with_cookie(successors.remove(0).1.unwrap());
    assert_eq!(alice.refresh().await.status, 200);
}

#[tokio::test]
async fn with_the_same_key_the_same_successor_is_given_again_on_the_other_replica_too() {
    let app = shared().await;
    let alice = app.signed_in("replay.same-key").await;
    let (mut here, mut there) = (alice.at(Door::Replica(0)), alice.at(Door::Replica(1)));
    assert_eq!(here.refresh_with_key("first-try").await.status, 200);
    assert_eq!(there.refresh_with_key("first-try").await.status, 200);
    assert_eq!(here.cookie, there.cookie);
    assert_eq!(there.refresh().await.status, 200, "and it works");
}

#[tokio::test]
async fn another_key_or_none_is_a_replay() {
    let app = shared().await;
    for (name, key) in [("replay.other-key", Some("second-try")), ("replay.no-key", None)] {
        let alice = app.signed_in(name).await.at(Door::Replica(0));
        alice.clone().refresh_with_key("first-try").await;
        let answer = alice.at(Door::Replica(1)).try_refresh(key).await.unwrap();
        assert_eq!(answer.summary(), "401 refresh_token_reused", "{key:?}");
    }
}

/// A rotation without a key remembers none: an empty one must not match it.
#[tokio::test]
async fn a_key_after_a_rotation_without_one_is_a_replay() {
    let app = shared().await;
    let alice = app.signed_in("replay.late-key").await.at(Door::Replica(0));
    alice.clone().refresh().await;
    assert_eq!(alice.clone().refresh_with_key("a-key").await.summary(), "401 refresh_token_reused");
}

/// A request that its client gave up, and repeated, may arrive when that has long gone on. It gets no token, ends nothing,
/// and leaves the newer cookie alone.
#[tokio::test]
async fn once_the_successor_was_used_the_key_gives_no_token_any_more_and_ends_nothing() {
    let app = shared().await;
    let alice = app.signed_in("replay.used-successor").await;
    let mut owner = alice.clone();
    owner.refresh_with_key("first-try").await;
    assert_eq!(owner.refresh().await.status, 200);
    for door in [Door::Nginx, Door::Replica(0), Door::Replica(1)] {
        let late = alice.at(door).refresh_with_key("first-try").await;
        late.assert_problem(409, "refresh_superseded");
        assert_eq!(late.json()["requireReauth"], false);
        assert!(late.cookie().is_none() && !late.clears_cookie(), "{late:?}");
    }
    assert_eq!(owner.refresh().await.status, 200);
}

/// As a client goes on after that: the browser that is the owner's has the newest cookie by then, and a thief has not.
#[tokio::test]
async fn an_old_token_that_comes_with_a_new_key_after_all_is_a_replay() {
    let app = shared().await;
    let alice = app.signed_in("replay.late-thief").await;
    let mut owner = alice.clone();
    owner.refresh_with_key("first-try").await;
    owner.refresh_with_key("second-try").await;
    assert_eq!(alice.clone().refresh_with_key("first-try").await.summary(), "409 refresh_superseded");
    assert_eq!(alice.clone().refresh_with_key("second-try").await.summary(), "401 refresh_token_reused");
    assert_eq!(owner.refresh().await.summary(), "401 session_revoked");
}

/// A key that is kept for the next refresh would be known to whoever has found it. The answer is the one that tells every
/// client to take a new one.
#[tokio::test]
async fn the_key_of_an_earlier_refresh_is_refused_and_the_session_goes_on() {
    let app = shared().await;
    let mut alice = app.signed_in("replay.constant-key").await;
    assert_eq!(alice.refresh_with_key("always").await.status, 200);
    let before = app.redis_command(&["HGETALL", &alice.family_key()]).await;
    for door in [Door::Nginx, Door::Replica(0), Door::Replica(1)] {
        let refused = alice.at(door).refresh_with_key("always").await;
        refused.assert_problem(409, "refresh_superseded");
        assert!(refused.cookie().is_none() && !refused.clears_cookie(), "{refused:?}");
        assert!(refused.json()["detail"].as_str().unwrap().contains("new key"), "{refused:?}");
    }
    assert_eq!(app.redis_command(&["HGETALL", &alice.family_key()]).await, before);
    assert_eq!(alice.refresh_with_key("another").await.status, 200);
}

/// A thief has found the last cookie but one and its key, as on a stolen disk.
#[tokio::test]
async fn whoever_retries_late_gets_another_successor_and_the_first_use_of_both_is_noticed() {
    let app = shared().await;
    for owner_is_first in [true, false] {
        let name = format!("replay.found-{owner_is_first}");
        let found = app.signed_in(&name).await;
        let mut owner = found.clone();
        assert_eq!(owner.refresh_with_key("found").await.status, 200);
        let family = owner.family_key();
        let long_ago = gatefold_shared::clock::unix_millis() - 121_000;
        app.redis_command(&["HSET", &family, "rotated_at", &long_ago.to_string()]).await;
        let mut thief = found.at(Door::Replica(1));
        assert_eq!(thief.refresh_with_key("found").await.status, 200);
        assert_ne!(thief.cookie, owner.cookie);
        if !owner_is_first {
            assert_eq!(thief.refresh().await.status, 200);
        }
        assert_eq!(owner.refresh().await.summary(), "401 refresh_token_reused");
        assert_eq!(thief.refresh().await.summary(), "401 session_revoked");
    }
}

/// Nginx adds a key of its own, another for each request.
#[tokio::test]
async fn through_nginx_a_replay_without_a_key_is_still_one() {
    let app = shared().await;
    let mut alice = app.signed_in("replay.nginx").await;
    alice.clone().refresh().await;
    assert_eq!(alice.refresh().await.summary(), "401 refresh_token_reused");
}

#[tokio::test]
async fn within_the_grace_a_token_may_be_used_again_and_after_it_not() {
    let app = TestApp::start(two_replicas().env("REFRESH_REUSE_GRACE", "30s")).await;
    let first = app.signed_in("replay.grace").await;
    let (mut one, mut two) = (first.at(Door::Replica(0)), first.at(Door::Replica(1)));
    assert_eq!((one.refresh().await.status, two.refresh().await.status), (200, 200));
    assert_eq!(one.cookie, two.cookie, "both have the same successor");
    let second = one.clone();
    assert_eq!(one.refresh().await.status, 200);

    // The grace is for the token before the present one, for a while: 31 seconds later it is over.
    let family = second.family_key();
    let rotated_at: i64 = app.redis_command(&["HGET", &family, "rotated_at"]).await.parse().unwrap();
    app.redis_command(&["HSET", &family, "rotated_at", &(rotated_at - 31_000).to_string()]).await;
    assert_eq!(second.clone().refresh().await.summary(), "401 refresh_token_reused");

    let old = app.logged_in("replay.grace").await;
    let mut owner = old.clone();
    owner.refresh().await;
    owner.refresh().await;
    assert_eq!(old.clone().refresh().await.summary(), "401 refresh_token_reused", "and not for those before it");
}

/// A fail-over can cost Redis its last writes. Only we can have issued the generation that it does not know any more.
#[tokio::test]
async fn a_redis_that_was_rolled_back_is_rolled_forward() {
    let app = shared().await;
    let mut alice = app.signed_in("replay.rolled-back").await;
    let family = alice.family_key();
    let mut old = Vec::new();
    for _ in 0..3 {
        old.push(alice.clone());
        alice.refresh().await;
    }
    app.redis_command(&["HSET", &family, "gen", "1"]).await;
    let before = alice.clone();
    assert_eq!(alice.refresh().await.status, 200);
    assert_eq!(app.redis_command(&["HGET", &family, "gen"]).await, "4");
    assert_eq!(alice.refresh().await.status, 200, "and it goes on as ever");
    assert_eq!(before.clone().refresh().await.summary(), "401 refresh_token_reused", "and is as strict as ever");
}

/// What others hear of a replay, and what stays in Redis.
#[tokio::test]
async fn a_replay_is_logged_once_and_the_family_leaves_its_users_list() {
    let app = shared().await;
    let alice = app.signed_in("replay.logged").await;
    let (user, family) = alice.session();
    alice.clone().refresh().await;
    for _ in 0..3 {
        assert_eq!(alice.clone().refresh().await.status, 401);
    }
    let log = app.redis_command(&["XRANGE", &keys::revocations(user), "-", "+"]).await;
    assert_eq!(log.matches(&family.to_string()).count(), 1, "{log}");
    assert!(log.contains("refresh_token_reused"), "{log}");
    let listed = app.redis_command(&["ZRANGE", &keys::families(user), "0", "-1"]).await;
    assert!(!listed.contains(&family.to_string()), "{listed}");
}

#[tokio::test]
async fn nothing_in_redis_is_worth_stealing() {
    let app = shared().await;
    let mut alice = app.signed_in("replay.dump").await;
    alice.refresh_with_key("the-idempotency-key").await;
    let dump = app.redis_command(&["HGETALL", &alice.family_key()]).await;
    for secret in secrets_of(&alice) {
        assert!(!dump.contains(&secret), "{secret} is in {dump}");
    }
    assert!(!dump.contains("the-idempotency-key"), "{dump}");
}

fn secrets_of(requester: &Requester) -> Vec<String> {
    let bytes = URL_SAFE_NO_PAD.decode(requester.cookie()).unwrap();
    let secret = &bytes[29..45];
    vec![
        requester.cookie().to_owned(),
        requester.access_token().to_owned(),
        URL_SAFE_NO_PAD.encode(secret),
        hex(secret),
    ]
}
