//! The settings of the REST replica.

mod cookie;

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use gatefold_shared::config::{
    ListenConfig, LogConfig, ProxyConfig, PublicKeyConfig, PublishConfig, StoreConfig, duration, positive_duration,
};
use gatefold_shared::{jwt::Verifier, trace::TraceConfig};
use secrecy::SecretString;

pub use self::cookie::{CookieConfig, CookieName, CookieNames};
use crate::limits::Limit;

/// Everything that can be set.
#[derive(Args, Clone, Debug)]
pub struct Config {
    /// Port for clients
    #[arg(long, env = "PORT", default_value_t = 3000)]
    pub port: u16,
    /// Port for Prometheus; not for clients
    #[arg(long, env = "METRICS_PORT", default_value_t = 9100)]
    pub metrics_port: u16,
    #[command(flatten)]
    pub listen: ListenConfig,
    #[command(flatten)]
    pub database: DatabaseConfig,
    #[command(flatten)]
    pub store: StoreConfig,
    #[command(flatten)]
    pub tokens: TokenConfig,
    #[command(flatten)]
    pub public_keys: PublicKeyConfig,
    #[command(flatten)]
    pub cookie: CookieConfig,
    #[command(flatten)]
    pub proxy: ProxyConfig,
    /// Whether anybody may register
    #[arg(long, env = "REGISTRATION", value_enum, default_value = "open")]
    pub registration: Registration,
    #[command(flatten)]
    pub passwords: PasswordConfig,
    #[command(flatten)]
    pub limits: LimitConfig,
    #[command(flatten)]
    pub publish: PublishConfig,
    #[command(flatten)]
    pub log: LogConfig,
    #[command(flatten)]
    pub trace: TraceConfig,
}

/// Who may add a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Registration {
    /// Anybody.
    Open,
    /// Administrators.
    Closed,
}

/// Postgres: one URL, or the original's five variables.
#[derive(Args, Clone, Debug)]
pub struct DatabaseConfig {
    /// Postgres, e.g. postgres://user:password@host:5432/name; without it, the `DB_`* settings say where
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, global = true)]
    pub database_url: Option<SecretString>,
    /// Postgres as the owner of the schema, for `migrate`, `user delete` and `audit erase` only; without it they use the above
    #[arg(long, env = "DATABASE_OWNER_URL", hide_env_values = true, global = true)]
    pub database_owner_url: Option<SecretString>,
    /// Postgres host
    #[arg(long, env = "DB_HOST", default_value = "postgres", global = true)]
    pub db_host: String,
    /// Postgres port
    #[arg(long, env = "DB_PORT", default_value_t = 5432, global = true)]
    pub db_port: u16,
    /// Postgres user
    #[arg(long, env = "DB_USER", default_value = "authuser", global = true)]
    pub db_user: String,
    /// Postgres password
    #[arg(long, env = "DB_PASSWORD", default_value = "authpass", hide_env_values = true, global = true)]
    pub db_password: SecretString,
    /// Postgres database
    #[arg(long, env = "DB_NAME", default_value = "authdb", global = true)]
    pub db_name: String,
    /// Connections to Postgres that this replica may hold
    #[arg(long, env = "DB_POOL_SIZE", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000), global = true)]
    pub db_pool_size: u32,
}

/// Access and refresh tokens.
#[derive(Args, Clone, Debug)]
pub struct TokenConfig {
    /// RSA private key (PEM) that signs access tokens
    #[arg(long, env = "PRIVATE_KEY_PATH", default_value = "keys/private.pem")]
    pub private_key_path: PathBuf,
    /// Keys of refresh tokens, a line each; files are separated by commas: the first key signs, all verify
    #[arg(long, env = "REFRESH_KEY_PATH", value_delimiter = ',', default_value = "keys/refresh.key")]
    pub refresh_key_path: Vec<PathBuf>,
    /// How long an access token lives
    #[arg(long, env = "ACCESS_TOKEN_EXPIRY", default_value = "15m", value_parser = whole_seconds)]
    pub access_token_expiry: Duration,
    /// How long a session lives without being refreshed
    #[arg(long, env = "REFRESH_TOKEN_EXPIRY", default_value = "7d", value_parser = whole_seconds)]
    pub refresh_token_expiry: Duration,
    /// How long a session lives however often it is refreshed
    #[arg(long, env = "SESSION_ABSOLUTE_EXPIRY", default_value = "30d", value_parser = whole_seconds)]
    pub session_absolute_expiry: Duration,
    /// How many sessions a user may have; one more ends the one that was not used for longest
    #[arg(long, env = "MAX_SESSIONS_PER_USER", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_sessions_per_user: u32,
    /// For how long a refresh token that was used may be used again, up to 30s; 0 ends the session at once
    #[arg(long, env = "REFRESH_REUSE_GRACE", default_value = "0", value_parser = reuse_grace)]
    pub refresh_reuse_grace: Duration,
}

/// Argon2id, and how many log-ins may wait for it.
#[derive(Args, Clone, Debug)]
pub struct PasswordConfig {
    /// Memory of one Argon2id hash, in KiB (OWASP: 19456 or more)
    #[arg(long, env = "ARGON2_MEMORY_KIB", default_value_t = 19_456, value_parser = clap::value_parser!(u32).range(8..=1_048_576))]
    pub argon2_memory_kib: u32,
    /// Passes of one Argon2id hash over its memory
    #[arg(long, env = "ARGON2_PASSES", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub argon2_passes: u32,
    /// Log-ins that may wait while all cores hash; more are answered 503
    #[arg(long, env = "ARGON2_QUEUE", default_value = "64", value_parser = argon2_queue)]
    pub argon2_queue: usize,
}

/// How often clients may call. Each is shared by all replicas.
#[derive(Args, Clone, Debug)]
pub struct LimitConfig {
    /// Log-ins from one address, as count/period:burst: 30/1m:10 is 30 a minute, of which 10 may come at once
    #[arg(long, env = "LIMIT_LOGIN_ADDRESS", default_value = "30/1m:10")]
    pub limit_login_address: Limit,
    /// Failed log-ins to one account, wherever they come from; a success forgets them. Devices that have logged in to the
    /// account before, and sessions that change the password, are counted apart by the same limit
    #[arg(long, env = "LIMIT_LOGIN_ACCOUNT", default_value = "10/15m:10")]
    pub limit_login_account: Limit,
    /// Refreshes from one address
    #[arg(long, env = "LIMIT_REFRESH_ADDRESS", default_value = "120/1m:30")]
    pub limit_refresh_address: Limit,
    /// Registrations from one address
    #[arg(long, env = "LIMIT_REGISTER_ADDRESS", default_value = "10/1h:5")]
    pub limit_register_address: Limit,
    /// Other calls from one address
    #[arg(long, env = "LIMIT_API_ADDRESS", default_value = "600/1m:60")]
    pub limit_api_address: Limit,
}

impl Config {
    /// For how long after a script has let somebody be given an access token such a token may be accepted, by Redis's clock:
    /// its own life, both clocks that it meets being off, and what a log-in still waits for before it signs.
    pub fn access_tokens_live(&self) -> Duration {
        self.tokens.access_token_expiry + (Verifier::LEEWAY + self.store.call_timeout()) * 2
    }

    /// Whether the settings fit together; if not, says everything that does not, in words for an operator.
    pub fn check(&self) -> Result<(), Vec<String>> {
        let mut problems = Vec::from_iter(self.cookie.problem());
        let tokens = &self.tokens;
        for (setting, life_of_session) in [
            ("REFRESH_TOKEN_EXPIRY", tokens.refresh_token_expiry),
            ("SESSION_ABSOLUTE_EXPIRY", tokens.session_absolute_expiry),
        ] {
            if tokens.access_token_expiry > life_of_session {
                problems.push(format!("ACCESS_TOKEN_EXPIRY must not be longer than {setting}"));
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}

fn whole_seconds(text: &str) -> Result<Duration, String> {
    let duration = positive_duration(text)?;
    if duration.subsec_nanos() == 0 { Ok(duration) } else { Err("must be whole seconds".to_owned()) }
}

fn reuse_grace(text: &str) -> Result<Duration, String> {
    let grace = duration(text)?;
    if grace <= Duration::from_secs(30) { Ok(grace) } else { Err("must be 30s at most".to_owned()) }
}

fn argon2_queue(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 0..=10_000_000) => Ok(count),
        _ => Err("must be 0 to 10000000".to_owned()),
    }
}
