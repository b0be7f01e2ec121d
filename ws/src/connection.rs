//! One connection, from its handshake to its end: one task, one timer, one place where it waits, and one clean-up on every path.

use std::{
    convert::Infallible,
    future::poll_fn,
    net::IpAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use gatefold_shared::jwt::AccessToken;
use metrics::counter;
use tokio::{
    io::AsyncRead,
    time::{Instant, Sleep, sleep_until},
};
use tracing::info;

use crate::{
    authenticate::Denial,
    close::{CloseReason, Ending},
    commands::{self, Caller},
    frame,
    heartbeat::Heartbeat,
    limits::{Admission, Limits},
    peer::Peer,
    protocol::{self, ClientMessage, Envelope, ErrorCode, MessageId, ServerMessage},
    roster::Entered,
    seats::Seat,
    session::Session,
    socket::{Incoming, Socket},
    state::App,
    token_clock::TokenEvent,
};

/// How long a client that opened a socket without a token has for its `auth` message.
const AUTH_WITHIN: Duration = Duration::from_secs(5);

/// One client's connection.
pub(crate) struct Connection<R> {
    client: IpAddr,
    app: App,
    peer: Arc<Peer>,
    socket: Socket<R>,
    /// From the handshake, until it is looked at.
    token: Option<Box<AccessToken>>,
    heartbeat: Heartbeat,
    limits: Limits,
    _seat: Seat,
}

impl<R: AsyncRead + Unpin> Connection<R> {
    /// Without a `token` from the handshake, the first message must bring it.
    pub(crate) fn new(
        app: App,
        client: IpAddr,
        (peer, socket): (Arc<Peer>, Socket<R>),
        token: Option<AccessToken>,
        seat: Seat,
    ) -> Self {
        let now = Instant::now();
        let (heartbeat, limits) = (Heartbeat::new(now), Limits::new(now));
        Self { client, app, peer, socket, token: token.map(Box::new), heartbeat, limits, _seat: seat }
    }

    /// Serves the client until one of both ends it. The connection itself, and what only happens at the
    /// beginning and at the end, are boxed: the future of every idle connection would have room for them, some of it twice.
    pub(crate) async fn run(mut self: Box<Self>) {
        let opened = Instant::now();
        let mut session = None;
        let Err(ending) = self.serve(&mut session).await;
        // Whatever the reason, from here on nobody sends anything any more.
        self.peer.end(ending);
        let (code, reason) = ending.code_and_text();
        counter!("gatefold_ws_closed_total", "code" => ending.label()).increment(1);
        let token = session.as_ref().map(Session::token);
        if let Some(token) = token {
            self.app.user_seats.give_back(token.user_id);
        }
        info!(conn.id = %self.peer.id, client.address = %self.client, user.id = token.map(|token| token.user_id),
            family.id = token.map(|token| tracing::field::display(token.family)), close.code = code,
            close.reason = reason, duration_ms = u64::try_from(opened.elapsed().as_millis()).unwrap_or(u64::MAX),
            "socket closed");
        Box::pin(self.app.hub.forget(&self.peer)).await;
        let socket = self.socket;
        Box::pin(socket.close(ending)).await;
    }

    async fn serve(&mut self, session: &mut Option<Session>) -> Result<Infallible, Ending> {
        // The only one: each costs a place in a list that is shared by all.
        let mut timer = pin!(sleep_until(Instant::now()));
        let id = match self.token {
            Some(_) => None,
            None => Box::pin(self.first_message(timer.as_mut())).await?,
        };
        let (session, _entered) = self.begin(session, id.as_ref())?;
        drop(id);
        loop {
            self.on_time(session, Instant::now())?;
            let deadline = session.clock.deadline().min(self.heartbeat.deadline());
            let incoming = self.wait(timer.as_mut(), deadline).await?;
            if let Some(Incoming::Text(text)) = incoming {
                let now = Instant::now();
                // The token may have expired while the message was on its way.
                self.on_time(session, now)?;
                self.receive(&text, session, now)?;
            }
        }
    }

    /// Lets the bearer of the token in, and tells the client who it is. `id` is that of its `auth` message, if there was one.
    fn begin<'a>(
        &mut self,
        session: &'a mut Option<Session>,
        id: Option<&MessageId>,
    ) -> Result<(&'a mut Session, Entered), Ending> {
        let token = self.token.take().ok_or(CloseReason::InvalidToken)?;
        // From here on a revocation is told; one that came before is found by asking.
        let entered = self.app.roster.enter(token.family, Arc::clone(&self.peer));
        self.app
            .revocations
            .check(token.user_id, token.family)
            .map_err(|denied| CloseReason::from(Denial::from(denied)))?;
        if self.app.life.draining().is_cancelled() {
            return Err(CloseReason::ServiceRestart.into());
        }
        // Given back when the connection ends, as it has a session from here on.
        if !self.app.user_seats.take(token.user_id) {
            return Err(CloseReason::RateLimited.into());
        }
        let session = session.insert(Session::start(*token, self.app.token_policy, Instant::now()));
        self.greet(session, id);
        Ok((session, entered))
    }

    /// Waits until the peer sends something, but not longer than until `deadline`.
    async fn wait(&mut self, mut timer: Pin<&mut Sleep>, deadline: Instant) -> Result<Option<Incoming>, Ending> {
        let incoming = poll_fn(|context| {
            if let Poll::Ready(ending) = self.peer.poll(context) {
                return Poll::Ready(Err(ending));
            }
            // Before the time is looked at: if this process did not get to run for a while, what the peer has said meanwhile
            // was said in time.
            if let Poll::Ready(incoming) = self.socket.poll_next(context) {
                return Poll::Ready(incoming.map(Some));
            }
            let deadline = self.peer.deadline().map_or(deadline, |stalled| deadline.min(stalled));
            if timer.deadline() != deadline {
                timer.as_mut().reset(deadline);
            }
            timer.as_mut().poll(context).map(|()| Ok(None))
        });
        let Some(incoming) = incoming.await? else { return Ok(None) };
        let now = Instant::now();
        self.heartbeat.heard(now);
        if matches!(incoming, Incoming::Control) && self.limits.admit(now) == Admission::Flood {
            return Err(CloseReason::RateLimited.into());
        }
        Ok(Some(incoming))
    }

    /// Takes the token from the first message, which must be `auth`; returns its id.
    async fn first_message(&mut self, mut timer: Pin<&mut Sleep>) -> Result<Option<MessageId>, Ending> {
        let _entered = self.app.roster.enter(self.peer.id, Arc::clone(&self.peer));
        let deadline = Instant::now() + AUTH_WITHIN;
        loop {
            let incoming = self.wait(timer.as_mut(), deadline).await?;
            if Instant::now() >= deadline {
                return Err(CloseReason::AuthTimeout.into());
            }
            let Some(Incoming::Text(text)) = incoming else { continue };
            let Envelope { id, message: Some(ClientMessage::Auth { access }) } = protocol::parse(&text) else {
                return Err(CloseReason::InvalidToken.into());
            };
            self.token = Some(Box::new(self.app.admit(&access).map_err(CloseReason::from)?));
            return Ok(id);
        }
    }

    fn greet(&self, session: &Session, id: Option<&MessageId>) {
        let token = session.token();
        info!(conn.id = %self.peer.id, client.address = %self.client, user.id = token.user_id, family.id = %token.family,
            "socket opened");
        let connected = ServerMessage::Connected {
            user_id: token.user_id,
            username: Arc::clone(&token.username),
            expires_at: session.expires_at(),
            connection_id: self.peer.id,
            replica: self.app.hub.replica(),
        };
        self.say(&connected, id);
    }

    fn say(&self, message: &ServerMessage, id: Option<&MessageId>) {
        self.peer.send(&frame::text(&message.to_json(id)));
    }

    /// Does what is due.
    fn on_time(&mut self, session: &mut Session, now: Instant) -> Result<(), Ending> {
        if self.heartbeat.check_dead(now) {
            return Err(Ending::Silence);
        }
        if self.peer.deadline().is_some_and(|deadline| now >= deadline) {
            return Err(CloseReason::SlowConsumer.into());
        }
        if self.heartbeat.ping_due(now) {
            self.peer.send(&frame::PING);
        }
        while let Some(event) = session.clock.tick(now) {
            let message = match event {
                TokenEvent::Expiring => ServerMessage::TokenExpiring { expires_at: session.expires_at() },
                TokenEvent::Expired => {
                    self.peer.hold();
                    ServerMessage::error(ErrorCode::TokenExpired)
                }
                TokenEvent::GraceOver => return Err(CloseReason::TokenExpired.into()),
            };
            self.say(&message, None);
        }
        Ok(())
    }

    /// Serves one message.
    fn receive(&mut self, text: &str, session: &mut Session, now: Instant) -> Result<(), Ending> {
        let Envelope { id, message } = protocol::parse(text);
        let label = message.as_ref().map_or("invalid", ClientMessage::label);
        let answer = self.answer(message, id.as_ref(), session, now);
        let result = match &answer {
            Ok(Some(answer)) => answer.result(),
            Ok(None) => "passed_on",
            Err(_) => "closed",
        };
        counter!("gatefold_ws_messages_total", "type" => label, "result" => result).increment(1);
        if let Some(answer) = answer? {
            self.say(&answer, id.as_ref());
        }
        Ok(())
    }

    fn answer(
        &mut self,
        message: Option<ClientMessage<'_>>,
        id: Option<&MessageId>,
        session: &mut Session,
        now: Instant,
    ) -> Result<Option<ServerMessage>, CloseReason> {
        self.limits.charge(self.peer.take_debt(), now);
        let error = match (self.limits.admit(now), message) {
            (Admission::Flood, _) => return Err(CloseReason::RateLimited),
            (Admission::Refused, _) => ErrorCode::RateLimited,
            (Admission::Admitted, None) if self.limits.too_many_invalid(now) => return Err(CloseReason::ProtocolError),
            (Admission::Admitted, None) => ErrorCode::InvalidMessage,
            (Admission::Admitted, Some(message)) => {
                let caller = Caller { app: &self.app, peer: &self.peer, id };
                return commands::execute(message, session, &caller, now);
            }
        };
        Ok(Some(ServerMessage::error(error)))
    }
}

#[cfg(test)]
mod tests;
