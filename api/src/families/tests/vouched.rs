//! Marks: without one that vouches for what Redis has, no token is traded; and after Postgres was restored it is asked first.

use super::*;

impl Bench {
    async fn set_mark(&self, field: &str, value: i64) {
        self.command(keys::mark(self.user_id), &["HSET", field, &value.to_string()]).await;
    }

    async fn outcome_now(&self, token: &RefreshToken) -> i64 {
        self.outcome(token, self.redis.time().at(soon()), true).await
    }
}

#[tokio::test]
async fn a_mark_that_nobody_has_renewed_for_a_minute_lets_no_token_be_traded() {
    let bench = Bench::of(1_061).await;
    let token = bench.issue().await;
    let before = bench.fields(&token).await;
    // A replica may renew it at any moment.
    let mut outcome = 0;
    for _ in 0..20 {
        let now = bench.redis.time().at(Instant::now());
        bench.set_mark("at", now - 62_000).await;
        outcome = bench.outcome_now(&token).await;
        if outcome == 11 {
            break;
        }
    }
    assert_eq!(outcome, 11);
    assert_eq!(bench.fields(&token).await, before);
    rotated(bench.rotate(&token, None).await);
    assert!(bench.command(keys::mark(bench.user_id), &["HGET", "before"]).await.as_i64().is_some(), "it was renewed");
}

#[tokio::test]
async fn while_redis_is_repaired_no_token_is_traded() {
    let bench = Bench::of(1_062).await;
    let token = bench.issue().await;
    bench.set_mark("blocks", 1).await;
    assert_eq!(bench.outcome_now(&token).await, 11);
    bench.command(keys::mark(bench.user_id), &["HDEL", "blocks"]).await;
    assert_eq!(bench.outcome_now(&token).await, 1);
}

#[tokio::test]
async fn after_postgres_was_restored_a_session_of_nobody_ends_at_its_next_refresh() {
    let bench = Bench::of(1_063).await;
    let token = bench.issue().await;
    bench.set_mark("epoch", 1).await;
    assert_eq!(bench.outcome_now(&token).await, 12);
    assert!(matches!(bench.rotate(&token, None).await, Rotation::Revoked));
    let why = bench.family(&token, &["HGET", "revoked_why"]).await;
    assert_eq!(why.as_str().as_deref(), Some("disabled"));
    // One that was opened since is known to Postgres.
    let next = bench.issue().await;
    rotated(bench.rotate(&next, None).await);
}

#[tokio::test]
async fn a_session_of_another_identity_than_its_number_has_by_now_ends() {
    let bench = Bench::of(1_064).await;
    let (token, other) = (bench.issue().await, Uuid::new_v4().to_string());
    bench.command(keys::identity(bench.user_id), &["SET", &other]).await;
    assert!(matches!(bench.rotate(&token, None).await, Rotation::Revoked));
    let why = bench.family(&token, &["HGET", "revoked_why"]).await;
    assert_eq!((why.as_str().as_deref(), bench.logged(&token).await), (Some("account_replaced"), 1));
}
