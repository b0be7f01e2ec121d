//! What orchestrators ask: does the process live, and should it be sent clients?

use axum::{Json, extract::State};
use gatefold_shared::clock;
use http::StatusCode;
use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::state::App;

#[derive(Serialize)]
pub(crate) struct Health {
    status: &'static str,
    /// ISO 8601.
    timestamp: String,
}

/// `GET /health`: the process lives.
pub(crate) async fn health() -> Json<Health> {
    let now = OffsetDateTime::UNIX_EPOCH + clock::since_epoch();
    Json(Health { status: "ok", timestamp: now.format(&Rfc3339).unwrap_or_default() })
}

#[derive(Serialize)]
pub(crate) struct Readiness {
    status: &'static str,
    checks: Checks,
}

#[derive(Serialize)]
struct Checks {
    redis: &'static str,
    revocations: &'static str,
    clock: &'static str,
}

/// `GET /ready`: new clients are welcome. Not while draining, nor without Redis, nor while revocations may not arrive: they
/// would be better off elsewhere. Nor with a clock by which good tokens are refused, and old ones accepted.
pub(crate) async fn ready(State(app): State<App>) -> (StatusCode, Json<Readiness>) {
    let redis = app.redis.check_writable().await.is_ok() && app.hub.is_ready();
    let revocations = app.revocations.is_ready();
    let is_ready = redis && revocations && app.clock.is_ok();
    let (code, status) = match (app.life.draining().is_cancelled(), is_ready) {
        (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        (false, false) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        (false, true) => (StatusCode::OK, "ok"),
    };
    let word = |ok| if ok { "ok" } else { "unavailable" };
    let checks = Checks { redis: word(redis), revocations: word(revocations), clock: app.clock.as_str() };
    (code, Json(Readiness { status, checks }))
}
