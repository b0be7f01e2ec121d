//! Frames as a server sends them (RFC 6455 5.2): not masked, and so the same bytes for whoever receives them.

use tokio_tungstenite::tungstenite::{
    Bytes,
    protocol::frame::{
        Frame, FrameHeader,
        coding::{Data, OpCode},
    },
};

use crate::close::CloseReason;

/// A ping without content.
pub(crate) const PING: Bytes = Bytes::from_static(&[0x89, 0]);

/// Text frames, one behind the other: they are written together.
#[derive(Default)]
pub(crate) struct Frames(Vec<u8>);

impl Frames {
    /// Adds a text message.
    pub(crate) fn push(&mut self, text: &str) {
        let header = FrameHeader { opcode: OpCode::Data(Data::Text), ..FrameHeader::default() };
        self.0.reserve(header.len(text.len() as u64) + text.len());
        // Memory takes whatever is written to it.
        let _ = header.format(text.len() as u64, &mut self.0);
        self.0.extend_from_slice(text.as_bytes());
    }
}

impl From<Frames> for Bytes {
    fn from(frames: Frames) -> Self {
        frames.0.into()
    }
}

/// One text message.
pub(crate) fn text(text: &str) -> Bytes {
    let mut frames = Frames::default();
    frames.push(text);
    frames.into()
}

/// A close frame.
pub(crate) fn close(reason: CloseReason) -> Bytes {
    let mut bytes = Vec::new();
    let _ = Frame::close(Some(reason.frame())).format(&mut bytes);
    bytes.into()
}
