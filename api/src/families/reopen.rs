//! Rotations whose answer was lost on the way back from Redis.
//!
//! Their clients were told 503 and still hold the token that was traded. As soon as Redis can be reached, each such rotation
//! is reopened: for a while its token gives the same successor again, without any key, and is no replay.

use std::time::Duration;

use gatefold_shared::{
    lifecycle::Lifecycle,
    redis::{Redis, Script, Value},
    revocation::PRELUDE,
};
use metrics::counter;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tracing::{error, info};
use uuid::Uuid;

static REOPEN: Script = Script::new("reopen", &[PRELUDE, include_str!("reopen.lua")]);

/// How long a client has to come back once Redis has.
const REOPENED_FOR: Duration = Duration::from_secs(30);
/// Lost answers that wait for Redis. Only requests that were under way when it went can lose theirs, so this is as many as
/// a replica can have at once; beyond that, sessions are lost and counted.
const MAX_WAITING: usize = 10_000;
/// Pause between attempts to reach Redis.
const PAUSE: Duration = Duration::from_millis(20);

struct Lost {
    family_key: String,
    attempt: Uuid,
}

/// The queue of lost answers.
pub(super) struct Reopener(mpsc::Sender<Lost>);

impl Reopener {
    pub(super) fn start(redis: Redis, life: &Lifecycle) -> Self {
        let (sender, mut waiting) = mpsc::channel::<Lost>(MAX_WAITING);
        life.spawn_forever("reopen lost rotations", async move {
            while let Some(lost) = waiting.recv().await {
                while !try_to_reopen(&redis, &lost).await {
                    sleep(PAUSE).await;
                }
            }
        });
        Self(sender)
    }

    /// Sees to it that the family's rotation by `attempt` is reopened, if it happened. Never waits.
    pub(super) fn reopen(&self, family_key: String, attempt: Uuid) {
        if self.0.try_send(Lost { family_key, attempt }).is_err() {
            error!("too many lost rotations wait for redis: a session may be lost");
            counter!("family_reopenings_total", "outcome" => "dropped").increment(1);
        }
    }
}

async fn try_to_reopen(redis: &Redis, lost: &Lost) -> bool {
    let for_how_long = i64::try_from(REOPENED_FOR.as_millis()).unwrap_or(i64::MAX);
    let arguments = vec![Value::from(lost.attempt.to_string()), Value::from(for_how_long)];
    let until = Instant::now() + redis.call_timeout();
    let Ok(reply) = redis.run::<Vec<i64>>(&REOPEN, std::slice::from_ref(&lost.family_key), arguments, until).await
    else {
        return false;
    };
    let outcome = if reply == [1] { "reopened" } else { "not_needed" };
    info!(outcome, "a rotation whose answer was lost was looked after");
    counter!("family_reopenings_total", "outcome" => outcome).increment(1);
    true
}
