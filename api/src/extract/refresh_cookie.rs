//! The refresh tokens of a request.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use http::request::Parts;

use crate::{cookies::Presented, state::App};

/// The refresh tokens of ours in the cookies of a request. Whether their sessions live only Redis knows.
pub struct RefreshTokens(pub Presented);

impl FromRequestParts<App> for RefreshTokens {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        Ok(Self(app.cookies.read(&parts.headers, |text| app.families.open(text))))
    }
}
