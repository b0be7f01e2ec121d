//! One run of one scenario: its warm-up, what is measured, and what the servers used meanwhile.

use std::convert::Infallible;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cli::Sizes;
use crate::failure::Failure;
use crate::pace::{Load, Pace};
use crate::progress::Progress;
use crate::record::{Meter, Recorder};
use crate::sample::{Harness, HarnessUse, Sample, Servers};
use crate::setup::within;
use crate::target::Target;
use crate::user::User;

/// How often what was measured is summed up and shown.
const TICK: Duration = Duration::from_secs(1);
/// How long a virtual user rests whose operation failed, so that a server in trouble is not hammered.
const REST: Duration = Duration::from_millis(100);

/// Everything that a scenario needs.
pub(crate) struct Bench<'a> {
    pub(crate) target: &'a Target,
    pub(crate) users: &'a [Arc<User>],
    pub(crate) sizes: &'a Sizes,
    pub(crate) plan: Plan,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) stop: CancellationToken,
    servers: tokio::sync::Mutex<&'a mut Servers>,
    progress: &'a Progress,
    outcome: Mutex<Outcome>,
}

/// How a scenario is run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) load: Load,
    pub(crate) warm_up: Duration,
    pub(crate) duration: Duration,
    pub(crate) timeout: Duration,
    pub(crate) seed: u64,
}

/// What is known at the end, beside what the recorder has.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) samples: Vec<Sample>,
    pub(crate) facts: Vec<Fact>,
    pub(crate) harness: Option<HarnessUse>,
    pub(crate) length: Duration,
}

/// A figure that belongs to one scenario.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Fact {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
}

/// Somebody who does one operation after the other.
pub(crate) trait Actor: Send + 'static {
    /// Gets ready for the next turn; not measured, unless it makes the turn late.
    fn prepare(&mut self) -> impl Future<Output = Result<(), Failure>> + Send {
        async { Ok(()) }
    }

    /// Does what it is about.
    fn act(&mut self, intended: Instant) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Where what it just did is counted.
    fn meter(&self) -> &Meter;
}

impl<'a> Bench<'a> {
    pub(crate) fn new(
        target: &'a Target,
        users: &'a [Arc<User>],
        sizes: &'a Sizes,
        plan: Plan,
        servers: &'a mut Servers,
        progress: &'a Progress,
        stop: CancellationToken,
    ) -> Self {
        Self {
            target,
            users,
            sizes,
            plan,
            recorder: Arc::new(Recorder::new()),
            stop,
            servers: tokio::sync::Mutex::new(servers),
            progress,
            outcome: Mutex::default(),
        }
    }

    /// How many sockets to open, where the scenario does not say.
    pub(crate) fn sockets(&self) -> usize {
        self.sizes.sockets.unwrap_or(self.users.len()).max(1)
    }

    /// The user that a socket of this number belongs to.
    pub(crate) fn user(&self, socket: usize) -> &Arc<User> {
        &self.users[socket % self.users.len()]
    }

    pub(crate) fn meter(&self, name: &'static str) -> Arc<Meter> {
        self.recorder.meter(name)
    }

    /// Has actors act by the plan: first to warm up, then measured. They come back in no order.
    pub(crate) async fn drive<A: Actor>(&self, actors: Vec<A>) -> Result<Vec<A>> {
        let Plan { load, warm_up, duration, timeout, .. } = self.plan;
        let start = Instant::now() + Duration::from_millis(20);
        let (from, end) = (start + warm_up, start + warm_up + duration);
        self.recorder.measure_from(from);
        let (pace, clock) = Pace::start(load, start, end, actors.len(), &self.stop)?;
        let mut acting = JoinSet::new();
        for actor in actors {
            acting.spawn(act(actor, Arc::clone(&pace), timeout, end));
        }
        let mut actors = Vec::new();
        self.measure(from, async {
            while let Some(done) = acting.join_next().await {
                actors.push(done.context("a virtual user panicked")?);
            }
            anyhow::Ok(())
        })
        .await?;
        if let Some(clock) = clock {
            tokio::task::spawn_blocking(move || clock.join()).await?.ok().context("the clock panicked")?;
        }
        if let Some(actor) = actors.first() {
            for intended in pace.never_started() {
                actor.meter().failed(intended, &Failure::NeverStarted);
            }
        }
        self.recorder.tick(Duration::ZERO);
        Ok(actors)
    }

    /// Does some work and measures what happens meanwhile, from `from` on.
    pub(crate) async fn measure<T>(&self, from: Instant, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.recorder.measure_from(from);
        if from > Instant::now() + Duration::from_millis(100) {
            self.progress.warming_up();
        }
        // Both go on all the time: the work takes samples too, and holds what this waits for while it does.
        let mut watch = None;
        let done = tokio::select! {
            done = work => done,
            never = self.watch(from, &mut watch) => match never {},
        };
        let Some((harness, mut last)) = watch else { return done }; // stopped, or without anything to do
        self.tick(&mut last).await;
        let mut outcome = self.outcome();
        outcome.length = from.elapsed();
        outcome.harness = Some(harness.used());
        drop(outcome);
        done
    }

    /// Ticks from `from` on. What is begun then is put into `watch`: the harness, and the last tick.
    async fn watch(&self, from: Instant, watch: &mut Option<(Harness, Instant)>) -> Infallible {
        tokio::time::sleep_until(from.into()).await;
        let (_, last) = watch.insert((Harness::watch(), Instant::now()));
        self.sample().await;
        loop {
            tokio::time::sleep_until((*last + TICK).into()).await;
            self.tick(last).await;
        }
    }

    async fn tick(&self, last: &mut Instant) {
        let length = last.elapsed();
        *last = Instant::now();
        self.recorder.tick(length);
        self.progress.show(&self.recorder);
        self.sample().await;
    }

    /// What the servers use now; also kept for the report. It may take as long as the servers do to say so.
    pub(crate) async fn sample(&self) -> Sample {
        let sample = self.servers.lock().await.sample().await;
        self.outcome().samples.push(sample.clone());
        sample
    }

    /// What is done now, for who watches.
    pub(crate) fn say(&self, doing: &str) {
        self.progress.say(doing);
    }

    /// Adds a figure to the report.
    pub(crate) fn fact(&self, name: impl Into<String>, value: f64, unit: &'static str) {
        self.outcome().facts.push(Fact { name: name.into(), value, unit });
    }

    pub(crate) fn into_outcome(self) -> (Arc<Recorder>, Outcome) {
        (self.recorder, self.outcome.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn outcome(&self) -> std::sync::MutexGuard<'_, Outcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The life of an actor.
async fn act<A: Actor>(mut actor: A, pace: Arc<Pace>, patience: Duration, end: Instant) -> A {
    let last_start = end + patience;
    loop {
        let asked = Instant::now();
        match within(patience, actor.prepare()).await {
            Ok(()) => {}
            Err(failure) => {
                actor.meter().failed(asked, &failure);
                tokio::time::sleep(REST).await;
                if Instant::now() < end && !pace.is_stopped() {
                    continue;
                }
                return actor;
            }
        }
        let Some(turn) = pace.next().await else { return actor };
        if Instant::now() > last_start {
            actor.meter().failed(turn.intended, &Failure::NeverStarted);
            continue;
        }
        let outcome = within(patience, actor.act(turn.intended)).await;
        actor.meter().record(turn.intended, &outcome);
        drop(turn);
        if outcome.is_err() {
            tokio::time::sleep(REST).await;
        }
    }
}
