//! What can go wrong.

use std::time::Duration;

use fred::error::Error;

/// Why there is no answer from Redis. Whether the command was executed is not known.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// Refusing, or answering with an error.
    #[error("redis: {0}")]
    Command(#[from] Error),
    /// No answer in time.
    #[error("redis did not answer within {0:?}")]
    Timeout(Duration),
    /// The connection ended before there was an answer.
    #[error("the connection to redis at {0} was lost")]
    Lost(String),
    /// It answered after it had been silent, and could not be confirmed to be still the primary: the change may be lost.
    #[error("redis at {0} could not be confirmed to be the primary")]
    Unconfirmed(String),
    /// The change was made, but not by enough of Redis's replicas: it may be lost in a fail-over.
    #[error("only {0} replicas of redis acknowledged a change")]
    NotAcknowledged(i64),
    /// A script was told when it would be given up, and Redis came to it only then. Nothing was changed.
    #[error("redis came to it too late")]
    TooLate,
    /// Nothing was sent.
    #[error("too much waits for redis already")]
    TooMuch,
    /// A script answered what it never should: the replicas or the scripts are of different versions.
    #[error("unexpected reply of the script `{0}`")]
    Reply(&'static str),
}
