//! Reading a WebSocket, with next to nothing kept for one that is idle.
//!
//! tungstenite reads the frames. Its state for a connection holds a read buffer, but between two messages nothing else: so
//! a connection that is waiting for a message has none, and takes one from a pool when there is something to read.

mod boundary;
mod pool;

use std::{
    future::poll_fn,
    io::{self, Read, Write},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, ReadBuf},
    time::timeout,
};
use tokio_tungstenite::tungstenite::{
    Bytes, Error, Message, Utf8Bytes,
    error::ProtocolError,
    protocol::{CloseFrame, WebSocketContext},
};

use self::boundary::Boundary;
use crate::{
    close::{CloseReason, Ending},
    frame,
    peer::Peer,
};

/// How long a peer has to answer our close frame.
const GOODBYE: Duration = Duration::from_secs(1);

/// What a peer sent.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A text message.
    Text(Utf8Bytes),
    /// A ping (answered already) or a pong.
    Control,
}

/// One WebSocket, read from `R`; what it has to answer by itself is sent to `peer`.
pub(crate) struct Socket<R> {
    network: R,
    peer: Arc<Peer>,
    /// Where in the stream of frames we are.
    boundary: Boundary,
    /// Absent between messages.
    context: Option<Box<WebSocketContext>>,
    is_broken: bool,
}

impl<R: AsyncRead + Unpin> Socket<R> {
    /// The server's end of a WebSocket whose handshake is done; `read` is what came in behind the handshake.
    pub(crate) fn accept(network: R, read: Vec<u8>, peer: Arc<Peer>) -> Self {
        let mut boundary = Boundary::default();
        boundary.pass(&read);
        let context = (!read.is_empty()).then(|| pool::with_bytes(read));
        Self { network, peer, boundary, context, is_broken: false }
    }

    /// The next thing that the peer sends. Nothing is lost if it is not waited for.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Incoming, Ending>> {
        Poll::Ready(match ready!(self.poll_message(context)) {
            Ok(Message::Text(text)) => Ok(Incoming::Text(text)),
            Ok(Message::Binary(_)) => Err(CloseReason::UnsupportedData.into()),
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => Ok(Incoming::Control),
            Ok(Message::Close(frame)) => Err(Ending::ByPeer(frame.map(|frame| frame.code.into()))),
            Err(error) => {
                self.is_broken = true;
                Err(ending_of(&error))
            }
        })
    }

    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Result<Message, Error>> {
        let mut websocket = self.context.take().unwrap_or_else(pool::take);
        match websocket.read(&mut self.pipe(context)) {
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                // It has read all that there is, so if that ends with a message nothing of it is left in there.
                if self.boundary.is_between_messages() && websocket.can_write() {
                    pool::give_back(websocket);
                } else {
                    self.context = Some(websocket);
                }
                Poll::Pending
            }
            result => {
                self.context = Some(websocket);
                Poll::Ready(result)
            }
        }
    }

    fn pipe<'a, 'c>(&'a mut self, context: &'a mut Context<'c>) -> Pipe<'a, 'c, R> {
        Pipe { network: &mut self.network, peer: &self.peer, boundary: &mut self.boundary, context }
    }

    /// Closes the WebSocket and the connection below it, as `ending` asks for; at most [`GOODBYE`] later it is dropped.
    pub(crate) async fn close(mut self, ending: Ending) {
        let _ = timeout(GOODBYE, async {
            match ending {
                Ending::ByUs(reason) if self.is_broken => self.say_goodbye_to_garbage(reason).await,
                Ending::ByUs(reason) => self.say_goodbye(reason).await,
                // The answer to the peer's close frame.
                Ending::ByPeer(_) => self.answer_goodbye().await,
                Ending::Silence | Ending::Lost => {}
            }
        })
        .await;
        self.peer.hang_up();
    }

    async fn say_goodbye(&mut self, reason: CloseReason) {
        if reason == CloseReason::SlowConsumer {
            self.peer.forget_unsent();
        }
        let frame: CloseFrame = reason.frame();
        poll_fn(|context| {
            let mut websocket = self.context.take().unwrap_or_else(pool::take);
            // Everything that is written is taken.
            let _ = websocket.close(&mut self.pipe(context), Some(frame.clone()));
            self.context = Some(websocket);
            Poll::Ready(())
        })
        .await;
        while self.next_while_sending().await.is_ok() {}
    }

    async fn answer_goodbye(&mut self) {
        while self.next_while_sending().await.is_ok() {}
        let _ = poll_fn(|context| self.peer.poll_shutdown(context)).await;
    }

    async fn next_while_sending(&mut self) -> Result<Message, Error> {
        poll_fn(|context| {
            if let Poll::Ready(Err(error)) = self.peer.poll_flush(context) {
                return Poll::Ready(Err(error.into()));
            }
            self.poll_message(context)
        })
        .await
    }

    /// The peer's frames cannot be told apart any more. What it still sends is read all the same: closing a connection with
    /// unread data resets it, and a reset can overtake the close frame.
    async fn say_goodbye_to_garbage(&mut self, reason: CloseReason) {
        self.peer.send_last(&frame::close(reason));
        let _ = poll_fn(|context| self.peer.poll_shutdown(context)).await;
        let mut ignored = vec![0; 1024];
        while self.network.read(&mut ignored).await.is_ok_and(|read| read > 0) {}
    }
}

/// The network for one attempt to read, as tungstenite wants it.
struct Pipe<'a, 'c, R> {
    network: &'a mut R,
    peer: &'a Peer,
    boundary: &'a mut Boundary,
    context: &'a mut Context<'c>,
}

impl<R: AsyncRead + Unpin> Read for Pipe<'_, '_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(buffer);
        match Pin::new(&mut *self.network).poll_read(self.context, &mut buffer) {
            Poll::Ready(result) => result?,
            Poll::Pending => return Err(io::ErrorKind::WouldBlock.into()),
        }
        self.boundary.pass(buffer.filled());
        Ok(buffer.filled().len())
    }
}

impl<R> Write for Pipe<'_, '_, R> {
    fn write(&mut self, frames: &[u8]) -> io::Result<usize> {
        self.peer.send_last(&Bytes::copy_from_slice(frames));
        Ok(frames.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn ending_of(error: &Error) -> Ending {
    match error {
        Error::Capacity(_) => CloseReason::MessageTooBig.into(),
        Error::Utf8(_) => CloseReason::InvalidUtf8.into(),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Ending::Lost,
        Error::Protocol(_) => CloseReason::InvalidFrame.into(),
        _ => Ending::Lost,
    }
}
