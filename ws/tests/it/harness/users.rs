//! Users of whom nothing exists but a token: made up as needed, each with a session of its own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use gatefold_cluster::Kind;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Client, Gatefold, visitor::Visitor};

/// A user as others see them, and the session of theirs that is meant.
#[derive(Clone, Debug)]
pub struct User {
    pub id: i64,
    pub name: String,
    pub family: Uuid,
}

impl User {
    /// Somebody whom no other test knows.
    pub fn new() -> Self {
        static NEXT: AtomicI64 = AtomicI64::new(1_000_000);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { id, name: format!("somebody-{id}"), family: Uuid::new_v4() }
    }

    /// So many of them.
    pub fn several<const N: usize>() -> [Self; N] {
        std::array::from_fn(|_| Self::new())
    }

    /// As they appear in messages.
    pub fn json(&self) -> Value {
        json!({"id": self.id, "username": self.name})
    }
}

/// A room that no other test knows.
pub fn new_room() -> String {
    format!("room-{}", Uuid::new_v4())
}

impl Gatefold {
    pub fn token_of_user(&self, user: &User) -> String {
        self.short_token_of_user(user, self.signer.lifetime())
    }

    /// A token that lives so long.
    pub fn short_token_of_user(&self, user: &User, lifetime: Duration) -> String {
        self.signer.sign(user.id, user.name.as_str().into(), user.family, Arc::default(), lifetime).expect("a token")
    }

    /// `GET /ws` of a replica, by its name.
    pub fn socket_url(&self, replica: &str) -> String {
        self.replica_url(replica).replacen("http", "ws", 1) + "/ws"
    }

    /// `GET /ws` of the replicas that there are; those that died are not told apart.
    pub fn socket_urls(&self) -> Vec<String> {
        self.cluster.replicas(Kind::Ws).iter().map(|replica| self.socket_url(&replica.name)).collect()
    }

    /// Somebody new on a socket of a replica.
    pub async fn visitor(&self, replica: &str) -> Visitor {
        self.visit(&User::new(), replica).await
    }

    /// One more socket of somebody, on a replica.
    pub async fn visit(&self, user: &User, replica: &str) -> Visitor {
        self.visit_with(user, &self.token_of_user(user), replica).await
    }

    pub async fn visit_with(&self, user: &User, token: &str, replica: &str) -> Visitor {
        let mut client = Client::connect(&format!("{}?token={token}", self.socket_url(replica))).await;
        client.is_greeted().await;
        Visitor::new(user.clone(), client)
    }
}
