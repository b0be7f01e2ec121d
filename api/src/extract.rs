//! What handlers ask for in their arguments. An extractor is the permission: without [`Bearer`] there is no user.

mod bearer;
mod idempotency_key;
mod json;
mod refresh_cookie;
mod user_agent;

pub use self::{
    bearer::Bearer, idempotency_key::IdempotencyKey, json::Json, refresh_cookie::RefreshCookie, user_agent::UserAgent,
};
