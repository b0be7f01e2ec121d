//! The connection to Redis: how long we wait, what is sent twice (nothing), and what time it is there.
//!
//! Commands are never sent again by the client library: a script whose answer was lost may have run, and only its caller
//! knows whether it may run twice. Whoever gets an error from here does not know whether the change was made, or will be: a
//! call that is given up is not sent any more, but if it was sent already, Redis may come to it later. A script for which
//! that matters is given the moment of giving up.

mod away;
mod error;
pub mod keys;
mod script;
mod send;
mod stream_id;
mod time;
mod under_way;

use std::{sync::Arc, time::Duration};

pub use fred::types::{FromValue, Value};
use fred::{
    clients::{Client, Pool, SubscriberClient},
    interfaces::{ClientLike, EventInterface},
    prelude::{Builder, Config, ReconnectPolicy, TcpConfig},
    types::{ClusterHash, CustomCommand, config::UnresponsiveConfig},
    util::redis_keyslot,
};
use futures_util::future::join_all;
use metrics::{counter, histogram};
use secrecy::ExposeSecret;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout_at},
};

use self::{away::LastAway, send::send, under_way::UnderWay};
pub use self::{
    error::RedisError,
    script::Script,
    stream_id::StreamId,
    time::{RedisTime, millis},
};
use crate::{config::StoreConfig, lifecycle::Lifecycle, trace::Span};

/// Connections a replica. One carries tens of thousands of commands a second; a second one keeps a large reply from
/// delaying the rest.
const CONNECTIONS: usize = 2;
/// Calls about rooms that one replica has under way at once. Ten replicas whose scripts take 0.3 ms each fill 100 ms of Redis.
const ROOM_CALLS: usize = 32;
/// Commands that may wait on a connection while Redis is away; more fail at once. Those that were given up are not sent any
/// more, but stay in memory until Redis is back: see [`under_way`] for those that may be large.
const MAX_WAITING: usize = 20_000;

/// After Redis comes back, how long it takes until every replica has found it and put right what was left unfinished.
const SETTLING: Duration = Duration::from_secs(3);
/// The longest pause between attempts to connect, short because of the above.
const MAX_RECONNECT_MS: u32 = 250;

/// A handle to Redis; clones share its connections.
#[derive(Clone)]
pub struct Redis {
    pool: Pool,
    /// The connections of rooms: [`Self::rooms`].
    rooms: Pool,
    /// The places for calls of rooms.
    room_calls: Arc<Semaphore>,
    /// The places that calls of this handle take, if there is a bound.
    places: Option<Arc<Semaphore>>,
    time: RedisTime,
    builder: Builder,
    /// For changes that wait for Redis's replicas: WAIT holds up whatever comes after it on its connection.
    commits: Option<Pool>,
    ack_replicas: i64,
    call_timeout: Duration,
    last_away: LastAway,
    /// What scripts bring that store what users like.
    stored: Arc<UnderWay>,
}

impl Redis {
    /// Begins to connect, and goes on trying for ever: Redis may come later than we do.
    pub fn connect(config: &StoreConfig, life: &Lifecycle) -> Result<Self, RedisError> {
        let call_timeout = config.call_timeout();
        let mut redis = Config::from_url(config.redis_url.expose_secret())?;
        redis.fail_fast = false;
        if redis.password.is_none() {
            redis.password = config.redis_password.as_ref().map(|password| password.expose_secret().to_owned());
        }
        let mut builder = Builder::from_config(redis);
        builder.with_connection_config(|connection| {
            connection.connection_timeout = call_timeout;
            connection.internal_command_timeout = call_timeout;
            connection.max_command_attempts = 1;
            connection.max_command_buffer_len = MAX_WAITING;
            connection.unresponsive =
                UnresponsiveConfig { max_timeout: Some(call_timeout * 2), interval: Duration::from_millis(500) };
            connection.tcp = TcpConfig { nodelay: Some(true), ..TcpConfig::default() };
        });
        builder.with_performance_config(|performance| performance.broadcast_channel_capacity = 32);
        let mut policy = ReconnectPolicy::new_exponential(0, 20, MAX_RECONNECT_MS, 2);
        policy.set_jitter(20);
        builder.set_policy(policy);
        let pool = builder.build_pool(CONNECTIONS)?;
        let rooms = builder.build_pool(CONNECTIONS)?;
        let commits = (config.redis_ack_replicas > 0).then(|| builder.build_pool(CONNECTIONS)).transpose()?;
        let last_away = LastAway::default();
        for client in pool.clients().iter().chain(rooms.clients()).chain(commits.iter().flat_map(Pool::clients)) {
            life.spawn(away::watch(client.reconnect_rx(), client.error_rx(), last_away.clone()));
        }
        drop(pool.connect());
        drop(rooms.connect());
        drop(commits.as_ref().map(Pool::connect));
        let ack_replicas = i64::from(config.redis_ack_replicas);
        let (time, stored) = (RedisTime::default(), Arc::default());
        Ok(Self {
            pool,
            rooms,
            room_calls: Arc::new(Semaphore::new(ROOM_CALLS)),
            places: None,
            time,
            builder,
            commits,
            ack_replicas,
            call_timeout,
            last_away,
            stored,
        })
    }

    /// The handle for what happens in rooms. It has connections of its own, and a bound on how many calls are under way, so
    /// that sessions and revocations never wait behind rooms.
    #[must_use]
    pub fn rooms(&self) -> Self {
        Self { pool: self.rooms.clone(), places: Some(Arc::clone(&self.room_calls)), ..self.clone() }
    }

    /// How long one call may take.
    pub fn call_timeout(&self) -> Duration {
        self.call_timeout
    }

    /// The clock of Redis, as far as it is known here.
    pub fn time(&self) -> &RedisTime {
        &self.time
    }

    /// Whether it is some time since this replica last found Redis again. While it is not, the others may still be busy
    /// putting right what they could not finish when it went.
    pub fn is_settled(&self) -> bool {
        // What is asked while Redis is away waits, and is the first that Redis hears when it is back.
        if !self.pool.clients().iter().all(ClientLike::is_connected) {
            self.last_away.note();
        }
        self.last_away.is_over_for(SETTLING)
    }

    /// Asks Redis, on every connection, whether it is there.
    pub async fn ping(&self) -> Result<(), RedisError> {
        let until = self.deadline();
        for client in self.pool.clients() {
            let ping = CustomCommand::new_static("PING", ClusterHash::Random, false);
            let _pong: Value = send(client, ping, Vec::new(), until).await?;
        }
        Ok(())
    }

    /// Reads the clock of Redis: milliseconds since the epoch.
    pub async fn read_time(&self, until: Instant) -> Result<i64, RedisError> {
        let time = CustomCommand::new_static("TIME", ClusterHash::Random, false);
        let (seconds, micros): (i64, i64) = send(self.pool.next(), time, Vec::new(), until).await?;
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

    /// Waits for a place among the calls that are under way.
    async fn place(&self, until: Instant) -> Result<Option<SemaphorePermit<'_>>, RedisError> {
        let Some(places) = &self.places else { return Ok(None) };
        let patience = until.saturating_duration_since(Instant::now());
        // Nobody closes it.
        Ok(timeout_at(until, places.acquire()).await.map_err(|_| RedisError::Timeout(patience))?.ok())
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
        self.run_on(of_key(&self.pool, keys), script, keys, arguments, until).await
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
        let client = of_key(self.commits.as_ref().unwrap_or(&self.pool), keys);
        let reply = self.run_on(client, script, keys, arguments, until).await?;
        if self.ack_replicas == 0 {
            return Ok(reply);
        }
        // WAIT speaks of what its own connection wrote.
        let slot = keys.first().map_or(0, |key| redis_keyslot(key.as_bytes()));
        let wait = CustomCommand::new_static("WAIT", ClusterHash::Custom(slot), false);
        let patience = until.saturating_duration_since(Instant::now());
        let milliseconds = millis(patience).max(1);
        let span = Span::redis("WAIT");
        let arguments = vec![Value::from(self.ack_replicas), Value::from(milliseconds)];
        let acknowledged = send(client, wait, arguments, until).await;
        span.end(&acknowledged);
        let acknowledged: i64 = acknowledged?;
        if acknowledged < self.ack_replicas { Err(RedisError::NotAcknowledged(acknowledged)) } else { Ok(reply) }
    }

    async fn run_on<R: FromValue>(
        &self,
        client: &Client,
        script: &Script,
        keys: &[String],
        arguments: Vec<Value>,
        until: Instant,
    ) -> Result<R, RedisError> {
        let _place = self.place(until).await?;
        let (started, span) = (Instant::now(), Span::redis(script.name()));
        let size = script.is_storing().then(|| under_way::size(&arguments));
        let call = script.evaluate(client, keys, arguments, until);
        let result = match size {
            Some(size) => self.stored.around(size, call).await,
            None => call.await,
        };
        histogram!("redis_script_duration_seconds", "script" => script.name()).record(started.elapsed());
        span.end(&result);
        if let Err(error) = &result {
            counter!("redis_script_errors_total", "script" => script.name()).increment(1);
            // Most often the first to know: a silent network breaks no connection for a while. Whoever has less patience
            // than a call may have, as limits do, knows nothing: a moment's slowness is no absence.
            let is_absence = match error {
                RedisError::Timeout(_) => started.elapsed() * 2 >= self.call_timeout,
                RedisError::TooMuch => false,
                _ => true,
            };
            if is_absence {
                self.last_away.note();
            }
        }
        result
    }

    /// A connection of its own for subscriptions. It connects, and connects again, by itself; whoever uses it subscribes
    /// at each [`EventInterface::reconnect_rx`].
    pub fn subscriber(&self, backlog: usize) -> Result<SubscriberClient, RedisError> {
        let mut builder = self.builder.clone();
        builder.with_performance_config(|performance| performance.broadcast_channel_capacity = backlog);
        Ok(builder.build_subscriber_client()?)
    }

    /// Sends one command about a key, in the order of the scripts over that key.
    pub async fn command<R: FromValue>(
        &self,
        command: &'static str,
        key: String,
        arguments: &[&str],
        until: Instant,
    ) -> Result<R, RedisError> {
        let _place = self.place(until).await?;
        let (started, span) = (Instant::now(), Span::redis(command));
        let custom = CustomCommand::new_static(command, ClusterHash::FirstKey, false);
        let client = of_key(&self.pool, std::slice::from_ref(&key));
        let arguments = arguments.iter().map(|argument| Value::from(*argument));
        let words = std::iter::once(Value::from(key)).chain(arguments).collect::<Vec<_>>();
        let result = send(client, custom, words, until).await;
        measure(command, started, span, &result);
        result
    }

    /// Sends commands together, and returns the replies in order; `name` is what they are called in metrics.
    pub async fn pipeline<R: FromValue>(
        &self,
        name: &'static str,
        commands: Vec<(CustomCommand, Vec<Value>)>,
        until: Instant,
    ) -> Result<Vec<R>, RedisError> {
        let _place = self.place(until).await?;
        let (started, span) = (Instant::now(), Span::redis(name));
        // The client library writes together what is there to be written, and only of single commands it forgets those that
        // were given up.
        let client = self.pool.next();
        let commands = commands.into_iter().map(|(command, arguments)| send(client, command, arguments, until));
        let result = join_all(commands).await.into_iter().collect();
        measure(name, started, span, &result);
        result
    }
}

/// Notes how long a command took that is no script.
fn measure<R>(name: &'static str, started: Instant, span: Span, result: &Result<R, RedisError>) {
    histogram!("redis_command_duration_seconds", "command" => name).record(started.elapsed());
    if result.is_err() {
        counter!("redis_command_errors_total", "command" => name).increment(1);
    }
    span.end(result);
}

/// The connection for scripts over these keys: always the same one, so that what is asked first happens first.
fn of_key<'a>(pool: &'a Pool, keys: &[String]) -> &'a Client {
    let slot = keys.first().map_or(0, |key| redis_keyslot(key.as_bytes()));
    &pool.clients()[usize::from(slot) % pool.clients().len()]
}

#[cfg(test)]
mod tests;
