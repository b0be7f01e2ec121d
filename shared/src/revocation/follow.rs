//! Keeps a replica's revocations up to date.
//!
//! Two tasks. One *hears*: it applies what is published, and never waits for Redis. The other one *reads*: at the start,
//! after every reconnect and every second it reads each stream from where it stopped, so that nothing published while
//! nobody listened is lost. It also sends probes, and connects anew when they do not come back.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use fred::{
    clients::SubscriberClient,
    interfaces::{ClientLike, EventInterface, PubsubInterface},
    types::{CustomCommand, Message, Value, config::Server},
};
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::{Instant, sleep, timeout},
};
use tracing::{info, warn};
use uuid::Uuid;

use super::{Entry, Revocations, read};
use crate::{
    lifecycle::Lifecycle,
    redis::{RedisError, keys},
};

/// How often everything is read and probed.
const ROUND: Duration = Duration::from_secs(1);
/// The same while revocations are not heard, so that a replica is ready soon.
const ROUND_WHILE_DEAF: Duration = Duration::from_millis(100);
/// How long the echoes of probes may stay away until the subscription is given up.
const PATIENCE: Duration = Duration::from_secs(3);
/// Messages that may wait to be applied; when there are more, everything is read.
const BACKLOG: usize = 4096;

pub(super) fn start(revocations: &Revocations, life: &Lifecycle) -> Result<(), RedisError> {
    let subscriber = revocations.redis.subscriber(BACKLOG)?;
    let hearing = hear(revocations.clone(), subscriber.message_rx());
    let connected = subscriber.reconnect_rx();
    drop(subscriber.connect());
    life.spawn_forever("hear revocations", hearing);
    let probes: Arc<[String]> = keys::all_revocation_probes(Uuid::new_v4()).into();
    let reader =
        Reader { revocations: revocations.clone(), subscriber, probes, heard_at: Instant::now(), can_read: true };
    life.spawn_forever("read revocations", reader.run(connected));
    Ok(())
}

async fn hear(revocations: Revocations, mut messages: Receiver<Message>) {
    let hearing = &revocations.state.hearing;
    loop {
        match messages.recv().await {
            Ok(message) => {
                let Some(text) = message.value.as_str() else { continue };
                if let Some(partition) = keys::partition_of_revocation_probe(&message.channel) {
                    text.parse().into_iter().for_each(|subscription| hearing.echo(partition, subscription));
                } else if let Some(entry) = Entry::from_message(&text) {
                    revocations.measure_lag(&entry);
                    revocations.learn(entry);
                }
            }
            // What was missed stands in the streams; the next round reads it, and until then this replica is not ready.
            Err(RecvError::Lagged(missed)) => {
                warn!(missed, "more was revoked at once than could be applied; reading it instead");
                hearing.mark_lost();
            }
            Err(RecvError::Closed) => return,
        }
    }
}

struct Reader {
    revocations: Revocations,
    subscriber: SubscriberClient,
    /// The channels on which this replica, and nobody else, hears itself: one in the slot of each channel of the log.
    probes: Arc<[String]>,
    heard_at: Instant,
    can_read: bool,
}

impl Reader {
    async fn run(mut self, mut connected: Receiver<Server>) {
        let mut errors = self.subscriber.error_rx();
        loop {
            tokio::select! {
                biased;
                event = connected.recv() => {
                    if matches!(event, Err(RecvError::Closed)) {
                        return;
                    }
                    // Each node of a Redis Cluster reports by itself.
                    while connected.try_recv().is_ok() {}
                    self.subscribe().await;
                }
                event = errors.recv() => {
                    if matches!(event, Err(RecvError::Closed)) {
                        return;
                    }
                    self.mark_deaf();
                }
                () = sleep(self.pause()) => {}
            }
            Box::pin(self.round()).await;
        }
    }

    fn pause(&self) -> Duration {
        if self.revocations.state.hearing.is_confirmed() { ROUND } else { ROUND_WHILE_DEAF }
    }

    fn mark_deaf(&self) {
        if self.revocations.state.hearing.mark_lost() {
            warn!("revocations are not heard: the subscription was lost");
        }
    }

    /// Subscribes to all channels. The client library can neither pipeline this command nor take several channels at once.
    async fn subscribe(&mut self) {
        self.mark_deaf();
        self.heard_at = Instant::now();
        let patience = self.revocations.redis.call_timeout();
        for channel in keys::all_revocations().iter().chain(&*self.probes) {
            match timeout(patience, self.subscriber.ssubscribe(channel.as_str())).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return warn!(%error, "could not subscribe to revocations"),
                Err(_) => return warn!("could not subscribe to revocations: no answer"),
            }
        }
        // Far from Redis that takes seconds, in which no echo could come.
        self.heard_at = Instant::now();
    }

    /// Reads everything, judges the echoes that came before, and sends new probes.
    async fn round(&mut self) {
        let began = Instant::now();
        // Only what is read after the echoes came back is all that was missed.
        let complete = self.revocations.state.hearing.complete();
        let (read, ()) = tokio::join!(self.read(), self.probe());
        if read.is_ok() {
            *self.revocations.state.read_at.write().unwrap_or_else(PoisonError::into_inner) = Some(began);
        }
        match (complete, &read) {
            (Some(subscription), Ok(_)) => {
                self.heard_at = began;
                if self.revocations.state.hearing.confirm(subscription) {
                    info!("revocations are heard");
                }
            }
            // Reading may have taken long; the echoes of this round are judged in the next one.
            _ if began.duration_since(self.heard_at) >= PATIENCE => self.connect_anew().await,
            _ => {}
        }
        if let Err(error) = self.reassert(read).await {
            if std::mem::take(&mut self.can_read) {
                warn!(%error, "could not read the revocation log");
            }
        } else if !std::mem::replace(&mut self.can_read, true) {
            info!("the revocation log can be read again");
        }
        self.revocations.report();
    }

    async fn connect_anew(&mut self) {
        self.mark_deaf();
        self.heard_at = Instant::now();
        // It goes on trying, and says so when it has succeeded, also when nobody waits for that.
        let _ = timeout(self.revocations.redis.call_timeout(), self.subscriber.force_reconnection()).await;
        if self.subscriber.is_clustered() {
            // Nodes that are still connected stay so, and report nothing; but a slot may have moved between them.
            self.subscribe().await;
        }
    }

    /// Publishes to ourselves, beside every channel.
    async fn probe(&self) {
        const SPUBLISH: CustomCommand = super::command("SPUBLISH");
        let subscription = self.revocations.state.hearing.subscription().to_string();
        let probe = |channel: &String| (SPUBLISH, vec![Value::from(channel.as_str()), subscription.as_str().into()]);
        let probes = self.probes.iter().map(probe).collect();
        let redis = &self.revocations.redis;
        // A probe that was not sent does not come back, which is all that need be known of it.
        let _ = redis.pipeline::<Value>("probe_revocations", probes, redis.deadline()).await;
    }

    /// Reads what is new in every partition, and returns those where Redis has lost something that is known here. Each page
    /// is learned as it comes, and a read that fails goes on where it ended the next time.
    async fn read(&self) -> Result<Vec<usize>, RedisError> {
        let (redis, held) = (&self.revocations.redis, &self.revocations.state.held);
        redis.read_time(redis.deadline()).await?;
        let mut rolled_back = Vec::new();
        let mut unread: Vec<usize> = (0..keys::all_revocations().len()).collect();
        while !unread.is_empty() {
            let expected = held.read().unwrap_or_else(PoisonError::into_inner).expected(&unread);
            let pages = read::pages(redis, &expected).await?;
            let now = redis.time().at(Instant::now());
            unread.clear();
            for ((partition, expected), page) in expected.into_iter().zip(pages) {
                for entry in page.entries.iter().filter(|entry| entry.until > now) {
                    self.revocations.learn(*entry);
                }
                let is_rolled_back =
                    held.write().unwrap_or_else(PoisonError::into_inner).record_page(partition, expected, &page, now);
                if !page.is_end {
                    unread.push(partition);
                } else if is_rolled_back {
                    rolled_back.push(partition);
                }
            }
        }
        let now = redis.time().at(Instant::now());
        held.write().unwrap_or_else(PoisonError::into_inner).forget_before(now);
        Ok(rolled_back)
    }

    /// Tells Redis again what it has lost.
    async fn reassert(&self, rolled_back: Result<Vec<usize>, RedisError>) -> Result<(), RedisError> {
        let (redis, held) = (&self.revocations.redis, &self.revocations.state.held);
        for partition in rolled_back? {
            let now = redis.time().at(Instant::now());
            let entries = held.read().unwrap_or_else(PoisonError::into_inner).of_partition(partition, now);
            warn!(
                partition,
                entries = entries.len(),
                "redis has lost revocations; re-asserting those that are known here"
            );
            for entry in entries {
                self.revocations.reassert(&entry).await?;
            }
            held.write().unwrap_or_else(PoisonError::into_inner).mark_restored(partition);
        }
        Ok(())
    }
}
