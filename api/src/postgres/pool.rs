//! Which connections of the pool are trusted.
//!
//! A connection may be dead although nobody has closed it (a NAT forgot it, the server's machine is gone), or lead to a server
//! that is the primary no more. Both come to all connections at once. So each is tried before it is used and after it was,
//! and where one fails, all that were made before that moment are closed instead of being used.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use metrics::counter;
use sqlx::{Executor, PgConnection, Row, pool::PoolConnectionMetadata, postgres::PgPoolOptions};
use tokio::time::timeout;
use tracing::warn;

/// Idle for longer than this a connection is closed, before a NAT may have forgotten it: those of the large clouds do after 4
/// to 6 minutes. The pool looks for them as often, so that one may be idle for twice as long; none is used after this time.
const IDLE: Duration = Duration::from_secs(100);
/// Older than this a connection is closed.
const LIFETIME: Duration = Duration::from_mins(30);
/// A connection to a server that takes no writes is kept for so long: the next one may find the primary.
const READ_ONLY: Duration = Duration::from_secs(1);

/// The pool's options: how many connections, how long anybody waits for one, and which of them are used.
pub(super) fn options(size: u32, call_timeout: Duration) -> PgPoolOptions {
    // Whatever else the call takes has to fit into its time: another connection, if this one is dead, and the query.
    let before = Trial { trust: Trust::default(), patience: call_timeout / 4 };
    let after = Trial { patience: call_timeout, ..before.clone() };
    PgPoolOptions::new()
        .max_connections(size)
        .acquire_timeout(call_timeout)
        .idle_timeout(IDLE)
        .max_lifetime(LIFETIME)
        // The trial does.
        .test_before_acquire(false)
        .before_acquire(move |connection, metadata| {
            let trial = before.clone();
            Box::pin(async move { trial.passes(connection, metadata).await })
        })
        // Also bounds how long a connection without an answer keeps its place in the pool.
        .after_release(move |connection, metadata| {
            let trial = after.clone();
            Box::pin(async move { trial.passes(connection, metadata).await })
        })
}

/// When one connection was last found to be useless; clones are the same.
#[derive(Clone, Default)]
struct Trust(Arc<Mutex<Option<Instant>>>);

impl Trust {
    /// From now on no connection is trusted that was made before.
    fn lose(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether a connection of this age is not trusted.
    fn is_lost_at(&self, age: Duration) -> bool {
        let lost_at = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lost_at.is_some_and(|lost_at| lost_at.elapsed() < age)
    }
}

/// Why a connection is closed that nobody asked to close: a label of metrics.
#[derive(Clone, Copy)]
enum Fault {
    /// No answer in time.
    Silent,
    /// The network or the server has ended it.
    Lost,
    /// The server takes no writes.
    ReadOnly,
    /// One as old as this was one of the above.
    Distrusted,
    /// It was not used for too long.
    Idle,
    /// The answer to an earlier query was an error: nobody knows how far it came.
    Unfinished,
}

impl Fault {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Lost => "lost",
            Self::ReadOnly => "read_only",
            Self::Distrusted => "distrusted",
            Self::Idle => "idle",
            Self::Unfinished => "unfinished",
        }
    }

    /// Whether what is wrong with one is wrong with all of its age.
    const fn is_shared(self) -> bool {
        matches!(self, Self::Silent | Self::Lost | Self::ReadOnly)
    }
}

/// A short question to the server.
#[derive(Clone)]
struct Trial {
    trust: Trust,
    patience: Duration,
}

impl Trial {
    /// Whether the connection may be used; after an error it is dropped without a goodbye.
    async fn passes(
        &self,
        connection: &mut PgConnection,
        metadata: PoolConnectionMetadata,
    ) -> Result<bool, sqlx::Error> {
        let Err((fault, error)) = self.judge(connection, &metadata).await else { return Ok(true) };
        counter!("gatefold_postgres_connections_closed_total", "why" => fault.as_str()).increment(1);
        if fault.is_shared() {
            warn!(
                why = fault.as_str(),
                error = error.as_ref().map(tracing::field::display),
                "a connection to postgres is of no use: closing all that are as old"
            );
            self.trust.lose();
        }
        error.map_or(Ok(false), Err)
    }

    async fn judge(
        &self,
        connection: &mut PgConnection,
        metadata: &PoolConnectionMetadata,
    ) -> Result<(), (Fault, Option<sqlx::Error>)> {
        if self.trust.is_lost_at(metadata.age) {
            return Err((Fault::Distrusted, None));
        }
        if metadata.idle_for > IDLE {
            return Err((Fault::Idle, None));
        }
        match timeout(self.patience, is_read_only(connection)).await {
            Ok(Ok(true)) if metadata.age >= READ_ONLY => Err((Fault::ReadOnly, None)),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err((fault_of(&error), Some(error))),
            Err(_) => Err((Fault::Silent, Some(io::Error::from(io::ErrorKind::TimedOut).into()))),
        }
    }
}

/// SQLSTATE 57P01 to 57P03 and 08: the server ends or has ended the session.
fn fault_of(error: &sqlx::Error) -> Fault {
    match error {
        sqlx::Error::Database(error)
            if !error.code().is_some_and(|code| code.starts_with("57P") || code.starts_with("08")) =>
        {
            Fault::Unfinished
        }
        _ => Fault::Lost,
    }
}

/// Whether the server is a standby, or was told to take no writes.
async fn is_read_only(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let row = connection.fetch_one("SHOW transaction_read_only").await?;
    Ok(row.try_get::<&str, _>(0)? == "on")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trust_is_lost_in_what_was_made_before() {
        let trust = Trust::default();
        assert!(!trust.is_lost_at(Duration::from_mins(1)), "nothing has happened yet");
        trust.lose();
        assert!(trust.is_lost_at(Duration::from_mins(1)));
        assert!(!trust.is_lost_at(Duration::ZERO), "made since");
    }
}
