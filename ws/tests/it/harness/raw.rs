//! A client of bytes: it sends frames that no library would, and believes nothing that it hears.

use std::time::Duration;

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use super::{Gatefold, PATIENCE};

/// The names of RFC 6455 5.2.
pub const CONTINUATION: u8 = 0;
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

const MASK: [u8; 4] = [0x5a, 0xc3, 0x00, 0xff];

/// A frame as a client sends it. `first` is its first byte's upper half: FIN is 8, the reserved bits are 4, 2 and 1.
pub fn frame_with(first: u8, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len();
    let mut frame = vec![first << 4 | opcode];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length @ ..=125), _) => frame.push(0x80 | length),
        (_, Ok(length)) => {
            frame.push(0x80 + 126);
            frame.extend(length.to_be_bytes());
        }
        _ => {
            frame.push(0x80 + 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(masked(payload));
    frame
}

/// The mask, and the payload under it.
pub fn masked(payload: &[u8]) -> impl Iterator<Item = u8> {
    MASK.into_iter().chain(payload.iter().zip(MASK.into_iter().cycle()).map(|(byte, mask)| byte ^ mask))
}

/// A whole message, or a control frame.
pub fn whole(opcode: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame_with(8, opcode, payload.as_ref())
}

/// A fragment behind which more will come.
pub fn unfinished(opcode: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame_with(0, opcode, payload.as_ref())
}

/// A close frame.
pub fn close(code: u16, reason: impl AsRef<[u8]>) -> Vec<u8> {
    whole(CLOSE, [&code.to_be_bytes(), reason.as_ref()].concat())
}

/// What a server may send: frames that are whole, as this server never fragments.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    Text(String),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    /// A code, or none.
    Close(Option<u16>, String),
    /// The end of the connection below.
    End,
}

/// One connection, after its handshake.
pub struct Raw {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Gatefold {
    /// A socket that has heard `connected`, directly at a replica.
    pub async fn raw(&self) -> Raw {
        let mut raw = Raw::open(&self.replica_url("ws-1"), &self.token()).await;
        let connected = raw.json().await;
        assert_eq!(connected["type"], "connected", "{connected}");
        raw
    }
}

fn address_of(replica: &str) -> &str {
    replica.strip_prefix("http://").expect("a plain URL")
}

impl Raw {
    /// Opens a socket; nothing is read behind the answer to the handshake.
    pub async fn open(replica: &str, token: &str) -> Self {
        Self::open_with(replica, token, &[]).await
    }

    /// As [`Self::open`], with frames in the same segment as the handshake.
    pub async fn open_with(replica: &str, token: &str, frames: &[u8]) -> Self {
        let stream = TcpStream::connect(address_of(replica)).await.expect("a connection");
        stream.set_nodelay(true).expect("an option");
        Self::over(stream, replica, token, frames).await
    }

    /// As [`Self::open`], with next to no room for what is not read.
    pub async fn open_narrow(replica: &str, token: &str) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("an option");
        let connecting = socket.connect(address_of(replica).parse().expect("an address"));
        Self::over(connecting.await.expect("a connection"), replica, token, &[]).await
    }

    async fn over(mut stream: TcpStream, replica: &str, token: &str, frames: &[u8]) -> Self {
        let request = format!(
            "GET /ws?token={token} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            address_of(replica)
        );
        stream.write_all(&[request.as_bytes(), frames].concat()).await.expect("sent");
        let mut raw = Self { stream, unread: Vec::new() };
        let head = loop {
            if let Some(end) = raw.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                break raw.unread.drain(..end + 4).collect::<Vec<_>>();
            }
            assert!(raw.read().await > 0, "an answer to the handshake");
        };
        let head = String::from_utf8(head).expect("text");
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(head.to_lowercase().contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
        raw
    }

    /// Reads whatever comes, until the end.
    pub async fn ignore(mut self) {
        while self.read().await > 0 {
            self.unread.clear();
        }
    }

    /// Sends all of it in one segment, as far as that is in anybody's power.
    pub async fn send(&mut self, frames: impl AsRef<[u8]>) {
        self.stream.write_all(frames.as_ref()).await.expect("sent");
    }

    /// Sends to a server that may have had enough of us.
    pub async fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Sends every byte for itself.
    pub async fn send_chopped(&mut self, frames: impl AsRef<[u8]>) {
        for byte in frames.as_ref().chunks(1) {
            self.stream.write_all(byte).await.expect("sent");
            tokio::task::yield_now().await;
        }
    }

    /// Cuts the connection as a crash does: the server gets a reset.
    pub fn cut(self) {
        self.stream.set_zero_linger().expect("an option");
    }

    /// Says that nothing more will come, but goes on listening.
    pub async fn finish(&mut self) -> std::io::Result<()> {
        self.stream.shutdown().await
    }

    /// How many bytes came in; none at the end.
    async fn read(&mut self) -> usize {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer).await {
            Ok(length) => {
                self.unread.extend_from_slice(&buffer[..length]);
                length
            }
            Err(_) => 0,
        }
    }

    async fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.unread.len() < length {
            if self.read().await == 0 {
                return None;
            }
        }
        Some(self.unread.drain(..length).collect())
    }

    /// The next frame, which must be one that RFC 6455 lets a server send.
    pub async fn hear(&mut self) -> Heard {
        let heard = self.hear_or_half().await.unwrap_or(Heard::End);
        assert!(heard != Heard::End || self.unread.is_empty(), "half a frame at the end: {:?}", self.unread);
        heard
    }

    /// The next frame; nothing if the connection ends, be it within one.
    pub async fn hear_or_half(&mut self) -> Option<Heard> {
        timeout(PATIENCE, self.frame()).await.expect("to hear something in time")
    }

    /// Also the next frame, if any comes within so long.
    pub async fn hear_within(&mut self, patience: Duration) -> Option<Heard> {
        timeout(patience, self.frame()).await.ok().map(|heard| heard.unwrap_or(Heard::End))
    }

    async fn frame(&mut self) -> Option<Heard> {
        // Nothing is taken before all of it is there, so that this may be given up.
        let mut head = 2;
        let length = loop {
            while self.unread.len() < head {
                if self.read().await == 0 {
                    return None;
                }
            }
            assert_eq!(self.unread[1] & 0x80, 0, "a server's frame is not masked");
            break match (self.unread[1] & 0x7f, head) {
                (126, 2) => {
                    head = 4;
                    continue;
                }
                (126, _) => usize::from(u16::from_be_bytes([self.unread[2], self.unread[3]])),
                (127, 2) => {
                    head = 10;
                    continue;
                }
                (127, _) => {
                    let length = u64::from_be_bytes(self.unread[2..10].try_into().expect("eight bytes"));
                    usize::try_from(length).expect("a length")
                }
                (length, _) => usize::from(length),
            };
        };
        assert_eq!(head, [2, 4, 10][usize::from(length > 125) + usize::from(length > 65_535)], "the shortest length");
        while self.unread.len() < head + length {
            if self.read().await == 0 {
                return None;
            }
        }
        let frame = self.take(head + length).await?;
        Some(Heard::of(frame[0], frame[head..].to_vec()))
    }

    pub async fn json(&mut self) -> Value {
        match self.hear().await {
            Heard::Text(text) => serde_json::from_str(&text).expect("JSON"),
            other => panic!("expected a message instead of {other:?}"),
        }
    }

    /// With which code the server closes, which it does without another word and then for good.
    pub async fn closed(&mut self) -> Option<u16> {
        let code = self.closed_without_waiting().await;
        assert_eq!(self.hear().await, Heard::End);
        code
    }

    /// As [`Self::closed`], for a server that has reason to wait for what we never send, but must not.
    pub async fn closed_without_waiting(&mut self) -> Option<u16> {
        match self.hear().await {
            Heard::Close(code, _) => code,
            other => panic!("expected a close frame instead of {other:?}"),
        }
    }
}

impl Heard {
    fn of(first: u8, payload: Vec<u8>) -> Self {
        assert_eq!(first & 0xf0, 0x80, "a whole frame without extensions");
        let opcode = first & 0x0f;
        assert!(opcode < 8 || payload.len() <= 125, "a control frame of {} bytes", payload.len());
        let text = |payload: Vec<u8>| String::from_utf8(payload).expect("UTF-8");
        match (opcode, payload.len()) {
            (TEXT, _) => Self::Text(text(payload)),
            (PING, _) => Self::Ping(payload),
            (PONG, _) => Self::Pong(payload),
            (CLOSE, 0) => Self::Close(None, String::new()),
            (CLOSE, 2..) => {
                let code = u16::from_be_bytes([payload[0], payload[1]]);
                let sendable = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
                assert!(sendable, "nobody may send {code}");
                Self::Close(Some(code), text(payload[2..].to_vec()))
            }
            _ => panic!("a server that sends {opcode} with {payload:?}"),
        }
    }
}
