//! The WebSocket itself: frames in and out, bounded, and never waited for by whoever sends.
//!
//! What is sent goes into a bounded buffer and from there to the peer while the connection waits for something else to
//! happen. A peer that does not read therefore delays nobody, not even its own connection's other work.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{FutureExt, Sink, SinkExt, Stream, StreamExt, stream::FusedStream};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Bytes, Error, Message, Utf8Bytes,
        error::ProtocolError,
        protocol::{Role, WebSocketConfig},
    },
};

use crate::{
    close::{CloseReason, Ending},
    protocol::MAX_MESSAGE,
};

/// What may wait to be sent, in bytes, before the peer counts as too slow.
const MAX_UNSENT: usize = 1024 * 1024;
/// For how long something may wait to be sent before the peer counts as too slow.
const UNSENT_FOR: Duration = Duration::from_secs(10);
/// How much is read at once, and kept for reading by every connection.
const READ_BUFFER: usize = 4096;
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

/// One WebSocket over `S`.
pub(crate) struct Socket<S> {
    stream: WebSocketStream<S>,
    unsent_since: Option<Instant>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// The server's end of a WebSocket whose handshake is done; `read` is what came in behind the handshake.
    pub(crate) async fn accept(stream: S, read: Vec<u8>) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_write_buffer_size(MAX_UNSENT)
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let stream = WebSocketStream::from_partially_read(stream, read, Role::Server, Some(config)).await;
        Self { stream, unsent_since: None }
    }

    /// The next thing that the peer sends; meanwhile, what waits to be sent is sent. Nothing is lost if this is dropped.
    pub(crate) async fn next(&mut self) -> Result<Incoming, Ending> {
        poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Incoming, Ending>> {
        match Pin::new(&mut self.stream).poll_flush(context) {
            Poll::Ready(Ok(())) => self.unsent_since = None,
            Poll::Ready(Err(_)) => return Poll::Ready(Err(Ending::Lost)),
            Poll::Pending => self.note_unsent(),
        }
        Poll::Ready(match ready!(Pin::new(&mut self.stream).poll_next(context)) {
            Some(Ok(Message::Text(text))) => Ok(Incoming::Text(text)),
            Some(Ok(Message::Binary(_))) => Err(CloseReason::UnsupportedData.into()),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(Incoming::Control),
            Some(Ok(Message::Close(frame))) => Err(Ending::ByPeer(frame.map(|frame| frame.code.into()))),
            Some(Err(error)) => Err(ending_of(&error)),
            None => Err(Ending::Lost),
        })
    }

    /// Sends a text message, soon.
    pub(crate) fn send(&mut self, text: String) -> Result<(), Ending> {
        self.put(Message::Text(text.into()))
    }

    /// Sends a ping, soon.
    pub(crate) fn ping(&mut self) -> Result<(), Ending> {
        self.put(Message::Ping(Bytes::new()))
    }

    fn put(&mut self, message: Message) -> Result<(), Ending> {
        Pin::new(&mut self.stream).start_send(message).map_err(|error| match error {
            Error::WriteBufferFull(_) => CloseReason::SlowConsumer.into(),
            _ => Ending::Lost,
        })?;
        match self.stream.flush().now_or_never() {
            Some(Ok(())) => self.unsent_since = None,
            Some(Err(_)) => return Err(Ending::Lost),
            None => self.note_unsent(),
        }
        Ok(())
    }

    fn note_unsent(&mut self) {
        self.unsent_since.get_or_insert_with(Instant::now);
    }

    /// When the peer will count as too slow, if it reads nothing until then.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.unsent_since.map(|since| since + UNSENT_FOR)
    }

    /// Closes the WebSocket and the connection below it, as `ending` asks for; at most [`GOODBYE`] later it is dropped.
    pub(crate) async fn close(mut self, ending: Ending) {
        let _ = timeout(GOODBYE, async {
            match ending {
                Ending::ByUs(reason) => self.say_goodbye(reason).await,
                Ending::ByPeer(_) => self.stream.flush().await,
                Ending::Silence | Ending::Lost => Ok(()),
            }
        })
        .await;
    }

    async fn say_goodbye(&mut self, reason: CloseReason) -> Result<(), Error> {
        let framing_is_intact = !self.stream.is_terminated();
        self.stream.send(Message::Close(Some(reason.frame()))).await?;
        if framing_is_intact {
            while self.stream.next().await.transpose()?.is_some() {}
            return Ok(());
        }
        // The peer's frames cannot be told apart any more. What it still sends is read all the same: closing a connection
        // with unread data resets it, and a reset can overtake the close frame.
        let stream = self.stream.get_mut();
        stream.shutdown().await?;
        let mut ignored = vec![0; 1024];
        while stream.read(&mut ignored).await? > 0 {}
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
