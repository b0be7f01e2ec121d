//! Every route and every layer, once, in order.

use axum::{
    Router,
    middleware::from_fn_with_state,
    routing::{delete, get, post},
};
use gatefold_shared::{
    config::ProxyConfig,
    request::{self, Front},
};

use crate::{cors, effects, error::ApiError, handlers, limits::Policy, openapi, state::App};

/// The whole of the REST API.
pub fn router(app: App, proxy: ProxyConfig) -> Router {
    let guard = |routes, policy| app.limits.guard(routes, policy);
    let login = Router::new().route("/api/login", post(handlers::login));
    let refresh = Router::new().route("/api/refresh", post(handlers::refresh));
    let register = Router::new().route("/api/register", post(handlers::register));
    let others = Router::new()
        .route("/api/logout", post(handlers::logout))
        .route("/api/logout-all", post(handlers::logout_all))
        .route("/api/protected", get(handlers::protected))
        .route("/api/sessions", get(handlers::sessions))
        .route("/api/sessions/{id}", delete(handlers::end_session))
        .route("/api/password", post(handlers::password))
        .route("/api/events", get(handlers::events))
        .route("/api/ws-ticket", post(handlers::ws_ticket))
        .route("/api/rooms/{room}/presence", get(handlers::presence))
        .route("/api/rooms/{room}/messages", post(handlers::publish))
        .route("/.well-known/jwks.json", get(handlers::jwks))
        .route("/.well-known/oauth-authorization-server", get(handlers::server_metadata))
        .merge(openapi::routes());
    let routes = Router::new()
        .route("/api/health", get(handlers::health))
        .route("/api/ready", get(handlers::ready))
        .merge(guard(login, Policy::LoginAddress))
        .merge(guard(refresh, Policy::RefreshAddress))
        .merge(guard(register, Policy::RegisterAddress))
        .merge(guard(others, Policy::ApiAddress))
        .fallback(async || ApiError::NotFound)
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .layer(from_fn_with_state(app.clone(), effects::complete));
    cors::share(routes, &proxy.allowed_origins)
        .layer(from_fn_with_state(Front::new(proxy), request::context))
        .with_state(app)
}
