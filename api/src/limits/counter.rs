//! The counts that all replicas share, in Redis.
//!
//! A limit must never be the reason for an outage: when Redis does not answer soon, nothing is counted there, and the
//! request goes on to whatever else guards it. The one exception is [`Counter::take_for_sure`], for guesses.

use std::{
    fmt::Display,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use gatefold_shared::{
    lifecycle::Lifecycle,
    limit::GCRA,
    redis::{Redis, Value, keys},
};
use metrics::counter;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use super::{Rule, Standing};

/// After Redis was too slow for a limit, nobody waits for it again for this long: a request meets more than one limit, and
/// together they may not wait longer than one.
const PAUSE: Duration = Duration::from_millis(250);

/// What became of a request to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// It was counted.
    Counted(Standing),
    /// It was too many, and was not.
    Refused(Standing),
    /// It may have been counted or not: Redis did not answer.
    Unknown,
}

impl Count {
    /// How it stands, counted or not.
    fn standing(self) -> Option<Standing> {
        match self {
            Self::Counted(standing) | Self::Refused(standing) => Some(standing),
            Self::Unknown => None,
        }
    }
}

/// Whether what is too many is counted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    IfAllowed,
    /// It has happened already.
    Always,
}

/// See the module.
pub struct Counter {
    redis: Redis,
    /// The longest that a request waits, a part of `BACKEND_TIMEOUT` that the stores do not get.
    wait: Duration,
    paused_until: Mutex<Option<Instant>>,
    life: Lifecycle,
}

impl Counter {
    pub fn new(redis: Redis, wait: Duration, life: &Lifecycle) -> Self {
        Self { redis, wait, paused_until: Mutex::default(), life: life.clone() }
    }

    /// Counts one, unless it is too many.
    pub async fn take(&self, rule: Rule, key: impl Display) -> Count {
        self.ask(rule, &key, 1, Mode::IfAllowed).await
    }

    /// As [`Self::take`], but waits as long as any call to Redis may take.
    pub async fn take_for_sure(&self, rule: Rule, key: impl Display) -> Count {
        self.run(rule, &key, 1, Mode::IfAllowed, self.redis.deadline()).await
    }

    /// Counts what has come already, too many or not.
    pub async fn charge(&self, rule: Rule, key: impl Display, units: u32) -> Option<Standing> {
        self.ask(rule, &key, units.into(), Mode::Always).await.standing()
    }

    /// Takes back what one [`Self::take`] counted.
    pub async fn give_back(self: &Arc<Self>, rule: Rule, key: &str) -> Option<Standing> {
        self.settle(rule, key, -1).await
    }

    /// Forgets all that was taken.
    pub async fn clear(self: &Arc<Self>, rule: Rule, key: &str) -> Option<Standing> {
        self.settle(rule, key, -i64::from(rule.limit.burst())).await
    }

    /// Says of what was counted that it should not have been, and waits for that as for any count. But it happens however
    /// slow Redis is, and if nobody waits any more: what stays counted locks somebody out. Nothing overtakes it: commands
    /// about one key keep their order.
    async fn settle(self: &Arc<Self>, rule: Rule, key: &str, units: i64) -> Option<Standing> {
        let (tell, told) = oneshot::channel();
        let (counter, key) = (Arc::clone(self), key.to_owned());
        self.life.spawn(async move {
            let answer = counter.run(rule, &key, units, Mode::Always, counter.redis.deadline()).await;
            if answer == Count::Unknown {
                count(rule, "skipped");
            }
            let _ = tell.send(answer);
        });
        if self.is_paused(Instant::now()) {
            return None;
        }
        let Ok(answer) = timeout(self.wait, told).await else {
            self.pause();
            return None;
        };
        answer.ok().and_then(Count::standing)
    }

    async fn ask(&self, rule: Rule, key: &impl Display, units: i64, mode: Mode) -> Count {
        let now = Instant::now();
        let answer =
            if self.is_paused(now) { Count::Unknown } else { self.run(rule, key, units, mode, now + self.wait).await };
        if answer == Count::Unknown {
            count(rule, "skipped");
        }
        answer
    }

    async fn run(&self, rule: Rule, key: &impl Display, units: i64, mode: Mode, until: Instant) -> Count {
        let keys = [keys::rate_limit(rule.policy.name(), key)];
        let interval = i64::try_from(rule.limit.interval_micros()).unwrap_or(i64::MAX);
        let always = i64::from(mode == Mode::Always);
        let arguments: Vec<Value> =
            vec![interval.into(), i64::from(rule.limit.burst()).into(), units.into(), always.into()];
        let reply = self.redis.run::<Vec<u64>>(&GCRA, &keys, arguments, until).await;
        if let Ok(&[counted, micros]) = reply.as_deref() {
            let standing = Standing::new(rule, Duration::from_micros(micros));
            return if counted == 1 { Count::Counted(standing) } else { Count::Refused(standing) };
        }
        self.pause();
        Count::Unknown
    }

    fn pause(&self) {
        let pause = Instant::now() + PAUSE;
        *self.paused_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(pause);
    }

    fn is_paused(&self, now: Instant) -> bool {
        self.paused_until.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| now < until)
    }
}

/// Counts what became of a request, under names that no client can make up.
pub fn count(rule: Rule, outcome: &'static str) {
    counter!("gatefold_rate_limits_total", "policy" => rule.policy.name(), "outcome" => outcome).increment(1);
}
