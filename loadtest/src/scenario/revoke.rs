//! How soon a log-out is true everywhere: from its answer until each other REST replica refuses the access token, and
//! until each WebSocket replica has closed the session's socket there. The replica that logs out knows at once, so it is
//! not asked; which one it is must be known, so the log-outs go to the replicas in turn and not through the proxy.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use futures_util::future::{join, join_all};

use crate::bench::{Actor, Bench};
use crate::failure::Failure;
use crate::hall::deaf;
use crate::net::Endpoint;
use crate::record::Meter;
use crate::rest::Rest;
use crate::socket::{Opener, Socket};
use crate::user::{User, protected};

/// What a replica says when it closes a socket whose session was ended.
const SESSION_REVOKED: u16 = 4503;

struct Revokes {
    user: Arc<User>,
    /// Where it logs out.
    here: Rest,
    /// All the other REST replicas.
    elsewhere: Vec<Arc<Endpoint>>,
    ws: Vec<Opener>,
    /// One on each WebSocket replica.
    sockets: Vec<Socket>,
    meter: Arc<Meter>,
    logout: Arc<Meter>,
    refused: Arc<Meter>,
    closed: Arc<Meter>,
}

impl Actor for Revokes {
    async fn prepare(&mut self) -> Result<(), Failure> {
        self.sockets.clear();
        for opener in &self.ws {
            self.sockets.push(opener.open(&self.user, deaf()).await?);
        }
        Ok(())
    }

    async fn act(&mut self, intended: Instant) -> Result<(), Failure> {
        let asked = Instant::now();
        let session = self.user.client.lock().await.log_out_at(&mut self.here).await?;
        let answered = Instant::now();
        self.logout.succeeded(intended.max(asked), answered - asked);
        // Not tasks, which would end later than this when it is given up, and not be counted.
        let refused = self.elsewhere.iter().map(|at| refused(at, &session.access, answered, &self.refused));
        let closed = self.sockets.drain(..).map(|socket| closed(socket, answered, &self.closed));
        let (refused, closed) = join(join_all(refused), join_all(closed)).await;
        refused.into_iter().chain(closed).collect()
    }

    fn meter(&self) -> &Meter {
        &self.meter
    }
}

/// Asks again and again; the time until the answer that refuses is the most that it can have taken.
async fn refused(endpoint: &Arc<Endpoint>, access: &str, answered: Instant, meter: &Meter) -> Result<(), Failure> {
    let mut rest = Rest::new(Arc::clone(endpoint));
    let awaited = meter.awaiting(answered);
    loop {
        match protected(&mut rest, access).await {
            Ok(()) => {}
            Err(failure) if failure.is_unauthorized() => {
                awaited.succeeded(answered.elapsed());
                return Ok(());
            }
            Err(failure) => {
                awaited.failed(&failure);
                return Err(failure);
            }
        }
    }
}

/// One that was closed before the answer came took no time.
async fn closed(mut socket: Socket, answered: Instant, meter: &Meter) -> Result<(), Failure> {
    let awaited = meter.awaiting(answered);
    let end = socket.ended().await;
    if matches!(end.failure, Failure::Closed { code: SESSION_REVOKED, .. }) {
        awaited.succeeded(end.at.saturating_duration_since(answered));
        return Ok(());
    }
    awaited.failed(&end.failure);
    Err(end.failure)
}

fn others(all: &[Arc<Endpoint>], but: usize) -> Vec<Arc<Endpoint>> {
    all.iter().enumerate().filter(|(number, _)| *number != but).map(|(_, endpoint)| Arc::clone(endpoint)).collect()
}

pub(super) async fn run(bench: &Bench<'_>) -> Result<()> {
    let target = bench.target;
    let ws: Vec<Opener> = target.ws.iter().map(|endpoint| target.opener(endpoint)).collect();
    let actors = bench.users.iter().enumerate().map(|(number, user)| Revokes {
        user: Arc::clone(user),
        here: Rest::new(Arc::clone(&target.api[number % target.api.len()])),
        elsewhere: others(&target.api, number % target.api.len()),
        ws: ws.clone(),
        sockets: Vec::new(),
        meter: bench.meter("revoke"),
        logout: bench.meter("logout"),
        refused: bench.meter("refused"),
        closed: bench.meter("closed"),
    });
    bench.drive(actors.collect()).await.map(drop)
}
