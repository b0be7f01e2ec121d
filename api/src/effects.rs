//! Requests that may change something run to their end, whether or not their client still listens.
//!
//! The HTTP server drops a handler when its client disconnects. A handler that has just ended a session would then never
//! record it. So whatever may change state runs in a task of the replica; the connection only waits for its response. This
//! holds for every route, also for those that do not exist yet: no handler has to think of it.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use gatefold_shared::{lifecycle::Lifecycle, problem::Problem, trace::Parent};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use tracing::{error, warn};

use crate::state::App;

/// The requests that run in tasks of their own.
pub struct Effects {
    life: Lifecycle,
    running: TaskTracker,
    /// Requests whose clients are gone hold no connection, so that the limit of connections does not bound them.
    max_running: usize,
}

impl Effects {
    pub fn new(max_running: usize, life: &Lifecycle) -> Self {
        Self { life: life.clone(), running: TaskTracker::new(), max_running }
    }

    /// Waits for the requests whose clients are gone. To be called when no connection is left to bring new ones.
    pub async fn finish(&self) {
        self.running.close();
        self.running.wait().await;
    }
}

/// Middleware: runs a request that may change something in a task of the replica.
pub async fn complete(State(app): State<App>, request: Request, next: Next) -> Response {
    if request.method().is_safe() {
        return next.run(request).await;
    }
    let effects = &app.effects;
    if effects.running.len() >= effects.max_running {
        warn!(requests = effects.running.len(), "too many requests are running: refused one");
        return Problem::unavailable().into_response();
    }
    let (sender, response) = oneshot::channel();
    let work = Parent::around(Parent::current(), next.run(request));
    effects.life.spawn(effects.running.track_future(async move {
        let _ = sender.send(work.await); // The client may be gone.
    }));
    response.await.unwrap_or_else(|_| {
        if effects.life.stopped().is_cancelled() {
            return Problem::unavailable().into_response();
        }
        error!("a handler panicked");
        Problem::internal().into_response()
    })
}
