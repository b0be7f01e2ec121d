//! What a user may do on sockets, over all of them and all replicas.

use std::time::Duration;

use gatefold_shared::budgets::{Budget, Budgets};

use crate::config::Config;

/// See the module.
pub(crate) struct UserBudgets {
    budgets: Budgets,
    joins: Budget,
    publishes: Budget,
    bytes: Budget,
}

impl UserBudgets {
    pub(crate) fn new(budgets: Budgets, config: &Config) -> Self {
        Self {
            budgets,
            joins: Budget { name: "room-join", limit: config.limit_user_joins },
            publishes: config.publish.publishes(),
            bytes: config.publish.bytes(),
        }
    }

    /// A user joins a room, or asks who is in it. What they have read is charged when it is known.
    pub(crate) fn take_look(&self, user_id: i64) -> Result<(), Duration> {
        self.budgets.take(self.joins, user_id, 1)?;
        self.budgets.take(self.bytes, user_id, 0)
    }

    /// A user publishes so many bytes.
    pub(crate) fn take_publish(&self, user_id: i64, bytes: usize) -> Result<(), Duration> {
        self.budgets.take(self.publishes, user_id, 1)?;
        self.budgets.take(self.bytes, user_id, bytes)
    }
}
