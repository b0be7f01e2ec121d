//! Keeps a replica's revocations up to date.
//!
//! Two tasks. One *hears*: it applies what is published, and never waits for Redis. The other one *reads*: at the start,
//! after every reconnect and every few seconds it reads each stream from where it stopped, so that nothing published while
//! nobody listened is lost. It also *probes*: a subscription can look alive and deliver nothing (a fail-over may leave one on
//! a demoted primary), so each replica publishes to itself on all channels, and connects anew when that does not come back.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use fred::{
    clients::SubscriberClient,
    interfaces::{ClientLike, ClusterInterface, EventInterface, PubsubInterface},
    types::{ClusterHash, CustomCommand, Message, Value, config::Server},
};
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::{Instant, sleep},
};
use tracing::{info, warn};
use uuid::Uuid;

use super::{Entry, Revocations, entry::StreamId};
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
/// Entries read from a partition at once.
const PAGE: usize = 1000;
/// Messages that may wait to be applied; when there are more, everything is read.
const BACKLOG: usize = 4096;

/// One bit for each partition whose probe of the current round came back.
type Echoes = Arc<AtomicU64>;

pub(super) fn start(revocations: &Revocations, life: &Lifecycle) -> Result<(), RedisError> {
    let subscriber = revocations.redis.subscriber(BACKLOG)?;
    let (echoes, me) = (Echoes::default(), format!("probe {}", Uuid::new_v4()));
    let hearing = hear(revocations.clone(), subscriber.message_rx(), me.clone(), Arc::clone(&echoes));
    let connected = subscriber.reconnect_rx();
    drop(subscriber.connect());
    life.spawn_forever("hear revocations", hearing);
    let reader = Reader { revocations: revocations.clone(), subscriber, echoes, me, heard_at: Instant::now() };
    life.spawn_forever("read revocations", reader.run(connected));
    Ok(())
}

async fn hear(revocations: Revocations, mut messages: Receiver<Message>, me: String, echoes: Echoes) {
    loop {
        match messages.recv().await {
            Ok(message) => {
                let Some(text) = message.value.as_str() else { continue };
                if *text == *me {
                    let partition = partition_of(&message.channel);
                    echoes.fetch_or(partition.map_or(0, |partition| 1 << partition), Ordering::AcqRel);
                } else if let Some(entry) = Entry::from_message(&text) {
                    revocations.learn(entry);
                }
            }
            // What was missed stands in the streams; the next round reads it, and until then this replica is not ready.
            Err(RecvError::Lagged(missed)) => {
                warn!(missed, "more was revoked at once than could be applied; reading it instead");
                revocations.state.hears.store(false, Ordering::Release);
            }
            Err(RecvError::Closed) => return,
        }
    }
}

fn partition_of(channel: &str) -> Option<u32> {
    channel.rsplit_once("{p")?.1.strip_suffix('}')?.parse().ok()
}

struct Reader {
    revocations: Revocations,
    subscriber: SubscriberClient,
    echoes: Echoes,
    me: String,
    heard_at: Instant,
}

impl Reader {
    async fn run(mut self, mut connected: Receiver<Server>) {
        let mut errors = self.subscriber.error_rx();
        loop {
            tokio::select! {
                biased;
                event = connected.recv() => match event {
                    Err(RecvError::Closed) => return,
                    _ => self.subscribe().await,
                },
                event = errors.recv() => match event {
                    Err(RecvError::Closed) => return,
                    _ => self.is_deaf(),
                },
                () = sleep(self.pause()) => {}
            }
            self.round().await;
        }
    }

    fn pause(&self) -> Duration {
        if self.revocations.state.hears.load(Ordering::Acquire) { ROUND } else { ROUND_WHILE_DEAF }
    }

    fn is_deaf(&self) {
        self.echoes.store(0, Ordering::Release);
        if self.revocations.state.hears.swap(false, Ordering::AcqRel) {
            warn!("revocations are not heard: the subscription was lost");
        }
    }

    /// Subscribes to all channels; each is in a slot of its own, so each is asked for alone.
    async fn subscribe(&mut self) {
        self.is_deaf();
        let subscriptions = keys::all_revocations().into_iter().map(|channel| self.subscriber.ssubscribe(channel));
        for subscription in subscriptions {
            if let Err(error) = subscription.await {
                warn!(error = %error, "could not subscribe to revocations");
                return;
            }
        }
    }

    /// Reads, judges the probes of the last round, and sends new ones.
    async fn round(&mut self) {
        let began = Instant::now();
        match self.read_all().await {
            Ok(()) => {
                *self.revocations.state.read_at.write().unwrap_or_else(PoisonError::into_inner) = Some(began);
            }
            Err(error) => warn!(error = %error, "could not read revocations"),
        }
        if self.echoes.swap(0, Ordering::AcqRel) == u64::MAX {
            self.heard_at = began;
            if !self.revocations.state.hears.swap(true, Ordering::AcqRel) {
                info!("revocations are heard");
            }
        } else if self.heard_at.elapsed() >= PATIENCE {
            self.is_deaf();
            self.heard_at = Instant::now();
            self.connect_anew().await;
        }
        self.probe().await;
        self.revocations.report();
    }

    async fn connect_anew(&mut self) {
        if self.subscriber.is_clustered() {
            // A slot may have moved; the subscription did not move with it.
            let _ = self.subscriber.sync_cluster().await;
            self.subscribe().await;
        } else {
            let _ = self.subscriber.force_reconnection().await;
        }
    }

    /// Publishes to ourselves on every channel.
    async fn probe(&self) {
        const SPUBLISH: CustomCommand = command("SPUBLISH");
        let probe = |channel: String| (SPUBLISH, vec![Value::from(channel), Value::from(self.me.as_str())]);
        let probes = keys::all_revocations().into_iter().map(probe).collect();
        let redis = &self.revocations.redis;
        // A probe that was not sent does not come back, which is all that need be known of it.
        let _ = redis.pipeline::<Value>(probes, redis.deadline()).await;
    }

    /// Reads every partition from where the last read ended.
    async fn read_all(&self) -> Result<(), RedisError> {
        let streams = keys::all_revocations();
        let redis = &self.revocations.redis;
        let until = redis.deadline();
        redis.read_time(until).await?;
        let now = redis.time().at(Instant::now());
        let (from, known) = self.before_reading(streams.len(), now);
        let reads = streams.iter().zip(&from).map(|(stream, from)| read(stream, *from)).collect();
        let pages: Vec<Value> = redis.pipeline(reads, until).await?;
        for (partition, page) in pages.into_iter().enumerate() {
            let mut entries = parse(page)?;
            let mut page_length = entries.len();
            while page_length == PAGE {
                let next = entries.last().map_or(from[partition], |entry| StreamId(entry.id.0, entry.id.1 + 1));
                let mut page: Vec<Value> = redis.pipeline(vec![read(&streams[partition], next)], until).await?;
                let more = parse(page.pop().unwrap_or(Value::Null))?;
                page_length = more.len();
                entries.extend(more);
            }
            self.take(partition, &entries, &known[partition], now).await?;
        }
        self.revocations.state.held.write().unwrap_or_else(PoisonError::into_inner).forget_before(now);
        Ok(())
    }

    /// Where to read from, and what is already known to stand there, partition by partition.
    fn before_reading(&self, partitions: usize, now: i64) -> (Vec<StreamId>, Vec<Vec<StreamId>>) {
        let held = self.revocations.state.held.read().unwrap_or_else(PoisonError::into_inner);
        let ids = |partition| held.of_partition(partition, now).iter().map(|entry| entry.id).collect();
        ((0..partitions).map(|partition| held.read_from(partition)).collect(), (0..partitions).map(ids).collect())
    }

    async fn take(&self, partition: usize, entries: &[Entry], known: &[StreamId], now: i64) -> Result<(), RedisError> {
        for entry in entries.iter().filter(|entry| entry.until > now) {
            self.revocations.learn(*entry);
        }
        let rolled_back = {
            let mut held = self.revocations.state.held.write().unwrap_or_else(PoisonError::into_inner);
            let rolled_back = held.has_read(partition, entries, known, now);
            rolled_back.then(|| held.of_partition(partition, now))
        };
        for entry in rolled_back.unwrap_or_default() {
            self.revocations.reassert(&entry).await?;
        }
        Ok(())
    }
}

const fn command(name: &'static str) -> CustomCommand {
    CustomCommand {
        cmd: fred::bytes_utils::Str::from_static(name),
        cluster_hash: ClusterHash::FirstKey,
        blocking: false,
    }
}

fn read(stream: &str, from: StreamId) -> (CustomCommand, Vec<Value>) {
    const XRANGE: CustomCommand = command("XRANGE");
    let count = i64::try_from(PAGE).unwrap_or(i64::MAX);
    (XRANGE, vec![stream.into(), from.to_string().into(), "+".into(), "COUNT".into(), count.into()])
}

fn parse(page: Value) -> Result<Vec<Entry>, RedisError> {
    let entries: Vec<(String, HashMap<String, String>)> = page.convert()?;
    // What cannot be read was written by a version that knows more; its channel message reached those who can read it.
    Ok(entries.iter().filter_map(|(id, fields)| Entry::from_stream(id, fields)).collect())
}
