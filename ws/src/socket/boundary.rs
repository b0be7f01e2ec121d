//! Where in a stream of frames we are: between two messages, or in the middle of one. It only counts bytes and frames;
//! whether they make sense is for tungstenite to judge.

use std::io::Cursor;

use tokio_tungstenite::tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Data, OpCode},
};

/// The longest header of a frame (RFC 6455 5.2).
const MAX_HEADER: usize = 14;

/// See the module.
#[derive(Default)]
pub(super) struct Boundary {
    /// The beginning of a header that has not come as a whole.
    header: [u8; MAX_HEADER],
    header_length: u8,
    /// What is still to come of the current frame.
    payload_left: u64,
    is_fragmented: bool,
    is_lost: bool,
}

impl Boundary {
    /// These bytes came next; how many frames begin in them, as far as their headers have come.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) -> u32 {
        let mut frames = 0;
        while !bytes.is_empty() && !self.is_lost {
            if self.payload_left > 0 {
                let passed = usize::try_from(self.payload_left).unwrap_or(usize::MAX).min(bytes.len());
                bytes = &bytes[passed..];
                self.payload_left -= passed as u64;
            } else {
                bytes = self.pass_header(bytes);
                // A header that has not come as a whole takes all that there is.
                frames += u32::from(self.header_length == 0);
            }
        }
        frames
    }

    /// Returns what is behind the header.
    fn pass_header<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let known = usize::from(self.header_length);
        let taken = bytes.len().min(MAX_HEADER - known);
        self.header[known..known + taken].copy_from_slice(&bytes[..taken]);
        let mut cursor = Cursor::new(&self.header[..known + taken]);
        match FrameHeader::parse(&mut cursor) {
            Ok(Some((header, length))) => {
                let used = usize::try_from(cursor.position()).unwrap_or(MAX_HEADER);
                self.header_length = 0;
                self.payload_left = length;
                if matches!(header.opcode, OpCode::Data(Data::Text | Data::Binary | Data::Continue)) {
                    self.is_fragmented = !header.is_final;
                }
                &bytes[used - known..]
            }
            Ok(None) => {
                self.header_length = u8::try_from(known + taken).unwrap_or(u8::MAX);
                &[]
            }
            Err(_) => {
                self.is_lost = true;
                &[]
            }
        }
    }

    /// Whether what has come ends with the end of a message, or is nothing.
    pub(super) fn is_between_messages(&self) -> bool {
        self.header_length == 0 && self.payload_left == 0 && !self.is_fragmented && !self.is_lost
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::protocol::frame::{Frame, coding::Control};

    use super::*;

    fn bytes_of(opcode: OpCode, is_final: bool, length: usize, mask: Option<[u8; 4]>) -> Vec<u8> {
        let header = FrameHeader { is_final, opcode, mask, ..FrameHeader::default() };
        let mut bytes = Vec::new();
        Frame::from_payload(header, vec![b'x'; length].into()).format(&mut bytes).expect("memory");
        bytes
    }

    /// Whether it is between messages after each piece, however the bytes are cut, and how many frames there were.
    fn is_between(pieces: &[Vec<u8>], cut: usize) -> (Vec<bool>, u32) {
        let (mut boundary, mut frames) = (Boundary::default(), 0);
        let pass = |piece: &Vec<u8>| {
            frames += piece.chunks(cut).map(|chunk| boundary.pass(chunk)).sum::<u32>();
            boundary.is_between_messages()
        };
        (pieces.iter().map(pass).collect(), frames)
    }

    proptest! {
        #[test]
        fn it_knows_where_messages_end_however_the_bytes_come(
            lengths in prop::collection::vec(prop_oneof![0_usize..130, 65_530_usize..65_540], 1..5),
            cut in 1_usize..40,
        ) {
            let text = OpCode::Data(Data::Text);
            for length in lengths {
                let whole = bytes_of(text, true, length, Some([1, 2, 3, 4]));
                let (first, last) = whole.split_at(whole.len() - 1);
                prop_assert_eq!(is_between(&[first.to_vec(), last.to_vec()], cut), (vec![false, true], 1));
                let pieces = [
                    bytes_of(text, false, length, Some([0; 4])),
                    bytes_of(OpCode::Control(Control::Ping), true, length.min(125), Some([9; 4])),
                    bytes_of(OpCode::Data(Data::Continue), true, length, Some([0; 4])),
                ];
                prop_assert_eq!(is_between(&pieces, cut), (vec![false, false, true], 3));
            }
        }
    }

    #[test]
    fn after_what_is_no_frame_it_is_never_between_messages() {
        let mut boundary = Boundary::default();
        assert!(boundary.is_between_messages());
        boundary.pass(&[0x8b, 0]);
        boundary.pass(&bytes_of(OpCode::Data(Data::Text), true, 3, None));
        assert!(!boundary.is_between_messages());
    }
}
