//! One connection, from its handshake to its end: one task, one timer, one `select!`, and one clean-up on every path.

use std::{
    convert::Infallible,
    future::pending,
    net::IpAddr,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use gatefold_shared::{jwt::AccessToken, revocation::Why};
use metrics::counter;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, Sleep, sleep_until},
};
use tokio_util::sync::WaitForCancellationFuture;
use tracing::info;
use uuid::Uuid;

use crate::{
    authenticate::Denial,
    close::{CloseReason, Ending},
    commands,
    heartbeat::Heartbeat,
    limits::{Admission, Limits},
    protocol::{self, ClientMessage, Envelope, ErrorCode, MessageId, ServerMessage},
    session::Session,
    socket::{Incoming, Socket},
    state::App,
    token_clock::TokenEvent,
};

/// How long a client that opened a socket without a token has for its `auth` message.
const AUTH_WITHIN: Duration = Duration::from_secs(5);

/// One client's connection.
pub(crate) struct Connection<S> {
    id: Uuid,
    client: IpAddr,
    app: App,
    socket: Socket<S>,
    heartbeat: Heartbeat,
    limits: Limits,
}

/// What wakes a connection besides its peer. Pinned once, because each costs a place in a list that is shared by all.
struct Wakers<'pin, 'token> {
    timer: Pin<&'pin mut Sleep>,
    draining: Pin<&'pin mut WaitForCancellationFuture<'token>>,
    /// Never, as long as it is not known whose socket this is.
    revoked: Pin<&'pin mut (dyn Future<Output = Why> + Send + 'pin)>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(crate) fn new(app: App, client: IpAddr, socket: Socket<S>) -> Self {
        let now = Instant::now();
        let (heartbeat, limits) = (Heartbeat::new(now), Limits::new(now));
        Self { id: Uuid::new_v4(), client, app, socket, heartbeat, limits }
    }

    /// Serves the client until one of both ends it. Without a `token` from the handshake, the first message must bring it.
    pub(crate) async fn run(mut self, token: Option<AccessToken>) {
        let opened = Instant::now();
        let mut session = None;
        let Err(ending) = self.serve(token, &mut session).await;
        let (code, reason) = ending.code_and_text();
        counter!("ws_closed_total", "code" => ending.label()).increment(1);
        let token = session.as_ref().map(Session::token);
        info!(conn.id = %self.id, client.address = %self.client, user.id = token.map(|token| token.user_id),
            family.id = token.map(|token| tracing::field::display(token.family)), close.code = code,
            close.reason = reason, duration_ms = u64::try_from(opened.elapsed().as_millis()).unwrap_or(u64::MAX),
            "socket closed");
        self.socket.close(ending).await;
    }

    async fn serve(&mut self, token: Option<AccessToken>, session: &mut Option<Session>) -> Result<Infallible, Ending> {
        let app = Arc::clone(&self.app);
        let timer = pin!(sleep_until(Instant::now()));
        let draining = pin!(app.life.draining().cancelled());
        let mut wakers = Wakers { timer, draining, revoked: pin!(pending()) };
        let (token, id) = match token {
            Some(token) => (token, None),
            None => self.first_message(&mut wakers).await?,
        };
        // From here on a revocation is told; one that came before is found by asking.
        let watch = app.watches.watch(token.family);
        app.revocations.check(token.family).map_err(|denied| CloseReason::from(Denial::from(denied)))?;
        let revoked = pin!(watch.revoked());
        wakers.revoked = revoked;
        let session = session.insert(Session::start(token, app.token_policy, Instant::now()));
        self.greet(session, id.as_ref())?;
        loop {
            self.on_time(session, Instant::now())?;
            let deadline = session.clock.deadline().min(self.heartbeat.deadline());
            let incoming = self.wait(&mut wakers, deadline).await?;
            if let Some(Incoming::Text(text)) = incoming {
                let now = Instant::now();
                // The token may have expired while the message was on its way.
                self.on_time(session, now)?;
                self.receive(&text, session, now)?;
            }
        }
    }

    /// Waits until the peer sends something, but not longer than until `deadline`.
    async fn wait(&mut self, wakers: &mut Wakers<'_, '_>, deadline: Instant) -> Result<Option<Incoming>, Ending> {
        let deadline = self.socket.deadline().map_or(deadline, |stalled| deadline.min(stalled));
        if wakers.timer.deadline() != deadline {
            wakers.timer.as_mut().reset(deadline);
        }
        let incoming = tokio::select! {
            biased;
            why = wakers.revoked.as_mut() => return Err(CloseReason::Revoked(why).into()),
            () = wakers.draining.as_mut() => return Err(CloseReason::ServiceRestart.into()),
            () = wakers.timer.as_mut() => return Ok(None),
            incoming = self.socket.next() => incoming?,
        };
        let now = Instant::now();
        self.heartbeat.heard(now);
        if matches!(incoming, Incoming::Control) && self.limits.admit(now) == Admission::Flood {
            return Err(CloseReason::RateLimited.into());
        }
        Ok(Some(incoming))
    }

    /// The token in the first message, which must be `auth`.
    async fn first_message(&mut self, wakers: &mut Wakers<'_, '_>) -> Result<(AccessToken, Option<MessageId>), Ending> {
        let deadline = Instant::now() + AUTH_WITHIN;
        loop {
            let incoming = self.wait(wakers, deadline).await?;
            if Instant::now() >= deadline {
                return Err(CloseReason::AuthTimeout.into());
            }
            let Some(Incoming::Text(text)) = incoming else { continue };
            let Envelope { id, message: Some(ClientMessage::Auth { access }) } = protocol::parse(&text) else {
                return Err(CloseReason::InvalidToken.into());
            };
            let token = self.app.admit(&access).map_err(CloseReason::from)?;
            return Ok((token, id));
        }
    }

    /// Tells the client who it is; `id` is that of its `auth` message, if there was one.
    fn greet(&mut self, session: &Session, id: Option<&MessageId>) -> Result<(), Ending> {
        let token = session.token();
        info!(conn.id = %self.id, client.address = %self.client, user.id = token.user_id, family.id = %token.family,
            "socket opened");
        let connected = ServerMessage::Connected {
            user_id: token.user_id,
            username: Arc::clone(&token.username),
            expires_at: session.expires_at(),
            connection_id: self.id,
        };
        self.socket.send(connected.to_json(id))
    }

    /// Does what is due.
    fn on_time(&mut self, session: &mut Session, now: Instant) -> Result<(), Ending> {
        if self.heartbeat.is_dead(now) {
            return Err(Ending::Silence);
        }
        if self.socket.deadline().is_some_and(|deadline| now >= deadline) {
            return Err(CloseReason::SlowConsumer.into());
        }
        if self.heartbeat.ping_due(now) {
            self.socket.ping()?;
        }
        while let Some(event) = session.clock.tick(now) {
            let message = match event {
                TokenEvent::Expiring => ServerMessage::TokenExpiring { expires_at: session.expires_at() },
                TokenEvent::Expired => ServerMessage::error(ErrorCode::TokenExpired),
                TokenEvent::GraceOver => return Err(CloseReason::TokenExpired.into()),
            };
            self.socket.send(message.to_json(None))?;
        }
        Ok(())
    }

    /// Serves one message.
    fn receive(&mut self, text: &str, session: &mut Session, now: Instant) -> Result<(), Ending> {
        let Envelope { id, message } = protocol::parse(text);
        let label = message.as_ref().map_or("invalid", ClientMessage::label);
        let answer = self.answer(message, session, now);
        let result = answer.as_ref().map_or("closed", ServerMessage::result);
        counter!("ws_messages_total", "type" => label, "result" => result).increment(1);
        self.socket.send(answer?.to_json(id.as_ref()))
    }

    fn answer(
        &mut self,
        message: Option<ClientMessage<'_>>,
        session: &mut Session,
        now: Instant,
    ) -> Result<ServerMessage, CloseReason> {
        match (self.limits.admit(now), message) {
            (Admission::Flood, _) => Err(CloseReason::RateLimited),
            (Admission::Refused, _) => Ok(ServerMessage::error(ErrorCode::RateLimited)),
            (Admission::Admitted, None) if self.limits.too_many_invalid(now) => Err(CloseReason::ProtocolError),
            (Admission::Admitted, None) => Ok(ServerMessage::error(ErrorCode::InvalidMessage)),
            (Admission::Admitted, Some(message)) => commands::execute(message, session, &self.app, now),
        }
    }
}

#[cfg(test)]
mod tests;
