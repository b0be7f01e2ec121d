//! Attempts whose answer was lost on the way back from Redis.
//!
//! Their clients were told 503. Those whose token was traded still hold it: as soon as Redis can be reached, each such
//! rotation is reopened, and for a while its token gives the same successor again, without any key, and is no replay. And
//! what was a replay itself is recorded as one, late.

use std::{sync::Arc, time::Duration};

use gatefold_shared::{
    lifecycle::Lifecycle,
    redis::{Redis, RedisError, Script, Value, millis},
    revocation::PRELUDE,
};
use metrics::counter;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};
use tracing::{error, info};

use super::attempt::Attempt;
use crate::audit::Audit;

pub(super) static REOPEN: Script = Script::new("reopen", &[PRELUDE, include_str!("reopen.lua")]);

/// How long a client has to come back once Redis has.
const REOPENED_FOR: Duration = Duration::from_secs(30);
/// Lost answers that wait for Redis. Only requests that were under way when it went can lose theirs, so this is as many as
/// a replica can have at once; beyond that, sessions are lost and counted.
const MAX_WAITING: u32 = 10_000;
/// Pauses between attempts to reach Redis. Others judge replays again soon after it is back.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Looks after lost answers, each by itself: in a Redis Cluster some can be reached while others cannot.
pub(super) struct Reopener {
    redis: Redis,
    audit: Audit,
    life: Lifecycle,
    places: Arc<Semaphore>,
}

impl Reopener {
    pub(super) fn new(redis: Redis, audit: Audit, life: Lifecycle) -> Self {
        Self { redis, audit, life, places: Arc::new(Semaphore::new(MAX_WAITING as usize)) }
    }

    /// Sees to it that what the attempt may have done is reopened or recorded. Never waits.
    pub(super) fn look_after(&self, attempt: Attempt) {
        let place = Arc::clone(&self.places).try_acquire_owned().ok();
        let mut lost = Lost { attempt, is_settled: false, place };
        if lost.place.is_none() {
            return;
        }
        let (redis, audit) = (self.redis.clone(), self.audit.clone());
        self.life.spawn(async move {
            let mut pause = FIRST_PAUSE;
            while lost.settle(&redis, &audit).await.is_err() {
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        });
    }

    /// Waits until nothing is left to look after.
    pub(super) async fn finish(&self) {
        let _ = self.places.acquire_many(MAX_WAITING).await;
    }
}

/// If it is dropped before it is settled, there was no place for it, or the replica has ended.
struct Lost {
    attempt: Attempt,
    is_settled: bool,
    place: Option<OwnedSemaphorePermit>,
}

impl Lost {
    async fn settle(&mut self, redis: &Redis, audit: &Audit) -> Result<(), RedisError> {
        let for_how_long = millis(REOPENED_FOR);
        let arguments = vec![self.attempt.id.to_string().into(), for_how_long.into()];
        let reply: Vec<Value> = redis.run(&REOPEN, &[self.attempt.family_key()], arguments, redis.deadline()).await?;
        let outcome = match reply.first().and_then(Value::as_i64) {
            Some(1) => "reopened",
            Some(2) => {
                // Its request was counted as unanswered.
                counter!("gatefold_family_rotations_total", "outcome" => "replayed").increment(1);
                self.attempt.was_replay(audit, &reply.get(1).and_then(Value::as_string).unwrap_or_default());
                "replayed"
            }
            _ => "not_needed",
        };
        info!(outcome, "a rotation whose answer was lost was looked after");
        counter!("gatefold_family_reopenings_total", "outcome" => outcome).increment(1);
        self.is_settled = true;
        Ok(())
    }
}

impl Drop for Lost {
    fn drop(&mut self) {
        if !self.is_settled {
            error!(user.id = self.attempt.user_id, family.id = %self.attempt.family,
                "a rotation whose answer was lost cannot be looked after any more: the session may be lost");
            counter!("gatefold_family_reopenings_total", "outcome" => "dropped").increment(1);
        }
    }
}
