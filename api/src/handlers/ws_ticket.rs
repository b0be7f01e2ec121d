//! Tickets for sockets.

use axum::{Json, extract::State};
use gatefold_shared::tickets;
use secrecy::ExposeSecret;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{error::ApiError, extract::Bearer, state::App};

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WsTicket {
    /// For `/ws?ticket=…`
    ticket: String,
    /// In seconds.
    expires_in: u64,
}

/// `POST /api/ws-ticket`: a ticket for one socket, so that no access token need ever stand in a URL.
#[utoipa::path(post, path = "/api/ws-ticket", tag = "Rooms", operation_id = "createSocketTicket", summary = "Create a ticket for a socket", description = "Opens one WebSocket at `/ws?ticket=…`, once, so that no access token has to be in a URL.", security(("accessToken" = [])), responses(
    (status = 200, description = "The ticket", body = WsTicket),
    (status = 401, description = "`missing_token`, `invalid_token`, `token_expired`, `session_revoked`"),
    (status = 403, description = "`forbidden_origin`"),
    (status = 429, description = "`rate_limited`"),
    (status = 503, description = "`unavailable`"),
))]
pub async fn ws_ticket(State(app): State<App>, Bearer(token): Bearer) -> Result<Json<WsTicket>, ApiError> {
    let ticket = tickets::issue(&app.redis, &token).await?;
    Ok(Json(WsTicket { ticket: ticket.id.expose_secret().to_owned(), expires_in: ticket.expires_in.as_secs() }))
}
