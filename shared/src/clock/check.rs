//! Whether this machine's clock is right, as far as the clocks of the stores tell.
//!
//! Access tokens expire by the clock of the replica that looks at them, and sessions by Redis's. A replica that is far off
//! from Redis would refuse good tokens or accept old ones. But it may be Redis that is off: so whoever can reach Postgres
//! compares the clocks of the two stores, and leaves the difference in Redis for those who cannot.

use std::{
    future::Ready,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use metrics::gauge;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

use super::unix_millis;
use crate::{
    lifecycle::Lifecycle,
    redis::{Redis, RedisError, keys},
};

/// Farther off than this is wrong: access tokens are accepted for so much longer than they live.
const LIMIT: i64 = 5_000;
/// How often the clocks are compared.
const EVERY: Duration = Duration::from_secs(2);
/// How long others may rely on what one has found out about the stores.
const STORES_VALID_MS: &str = "60000";
/// So many comparisons count, so that one node of a Redis Cluster whose clock is wrong does not decide.
const KEPT: usize = 3;

/// By how much one clock is ahead of another, in milliseconds: something between two bounds, for a reading takes time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lead {
    least: i64,
    most: i64,
}

impl Lead {
    /// Of a clock that showed `before` and `after` when the other one, in between, showed `reading`.
    pub fn over(reading: i64, before: i64, after: i64) -> Self {
        Self { least: before.saturating_sub(reading), most: after.saturating_sub(reading) }
    }

    /// Of this machine's clock over Redis's.
    pub async fn over_redis(redis: &Redis) -> Result<Self, RedisError> {
        let before = now();
        let reading = redis.read_time(redis.deadline()).await?;
        Ok(Self::over(reading, before, now()))
    }

    /// Of the second clock over the first, if this is the lead of a third one over the first, and `other` over the second.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self { least: self.least.saturating_sub(other.most), most: self.most.saturating_sub(other.least) }
    }

    /// What is certain: the smallest lead, or lag, that it may be.
    fn certain(self) -> i64 {
        if self.least > 0 { self.least } else { self.most.min(0) }
    }
}

/// This machine's clock, as [`Lead::over`] takes it.
pub fn now() -> i64 {
    i64::try_from(unix_millis()).unwrap_or(i64::MAX)
}

/// The last certain leads, of which the middle one counts.
#[derive(Default)]
struct Recent(Vec<i64>);

impl Recent {
    fn note(&mut self, lead: Lead) -> i64 {
        if self.0.len() == KEPT {
            self.0.remove(0);
        }
        self.0.push(lead.certain());
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }
}

/// Whose clock is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// This replica's.
    Right,
    /// Not this replica's: both stores agree on that.
    Off,
    /// The stores do not agree with each other.
    StoresDisagree,
    /// Not Redis's or not this replica's: nobody has compared the stores.
    Unjudged,
}

/// `own` is our lead over Redis, `stores` that of Postgres, if it is known.
const fn judge(own: i64, stores: Option<i64>) -> Verdict {
    match stores {
        Some(stores) if stores.unsigned_abs() > LIMIT.unsigned_abs() => Verdict::StoresDisagree,
        _ if own.unsigned_abs() <= LIMIT.unsigned_abs() => Verdict::Right,
        Some(_) => Verdict::Off,
        None => Verdict::Unjudged,
    }
}

/// What readiness says of the clock; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct ClockCheck(Arc<AtomicU8>);

impl ClockCheck {
    const OK: u8 = 1;
    const OFF: u8 = 2;

    /// Whether requests may be sent here.
    pub fn is_ok(&self) -> bool {
        self.0.load(Ordering::Relaxed) == Self::OK
    }

    /// In a word.
    pub fn as_str(&self) -> &'static str {
        match self.0.load(Ordering::Relaxed) {
            Self::OK => "ok",
            Self::OFF => "off",
            _ => "unavailable",
        }
    }

    /// Begins to compare the clocks. `over_postgres` says how far this machine's is ahead of Postgres's.
    pub fn follow<F>(redis: Redis, life: &Lifecycle, over_postgres: impl Fn() -> F + Send + 'static) -> Self
    where
        F: Future<Output = Option<Lead>> + Send + 'static,
    {
        let check = Self::default();
        life.spawn_forever("compare the clocks", check.clone().run(redis, move || Some(over_postgres())));
        check
    }

    /// As [`Self::follow`], for a replica without Postgres: it goes by what the others have left in Redis.
    pub fn follow_others(redis: Redis, life: &Lifecycle) -> Self {
        let check = Self::default();
        life.spawn_forever("compare the clocks", check.clone().run(redis, || None::<Ready<Option<Lead>>>));
        check
    }

    async fn run<F>(self, redis: Redis, over_postgres: impl Fn() -> Option<F>)
    where
        F: Future<Output = Option<Lead>>,
    {
        let (mut own, mut stores, mut last) = (Recent::default(), Recent::default(), None);
        let mut tick = interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let compared = compare(&redis, over_postgres(), &mut own, &mut stores);
            // Redis is away: what was known still counts.
            let Ok((own, stores)) = compared.await else { continue };
            let verdict = judge(own, stores);
            gauge!("gatefold_clock_skew_seconds").set(seconds(own));
            gauge!("gatefold_clock_stores_skew_seconds").set(stores.map_or(f64::NAN, seconds));
            if last.replace(verdict) != Some(verdict) {
                tell(verdict, own, stores);
            }
            let state = if verdict == Verdict::Off { Self::OFF } else { Self::OK };
            self.0.store(state, Ordering::Relaxed);
        }
    }
}

/// Our lead over Redis, and that of Postgres if it is known.
async fn compare(
    redis: &Redis,
    over_postgres: Option<impl Future<Output = Option<Lead>>>,
    own: &mut Recent,
    stores: &mut Recent,
) -> Result<(i64, Option<i64>), RedisError> {
    let Some(over_postgres) = over_postgres else {
        let over_redis = Lead::over_redis(redis).await?;
        let told: Option<String> = redis.command("GET", keys::CLOCKS.to_owned(), &[], redis.deadline()).await?;
        return Ok((own.note(over_redis), told.and_then(|told| told.parse().ok())));
    };
    let (over_redis, over_postgres) = tokio::join!(Lead::over_redis(redis), over_postgres);
    let over_redis = over_redis?;
    let stores = over_postgres.map(|over_postgres| stores.note(over_redis.minus(over_postgres)));
    if let Some(stores) = stores {
        let told = [&*stores.to_string(), "PX", STORES_VALID_MS];
        redis.command::<()>("SET", keys::CLOCKS.to_owned(), &told, redis.deadline()).await?;
    }
    Ok((own.note(over_redis), stores))
}

fn tell(verdict: Verdict, own_ms: i64, stores_ms: Option<i64>) {
    match verdict {
        Verdict::Right => info!(own_ms, stores_ms, "the clock agrees with the stores"),
        Verdict::Off => error!(own_ms, stores_ms, "this machine's clock is off: not ready"),
        Verdict::StoresDisagree => error!(own_ms, stores_ms, "the clocks of redis and postgres disagree"),
        Verdict::Unjudged => {
            warn!(own_ms, "the clocks of redis and of this machine disagree, and nobody compares redis with postgres");
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "clocks are not off by more milliseconds than a double counts")]
fn seconds(milliseconds: i64) -> f64 {
    milliseconds as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_slow_answer_may_explain_is_no_skew() {
        // A call that took two seconds, and a clock that agrees with the other one somewhere within them.
        assert_eq!(Lead::over(10_000, 9_000, 11_000).certain(), 0);
        assert_eq!(Lead::over(10_000, 17_000, 19_000).certain(), 7_000);
        assert_eq!(Lead::over(10_000, 1_000, 3_000).certain(), -7_000);
    }

    #[test]
    fn two_leads_give_that_of_the_stores() {
        let (over_redis, over_postgres) = (Lead::over(0, 10_000, 10_100), Lead::over(10_000, 10_000, 10_020));
        assert_eq!(over_redis.minus(over_postgres).certain(), 9_980);
        assert_eq!(over_postgres.minus(over_redis).certain(), -9_980);
        assert_eq!(over_redis.minus(over_redis).certain(), 0);
    }

    #[test]
    fn one_reading_of_three_does_not_decide() {
        let mut recent = Recent::default();
        let off = Lead::over(0, 9_000, 9_000);
        let right = Lead::over(0, 0, 0);
        assert_eq!(recent.note(off), 9_000, "the only one there is");
        let middle = [right, right, off, right, off, off].map(|lead| recent.note(lead));
        assert_eq!(middle, [9_000, 0, 0, 0, 9_000, 9_000]);
    }

    #[test]
    fn a_replica_is_off_when_both_stores_say_so() {
        assert_eq!(judge(5_000, Some(0)), Verdict::Right);
        assert_eq!(judge(-5_001, Some(0)), Verdict::Off);
        assert_eq!(judge(5_001, Some(-5_000)), Verdict::Off);
        assert_eq!(judge(10_000, Some(10_000)), Verdict::StoresDisagree);
        assert_eq!(judge(0, Some(-10_000)), Verdict::StoresDisagree);
        assert_eq!(judge(10_000, None), Verdict::Unjudged);
    }
}
