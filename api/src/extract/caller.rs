//! Who is calling, as far as a request tells without being asked: for lists of sessions and the audit.

use std::net::IpAddr;

use axum::extract::FromRequestParts;
use gatefold_shared::client_ip::Client;
use http::{header, request::Parts};

use crate::{audit::Event, error::ApiError};

/// Most characters of `User-Agent` that are kept.
const USER_AGENT: usize = 256;

/// The caller's address, and what they call themselves.
pub struct Caller {
    pub address: IpAddr,
    pub user_agent: String,
}

impl Caller {
    /// The event, done by this caller.
    pub fn did(&self, event: Event) -> Event {
        event.from(self.address, &self.user_agent)
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let client = parts.extensions.get::<Client>().ok_or(ApiError::NoClient)?;
        let text = parts.headers.get(header::USER_AGENT).map(|value| String::from_utf8_lossy(value.as_bytes()));
        let user_agent = text.unwrap_or_default().chars().filter(|c| !c.is_control()).take(USER_AGENT).collect();
        Ok(Self { address: client.address, user_agent })
    }
}
