//! Ending again what had ended before Redis was restored from an older copy: the audit in Postgres knows it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use gatefold_shared::{
    grants,
    redis::{Redis, RedisError, Script, Value, keys, millis},
    revocation::{PRELUDE, SessionEnder, Why},
};
use sqlx::PgPool;
use time::OffsetDateTime;
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    audit::Kind,
    postgres::{PostgresError, within},
    users,
};

static END_AGAIN: Script = Script::new("end_again", &[PRELUDE, include_str!("end_again.lua")]);

/// Events read with one query.
const PAGE: i64 = 500;
/// An event is written by the clock of a replica, and what ends sessions is recorded after it has: both may be earlier.
const MARGIN: Duration = Duration::from_mins(2);

/// Why it is to be tried again.
#[derive(Debug, thiserror::Error)]
pub(super) enum RepairError {
    #[error(transparent)]
    Redis(#[from] RedisError),
    #[error(transparent)]
    Postgres(#[from] PostgresError),
}

/// See the module.
pub(super) struct Repair<'a> {
    pub(super) redis: &'a Redis,
    pub(super) postgres: &'a PgPool,
    pub(super) ender: &'a SessionEnder,
    pub(super) absolute: Duration,
}

struct Recorded {
    id: i64,
    at: OffsetDateTime,
    kind: String,
    user_id: i64,
    family: Option<Uuid>,
    why: Option<String>,
}

impl Recorded {
    /// As `end_again` takes it: user, family or all, the one that is spared, why, and when.
    fn end(&self) -> Option<[Value; 5]> {
        let family = self.family.map(|family| family.to_string()).unwrap_or_default();
        let (ended, spared, why) = match Kind::of(&self.kind)? {
            Kind::LoggedOut => (family, String::new(), Why::Logout),
            Kind::RefreshTokenReused => (family, String::new(), Why::RefreshTokenReused),
            Kind::SessionEnded => (family, String::new(), Why::of(self.why.as_deref().unwrap_or_default())),
            Kind::LoggedOutEverywhere => (String::new(), String::new(), Why::LogoutAll),
            Kind::PasswordChanged => (String::new(), family, Why::PasswordChanged),
            Kind::UserDisabled | Kind::UserDeleted => (String::new(), String::new(), Why::Disabled),
            _ => return None,
        };
        let at = i64::try_from(self.at.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX);
        Some([self.user_id.into(), ended.into(), spared.into(), why.as_str().into(), at.into()])
    }
}

impl Repair<'_> {
    /// Repairs these partitions, each from a time on; how many sessions have ended.
    pub(super) async fn run(&self, lost: &[(usize, i64)]) -> Result<u64, RepairError> {
        let limit = self.redis.call_timeout();
        let from = lost.iter().map(|(_, from)| *from).min().unwrap_or(0);
        let oldest = self.redis.time().at(Instant::now()).saturating_sub(millis(self.absolute));
        let from = from.max(oldest).saturating_sub(millis(MARGIN));
        let mut at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(from) * 1_000_000)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let (mut id, mut revoked, mut granted) = (0, 0, BTreeSet::new());
        loop {
            let page = ends(self.postgres, at, id, limit).await?;
            let mut by_partition: BTreeMap<usize, (i64, Vec<Value>)> = BTreeMap::new();
            for event in &page {
                let partition = keys::partition_of(event.user_id);
                if lost.iter().all(|(lost, _)| *lost != partition) {
                    continue;
                }
                match event.end() {
                    Some(end) => by_partition.entry(partition).or_insert((event.user_id, Vec::new())).1.extend(end),
                    None => drop(granted.insert(event.user_id)),
                }
            }
            for (user_id, again) in by_partition.into_values() {
                revoked += self.end_again(user_id, "", again).await?;
            }
            let Some(newest) = page.last().filter(|_| i64::try_from(page.len()) == Ok(PAGE)) else { break };
            (at, id) = (newest.at, newest.id);
        }
        for user_id in granted {
            if let Some(user) = users::by_id(self.postgres, user_id, limit).await? {
                grants::write(self.redis, user_id, &user.grants(), self.redis.deadline()).await?;
            }
        }
        for (partition, from) in lost {
            let partition = i64::try_from(*partition).unwrap_or_default();
            self.end_again(partition, &from.to_string(), Vec::new()).await?;
        }
        Ok(revoked)
    }

    /// In the partition of a user. `all_from` says that all has been ended that had ended since.
    async fn end_again(&self, user_id: i64, all_from: &str, ends: Vec<Value>) -> Result<u64, RepairError> {
        let keys = [keys::revocations(user_id), keys::mark(user_id)];
        let mut arguments: Vec<Value> = vec![
            self.ender.keep_for().into(),
            keys::family_prefix(user_id).into(),
            keys::families_prefix(user_id).into(),
            all_from.into(),
        ];
        arguments.extend(ends);
        let reply: Vec<u64> = self.redis.commit(&END_AGAIN, &keys, arguments, self.redis.deadline()).await?;
        let [ended] = reply[..] else { return Err(END_AGAIN.unexpected_reply().into()) };
        Ok(ended)
    }
}

/// What has ended sessions, or changed grants, in the order in which it happened.
async fn ends(postgres: &PgPool, at: OffsetDateTime, id: i64, limit: Duration) -> Result<Vec<Recorded>, PostgresError> {
    const KINDS: [Kind; 9] = [
        Kind::LoggedOut,
        Kind::LoggedOutEverywhere,
        Kind::SessionEnded,
        Kind::RefreshTokenReused,
        Kind::PasswordChanged,
        Kind::UserDisabled,
        Kind::UserDeleted,
        Kind::RoomGranted,
        Kind::RoomRevoked,
    ];
    let kinds = KINDS.map(|kind| kind.as_str().to_owned());
    let query = sqlx::query_as!(
        Recorded,
        r#"SELECT id, at, kind, user_id AS "user_id!", family, details->>'why' AS why FROM events
           WHERE at >= $1 AND (at, id) > ($1, $2) AND kind = ANY($3) AND user_id IS NOT NULL
           ORDER BY at, id LIMIT $4"#,
        at,
        id,
        &kinds[..],
        PAGE
    );
    within(limit, "events_ends", query.fetch_all(postgres)).await
}
