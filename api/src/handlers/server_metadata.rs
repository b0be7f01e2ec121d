//! Where others find what they need to verify access tokens (RFC 8414).

use axum::{Json, extract::State, response::IntoResponse};
use http::header;
use serde::Serialize;
use utoipa::ToSchema;

use super::jwks::CACHE;
use crate::{error::ApiError, state::App};

/// The issuer of access tokens (RFC 8414). It has no authorization endpoint and no token endpoint of OAuth.
#[derive(Serialize, ToSchema)]
pub struct ServerMetadata {
    /// `iss` of all access tokens.
    #[schema(example = "https://auth.example.com")]
    issuer: String,
    /// The keys that verify access tokens.
    #[schema(example = "https://auth.example.com/.well-known/jwks.json")]
    jwks_uri: String,
    /// The page that describes this API.
    #[schema(example = "https://auth.example.com/api/docs/")]
    service_documentation: String,
    /// Always empty.
    #[schema(max_items = 0)]
    response_types_supported: [String; 0],
    /// Always empty.
    #[schema(max_items = 0)]
    grant_types_supported: [String; 0],
}

/// `GET /.well-known/oauth-authorization-server`: where the keys are. Without the setting `ISSUER` there is nothing true to
/// say, since an issuer is a URL.
#[utoipa::path(get, path = "/.well-known/oauth-authorization-server", tag = "Operation", operation_id = "getServerMetadata", summary = "Metadata of the issuer", description = "The issuer of access tokens and where its keys are (RFC 8414), for libraries that verify them.", responses(
    (status = 200, description = "The metadata", body = ServerMetadata),
    (status = 404, description = "`not_found`: no `ISSUER` is configured"),
))]
pub async fn server_metadata(State(app): State<App>) -> Result<impl IntoResponse, ApiError> {
    let issuer = app.issuer.as_deref().ok_or(ApiError::NoIssuer)?;
    let metadata = ServerMetadata {
        issuer: issuer.to_owned(),
        jwks_uri: format!("{issuer}/.well-known/jwks.json"),
        service_documentation: format!("{issuer}/api/docs/"),
        response_types_supported: [],
        grant_types_supported: [],
    };
    Ok(([(header::CACHE_CONTROL, CACHE)], Json(metadata)))
}
