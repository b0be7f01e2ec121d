//! Every route and every layer, once.

use std::sync::Arc;

use axum::{Router, middleware::from_fn_with_state, routing::get};
use gatefold_shared::{client_ip::TrustedProxies, problem::Problem, request};
use http::StatusCode;

use crate::{handshake, health, state::App};

pub(crate) fn router(app: App, proxies: TrustedProxies) -> Router {
    Router::new()
        .route("/ws", get(handshake::open))
        .route("/health", get(health::health))
        .route("/ready", get(health::ready))
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "not_found", "There is nothing here"))
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Only GET is possible here")
        })
        .layer(request::catch_panic())
        .layer(from_fn_with_state(Arc::new(proxies), request::context))
        .with_state(app)
}
