//! Whether the process lives, and whether it can be of use.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use gatefold_shared::clock;
use http::StatusCode;
use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tracing::warn;
use utoipa::ToSchema;

use crate::{postgres, state::App};

#[derive(Serialize, ToSchema)]
pub struct Health {
    status: &'static str,
    timestamp: String,
}

/// `GET /api/health`: the process lives. Asks nobody else.
#[utoipa::path(get, path = "/api/health", tag = "Operation", operation_id = "getHealth", summary = "Liveness", description = "The process answers. It asks no store.", responses(
    (status = 200, description = "The process is alive", body = Health),
))]
pub async fn health() -> Json<Health> {
    let now = OffsetDateTime::UNIX_EPOCH + clock::since_epoch();
    Json(Health { status: "ok", timestamp: now.format(&Rfc3339).unwrap_or_default() })
}

#[derive(Serialize, ToSchema)]
pub struct Ready {
    status: &'static str,
    checks: Checks,
}

#[derive(Serialize, ToSchema)]
struct Checks {
    postgres: &'static str,
    redis: &'static str,
    revocations: &'static str,
    clock: &'static str,
}

/// `GET /api/ready`: whether requests should be sent here. Not while draining, nor while a store is away, nor while
/// this machine's clock is off from those of both stores.
#[utoipa::path(get, path = "/api/ready", tag = "Operation", operation_id = "getReadiness", summary = "Readiness", description = "Whether requests should be sent to this replica: not while it shuts down, while a store is unavailable, or while its clock is wrong.", responses(
    (status = 200, description = "The replica is ready", body = Ready),
    (status = 503, description = "The replica is not ready: `checks` says why", body = Ready),
))]
pub async fn ready(State(app): State<App>) -> Response {
    let limit = app.redis.call_timeout();
    let (postgres, redis) = tokio::join!(postgres::ready(&app.postgres, limit), app.redis.check_writable());
    if let Err(error) = &postgres {
        postgres::log_failure(&app.postgres, error, limit, "not ready").await;
    }
    if let Err(error) = &redis {
        warn!(%error, "not ready");
    }
    let revocations = app.revocations.is_ready();
    let works = postgres.is_ok() && redis.is_ok() && revocations && app.clock.is_ok();
    let is_ready = works && !app.draining.is_cancelled();
    let word = |ok| if ok { "ok" } else { "unavailable" };
    let postgres = match &postgres {
        Err(error) if error.is_read_only() => "read_only",
        result => word(result.is_ok()),
    };
    let (redis, revocations, clock) = (word(redis.is_ok()), word(revocations), app.clock.as_str());
    let checks = Checks { postgres, redis, revocations, clock };
    let (code, status) = if is_ready {
        (StatusCode::OK, "ok")
    } else if app.draining.is_cancelled() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
    };
    (code, Json(Ready { status, checks })).into_response()
}
