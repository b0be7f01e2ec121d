//! Which pages of other origins may read what we answer (CORS): those of `ALLOWED_ORIGINS`, which may change state as well.
//!
//! A browser that asks beforehand (a preflight) is answered here, before any limit; what its page then sends is served like
//! anything else. Without a listed origin there is none of this.

use std::time::Duration;

use axum::Router;
use gatefold_shared::origin::Origin;
use http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::CorsLayer;

use crate::state::App;

/// How long a browser remembers the answer to a preflight. Browsers cap it at two hours or more.
const MAX_AGE: Duration = Duration::from_hours(1);

/// Puts the answers of `routes` within reach of pages of `origins`.
pub fn share(routes: Router<App>, origins: &[Origin]) -> Router<App> {
    if origins.is_empty() {
        return routes;
    }
    // An origin is written as a header's value, so all of them are values.
    let origins = origins.iter().filter_map(|origin| HeaderValue::from_str(&origin.to_string()).ok());
    let name = HeaderName::from_static;
    let layer = CorsLayer::new()
        .allow_origin(origins.collect::<Vec<_>>())
        .allow_credentials(true)
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, name("idempotency-key"), name("traceparent")])
        .expose_headers([
            header::RETRY_AFTER,
            header::WWW_AUTHENTICATE,
            name("ratelimit"),
            name("ratelimit-policy"),
            name("x-replica"),
            name("x-request-id"),
        ])
        .max_age(MAX_AGE)
        .vary([header::ORIGIN]);
    routes.layer(layer)
}
