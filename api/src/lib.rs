//! Gatefold's REST replica: log-in, refresh, log-out, and whatever else an account needs over HTTP.
//!
//! Stateless: users are in Postgres, sessions in Redis, so that any replica serves any request and any may die.

mod audit;
pub mod commands;
pub mod config;
mod cookies;
mod cors;
mod device_cookie;
mod effects;
mod error;
mod extract;
mod families;
mod grants;
mod handlers;
mod keys;
mod limited_logins;
mod limits;
mod marks;
mod openapi;
mod password_rules;
mod passwords;
mod postgres;
mod router;
mod state;
mod users;
mod verified_tokens;

use std::sync::Arc;

use anyhow::Context;
use gatefold_shared::{http_server, lifecycle::Lifecycle, live_keys::LiveKeys, trace};
use tracing::info;

use crate::{config::Config, state::AppState};
pub use crate::{keys::Keys, state::Stores};

/// Serves until the process is told to end.
pub async fn run(config: Config, keys: Arc<LiveKeys<Keys>>, stores: Stores, life: Lifecycle) -> anyhow::Result<()> {
    keys.follow(&life).context("listening for signals")?;
    let listener = config.listen.listen(config.port).await;
    let listener = listener.with_context(|| format!("PORT: cannot listen on port {}", config.port))?;
    trace::start(&config.trace, "gatefold-api", &life).context("OTEL_EXPORTER_OTLP_ENDPOINT")?;
    let (max_connections, drain) = (config.listen.max_connections, config.listen.drain_seconds);
    let proxy = config.proxy.clone();
    let app = AppState::new(config, keys, &stores, &life)?;
    let patience = app.redis.call_timeout();
    tokio::join!(app.revocations.caught_up(patience), app.marks.vouched(patience));
    info!(address = %listener.local_addr()?, "serving");
    let router = router::router(app.clone(), proxy);
    let http = http_server::serve(listener, router, max_connections, life.clone());
    let serving = async {
        http.await;
        app.effects.finish().await;
        app.limited_logins.flush(&app.audit);
        // Any of the stores may stay away until the deadline: none waits for another.
        let lost_answers = async {
            app.families.finish().await;
            app.audit.flush().await; // Some may have been replays.
        };
        let records = async {
            app.audit.flush().await;
            trace::flush().await;
        };
        tokio::join!(lost_answers, records);
    };
    Ok(life.run(drain, serving).await?)
}
