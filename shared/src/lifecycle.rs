//! The life of a replica: its tasks, and how it ends.
//!
//! First signal (SIGTERM, SIGINT): *draining*. Not ready any more, what is in flight is finished, and then everything is
//! *stopped*. A second signal or the deadline stops at once. A task that was meant to run for ever and ends is a failure
//! of the process: half a replica is worse than none, since another one can take its place.

use std::{future::Future, io, sync::Arc, sync::Mutex, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

/// A handle to the life of the process; clones are the same life.
#[derive(Clone)]
pub struct Lifecycle {
    draining: CancellationToken,
    stopped: CancellationToken,
    tasks: TaskTracker,
    failure: Arc<Mutex<Option<&'static str>>>,
}

/// A task that was meant to run for ever ended.
#[derive(Debug, thiserror::Error)]
#[error("the task `{0}` ended although the replica was not shutting down")]
pub struct TaskEnded(&'static str);

impl Lifecycle {
    /// A life that begins now; signals are listened to from here on.
    pub fn begin() -> io::Result<Self> {
        let lifecycle = Self::without_signals();
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Self::spawn_untracked(lifecycle.clone().obey(terminate, interrupt));
        Ok(lifecycle)
    }

    /// A life that signals end as they end any program: that of a command.
    pub fn without_signals() -> Self {
        Self {
            draining: CancellationToken::new(),
            stopped: CancellationToken::new(),
            tasks: TaskTracker::new(),
            failure: Arc::default(),
        }
    }

    async fn obey(self, mut terminate: Signal, mut interrupt: Signal) {
        let mut next = async || tokio::select! { _ = terminate.recv() => (), _ = interrupt.recv() => () };
        next().await;
        info!("asked to shut down: draining");
        self.draining.cancel();
        next().await;
        warn!("asked to shut down again: stopping at once");
        self.stopped.cancel();
    }

    /// Cancelled when the replica should finish what it does and take nothing new.
    pub fn draining(&self) -> &CancellationToken {
        &self.draining
    }

    /// Cancelled when everything must end now.
    pub fn stopped(&self) -> &CancellationToken {
        &self.stopped
    }

    /// Starts a task that runs as long as the replica; if it ends by itself the replica goes down with an error. It is
    /// dropped at its next await when the replica stops.
    pub fn spawn_forever(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let life = self.clone();
        self.spawn(async move {
            task.await;
            if !life.draining.is_cancelled() {
                error!(task.name = name, "a task that should run for ever ended");
                life.failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(name);
                life.draining.cancel();
                life.stopped.cancel();
            }
        });
    }

    /// Starts a task that ends by itself, such as a connection. It is dropped at its next await when the replica stops,
    /// and the replica does not end before it.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stopped = self.stopped.clone();
        Self::spawn_untracked(self.tasks.track_future(async move {
            let _ = stopped.run_until_cancelled(task).await;
        }));
    }

    #[expect(clippy::disallowed_methods, reason = "this is the place that the lint sends everybody to")]
    fn spawn_untracked(task: impl Future<Output = ()> + Send + 'static) {
        drop(tokio::spawn(task));
    }

    /// Waits for the end: the signal, then for `serving` (which finishes what is in flight), at most `deadline` long, then
    /// for the tasks.
    pub async fn run(self, deadline: Duration, serving: impl Future<Output = ()>) -> Result<(), TaskEnded> {
        let overdue = async {
            self.draining.cancelled().await;
            sleep(deadline).await;
            warn!("draining took longer than its deadline: stopping with work in flight");
        };
        tokio::select! { () = serving => (), () = overdue => (), () = self.stopped.cancelled() => () }
        self.stopped.cancel();
        self.tasks.close();
        if timeout(Duration::from_secs(2), self.tasks.wait()).await.is_err() {
            warn!(tasks = self.tasks.len(), "tasks did not end in time");
        }
        info!("stopped");
        let failure = self.failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        failure.map_or(Ok(()), |name| Err(TaskEnded(name)))
    }
}
