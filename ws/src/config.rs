//! Configuration of the WebSocket replica.

use std::time::Duration;

use clap::Parser;
use gatefold_shared::config::{
    ListenConfig, LogConfig, ProxyConfig, PublicKeyConfig, PublishConfig, StoreConfig, duration, positive_duration,
};
use gatefold_shared::limit::Limit;
use gatefold_shared::trace::TraceConfig;

/// Gatefold's WebSocket replica: GET /ws, /health and /ready on one port, /metrics on another.
///
/// Every setting is a flag and an environment variable; the flag wins. Durations are 900 (seconds), 90s, 15m, 12h or 7d.
#[derive(Parser, Clone, Debug)]
#[command(name = "gatefold-ws", version, max_term_width = 100)]
pub struct Config {
    /// Port for clients
    #[arg(long, env = "PORT", default_value_t = 3001)]
    pub port: u16,
    /// Port for Prometheus (/metrics); not for clients
    #[arg(long, env = "METRICS_PORT", default_value_t = 9101)]
    pub metrics_port: u16,
    /// How long before its access token expires a socket is told so
    #[arg(long, env = "TOKEN_WARNING", default_value = "120s", value_parser = duration)]
    pub token_warning: Duration,
    /// How long a socket whose access token has expired may still bring a new one before it is closed
    #[arg(long, env = "REAUTH_GRACE", default_value = "30s", value_parser = duration)]
    pub reauth_grace: Duration,
    /// How long a client whose connection was lost has to come back before others hear that its user left
    #[arg(long, env = "PRESENCE_GRACE", default_value = "5s", value_parser = duration)]
    pub presence_grace: Duration,
    /// How long a user who types is shown as typing, unless the client says so again
    #[arg(long, env = "TYPING_EXPIRY", default_value = "6s", value_parser = positive_duration)]
    pub typing_expiry: Duration,
    /// Nobody is shown as typing in rooms with more users
    #[arg(long, env = "TYPING_ROOM_LIMIT", default_value_t = 200)]
    pub typing_room_limit: usize,
    /// Sockets that one user may have open, on all replicas together
    #[arg(long, env = "MAX_SOCKETS_PER_USER", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_sockets_per_user: u32,
    /// Joins, and questions who is in a room, of one user over all sockets and replicas, as count/period:burst
    #[arg(long, env = "LIMIT_USER_JOINS", default_value = "20/1s:400")]
    pub limit_user_joins: Limit,
    #[command(flatten)]
    pub publish: PublishConfig,
    #[command(flatten)]
    pub listen: ListenConfig,
    #[command(flatten)]
    pub store: StoreConfig,
    #[command(flatten)]
    pub proxy: ProxyConfig,
    #[command(flatten)]
    pub public_keys: PublicKeyConfig,
    #[command(flatten)]
    pub log: LogConfig,
    #[command(flatten)]
    pub trace: TraceConfig,
}
