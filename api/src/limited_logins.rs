//! Logins that were refused because too many had failed, for the audit: one event for each account and window, with their
//! number. An event for each would let anybody fill the audit, at no more cost than a request.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use gatefold_shared::clock;
use serde_json::json;
use tokio::time::sleep;
use tracing::warn;

use crate::audit::{Audit, Event, Kind};

/// How long refusals gather before they are recorded.
const WINDOW: Duration = Duration::from_mins(5);
/// Accounts that are counted apart; what is refused to others meanwhile is recorded together.
const MAX_ACCOUNTS: usize = 10_000;
/// Addresses that an event names.
const MAX_ADDRESSES: usize = 5;

/// What was refused to one account.
struct Refusals {
    count: u64,
    /// Milliseconds since 1970.
    since: u64,
    addresses: Vec<IpAddr>,
}

/// Gathers the refusals of a replica. `None` stands for names without an account.
#[derive(Default)]
pub struct LimitedLogins(Mutex<HashMap<Option<i64>, Refusals>>);

impl LimitedLogins {
    /// Counts a refusal.
    pub fn note(&self, user_id: Option<i64>, address: IpAddr) {
        let mut accounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let has_place = accounts.len() < MAX_ACCOUNTS || accounts.contains_key(&user_id);
        let account = user_id.filter(|_| has_place);
        let refusals = accounts.entry(account).or_insert_with(|| {
            warn!(user.id = account, client.address = %address, "logins of an account are being refused: too many failed");
            Refusals { count: 0, since: clock::unix_millis(), addresses: Vec::new() }
        });
        refusals.count += 1;
        if refusals.addresses.len() < MAX_ADDRESSES && !refusals.addresses.contains(&address) {
            refusals.addresses.push(address);
        }
    }

    /// Records what has gathered.
    pub fn flush(&self, audit: &Audit) {
        let accounts = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for (account, Refusals { count, since, addresses }) in accounts {
            let details = json!({ "attempts": count, "since": since, "addresses": addresses });
            let event = Event::now(Kind::LoginsLimited).with(details);
            audit.record(match account {
                Some(id) => event.of_user(id),
                None => event,
            });
        }
    }
}

/// Records what has gathered, window by window.
pub async fn record(limited: Arc<LimitedLogins>, audit: Audit) {
    loop {
        sleep(WINDOW).await;
        limited.flush(&audit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([203, 0, 113, last])
    }

    #[test]
    fn refusals_of_any_number_are_bounded_in_memory() {
        let limited = LimitedLogins::default();
        for attempt in 0..200 {
            limited.note(Some(7), address(attempt));
        }
        for user in 0..2 * MAX_ACCOUNTS {
            limited.note(i64::try_from(user).ok(), address(1));
        }
        let accounts = limited.0.lock().unwrap();
        assert_eq!((accounts[&Some(7)].count, accounts[&Some(7)].addresses.len()), (201, MAX_ADDRESSES));
        assert_eq!(accounts.len(), MAX_ACCOUNTS + 1, "and one for all others");
        let total: u64 = accounts.values().map(|refusals| refusals.count).sum();
        assert_eq!(total, 200 + 2 * MAX_ACCOUNTS as u64);
    }
}
