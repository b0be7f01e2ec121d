//! `ping`: is anybody there? For programs that cannot see the pings of the WebSocket protocol, as those in browsers.

use gatefold_shared::clock;

use crate::protocol::ServerMessage;

pub(super) fn ping() -> ServerMessage {
    ServerMessage::Pong { timestamp: clock::unix_millis() }
}
