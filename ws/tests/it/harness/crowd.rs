//! Many who are only there: each a socket in a room, that hears everything and cares for nothing.

use futures_util::{StreamExt, stream};
use serde_json::json;
use tokio::task::JoinSet;

use super::{
    Gatefold, User,
    raw::{Heard, Raw, TEXT, whole},
};

/// How many join at once.
const AT_ONCE: usize = 50;

/// They are gone when this is.
pub struct Crowd {
    pub users: Vec<User>,
    _there: JoinSet<()>,
}

impl Gatefold {
    /// So many users join a room, on one replica.
    pub async fn crowd(&self, size: usize, replica: &str, room: &str) -> Crowd {
        let users: Vec<_> = (0..size).map(|_| User::new()).collect();
        let url = self.replica_url(replica);
        let join = &whole(TEXT, json!({"type": "join", "room": room}).to_string());
        let joining = users.iter().map(async |user| {
            let mut raw = Raw::open(&url, &self.token_of_user(user)).await;
            raw.send(join).await;
            loop {
                match raw.hear().await {
                    Heard::Text(text) if text.contains(r#""type":"joined""#) => return raw,
                    Heard::Text(_) | Heard::Ping(_) => {}
                    other => panic!("expected to join instead of {other:?}"),
                }
            }
        });
        let mut there = JoinSet::new();
        // Whoever has joined must listen, while others are still joining.
        stream::iter(joining)
            .buffer_unordered(AT_ONCE)
            .for_each(|raw| {
                there.spawn(raw.ignore());
                std::future::ready(())
            })
            .await;
        Crowd { users, _there: there }
    }
}
