//! What clients can ask for: one file for each type of message. A command says what to answer, or why to close; it never
//! touches the socket.

mod ping;
mod reauth;

use tokio::time::Instant;

use crate::{
    close::CloseReason,
    protocol::{ClientMessage, ErrorCode, ServerMessage},
    session::Session,
    state::AppState,
};

/// Does what `message` asks for. Once the token has expired, nothing but `ping` and `reauth` is served.
pub(crate) fn execute(
    message: ClientMessage<'_>,
    session: &mut Session,
    app: &AppState,
    now: Instant,
) -> Result<ServerMessage, CloseReason> {
    match message {
        ClientMessage::Ping => Ok(ping::ping()),
        ClientMessage::Reauth { access } => {
            let standing = app.revocations.check(session.token().family);
            reauth::reauth(session, app.verify(&access), standing, now)
        }
        _ if session.clock.is_expired() => Ok(ServerMessage::error(ErrorCode::TokenExpired)),
        // Who is here has been settled: `auth` is only known before.
        ClientMessage::Auth { .. } | ClientMessage::Unknown => Ok(ServerMessage::error(ErrorCode::UnknownType)),
    }
}
