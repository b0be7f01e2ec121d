//! The refresh token of a request.

use axum::extract::FromRequestParts;
use http::request::Parts;
use secrecy::ExposeSecret;

use crate::{error::ApiError, families::RefreshToken, state::App};

/// A refresh token of ours, from the cookie. Whether its session lives only Redis knows.
pub struct RefreshCookie(pub RefreshToken);

impl FromRequestParts<App> for RefreshCookie {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let text = app.cookies.read(&parts.headers).ok_or(ApiError::MissingRefreshToken)?;
        app.families.open(text.expose_secret()).map(Self).ok_or(ApiError::InvalidRefreshToken)
    }
}
