//! Every route and every layer, once.

use std::sync::Arc;

use axum::{Router, middleware::from_fn_with_state, routing::get};
use gatefold_shared::{
    problem::Problem,
    request::{self, Front},
};
use http::StatusCode;

use crate::{handshake, health, state::App};

pub(crate) fn router(app: App, front: Arc<Front>) -> Router {
    Router::new()
        .route("/ws", get(handshake::open))
        .route("/health", get(health::health))
        .route("/ready", get(health::ready))
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "not_found", "There is nothing here"))
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Only GET is possible here")
        })
        .layer(from_fn_with_state(front, request::context))
        .with_state(app)
}
