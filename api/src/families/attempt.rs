//! A request to trade a refresh token, as long as it is not known what came of it.

use std::net::IpAddr;

use gatefold_shared::redis::keys;
use serde_json::json;
use tracing::warn;
use uuid::Uuid;

use super::{Origin, RefreshToken};
use crate::audit::{Audit, Event, Kind};

/// See the module. It may ask Redis several times, which knows it by its id.
pub(super) struct Attempt {
    pub(super) id: Uuid,
    pub(super) user_id: i64,
    pub(super) family: Uuid,
    pub(super) address: IpAddr,
    user_agent: String,
}

impl Attempt {
    pub(super) fn new(old: &RefreshToken, from: Origin<'_>) -> Self {
        let (user_id, family, user_agent) = (old.user_id, old.family, from.user_agent.to_owned());
        Self { id: Uuid::new_v4(), user_id, family, address: from.address, user_agent }
    }

    pub(super) fn family_key(&self) -> String {
        keys::family(self.user_id, self.family)
    }

    /// Takes note that it was a replay and has ended the session, which was used from `last_address` before.
    pub(super) fn was_replay(&self, audit: &Audit, last_address: &str) {
        let Self { user_id, family, address, user_agent, .. } = self;
        warn!(user.id = user_id, family.id = %family, client.address = %address, client.last_address = last_address,
            "a refresh token was replayed; its session was ended");
        let event = Event::now(Kind::RefreshTokenReused).of_user(*user_id).of_session(*family);
        audit.record(event.from(*address, user_agent).with(json!({ "lastAddress": last_address })));
    }
}
