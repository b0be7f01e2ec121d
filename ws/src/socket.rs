//! Reading a WebSocket, with next to nothing kept for one that is idle.
//!
//! tungstenite reads the frames. Its state for a connection holds a read buffer, but between two messages nothing else: so
//! a connection that is waiting for a message has none, and takes one from a pool when there is something to read.

mod boundary;
mod pool;
mod work;

use std::{
    future::poll_fn,
    io::{self, Read, Write},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, ReadBuf},
    time::{Instant, timeout},
};
use tokio_tungstenite::tungstenite::{
    Bytes, Error, Message, Utf8Bytes,
    error::ProtocolError,
    protocol::{CloseFrame, WebSocketContext},
};

use self::{
    boundary::Boundary,
    work::{TooMuchWork, Work},
};
use crate::{
    close::{CloseReason, Ending},
    frame,
    peer::Peer,
};

/// How long a peer has to answer our close frame.
const GOODBYE: Duration = Duration::from_secs(1);
/// How much is read of a peer that was told goodbye and sends what cannot be understood.
const MAX_IGNORED: usize = 16 << 20;
/// How long a peer may take for one message, from the first byte that is read without the rest.
const MESSAGE_WITHIN: Duration = Duration::from_mins(1);

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
    /// When the message began that has not come as a whole.
    begun_at: Option<Instant>,
    work: Work,
    is_broken: bool,
}

impl<R: AsyncRead + Unpin> Socket<R> {
    /// The server's end of a WebSocket whose handshake is done; `read` is what came in behind the handshake.
    pub(crate) fn accept(network: R, read: Vec<u8>, peer: Arc<Peer>) -> Self {
        let mut boundary = Boundary::default();
        // A head is too short for more frames than the budget has.
        boundary.pass(&read);
        let context = (!read.is_empty()).then(|| pool::with_bytes(read));
        let work = Work::new(Instant::now());
        Self { network, peer, boundary, context, begun_at: None, work, is_broken: false }
    }

    /// The next thing that the peer sends. Nothing is lost if it is not waited for. A message that takes too long is judged
    /// whenever this is polled, when all that has come was read.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Incoming, Ending>> {
        let Poll::Ready(message) = self.poll_message(context) else {
            let is_overdue = self.begun_at.is_some_and(|at| at.elapsed() >= MESSAGE_WITHIN);
            return if is_overdue { Poll::Ready(Err(CloseReason::MessageTimeout.into())) } else { Poll::Pending };
        };
        Poll::Ready(match message {
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
                    self.begun_at = None;
                } else {
                    self.context = Some(websocket);
                    self.begun_at.get_or_insert_with(Instant::now);
                }
                Poll::Pending
            }
            result => {
                self.context = Some(websocket);
                if matches!(result, Ok(Message::Text(_) | Message::Binary(_))) {
                    self.begun_at = None;
                }
                Poll::Ready(result)
            }
        }
    }

    fn pipe<'a, 'c>(&'a mut self, context: &'a mut Context<'c>) -> Pipe<'a, 'c, R> {
        let Self { network, peer, boundary, work, .. } = self;
        Pipe { network, peer, boundary, work, context }
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
        let (mut buffer, mut ignored) = (vec![0; 4096], 0);
        while let Ok(read @ 1..) = self.network.read(&mut buffer).await
            && ignored < MAX_IGNORED
        {
            ignored += read;
        }
    }
}

/// The network for one attempt to read, as tungstenite wants it.
struct Pipe<'a, 'c, R> {
    network: &'a mut R,
    peer: &'a Peer,
    boundary: &'a mut Boundary,
    work: &'a mut Work,
    context: &'a mut Context<'c>,
}

impl<R: AsyncRead + Unpin> Read for Pipe<'_, '_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(buffer);
        match Pin::new(&mut *self.network).poll_read(self.context, &mut buffer) {
            Poll::Ready(result) => result?,
            Poll::Pending => return Err(io::ErrorKind::WouldBlock.into()),
        }
        let frames = self.boundary.pass(buffer.filled());
        // Here, because tungstenite does not come back before there is a message.
        self.work.charge(frames, Instant::now()).map_err(io::Error::other)?;
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
        Error::Io(error) if matches!(error.get_ref(), Some(inner) if inner.is::<TooMuchWork>()) => {
            CloseReason::RateLimited.into()
        }
        _ => Ending::Lost,
    }
}
