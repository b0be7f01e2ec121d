//! Sending one command, for as long as its answer matters.

use fred::{
    clients::Client,
    error::ErrorKind,
    interfaces::ClientLike,
    types::{CustomCommand, FromValue, Value, config::Options},
};
use tokio::time::Instant;

use super::RedisError;

/// Sends one command and waits for the answer until then. What was not sent by then never is: the client library must know
/// for how long it matters, for it would keep what nobody waits for any more, and send it when Redis is back.
pub(super) async fn send<R: FromValue>(
    client: &Client,
    command: CustomCommand,
    arguments: Vec<Value>,
    until: Instant,
) -> Result<R, RedisError> {
    let patience = until.saturating_duration_since(Instant::now());
    if patience.is_zero() {
        // To the client library it would mean for ever.
        return Err(RedisError::Timeout(patience));
    }
    let options = Options { timeout: Some(patience), ..Options::default() };
    client.with_options(&options).custom(command, arguments).await.map_err(|error| match error.kind() {
        ErrorKind::Timeout => RedisError::Timeout(patience),
        _ => error.into(),
    })
}
