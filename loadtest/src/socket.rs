//! One WebSocket: opened with a user's access token, kept alive and authenticated, asked one thing at a time.
//!
//! A task of its own reads it all the time, as a browser does, so that pings are answered and what is delivered counts
//! from when it came, whatever the rest of the harness does.

mod frame;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use http::header::{AUTHORIZATION, HeaderValue};
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use self::frame::{Frame, Reply};
pub(crate) use self::frame::{Payload, Typing};
use crate::failure::Failure;
use crate::net::{Endpoint, Wire};
use crate::user::User;

/// Small, since there may be tens of thousands.
const BUFFER: usize = 4 * 1024;
/// Answers that may wait to be looked at; late ones, of operations that were given up.
const ANSWERS: usize = 32;
/// The time between two messages of one socket: a server takes 30 a second.
pub(crate) const MANNERS: Duration = Duration::from_millis(40);
/// How long a server may take to close in turn.
const CLOSING: Duration = Duration::from_secs(2);

/// Told of what the server says unasked: type and payload.
pub(crate) type Listener = Arc<dyn Fn(&str, &Payload<'_>) + Send + Sync>;

type Sink = Arc<Mutex<SplitSink<WebSocketStream<Wire>, Message>>>;

/// When a socket ended, and how.
#[derive(Debug, Clone)]
pub(crate) struct End {
    pub(crate) at: Instant,
    pub(crate) failure: Failure,
}

/// An open socket.
pub(crate) struct Socket {
    sink: Sink,
    replies: mpsc::Receiver<Reply>,
    ended: watch::Receiver<Option<End>>,
    serial: u64,
    said: Instant,
    /// Reads; ends with this.
    _reader: JoinSet<()>,
}

/// How sockets are opened.
#[derive(Clone)]
pub(crate) struct Opener {
    pub(crate) endpoint: Arc<Endpoint>,
    /// Whether the target knows only the token in the query and echoes no ids, as the original system.
    pub(crate) original: bool,
}

impl Opener {
    /// Opens a socket for a user and waits until it is `connected`.
    pub(crate) async fn open(&self, user: &Arc<User>, listener: Listener) -> Result<Socket, Failure> {
        let access = user.client.lock().await.access().await?;
        self.open_with(user, &access, listener).await
    }

    /// As [`Self::open`], with a token that is at hand.
    pub(crate) async fn open_with(
        &self,
        user: &Arc<User>,
        access: &str,
        listener: Listener,
    ) -> Result<Socket, Failure> {
        let Endpoint { authority, prefix, .. } = &*self.endpoint;
        let query = if self.original { format!("?token={access}") } else { String::new() };
        let mut request = format!("ws://{authority}{prefix}/ws{query}").into_client_request()?;
        if !self.original {
            let bearer = HeaderValue::try_from(format!("Bearer {access}"));
            request.headers_mut().insert(AUTHORIZATION, bearer.map_err(|_| Failure::Unexpected("an odd token"))?);
        }
        let config = WebSocketConfig::default().read_buffer_size(BUFFER).write_buffer_size(0);
        let wire = self.endpoint.connect().await?;
        // Boxed, so that what only the handshake needs does not stay in every task that holds a socket.
        let (stream, _) = Box::pin(client_async_with_config(request, wire, Some(config))).await?;
        let (sink, mut stream) = stream.split();
        greeted(&mut stream).await?;
        let sink = Arc::new(Mutex::new(sink));
        let (answered, replies) = mpsc::channel(ANSWERS);
        let (end, ended) = watch::channel(None);
        let reader =
            Reader { user: Arc::clone(user), sink: Arc::clone(&sink), listener, answered, original: self.original };
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let failure = reader.read(stream).await;
            end.send_replace(Some(End { at: Instant::now(), failure }));
        });
        Ok(Socket { sink, replies, ended, serial: 0, said: Instant::now(), _reader: tasks })
    }
}

async fn greeted(stream: &mut SplitStream<WebSocketStream<Wire>>) -> Result<(), Failure> {
    while let Some(message) = stream.next().await {
        match message? {
            Message::Text(text) if Frame::parse(&text)?.is("connected") => return Ok(()),
            Message::Close(frame) => return Err(closed(frame.as_ref())),
            Message::Ping(_) | Message::Pong(_) => {}
            _ => return Err(Failure::Unexpected("a socket that does not begin with connected")),
        }
    }
    Err(Failure::Connection("closed".to_owned()))
}

fn closed(frame: Option<&tokio_tungstenite::tungstenite::protocol::CloseFrame>) -> Failure {
    frame.map_or(Failure::Closed { code: 1005, reason: String::new() }, |frame| Failure::Closed {
        code: frame.code.into(),
        reason: frame.reason.to_string(),
    })
}

impl Socket {
    /// Says something and waits for the answer, of which nothing but its type counts.
    pub(crate) async fn ask(&mut self, mut message: Value, answer: &'static str) -> Result<(), Failure> {
        self.serial += 1;
        message["id"] = json!(self.serial);
        while self.replies.try_recv().is_ok() {} // answers to what was given up
        self.say(&message).await?;
        loop {
            let Some(reply) = self.replies.recv().await else { return Err(self.how_it_ended()) };
            if reply.id.is_some_and(|id| id != self.serial) {
                continue;
            }
            return match reply.error {
                Some(code) => Err(Failure::Error(code)),
                None if reply.kind == answer => Ok(()),
                None => Err(Failure::Unexpected("an answer to something else")),
            };
        }
    }

    /// Waits until it may say something without being taken for a flood.
    pub(crate) async fn may_speak(&self) {
        tokio::time::sleep_until((self.said + MANNERS).into()).await;
    }

    /// Says something that is not answered.
    pub(crate) async fn say(&mut self, message: &Value) -> Result<(), Failure> {
        self.said = Instant::now();
        let sent = self.sink.lock().await.send(Message::text(message.to_string())).await;
        sent.map_err(|error| if self.is_open() { error.into() } else { self.how_it_ended() })
    }

    pub(crate) fn is_open(&self) -> bool {
        self.ended.borrow().is_none()
    }

    /// Waits for the end.
    pub(crate) async fn ended(&mut self) -> End {
        let gone = || End { at: Instant::now(), failure: Failure::Connection("closed".to_owned()) };
        self.ended.wait_for(Option::is_some).await.ok().and_then(|end| end.clone()).unwrap_or_else(gone)
    }

    /// Closes it as a browser does that leaves the page.
    pub(crate) async fn close(mut self) {
        let farewell = async {
            self.sink.lock().await.close().await.ok();
            self.ended().await;
        };
        let _ = tokio::time::timeout(CLOSING, farewell).await; // a server that does not answer has the same effect
    }

    fn how_it_ended(&self) -> Failure {
        let end = self.ended.borrow();
        end.as_ref().map_or(Failure::Connection("closed".to_owned()), |end| end.failure.clone())
    }
}

struct Reader {
    user: Arc<User>,
    sink: Sink,
    listener: Listener,
    answered: mpsc::Sender<Reply>,
    original: bool,
}

impl Reader {
    /// Reads until the end, and says how it came.
    async fn read(self, mut stream: SplitStream<WebSocketStream<Wire>>) -> Failure {
        let mut renewals = JoinSet::new();
        while let Some(message) = stream.next().await {
            match message {
                Ok(Message::Text(text)) => match Frame::parse(&text) {
                    Ok(frame) if frame.asks_for_token() => {
                        while renewals.try_join_next().is_some() {} // those of earlier tokens
                        renewals.spawn(renew(Arc::clone(&self.user), Arc::clone(&self.sink)));
                    }
                    Ok(frame) if frame.is_reply(self.original) => {
                        let _ = self.answered.try_send(frame.into_reply()); // nobody waits for so many
                    }
                    Ok(frame) => (self.listener)(frame.kind(), frame.payload()),
                    Err(failure) => return failure,
                },
                Ok(Message::Close(frame)) => return closed(frame.as_ref()),
                Ok(_) => {}
                Err(Error::ConnectionClosed) => break,
                Err(error) => return error.into(),
            }
        }
        Failure::Connection("closed".to_owned())
    }
}

/// Brings a new access token, so that the socket stays. If that fails, the server says so at the end of the old one.
async fn renew(user: Arc<User>, sink: Sink) {
    let access = user.client.lock().await.access().await;
    if let Ok(access) = access {
        let message = json!({"type": "reauth", "access": &*access}).to_string();
        sink.lock().await.send(Message::text(message)).await.ok();
    }
}
