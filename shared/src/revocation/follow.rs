//! Keeps a replica's revocations up to date.
//!
//! Two tasks. One *hears*: it applies what is published, and never waits for Redis. The other one *reads*: at the start,
//! whenever subscriptions can be made anew, and every second it reads each stream from where it stopped, so that nothing
//! published while nobody listened is lost. It also sends probes, and connects anew when they do not come back.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep},
};
use tracing::{info, warn};
use uuid::Uuid;

use super::{
    Entry, Revocations,
    hearing::{COUNT, Hearing},
    read,
};
use crate::{
    lifecycle::Lifecycle,
    redis::{Heard, RedisError, Slots, Subscriber, Value, keys},
};

/// How often everything is read and probed.
const ROUND: Duration = Duration::from_secs(1);
/// The same while revocations are not heard, so that a replica is ready soon.
const ROUND_WHILE_DEAF: Duration = Duration::from_millis(100);
/// How long the echoes of probes may stay away until the subscription is given up.
const PATIENCE: Duration = Duration::from_secs(3);
/// Messages that may wait to be applied; when there are more, everything is read.
const BACKLOG: usize = 4096;

pub(super) fn start(revocations: &Revocations, life: &Lifecycle) {
    let (subscriber, heard) = revocations.redis.subscriber(BACKLOG);
    let open = Arc::<Open>::default();
    life.spawn_forever("hear revocations", hear(revocations.clone(), heard, Arc::clone(&open)));
    let reader = Reader {
        revocations: revocations.clone(),
        subscriber,
        replica: Uuid::new_v4(),
        open,
        heard_at: [Instant::now(); COUNT],
        can_read: true,
    };
    life.spawn_forever("read revocations", reader.run());
}

/// The partitions whose channels can be subscribed to, and are not.
#[derive(Default)]
struct Open {
    partitions: Mutex<Vec<usize>>,
    are_there: Notify,
}

impl Open {
    fn add(&self, partitions: impl IntoIterator<Item = usize>) {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner).extend(partitions);
        self.are_there.notify_one();
    }

    fn take(&self) -> Vec<usize> {
        let mut partitions = std::mem::take(&mut *self.partitions.lock().unwrap_or_else(PoisonError::into_inner));
        partitions.sort_unstable();
        partitions.dedup();
        partitions
    }
}

fn partitions_in(slots: &Slots) -> impl Iterator<Item = usize> {
    (0..COUNT).filter(|&partition| slots.has(&keys::revocations_of(partition)))
}

fn mark_deaf(hearing: &Hearing, partitions: impl Iterator<Item = usize>) {
    // All of them: each counts for itself.
    if partitions.filter(|&partition| hearing.mark_lost(partition)).count() > 0 {
        warn!("revocations are not heard: the subscription was lost");
    }
}

async fn hear(revocations: Revocations, mut heard: mpsc::Receiver<Heard>, open: Arc<Open>) {
    let hearing = &revocations.state.hearing;
    while let Some(heard) = heard.recv().await {
        match heard {
            Heard::Message { channel, text } => {
                if let Some(partition) = keys::partition_of_revocation_probe(&channel) {
                    text.parse().into_iter().for_each(|subscription| hearing.echo(partition, subscription));
                } else if let Some(entry) = Entry::from_message(&text) {
                    revocations.measure_lag(&entry);
                    revocations.learn(entry);
                }
            }
            Heard::Lost(slots) => mark_deaf(hearing, partitions_in(&slots)),
            Heard::Open(slots) => {
                mark_deaf(hearing, partitions_in(&slots));
                open.add(partitions_in(&slots));
            }
            // What was missed stands in the streams; the next round reads it, and until then this replica is not ready.
            Heard::Missed(slots) => {
                warn!("more was revoked at once than could be applied; reading it instead");
                mark_deaf(hearing, partitions_in(&slots));
            }
        }
    }
}

struct Reader {
    revocations: Revocations,
    subscriber: Subscriber,
    /// What this replica is called in the channels on which it, and nobody else, hears itself: one in the slot of each
    /// channel of the log.
    replica: Uuid,
    open: Arc<Open>,
    heard_at: [Instant; COUNT],
    can_read: bool,
}

/// What came of reading a partition: whether Redis has lost something that is known here.
type Reading = (usize, Result<bool, RedisError>);

impl Reader {
    async fn run(mut self) {
        let open = Arc::clone(&self.open);
        loop {
            tokio::select! {
                () = open.are_there.notified() => {}
                () = sleep(self.pause()) => {}
            }
            self.subscribe().await;
            Box::pin(self.round()).await;
        }
    }

    fn pause(&self) -> Duration {
        if self.revocations.is_ready() { ROUND } else { ROUND_WHILE_DEAF }
    }

    /// Subscribes to the channels of partitions where that can be done.
    async fn subscribe(&mut self) {
        let (partitions, until) = (self.open.take(), self.revocations.redis.deadline());
        let subscriptions = partitions.into_iter().map(|partition| {
            let (log, probe) = (keys::revocations_of(partition), keys::revocation_probe(partition, self.replica));
            let both = futures_util::future::try_join(
                self.subscriber.subscribe(log, until),
                self.subscriber.subscribe(probe, until),
            );
            async move { (partition, both.await) }
        });
        let results = join_all(subscriptions).await;
        for (partition, result) in results {
            // Far from Redis that takes a while, in which no echo could come.
            self.heard_at[partition] = Instant::now();
            if let Err(error) = result {
                warn!(%error, partition, "could not subscribe to revocations");
                self.open.add([partition]);
            }
        }
    }

    /// Reads everything, judges the echoes that came before, and sends new probes; of partitions that can be reached.
    async fn round(&mut self) {
        let began = Instant::now();
        let reached: Vec<_> = (0..COUNT).filter(|&partition| self.revocations.reaches(partition)).collect();
        let hearing = &self.revocations.state.hearing;
        // Only what is read after the echoes came back is all that was missed.
        let complete: Vec<_> = (0..COUNT).map(|partition| hearing.complete(partition)).collect();
        let (readings, ()) = tokio::join!(self.read(&reached), self.probe(&reached));
        let (mut is_news, mut deaf) = (false, Vec::new());
        for partition in (0..COUNT).filter(|partition| !reached.contains(partition)) {
            self.heard_at[partition] = began;
        }
        for (partition, reading) in &readings {
            let partition = *partition;
            match (complete[partition], reading) {
                (Some(subscription), Ok(_)) => {
                    self.heard_at[partition] = began;
                    is_news |= hearing.confirm(partition, subscription);
                }
                // Reading may have taken long; the echoes of this round are judged in the next one.
                _ if began.duration_since(self.heard_at[partition]) >= PATIENCE => deaf.push(partition),
                _ => {}
            }
        }
        if is_news && self.revocations.is_ready() {
            info!("revocations are heard");
        }
        self.connect_anew(&deaf);
        let mut failed = false;
        for (partition, reading) in readings {
            if let Err(error) = self.settle(partition, began, reading).await {
                failed = true;
                if std::mem::take(&mut self.can_read) {
                    warn!(%error, partition, "could not read the revocation log");
                }
            }
        }
        if !failed && !reached.is_empty() && !std::mem::replace(&mut self.can_read, true) {
            info!("the revocation log can be read again");
        }
        self.revocations.report();
    }

    fn connect_anew(&mut self, deaf: &[usize]) {
        mark_deaf(&self.revocations.state.hearing, deaf.iter().copied());
        for &partition in deaf {
            self.heard_at[partition] = Instant::now();
            self.subscriber.renew(&keys::revocations_of(partition));
        }
    }

    /// Publishes to ourselves, beside every channel.
    async fn probe(&self, partitions: &[usize]) {
        let hearing = &self.revocations.state.hearing;
        let probe = |partition: &usize| {
            let subscription = hearing.subscription(*partition).to_string();
            ("SPUBLISH", keys::revocation_probe(*partition, self.replica), vec![Value::from(subscription)])
        };
        let probes = partitions.iter().map(probe).collect();
        let redis = &self.revocations.redis;
        // A probe that was not sent does not come back, which is all that need be known of it.
        let _ = redis.pipeline::<Value>("probe_revocations", probes, redis.deadline()).await;
    }

    /// Reads what is new in partitions. Each page is learned as it comes, and a read that fails goes on where it ended the
    /// next time.
    async fn read(&self, partitions: &[usize]) -> Vec<Reading> {
        let (redis, held) = (&self.revocations.redis, &self.revocations.state.held);
        let mut readings = Vec::new();
        if partitions.is_empty() {
            return readings;
        }
        if let Err(error) = redis.read_time(redis.deadline()).await {
            readings.extend(partitions.first().map(|partition| (*partition, Err(error))));
            return readings;
        }
        let mut unread = partitions.to_vec();
        while !unread.is_empty() {
            let expected = held.read().unwrap_or_else(PoisonError::into_inner).expected(&unread);
            let pages = read::pages(redis, &expected).await;
            let now = redis.time().at(Instant::now());
            unread.clear();
            for ((partition, expected), page) in expected.into_iter().zip(pages) {
                let page = match page {
                    Ok(page) => page,
                    Err(error) => {
                        readings.push((partition, Err(error)));
                        continue;
                    }
                };
                for entry in page.entries.iter().filter(|entry| entry.until > now) {
                    self.revocations.learn(*entry);
                }
                let is_rolled_back =
                    held.write().unwrap_or_else(PoisonError::into_inner).record_page(partition, expected, &page, now);
                if page.is_end {
                    readings.push((partition, Ok(is_rolled_back)));
                } else {
                    unread.push(partition);
                }
            }
        }
        let now = redis.time().at(Instant::now());
        held.write().unwrap_or_else(PoisonError::into_inner).forget_before(now);
        readings
    }

    /// Notes that a partition was read, and tells Redis again what it has lost.
    async fn settle(
        &self,
        partition: usize,
        began: Instant,
        reading: Result<bool, RedisError>,
    ) -> Result<(), RedisError> {
        let is_rolled_back = reading?;
        self.revocations.state.read_at.write().unwrap_or_else(PoisonError::into_inner)[partition] = Some(began);
        if is_rolled_back { self.reassert(partition).await } else { Ok(()) }
    }

    async fn reassert(&self, partition: usize) -> Result<(), RedisError> {
        let (redis, held) = (&self.revocations.redis, &self.revocations.state.held);
        let now = redis.time().at(Instant::now());
        let entries = held.read().unwrap_or_else(PoisonError::into_inner).of_partition(partition, now);
        warn!(partition, entries = entries.len(), "redis has lost revocations; re-asserting those that are known here");
        for entry in entries {
            self.revocations.reassert(&entry).await?;
        }
        held.write().unwrap_or_else(PoisonError::into_inner).mark_restored(partition);
        Ok(())
    }
}
