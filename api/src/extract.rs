//! What handlers ask for in their arguments. An extractor is the permission: without [`Bearer`] there is no user.

mod bearer;
mod caller;
mod events_query;
mod idempotency_key;
mod json;
mod refresh_cookie;
mod room;

pub use self::{
    bearer::Bearer, caller::Caller, events_query::EventsQuery, idempotency_key::IdempotencyKey, json::Json,
    refresh_cookie::RefreshTokens, room::InRoom,
};
