//! The life of a replica: its tasks, and how it ends.
//!
//! First signal (SIGTERM, SIGINT): *draining*. Not ready any more, what is in flight is finished, and then everything is
//! *stopped*. A second signal or the deadline stops at once. A task that was meant to run for ever and ends is a failure
//! of the process, whether it returned or panicked: half a replica is worse than none, since another one can take its place.

use std::{
    future::Future,
    io,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::FutureExt;
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
#[error("the task `{0}` ended by itself")]
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

    /// Starts a task that runs as long as the replica; if it ends by itself or panics, the replica goes down with an error.
    /// It is dropped at its next await when the replica stops. A draining replica needs it no more: if it returns then, that
    /// is no failure.
    pub fn spawn_forever(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let life = self.clone();
        self.spawn(async move {
            // Nothing of the task is used after a panic.
            let panicked = AssertUnwindSafe(task).catch_unwind().await.is_err();
            if panicked || !life.draining.is_cancelled() {
                error!(task.name = name, panicked, "a task that should run for ever ended");
                life.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(name);
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
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        failure.map_or(Ok(()), |name| Err(TaskEnded(name)))
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    /// As long as no machine needs: what is waited for comes or does not.
    const DEADLINE: Duration = Duration::from_mins(1);

    async fn end_with(task: impl Future<Output = ()> + Send + 'static) -> Result<(), TaskEnded> {
        let life = Lifecycle::without_signals();
        life.spawn_forever("the task", task);
        timeout(DEADLINE, life.run(DEADLINE, pending())).await.expect("the replica ends")
    }

    #[tokio::test]
    async fn a_task_that_returns_takes_the_replica_with_it() {
        assert!(end_with(ready(())).await.is_err());
    }

    #[tokio::test]
    async fn a_task_that_panics_takes_the_replica_with_it() {
        let panicking = async {
            tokio::task::yield_now().await;
            panic!("as the test wants it");
        };
        assert_eq!(end_with(panicking).await.unwrap_err().0, "the task");
    }

    #[tokio::test]
    async fn a_task_that_is_dropped_at_the_end_or_returns_while_draining_is_no_failure() {
        let life = Lifecycle::without_signals();
        life.spawn_forever("runs on", pending());
        let draining = life.draining.clone();
        life.spawn_forever("drains", async move { draining.cancelled().await });
        life.draining.cancel();
        assert!(life.run(DEADLINE, ready(())).await.is_ok());
    }
}
