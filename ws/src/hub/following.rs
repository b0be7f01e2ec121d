//! What comes from Redis, to the shards: the events of rooms, and whether they can be relied upon.

use std::sync::Arc;

use gatefold_shared::{
    lifecycle::Lifecycle,
    redis::{Heard, keys},
};
use tokio::sync::{mpsc, watch};
use tracing::warn;
use uuid::Uuid;

use super::{Context, Notice, shards::Shards};
use crate::{
    presence::{
        eviction,
        lease::{Echoes, Keeper, Turn, listen},
    },
    roster::Sessions,
};

pub(super) fn start(
    shards: &Shards,
    context: &Arc<Context>,
    heard: mpsc::Receiver<Heard>,
    sessions: Sessions,
    life: &Lifecycle,
) {
    let echoes = Echoes::default();
    let (turns, turned) = mpsc::channel(1);
    let (due, is_due) = watch::channel(None);
    let keeper = Keeper {
        redis: context.leases.clone(),
        subscriber: context.subscriber.clone(),
        lease: context.lease.clone(),
        echoes: echoes.clone(),
        turns,
        due,
        sessions,
    };
    life.spawn_forever("hear rooms", hear(shards.clone(), Arc::clone(context), heard, echoes));
    life.spawn_forever("turn rooms", turn(shards.clone(), turned));
    life.spawn_forever("note rooms", context.notes.clone().catch_up(context.redis.clone()));
    life.spawn_forever("keep the lease", keeper.run());
    let (vanished, is_vanished) = mpsc::channel(1);
    life.spawn_forever("look for replicas", context.replicas.clone().watch(context.leases.clone(), vanished));
    life.spawn_forever("tell who is gone", tell_vanished(shards.clone(), is_vanished));
    life.spawn_forever("evict", eviction::run(context.redis.clone(), context.lease.clone(), is_due));
}

/// Tells the rooms of replicas that are gone.
async fn tell_vanished(shards: Shards, mut vanished: mpsc::Receiver<Uuid>) {
    while let Some(replica) = vanished.recv().await {
        shards.tell_all(|| Notice::Vanished(replica)).await;
    }
}

/// Tells the rooms what happens in them, and when their subscriptions, or all that Redis was told of them, are gone.
async fn hear(shards: Shards, context: Arc<Context>, mut heard: mpsc::Receiver<Heard>, echoes: Echoes) {
    while let Some(heard) = heard.recv().await {
        match heard {
            Heard::Message { channel, text } => match keys::room_of_channel(&channel) {
                Some(room) => shards.hear(room, &channel, text),
                None => echoes.heard(&text),
            },
            Heard::Lost(slots) => shards.tell_all(|| Notice::Missed(slots.clone())).await,
            Heard::Open(slots) => {
                if slots.has(keys::REPLICAS) {
                    let Context { redis, subscriber, lease, life, .. } = &*context;
                    let (redis, subscriber, lease) = (redis.clone(), subscriber.clone(), lease.clone());
                    // Nobody waits for that: the rooms are many.
                    life.spawn(async move { listen(&redis, &subscriber, &lease).await });
                }
                shards.tell_all(|| Notice::Unsubscribed(slots.clone())).await;
            }
            Heard::Missed(slots) => {
                warn!("more happened in rooms at once than could be told; reading them instead");
                shards.tell_all(|| Notice::Missed(slots.clone())).await;
            }
        }
    }
}

/// Tells the rooms when the replica has a new id.
async fn turn(shards: Shards, mut turns: mpsc::Receiver<Turn>) {
    while let Some(Turn::Reborn(former)) = turns.recv().await {
        shards.tell_all(|| Notice::Reborn(former)).await;
    }
}
