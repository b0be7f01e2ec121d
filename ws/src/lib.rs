//! Gatefold's WebSocket replica: it takes sockets in, knows who is on each and until when, and speaks the protocol with
//! them. It keeps nothing that another replica could not do without: any of them serves any client.

mod authenticate;
mod budgets;
mod close;
mod commands;
pub mod config;
mod connection;
mod drain;
mod frame;
mod handshake;
mod health;
mod heartbeat;
mod hub;
mod limits;
mod peer;
mod presence;
mod protocol;
mod refusal;
mod roster;
mod router;
mod seats;
mod session;
mod socket;
mod state;
mod token_clock;
mod user_seats;

use std::sync::Arc;

use anyhow::Context;
use gatefold_shared::{
    http_server, jwt::Verifier, lifecycle::Lifecycle, live_keys::LiveKeys, redis::Redis, request::Front, trace,
};
use tracing::info;

use crate::{config::Config, presence::eviction::announce_end, state::AppState};

/// Serves until the replica is told to end, and returns when its sockets are closed.
pub async fn run(config: Config, keys: Arc<LiveKeys<Verifier>>, redis: Redis, life: Lifecycle) -> anyhow::Result<()> {
    keys.follow(&life).context("listening for signals")?;
    trace::start(&config.trace, "gatefold-ws", &life).context("OTEL_EXPORTER_OTLP_ENDPOINT")?;
    let listener = config.listen.listen(config.port).await;
    let listener = listener.with_context(|| format!("PORT: cannot listen on port {}", config.port))?;
    let app = AppState::new(&config, keys, redis, life.clone());
    app.revocations.caught_up(app.redis.call_timeout()).await;
    info!(address = %listener.local_addr()?, "serving sockets");
    let router = router::router(Arc::clone(&app), Front::new(config.proxy));
    let http = http_server::serve(listener, router, config.listen.max_connections, life.clone());
    let serving = async {
        let announced = async {
            life.draining().cancelled().await;
            announce_end(&app.redis.rooms(), app.hub.replica()).await;
        };
        tokio::join!(http, announced);
        app.seats.all_free().await;
        trace::flush().await;
    };
    Ok(life.clone().run(config.listen.drain_seconds, Box::pin(serving)).await?)
}
