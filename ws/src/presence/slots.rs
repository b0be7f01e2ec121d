//! Where the slots of a Redis Cluster are. When one moves, its former node ends the subscriptions to the channels in it,
//! and says so in a message that the client library drops: on a connection that lives, nothing more would be heard of the
//! rooms in that slot.

use std::time::Duration;

use fred::{
    clients::SubscriberClient,
    interfaces::{ClientLike, ClusterInterface},
    types::config::Server,
};
use tokio::time::timeout;

/// The ranges of slots, and who has them; none as long as it is not known, and if there is no Cluster.
#[derive(Default)]
pub(super) struct Slots(Vec<(u16, u16, Server)>);

impl Slots {
    /// Asks where they are, and returns whether any have moved since it was asked last.
    pub(super) async fn have_moved(&mut self, subscriber: &SubscriberClient, patience: Duration) -> bool {
        if !subscriber.is_clustered() || !matches!(timeout(patience, subscriber.sync_cluster()).await, Ok(Ok(()))) {
            return false;
        }
        let Some(routing) = subscriber.cached_cluster_state() else { return false };
        let mut now: Vec<_> = routing.slots().iter().map(|it| (it.start, it.end, it.primary.clone())).collect();
        now.sort_unstable_by_key(|&(start, ..)| start);
        let before = std::mem::replace(&mut self.0, now);
        !before.is_empty() && before != self.0
    }
}
