//! What comes from Redis, to the shards: the events of rooms, and whether they can be relied upon.

use std::sync::Arc;

use fred::{
    error::Error,
    interfaces::{ClientLike, EventInterface},
    types::{Message, config::Server},
};
use gatefold_shared::{lifecycle::Lifecycle, redis::keys};
use tokio::sync::{
    broadcast::{Receiver, error::RecvError},
    mpsc, watch,
};
use tracing::warn;

use super::{Context, Notice, shards::Shards};
use crate::presence::{
    eviction,
    lease::{Echoes, Keeper, Turn, listen},
};

pub(super) fn start(shards: &Shards, context: &Arc<Context>, life: &Lifecycle) {
    let echoes = Echoes::default();
    let subscriber = &context.subscriber;
    let (turns, turned) = mpsc::channel(1);
    let (due, is_due) = watch::channel(None);
    let keeper = Keeper {
        redis: context.redis.clone(),
        subscriber: subscriber.clone(),
        lease: context.lease.clone(),
        echoes: echoes.clone(),
        turns,
        due,
    };
    life.spawn_forever("hear rooms", hear(shards.clone(), subscriber.message_rx(), echoes));
    let connected = subscriber.reconnect_rx();
    life.spawn_forever(
        "watch rooms",
        watch_subscriptions(shards.clone(), Arc::clone(context), connected, subscriber.error_rx(), turned),
    );
    life.spawn_forever("keep the lease", keeper.run());
    life.spawn_forever("evict", eviction::run(context.redis.clone(), context.lease.clone(), is_due));
    drop(subscriber.connect());
}

async fn hear(shards: Shards, mut messages: Receiver<Message>, echoes: Echoes) {
    loop {
        match messages.recv().await {
            Ok(message) => {
                let Some(event) = message.value.as_bytes_str() else { continue };
                match keys::room_of_channel(&message.channel) {
                    Some(room) => shards.tell(room, Notice::Event { channel: message.channel.clone(), event }).await,
                    None => echoes.heard(&event),
                }
            }
            Err(RecvError::Lagged(missed)) => {
                warn!(missed, "more happened in rooms at once than could be told; reading them instead");
                shards.tell_all(|| Notice::Missed).await;
            }
            Err(RecvError::Closed) => return,
        }
    }
}

/// Tells the rooms when their subscriptions, or all that Redis was told of them, are gone.
async fn watch_subscriptions(
    shards: Shards,
    context: Arc<Context>,
    mut connected: Receiver<Server>,
    mut lost: Receiver<(Error, Option<Server>)>,
    mut turns: mpsc::Receiver<Turn>,
) {
    loop {
        tokio::select! {
            event = connected.recv() => {
                if matches!(event, Err(RecvError::Closed)) {
                    return;
                }
                // Each node of a Redis Cluster reports by itself.
                while connected.try_recv().is_ok() {}
                listen(&context.redis, &context.subscriber, &context.lease).await;
                shards.tell_all(|| Notice::Unsubscribed).await;
            }
            event = lost.recv() => {
                if matches!(event, Err(RecvError::Closed)) {
                    return;
                }
                shards.tell_all(|| Notice::Missed).await;
            }
            turn = turns.recv() => match turn {
                Some(Turn::Reborn(former)) => shards.tell_all(|| Notice::Reborn(former)).await,
                Some(Turn::Deaf) => shards.tell_all(|| Notice::Unsubscribed).await,
                None => return,
            },
        }
    }
}
