//! What clients can ask for: one file for each type of message. A command says what to answer, or why to close; what needs
//! to be asked of Redis it passes on to the hub, which answers later.

mod in_room;
mod ping;
mod reauth;

use std::sync::Arc;

use tokio::time::Instant;

use crate::{
    close::CloseReason,
    peer::Peer,
    protocol::{ClientMessage, ErrorCode, MessageId, ServerMessage},
    session::Session,
    state::AppState,
};

/// Who asks, and where the answer goes.
pub(crate) struct Caller<'a> {
    pub(crate) app: &'a AppState,
    pub(crate) peer: &'a Arc<Peer>,
    /// What the client calls its message.
    pub(crate) id: Option<&'a MessageId>,
}

/// Does what `message` asks for, and returns the answer unless it comes later. Once the token has expired, nothing but
/// `ping` and `reauth` is served.
pub(crate) fn execute(
    message: ClientMessage<'_>,
    session: &mut Session,
    caller: &Caller<'_>,
    now: Instant,
) -> Result<Option<ServerMessage>, CloseReason> {
    match message {
        ClientMessage::Ping => Ok(Some(ping::ping())),
        ClientMessage::Reauth { access } => {
            let standing = caller.app.revocations.check(session.token().user_id, session.token().family);
            let answer = reauth::reauth(session, caller.app.verify(&access), standing, now)?;
            if !session.clock.is_expired() {
                caller.peer.release();
            }
            Ok(Some(answer))
        }
        _ if session.clock.is_expired() => Ok(Some(ServerMessage::error(ErrorCode::TokenExpired))),
        ClientMessage::InRoom { room, request } => {
            Ok(in_room::pass_on(&room, request, session.token(), caller).err().map(ServerMessage::error))
        }
        // Who is here has been settled: `auth` is only known before.
        ClientMessage::Auth { .. } | ClientMessage::Unknown => Ok(Some(ServerMessage::error(ErrorCode::UnknownType))),
    }
}
