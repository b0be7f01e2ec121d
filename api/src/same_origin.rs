//! Refuses requests that a foreign page makes a browser send (cross-site request forgery, ASVS 5.0 3.5.1), beside the
//! cookie's `SameSite`.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use gatefold_shared::{client_ip::Client, origin};

use crate::{error::ApiError, state::App};

/// Middleware: whatever may change state must come from our own origin, a listed one, or no page at all.
pub async fn same_origin(State(app): State<App>, request: Request, next: Next) -> Response {
    let scheme = request.extensions().get::<Client>().map_or("http", |client| client.scheme);
    if request.method().is_safe() || origin::is_allowed(request.headers(), scheme, &app.allowed_origins) {
        next.run(request).await
    } else {
        ApiError::ForbiddenOrigin.into_response()
    }
}
