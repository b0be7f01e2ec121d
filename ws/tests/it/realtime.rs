//! Rooms, presence, typing and history, as clients live with them on several replicas.

mod chaos;
mod data;
mod deletion;
mod drain;
mod expired_token;
mod full_redis;
mod ghosts;
mod given_up;
mod grants;
mod history;
mod kill;
mod lost_history;
mod order;
mod outages;
mod presence;
mod reborn;
mod rolling_restart;
mod rooms;
mod slow_consumer;
mod typing;

use std::time::Duration;

use gatefold_cluster::Cluster;
use tokio::sync::OnceCell;

use crate::harness::{Gatefold, unhurried};

/// How long a replica is believed to live without a sign of life.
const LEASE: Duration = Duration::from_secs(15);
/// How long a lost connection counts as present here.
const GRACE: Duration = Duration::from_millis(1500);
/// How long a start of typing lasts here.
const TYPING: Duration = Duration::from_secs(2);
/// More users than this do not hear of each other's typing here.
const TYPING_ROOM_LIMIT: usize = 5;

/// Three replicas, for all tests that break nothing and wait for what happens by itself.
async fn shared() -> &'static Gatefold {
    static SHARED: OnceCell<Gatefold> = OnceCell::const_new();
    let builder = || unhurried(Cluster::builder()).ws(3).env("PRESENCE_GRACE", "1500ms").env("TYPING_EXPIRY", "2s");
    SHARED.get_or_init(|| Gatefold::start(builder())).await
}

/// As [`shared`], but nothing that is awaited happens by itself: typing lasts, and lost connections count, for longer than
/// anybody waits.
async fn patient() -> &'static Gatefold {
    static PATIENT: OnceCell<Gatefold> = OnceCell::const_new();
    let builder = || {
        let builder = unhurried(Cluster::builder()).ws(3).env("PRESENCE_GRACE", "60s").env("TYPING_EXPIRY", "60s");
        builder.env("TYPING_ROOM_LIMIT", TYPING_ROOM_LIMIT.to_string())
    };
    PATIENT.get_or_init(|| Gatefold::start(builder())).await
}
