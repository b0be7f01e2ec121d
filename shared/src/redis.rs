//! Redis: where it is, how long we wait, what is sent twice (nothing), and what time it is there.
//!
//! Commands are never sent again by the client library: a script whose answer was lost may have run, and only its caller
//! knows whether it may run twice. Whoever gets an error from here does not know whether the change was made, or will be: a
//! call that is given up is not sent any more, but if it was sent already, Redis may come to it later. A script for which
//! that matters is given the moment of giving up.
//!
//! [`topology`] knows who the primaries are, [`map`] has a [`node`] for each, and that keeps [lines](mod@line) to it, each of which is
//! one [`connection`] at a time. The client library is the protocol of one connection, and decides nothing.

mod address;
mod away;
mod connection;
mod connector;
mod error;
pub mod keys;
mod line;
mod map;
mod memory;
mod node;
mod script;
mod slots;
mod stream_id;
mod subscriber;
mod time;
mod topology;
mod under_way;

use std::{sync::Arc, time::Duration};

pub use fred::{
    bytes_utils::Str,
    types::{FromValue, Value},
};
use futures_util::{StreamExt, future::join_all, stream::FuturesUnordered};
use metrics::{counter, histogram};
use secrecy::ExposeSecret;
use tokio::{sync::mpsc, time::Instant};

use self::{
    connection::Connection,
    map::{Map, Nodes},
    node::Lane,
    slots::slot_of,
    topology::Topology,
    under_way::UnderWay,
};
pub use self::{
    error::RedisError,
    memory::measure as measure_memory,
    script::Script,
    slots::Slots,
    stream_id::StreamId,
    subscriber::{Heard, Subscriber},
    time::{RedisTime, millis},
};
use crate::{config::StoreConfig, lifecycle::Lifecycle, trace::Span};

/// After Redis comes back, how long it takes until every replica has found it and put right what was left unfinished.
const SETTLING: Duration = Duration::from_secs(3);

/// A handle to Redis; clones share its connections.
#[derive(Clone)]
pub struct Redis {
    nodes: Nodes,
    lane: Lane,
    time: RedisTime,
    ack_replicas: i64,
    call_timeout: Duration,
    /// What scripts bring that store what users like.
    stored: Arc<UnderWay>,
    life: Lifecycle,
}

impl Redis {
    /// Begins to connect, and goes on trying for ever: Redis may come later than we do.
    pub fn connect(config: &StoreConfig, life: &Lifecycle) -> Result<Self, RedisError> {
        let password = config.redis_password.as_ref().map(ExposeSecret::expose_secret);
        let topology = Topology::watch(config.redis_url.expose_secret(), password, life)?;
        let ack_replicas = i64::from(config.redis_ack_replicas);
        let nodes = Nodes::follow(topology, ack_replicas > 0, life);
        let (time, stored, call_timeout) = (RedisTime::default(), Arc::default(), config.call_timeout());
        Ok(Self { nodes, lane: Lane::Sessions, time, ack_replicas, call_timeout, stored, life: life.clone() })
    }

    /// The handle for what happens in rooms. It has connections of its own, and a bound on how many calls are under way, so
    /// that sessions and revocations never wait behind rooms.
    #[must_use]
    pub fn rooms(&self) -> Self {
        Self { lane: Lane::Rooms, ..self.clone() }
    }

    /// How long one call may take.
    pub fn call_timeout(&self) -> Duration {
        self.call_timeout
    }

    /// The clock of Redis, as far as it is known here.
    pub fn time(&self) -> &RedisTime {
        &self.time
    }

    /// Whether it is some time since this replica last found the primary of a key again. While it is not, others may still
    /// be busy putting right what they could not finish when it went.
    pub fn is_settled(&self, key: &str) -> bool {
        let map = self.nodes.now();
        let Some(node) = map.node_of(slot_of(key)) else { return false };
        // What is asked while Redis is away waits, and is the first that Redis hears when it is back.
        if !node.is_up() {
            node.away.note();
        }
        node.away.is_over_for(SETTLING)
    }

    /// Whether the primary of a key answers, as far as is known.
    pub fn reaches(&self, key: &str) -> bool {
        self.nodes.now().node_of(slot_of(key)).is_some_and(|node| node.is_up())
    }

    /// Whether the primary of a key is away while others are there.
    pub fn is_cut_off(&self, key: &str) -> bool {
        let others_are_there = || self.nodes.now().nodes.iter().any(|node| node.is_up());
        !self.reaches(key) && others_are_there()
    }

    /// Makes sure that Redis takes writes, on one primary at least: if only one of a cluster is away, no replica is better
    /// off than another, and those whom the others serve must not be turned away.
    pub async fn check_writable(&self) -> Result<(), RedisError> {
        let until = self.deadline();
        let map = self.nodes.now();
        let mut writes: FuturesUnordered<_> = probes(&map).map(|key| self.write_nothing(key, until)).collect();
        let mut result = Err(RedisError::Timeout(Duration::ZERO));
        while let Some(written) = writes.next().await {
            result = written;
            if result.is_ok() {
                break;
            }
        }
        result
    }

    /// Deletes a key that is not there, which only a server does that takes writes.
    async fn write_nothing(&self, key: String, until: Instant) -> Result<(), RedisError> {
        let slot = slot_of(&key);
        self.nodes.call(Lane::Sessions, slot, "DEL", &[key.into()], until).await.map(|_| ())
    }

    /// Reads the clock of Redis: milliseconds since the epoch.
    pub async fn read_time(&self, until: Instant) -> Result<i64, RedisError> {
        let map = self.nodes.now();
        let node = map.nodes.iter().find(|node| node.is_up());
        let slot = node.and_then(|node| map.first_slot_of(node)).unwrap_or_default();
        let (_, reply) = self.nodes.call(self.lane, slot, "TIME", &[], until).await?;
        let (seconds, micros): (i64, i64) = reply.convert()?;
        let reading = seconds.saturating_mul(1000).saturating_add(micros / 1000);
        self.time.learn(reading);
        Ok(reading)
    }

    /// For a script that did nothing because it was past `until`, and said what time it was: learns that, and returns if
    /// there is time to ask again, as there is when this replica did not know Redis's clock yet.
    pub fn too_late(&self, now: &Value, until: Instant, script: &Script) -> Result<(), RedisError> {
        self.time.learn(now.as_i64().ok_or_else(|| script.unexpected_reply())?);
        if Instant::now() < until { Ok(()) } else { Err(RedisError::TooLate) }
    }

    /// When a call that begins now must have ended.
    pub fn deadline(&self) -> Instant {
        Instant::now() + self.call_timeout
    }

    /// Runs `script` once, or not at all if it cannot be sent before `until`. If it was sent before and there is no answer
    /// until then, it may still run, unless it is told not to.
    pub async fn run<R: FromValue>(
        &self,
        script: &Script,
        keys: &[String],
        arguments: Vec<Value>,
        until: Instant,
    ) -> Result<R, RedisError> {
        Ok(self.run_on(self.lane, script, keys, arguments, until).await?.1.convert()?)
    }

    /// Like [`Self::run`], but after `until`, and after `not_after` by Redis's clock, it does nothing any more. Such a script
    /// is given that moment before its other arguments, and answers `{ 0, now }` when it is over.
    pub async fn run_in_time(
        &self,
        script: &Script,
        keys: &[String],
        arguments: &[Value],
        until: Instant,
        not_after: i64,
    ) -> Result<Vec<Value>, RedisError> {
        loop {
            let give_up = Value::from(self.time.at(until).min(not_after));
            let arguments = std::iter::once(give_up).chain(arguments.iter().cloned()).collect();
            let reply: Vec<Value> = self.run(script, keys, arguments, until).await?;
            match &reply[..] {
                [outcome, now] if outcome.as_i64() == Some(0) => {
                    self.too_late(now, until, script)?;
                    if now.as_i64() >= Some(not_after) {
                        return Err(RedisError::TooLate);
                    }
                }
                _ => return Ok(reply),
            }
        }
    }

    /// Like [`Self::run`], for a change that must not be lost: where so configured, it has happened only when enough of
    /// Redis's own replicas have it too.
    pub async fn commit<R: FromValue>(
        &self,
        script: &Script,
        keys: &[String],
        arguments: Vec<Value>,
        until: Instant,
    ) -> Result<R, RedisError> {
        let lane = if self.ack_replicas == 0 { self.lane } else { Lane::Commits };
        let (connection, reply) = self.run_on(lane, script, keys, arguments, until).await?;
        if self.ack_replicas == 0 {
            return Ok(reply.convert()?);
        }
        // WAIT speaks of what its own connection wrote, and no other one will do.
        let milliseconds = millis(until.saturating_duration_since(Instant::now())).max(1);
        let span = Span::redis("WAIT");
        let acknowledged = connection.wait(self.ack_replicas, milliseconds, until).await;
        span.end(&acknowledged);
        let acknowledged: i64 = acknowledged?.convert()?;
        if acknowledged < self.ack_replicas {
            return Err(RedisError::NotAcknowledged(acknowledged));
        }
        Ok(reply.convert()?)
    }

    async fn run_on(
        &self,
        lane: Lane,
        script: &Script,
        keys: &[String],
        arguments: Vec<Value>,
        until: Instant,
    ) -> Result<(Arc<Connection>, Value), RedisError> {
        let (started, span) = (Instant::now(), Span::redis(script.name()));
        let size = script.is_storing().then(|| under_way::size(&arguments));
        let call = script.evaluate((&self.nodes, lane), keys, arguments, until);
        let result = match size {
            Some(size) => self.stored.around(size, call).await,
            None => call.await,
        };
        histogram!("gatefold_redis_script_duration_seconds", "script" => script.name()).record(started.elapsed());
        span.end(&result);
        if let Err(error) = &result {
            counter!("gatefold_redis_script_errors_total", "script" => script.name()).increment(1);
            // Most often the first to know: a silent network breaks no connection for a while. Whoever has less patience
            // than a call may have, as limits do, knows nothing: a moment's slowness is no absence.
            let is_absence = match error {
                RedisError::Timeout(_) => started.elapsed() * 2 >= self.call_timeout,
                RedisError::TooMuch => false,
                _ => true,
            };
            if is_absence {
                self.note_absence(keys);
            }
        }
        result
    }

    fn note_absence(&self, keys: &[String]) {
        if let Some(node) = self.nodes.now().node_of(keys.first().map_or(0, |key| slot_of(key))) {
            node.away.note();
        }
    }

    /// Connections of their own for subscriptions, and what comes from them; so much may wait to be heard.
    pub fn subscriber(&self, backlog: usize) -> (Subscriber, mpsc::Receiver<Heard>) {
        Subscriber::begin(&self.nodes, backlog, &self.life)
    }

    /// Sends one command about a key, in the order of the scripts over that key.
    pub async fn command<R: FromValue>(
        &self,
        command: &'static str,
        key: String,
        arguments: &[&str],
        until: Instant,
    ) -> Result<R, RedisError> {
        let (started, span) = (Instant::now(), Span::redis(command));
        let arguments = arguments.iter().map(|argument| Value::from(*argument)).collect();
        let result = self.send(command, key, arguments, until).await;
        measure(command, started, span, &result);
        result
    }

    /// Sends commands together, each about a key, and returns the replies in order; `name` is what they are called in
    /// metrics, which count them as failed if any is.
    pub async fn pipeline<R: FromValue>(
        &self,
        name: &'static str,
        commands: Vec<(&'static str, String, Vec<Value>)>,
        until: Instant,
    ) -> Vec<Result<R, RedisError>> {
        let (started, span) = (Instant::now(), Span::redis(name));
        // The client library writes together what is there to be written.
        let sent = commands.into_iter().map(|(command, key, arguments)| self.send(command, key, arguments, until));
        let results = join_all(sent).await;
        let failed = results.iter().find_map(|result| result.as_ref().err());
        measure(name, started, span, &failed.map_or(Ok(()), Err));
        results
    }

    async fn send<R: FromValue>(
        &self,
        command: &'static str,
        key: String,
        arguments: Vec<Value>,
        until: Instant,
    ) -> Result<R, RedisError> {
        let slot = slot_of(&key);
        let words: Vec<_> = std::iter::once(Value::from(key)).chain(arguments).collect();
        let (_, reply) = self.nodes.call(self.lane, slot, command, &words, until).await?;
        Ok(reply.convert()?)
    }
}

/// For each primary a key that it would have, and that nobody uses.
fn probes(map: &Map) -> impl Iterator<Item = String> {
    map.nodes.iter().filter_map(|node| {
        let mut keys = (0..100_000_u32).map(|number| format!("ready:{{{number}}}"));
        keys.find(|key| map.view.primary_of(slot_of(key)) == Some(&node.address))
    })
}

/// Notes how long a command took that is no script.
fn measure<R, E: std::fmt::Display>(name: &'static str, started: Instant, span: Span, result: &Result<R, E>) {
    histogram!("gatefold_redis_command_duration_seconds", "command" => name).record(started.elapsed());
    if result.is_err() {
        counter!("gatefold_redis_command_errors_total", "command" => name).increment(1);
    }
    span.end(result);
}

#[cfg(test)]
mod tests;
