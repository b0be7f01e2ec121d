//! Gatefold's REST replica: log-in, refresh, log-out, and whatever else an account needs over HTTP.
//!
//! Stateless: users are in Postgres, sessions in Redis, so that any replica serves any request and any may die.

mod audit;
pub mod commands;
pub mod config;
mod cookies;
mod cors;
mod error;
mod extract;
mod families;
mod grants;
mod handlers;
mod keys;
mod limits;
mod openapi;
mod password_rules;
mod passwords;
mod postgres;
mod router;
mod state;
mod users;
mod verified_tokens;

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context;
use gatefold_shared::{http_server, lifecycle::Lifecycle, live_keys::LiveKeys, telemetry, trace};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tracing::info;

pub use crate::keys::Keys;
use crate::{config::Config, state::AppState};

/// Serves until the process is told to end.
pub async fn run(config: Config, keys: Arc<LiveKeys<Keys>>, metrics: PrometheusHandle) -> anyhow::Result<()> {
    let life = Lifecycle::begin().context("listening for signals")?;
    keys.follow(&life).context("listening for signals")?;
    let address = SocketAddr::new(config.listen.host, config.port);
    let listener = TcpListener::bind(address).await.with_context(|| format!("PORT: cannot listen on {address}"))?;
    let scraped = SocketAddr::new(config.listen.host, config.metrics_port);
    telemetry::serve_metrics(scraped, metrics, &life)
        .await
        .with_context(|| format!("METRICS_PORT: cannot listen on {scraped}"))?;
    trace::start(&config.trace, "gatefold-api", &life).context("OTEL_EXPORTER_OTLP_ENDPOINT")?;
    let (max_connections, drain) = (config.listen.max_connections, config.listen.drain_seconds);
    let proxy = config.proxy.clone();
    let app = AppState::new(config, keys, &life)?;
    app.revocations.caught_up(app.redis.call_timeout()).await;
    info!(address = %listener.local_addr()?, "serving");
    let router = router::router(app.clone(), proxy);
    let http = http_server::serve(listener, router, max_connections, life.clone());
    let serving = async {
        http.await;
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
