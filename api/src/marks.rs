//! Whether the stores are as new as they should be.
//!
//! Each partition of Redis has a *mark*, and so has Postgres: counts that go up while replicas run. Each store remembers the
//! counts of the other, and each replica those of Redis. A count that is smaller than it was tells that its store is an older
//! copy of itself: it was restored, or a fail-over has lost writes.
//!
//! A mark of Redis that nobody has renewed for a minute vouches for nothing, and no token is traded in its partition: so an
//! older copy is noticed before it is believed. Postgres is asked when it is there, and never needed, but for telling a new
//! replica what the marks should be when no other has renewed them.

mod repair;
mod stores;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use gatefold_shared::{
    lifecycle::Lifecycle,
    redis::{
        Redis, RedisError, Script, Value,
        keys::{self, PARTITIONS},
    },
    revocation::{PRELUDE, SessionEnder},
};
use metrics::counter;
use sqlx::PgPool;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout},
};
use tracing::{error, info, warn};

use crate::{audit::Audit, state::Stores};

static RENEW: Script = Script::new("renew_mark", &[PRELUDE, include_str!("marks/renew.lua")]);

/// How often the marks are renewed.
const INTERVAL: Duration = Duration::from_secs(5);
/// How soon again when that did not succeed everywhere, or Redis has just come back.
const PAUSE: Duration = Duration::from_millis(250);

/// See the module; clones are the same.
#[derive(Clone)]
pub struct Marks(Arc<Inner>);

struct Inner {
    redis: Redis,
    postgres: PgPool,
    ender: SessionEnder,
    audit: Audit,
    /// Sessions live no longer than this.
    absolute: Duration,
    /// What this replica has seen.
    memory: Mutex<Memory>,
    nudged: Notify,
    /// Whether the last round has renewed all marks.
    vouched: watch::Sender<bool>,
}

struct Memory {
    /// The counts of Redis's partitions; 0 for one that was never seen.
    counts: Vec<i64>,
    /// How often Postgres was found restored.
    epoch: Option<i64>,
    /// The largest number of a user that Postgres was told of.
    largest_user: i64,
    /// Whether Postgres answered the last time.
    is_recorded: bool,
}

/// A mark after it was renewed.
struct Renewed {
    count: i64,
    /// From when on ends of sessions may be lost, if any may.
    repair_from: Option<i64>,
    epoch: i64,
    largest_user: i64,
}

impl Marks {
    /// Begins to renew the marks.
    pub fn start(stores: &Stores, ender: SessionEnder, audit: Audit, absolute: Duration, life: &Lifecycle) -> Self {
        let Stores { redis, postgres } = stores.clone();
        let counts = vec![0; usize::try_from(PARTITIONS).unwrap_or_default()];
        let memory = Mutex::new(Memory { counts, epoch: None, largest_user: 0, is_recorded: true });
        let (nudged, vouched) = (Notify::new(), watch::Sender::new(false));
        let marks = Self(Arc::new(Inner { redis, postgres, ender, audit, absolute, memory, nudged, vouched }));
        life.spawn_forever("renew marks", marks.clone().run());
        marks
    }

    /// Has the marks renewed now: a refresh has found one that vouches for nothing.
    pub fn nudge(&self) {
        self.0.nudged.notify_one();
    }

    /// Waits until all marks were renewed, but not longer than `patience`.
    pub async fn vouched(&self, patience: Duration) {
        let mut vouched = self.0.vouched.subscribe();
        let _ = timeout(patience, vouched.wait_for(|vouched| *vouched)).await;
    }

    fn memory<T>(&self, read: impl FnOnce(&mut Memory) -> T) -> T {
        read(&mut self.0.memory.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn run(self) {
        let mut due = Instant::now();
        loop {
            if due <= Instant::now() {
                let is_good = Box::pin(self.round()).await;
                self.0.vouched.send_replace(is_good);
                due = Instant::now() + if is_good { INTERVAL } else { PAUSE };
            }
            tokio::select! {
                () = sleep(PAUSE) => {
                    if !(0..PARTITIONS).all(|partition| self.0.redis.is_settled(&keys::mark(partition))) {
                        due = Instant::now();
                    }
                }
                () = self.0.nudged.notified() => due = Instant::now(),
            }
        }
    }

    /// Renews all marks, and repairs what has to be; whether that has succeeded everywhere.
    async fn round(&self) -> bool {
        let Inner { redis, postgres, .. } = &*self.0;
        // Not 64 calls that nobody answers, every time.
        if redis.read_time(redis.deadline()).await.is_err() {
            return false;
        }
        let seen = self.memory(|memory| memory.counts.clone());
        let recorded = stores::count(postgres, &seen, redis.call_timeout()).await;
        let was_recorded = self.memory(|memory| std::mem::replace(&mut memory.is_recorded, recorded.is_ok()));
        if let (Err(error), true) = (&recorded, was_recorded) {
            warn!(%error, "postgres could not be told how new redis is");
        }
        let recorded = recorded.ok();
        let renewals = seen.iter().enumerate().map(async |(partition, seen)| {
            let in_postgres = recorded.as_ref().map(|counts| counts.redis.get(partition).copied().unwrap_or(0));
            let known = in_postgres.unwrap_or(0).max(*seen);
            let is_known = in_postgres.is_some() || *seen > 0;
            self.renew(partition, known, is_known, recorded.as_ref().map(|counts| counts.postgres)).await
        });
        let renewals = join_all(renewals).await;
        let is_good = renewals.iter().all(|renewed| matches!(renewed, Ok(Some(_))));
        let renewed =
            renewals.into_iter().enumerate().filter_map(|(partition, result)| Some((partition, result.ok()??)));
        let renewed: Vec<(usize, Renewed)> = renewed.collect();
        self.note(&renewed);
        if recorded.is_some() {
            self.skip_users(&renewed).await;
        }
        let lost = renewed.iter().filter_map(|(partition, mark)| Some((*partition, mark.repair_from?)));
        let lost: Vec<(usize, i64)> = lost.collect();
        // Without Postgres in the next round, or later.
        if !lost.is_empty() && recorded.is_some() {
            self.repair(&lost).await;
        }
        is_good
    }

    async fn renew(
        &self,
        partition: usize,
        known: i64,
        is_known: bool,
        accounts: Option<i64>,
    ) -> Result<Option<Renewed>, RedisError> {
        let redis = &self.0.redis;
        let key = keys::mark(i64::try_from(partition).unwrap_or_default());
        let accounts = accounts.map(|count| count.to_string()).unwrap_or_default();
        let arguments: Vec<Value> = vec![known.into(), i64::from(is_known).into(), accounts.into()];
        let reply: Vec<Value> = redis.run(&RENEW, &[key], arguments, redis.deadline()).await?;
        let number = |index: usize| reply.get(index).and_then(Value::as_i64);
        match (number(0), number(2), number(4), number(5)) {
            (Some(0), ..) => Ok(None),
            (Some(1), Some(count), Some(epoch), Some(largest_user)) => {
                Ok(Some(Renewed { count, repair_from: number(3), epoch, largest_user }))
            }
            _ => Err(RENEW.unexpected_reply()),
        }
    }

    fn note(&self, renewed: &[(usize, Renewed)]) {
        let epoch = renewed.iter().map(|(_, mark)| mark.epoch).max();
        let was = self.memory(|memory| {
            for (partition, mark) in renewed {
                if let Some(count) = memory.counts.get_mut(*partition) {
                    *count = (*count).max(mark.count);
                }
            }
            let was = memory.epoch;
            if epoch > was {
                // What this replica has told Postgres is gone from it as well.
                memory.largest_user = 0;
            }
            memory.epoch = epoch.max(was);
            was
        });
        if was.is_some_and(|was| epoch > Some(was)) {
            error!("postgres is an older copy than it was: sessions are asked about at their next refresh");
        }
    }

    /// Numbers that sessions have are not given to new users.
    async fn skip_users(&self, renewed: &[(usize, Renewed)]) {
        let largest = renewed.iter().map(|(_, mark)| mark.largest_user).max().unwrap_or(0);
        if largest > self.memory(|memory| memory.largest_user) {
            let limit = self.0.redis.call_timeout();
            match stores::skip_user_ids(&self.0.postgres, largest, limit).await {
                Ok(()) => self.memory(|memory| memory.largest_user = largest),
                Err(error) => warn!(%error, "postgres could not be told which numbers of users are taken"),
            }
        }
    }

    async fn repair(&self, lost: &[(usize, i64)]) {
        let Inner { redis, postgres, ender, audit, absolute, .. } = &*self.0;
        error!(
            partitions = lost.len(),
            from = lost.iter().map(|(_, from)| *from).min(),
            "redis is an older copy than it was: sessions that ended since are ended again, as the audit has it"
        );
        // What this replica has not written yet counts as well.
        let _ = timeout(redis.call_timeout(), audit.flush()).await;
        let repair = repair::Repair { redis, postgres, ender, absolute: *absolute };
        match Box::pin(repair.run(lost)).await {
            Ok(ended) => {
                counter!("gatefold_sessions_ended_again_total").increment(ended);
                info!(ended, partitions = lost.len(), "what redis had forgotten was repaired");
            }
            Err(error) => warn!(%error, "what redis has forgotten could not be repaired yet"),
        }
    }
}
