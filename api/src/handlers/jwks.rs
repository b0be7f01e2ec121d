//! The public keys, for whoever verifies access tokens elsewhere.

use axum::{Json, extract::State, response::IntoResponse};
use http::header;

use crate::state::App;

/// For so long others may remember the keys: a new key must be published for longer before it signs.
pub(super) const CACHE: &str = "public, max-age=300";

/// `GET /.well-known/jwks.json`: the keys that verify access tokens (RFC 7517). Asks nobody else.
#[utoipa::path(get, path = "/.well-known/jwks.json", tag = "Operation", operation_id = "getKeys", summary = "Public keys", description = "The keys that verify access tokens (RFC 7517). They may be remembered for 5 minutes.", responses(
    (status = 200, description = "The keys as a JWK set.", body = Object, content_type = "application/jwk-set+json"),
))]
pub async fn jwks(State(app): State<App>) -> impl IntoResponse {
    let jwks = app.keys.load().verifier.jwks();
    ([(header::CONTENT_TYPE, "application/jwk-set+json"), (header::CACHE_CONTROL, CACHE)], Json(jwks))
}
