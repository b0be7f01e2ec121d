//! tungstenite's states that nobody uses just now, one small pool for each thread.

use std::cell::RefCell;

use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

use crate::protocol::MAX_MESSAGE;

/// How much is read at once.
const READ_BUFFER: usize = 4096;
/// A thread serves one connection at a time; those that are in the middle of a message keep theirs.
const KEPT: usize = 8;

thread_local! {
    #[expect(clippy::vec_box, reason = "connections hold them boxed")]
    static POOL: RefCell<Vec<Box<WebSocketContext>>> = const { RefCell::new(Vec::new()) };
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
}

/// The state of a connection of which nothing was read yet, or nothing but whole messages.
pub(super) fn take() -> Box<WebSocketContext> {
    let kept = POOL.with_borrow_mut(Vec::pop);
    kept.unwrap_or_else(|| Box::new(WebSocketContext::new(Role::Server, Some(config()))))
}

/// The state of a connection of which these bytes were read.
pub(super) fn with_bytes(read: Vec<u8>) -> Box<WebSocketContext> {
    Box::new(WebSocketContext::from_partially_read(read, Role::Server, Some(config())))
}

/// Keeps a state for the next one who needs one. It must be between two messages, and neither side has said goodbye.
pub(super) fn give_back(context: Box<WebSocketContext>) {
    POOL.with_borrow_mut(|pool| {
        if pool.len() < KEPT {
            pool.push(context);
        }
    });
}
