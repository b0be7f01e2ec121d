//! Every error that a client can get, and its status, code and words, decided in one place.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use gatefold_shared::{
    jwt::VerifyError, portable_json::NotPortable, problem::Problem, redis::RedisError, revocation::Denied,
    tickets::TicketError,
};
use http::{HeaderValue, StatusCode, header};
use tracing::error;

use crate::{
    families::FamilyError,
    limits::{NotBegun, Refused},
    password_rules::WeakPassword,
    passwords::PasswordError,
    postgres::PostgresError,
    users::NameError,
};

/// See the module. The variants without a source are the client's doing and are not logged as errors.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    #[error("{0}")]
    InvalidRequest(String),
    #[error("Send the body as application/json")]
    UnsupportedMediaType,
    #[error("The body is larger than 16 KiB")]
    PayloadTooLarge,
    #[error("`data` {0}")]
    InvalidData(#[from] NotPortable),
    #[error("There is nothing here")]
    NotFound,
    #[error("No ISSUER is configured, so there is no metadata of one")]
    NoIssuer,
    #[error("This path does not answer to that method; see the Allow header")]
    MethodNotAllowed,

    #[error("Invalid credentials")]
    InvalidCredentials,
    #[error("This account was disabled")]
    AccountDisabled,
    #[error("The password of this account cannot be checked: ask an administrator to set a new one")]
    PasswordResetRequired,
    #[error("Registration is closed")]
    RegistrationClosed,
    #[error("The username is taken")]
    UsernameTaken,
    #[error("The username is reserved: choose another one")]
    UsernameReserved,
    #[error(transparent)]
    WeakPassword(#[from] WeakPassword),
    #[error("You may not enter this room")]
    ForbiddenRoom,
    #[error("There is no such session")]
    NoSuchSession,
    #[error("No refresh token: log in first")]
    MissingRefreshToken,
    #[error("The refresh token is not valid")]
    InvalidRefreshToken,
    #[error("The session has expired: log in again")]
    SessionNotFound,
    #[error("The session was ended: log in again")]
    SessionRevoked,
    #[error("The refresh token had been used before, so the session was ended: log in again")]
    RefreshTokenReused,
    #[error("The browser sent refresh tokens of several sessions: log out, which ends all of them, and log in again")]
    SeveralRefreshTokens,
    #[error("This refresh was answered before, and a newer one since: refresh with the newest cookie and a new key")]
    RefreshSuperseded,
    #[error("This Idempotency-Key belongs to an earlier refresh: refresh once more with a new key")]
    RefreshKeyReused,

    #[error("No access token: send Authorization: Bearer <token>")]
    MissingToken,
    #[error("The access token is not valid")]
    InvalidToken,
    #[error("The access token has expired: refresh it")]
    TokenExpired,
    #[error("The session was ended: log in again")]
    AccessRevoked,
    #[error("the revocation log could not be read for too long")]
    Stale,
    #[error("it is not known how many log-ins have failed for this account")]
    LimitUnknown,
    #[error("a request arrived without its client")]
    NoClient,
    #[error("no random bytes for a ticket")]
    NoTicket,

    #[error(transparent)]
    RateLimited(#[from] Refused),
    #[error("Too much at once from you or in this room: try again later")]
    OverBudget(Duration),

    #[error(transparent)]
    Family(#[from] FamilyError),
    #[error(transparent)]
    Redis(#[from] RedisError),
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    #[error(transparent)]
    Password(#[from] PasswordError),
    #[error(transparent)]
    Sign(#[from] gatefold_shared::jwt::SignError),
}

impl From<NotBegun> for ApiError {
    fn from(error: NotBegun) -> Self {
        match error {
            NotBegun::Refused(refused) => Self::RateLimited(refused),
            NotBegun::Unknown => Self::LimitUnknown,
        }
    }
}

impl From<NameError> for ApiError {
    fn from(error: NameError) -> Self {
        match error {
            NameError::Malformed => Self::InvalidRequest(error.to_string()),
            NameError::Reserved => Self::UsernameReserved,
        }
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Revoked(_) => Self::AccessRevoked,
            Denied::Stale => Self::Stale,
        }
    }
}

impl From<TicketError> for ApiError {
    fn from(error: TicketError) -> Self {
        match error {
            TicketError::Expired => Self::TokenExpired,
            TicketError::Redis(error) => Self::Redis(error),
            TicketError::Random => Self::NoTicket,
        }
    }
}

impl From<VerifyError> for ApiError {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Expired => Self::TokenExpired,
            VerifyError::Invalid => Self::InvalidToken,
        }
    }
}

impl ApiError {
    /// What the client is told.
    fn problem(&self) -> Problem {
        let (status, code) = match self {
            Self::InvalidRequest(_) => (StatusCode::BAD_REQUEST, "invalid_request"),
            Self::InvalidData(_) => (StatusCode::BAD_REQUEST, "invalid_data"),
            Self::UnsupportedMediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type"),
            Self::PayloadTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large"),
            Self::NotFound | Self::NoIssuer => (StatusCode::NOT_FOUND, "not_found"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::InvalidCredentials => (StatusCode::UNAUTHORIZED, "invalid_credentials"),
            Self::AccountDisabled => (StatusCode::FORBIDDEN, "account_disabled"),
            Self::PasswordResetRequired => (StatusCode::FORBIDDEN, "password_reset_required"),
            Self::RegistrationClosed => (StatusCode::FORBIDDEN, "registration_closed"),
            Self::ForbiddenRoom => (StatusCode::FORBIDDEN, "forbidden_room"),
            Self::WeakPassword(_) => (StatusCode::BAD_REQUEST, "weak_password"),
            Self::NoSuchSession => (StatusCode::NOT_FOUND, "session_not_found"),
            Self::UsernameTaken => (StatusCode::CONFLICT, "username_taken"),
            Self::UsernameReserved => (StatusCode::CONFLICT, "username_reserved"),
            Self::MissingRefreshToken => (StatusCode::UNAUTHORIZED, "missing_refresh_token"),
            Self::InvalidRefreshToken => (StatusCode::UNAUTHORIZED, "invalid_refresh_token"),
            Self::SessionNotFound => (StatusCode::UNAUTHORIZED, "session_not_found"),
            Self::SessionRevoked | Self::AccessRevoked => (StatusCode::UNAUTHORIZED, "session_revoked"),
            Self::RefreshTokenReused => (StatusCode::UNAUTHORIZED, "refresh_token_reused"),
            Self::SeveralRefreshTokens => (StatusCode::CONFLICT, "several_refresh_tokens"),
            // One code for both, which every client knows: it refreshes once more with a new key.
            Self::RefreshSuperseded | Self::RefreshKeyReused => (StatusCode::CONFLICT, "refresh_superseded"),
            Self::MissingToken => (StatusCode::UNAUTHORIZED, "missing_token"),
            Self::InvalidToken => (StatusCode::UNAUTHORIZED, "invalid_token"),
            Self::TokenExpired => (StatusCode::UNAUTHORIZED, "token_expired"),
            Self::RateLimited(Refused(standing)) => {
                let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", self.to_string());
                return Problem { retry_after: Some(standing.until_one_more()), ..problem };
            }
            Self::OverBudget(wait) => {
                let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", self.to_string());
                return Problem { retry_after: Some(*wait), ..problem };
            }
            Self::Stale | Self::LimitUnknown => return Problem::unavailable(),
            Self::Password(PasswordError::Busy)
            | Self::Redis(_)
            | Self::Family(FamilyError::Redis(_) | FamilyError::NotJudged | FamilyError::NotVouched) => {
                return Problem::unavailable();
            }
            Self::Postgres(error) | Self::Family(FamilyError::Postgres(error)) if error.is_outage() => {
                return Problem::unavailable();
            }
            Self::NoClient
            | Self::NoTicket
            | Self::Postgres(_)
            | Self::Family(FamilyError::Random(_) | FamilyError::Postgres(_))
            | Self::Password(_)
            | Self::Sign(_) => {
                return Problem::internal();
            }
        };
        let require_reauth = self.has_ended_session() || matches!(self, Self::AccessRevoked);
        Problem { require_reauth, ..Problem::new(status, code, self.to_string()) }
    }

    /// Whether it says that the session of a refresh token is over, so that its cookie is of no use any more.
    pub fn has_ended_session(&self) -> bool {
        matches!(self, Self::SessionNotFound | Self::SessionRevoked | Self::RefreshTokenReused)
    }

    /// Whether the access token was at fault, so that the answer carries a challenge (RFC 6750 3).
    fn is_about_access_token(&self) -> bool {
        matches!(self, Self::MissingToken | Self::InvalidToken | Self::TokenExpired | Self::AccessRevoked)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let problem = self.problem();
        if problem.status.is_server_error() {
            error!(error = %self, http.status = problem.status.as_u16(), "a request failed");
        }
        let mut response = problem.into_response();
        if self.is_about_access_token() {
            let challenge = HeaderValue::from_static("Bearer error=\"invalid_token\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Self::RateLimited(Refused(standing)) = self {
            response.extensions_mut().insert(standing);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_code_is_in_the_contract() {
        let contract = include_str!("../../docs/protocol.md");
        let decided = include_str!("error.rs").split("fn is_about_access_token").next().unwrap();
        let codes: Vec<_> = decided
            .split("(StatusCode::")
            .skip(1)
            .filter_map(|rest| rest.split_once("\")")?.0.split_once(", \"").map(|(_, code)| code))
            .collect();
        assert!(codes.len() >= 20 && codes.contains(&"account_disabled"), "{codes:?}");
        for code in codes {
            assert!(contract.contains(&format!("`{code}`")), "{code} is not in docs/protocol.md");
        }
    }
}
