//! One connection of a member, until its end.

use std::{
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use rand::RngExt;
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep_until, timeout},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{
        Error, Message,
        protocol::{CloseFrame, WebSocketConfig},
    },
};

use super::{View, lock};
use crate::harness::PATIENCE;

/// How a connection ended.
pub enum End {
    /// The server closed it.
    Closed(u16, String),
    /// The server said that it will, and when to come back.
    Told,
    /// It broke.
    Lost,
    /// The test broke it.
    Cut(Duration),
    /// The test has forgotten about this member.
    Forgotten,
}

pub struct Connection {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    view: Arc<Mutex<View>>,
    /// When to go elsewhere, if the server said so.
    leave_at: Option<Instant>,
    /// When to ask again for the rooms that could not be had.
    retry_at: Option<Instant>,
}

impl Connection {
    pub async fn open(url: &str, token: &str, view: Arc<Mutex<View>>) -> Result<Self, Error> {
        let config = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0);
        let connecting = connect_async_with_config(format!("{url}?token={token}"), Some(config), true);
        let (stream, _) = timeout(PATIENCE, connecting).await.map_err(|_| Error::ConnectionClosed)??;
        Ok(Self { stream, view, leave_at: None, retry_at: None })
    }

    /// Hears one thing and does what it asks for.
    pub async fn next(&mut self) -> Result<(), End> {
        let due = |at: Option<Instant>| async move {
            match at {
                Some(at) => sleep_until(at).await,
                None => pending().await,
            }
        };
        let heard = tokio::select! {
            heard = self.stream.next() => heard,
            () = due(self.leave_at) => return Err(End::Told),
            () = due(self.retry_at) => return self.join_all().await,
        };
        match heard {
            Some(Ok(Message::Text(text))) => {
                let message: Value = serde_json::from_str(&text).expect("JSON");
                self.heard(&message).await
            }
            Some(Ok(Message::Close(Some(CloseFrame { code, reason })))) => {
                Err(End::Closed(code.into(), reason.to_string()))
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(()),
            _ => Err(End::Lost),
        }
    }

    async fn heard(&mut self, message: &Value) -> Result<(), End> {
        let payload = &message["payload"];
        lock(&self.view).hear(message);
        match message["type"].as_str() {
            Some("connected") => return self.join_all().await,
            Some("reconnect") => {
                let after = payload["after"].as_u64().expect("milliseconds");
                self.leave_at = Some(Instant::now() + Duration::from_millis(after));
            }
            Some("error") if matches!(payload["code"].as_str(), Some("unavailable" | "rate_limited")) => {
                let delay = rand::rng().random_range(Duration::from_millis(250)..=Duration::from_millis(750));
                self.retry_at = Some(Instant::now() + delay);
            }
            _ => {}
        }
        Ok(())
    }

    /// Joins what is wanted and not there yet.
    async fn join_all(&mut self) -> Result<(), End> {
        self.retry_at = None;
        let missing = lock(&self.view).missing();
        for room in missing {
            self.ask_for(&room).await?;
        }
        Ok(())
    }

    async fn ask_for(&mut self, room: &str) -> Result<(), End> {
        let mut join = json!({"type": "join", "room": room});
        if let Some(last) = lock(&self.view).last_id(room) {
            join["since"] = json!(last);
        }
        self.say(join).await
    }

    pub async fn join(&mut self, room: String) -> Result<(), End> {
        lock(&self.view).wanted.insert(room.clone());
        self.ask_for(&room).await
    }

    pub async fn leave(&mut self, room: &str) -> Result<(), End> {
        {
            let mut view = lock(&self.view);
            view.wanted.remove(room);
            view.room(room).joined = false;
        }
        self.say(json!({"type": "leave", "room": room, "id": "leave"})).await
    }

    pub async fn say(&mut self, message: Value) -> Result<(), End> {
        // What cannot be sent was not heard; why is heard next.
        let _ = self.stream.send(Message::text(message.to_string())).await;
        Ok(())
    }

    pub fn cut(&self) {
        if let MaybeTlsStream::Plain(stream) = self.stream.get_ref() {
            stream.set_zero_linger().expect("an option");
        }
    }
}
