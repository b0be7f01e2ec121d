//! The audit: what happened to accounts and sessions, in a table that only grows.
//!
//! A request never waits for it. Events go into a bounded queue, one task writes them in batches, and while Postgres is away
//! they wait. What may have been written is written again and stays one row, since each event has a key. What is in the
//! queue when a replica ends is written before it goes; what is in it when a replica is killed is lost, and so is what does
//! not fit: both would otherwise stop log-ins for the sake of their record.

mod page;

use std::{net::IpAddr, time::Duration};

use gatefold_shared::{clock, lifecycle::Lifecycle};
use ipnet::IpNet;
use metrics::{counter, gauge};
use serde_json::{Value, json};
use sqlx::{PgConnection, PgExecutor, PgPool};
use time::OffsetDateTime;
use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};
use tracing::{error, warn};
use uuid::Uuid;

pub use self::page::{Page, PageRequest, page};
use crate::{
    postgres::{PostgresError, within},
    users::Owner,
};

/// Events that may wait.
const QUEUE: usize = 20_000;
/// Events written at once.
const BATCH: usize = 500;
/// Pause before Postgres is tried again.
const PAUSE: Duration = Duration::from_millis(200);

/// The kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, utoipa::ToSchema)]
#[schema(as = EventKind, rename_all = "snake_case")]
pub enum Kind {
    Registered,
    LoggedIn,
    LoginFailed,
    LoginsLimited,
    LoggedOut,
    LoggedOutEverywhere,
    SessionEnded,
    RefreshTokenReused,
    PasswordChanged,
    UserAdded,
    UserDisabled,
    UserEnabled,
    UserDeleted,
    UserExported,
    RoomGranted,
    RoomRevoked,
    KeysChanged,
    EventsErased,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::Registered,
        Self::LoggedIn,
        Self::LoginFailed,
        Self::LoginsLimited,
        Self::LoggedOut,
        Self::LoggedOutEverywhere,
        Self::SessionEnded,
        Self::RefreshTokenReused,
        Self::PasswordChanged,
        Self::UserAdded,
        Self::UserDisabled,
        Self::UserEnabled,
        Self::UserDeleted,
        Self::UserExported,
        Self::RoomGranted,
        Self::RoomRevoked,
        Self::KeysChanged,
        Self::EventsErased,
    ];

    /// The kind of this name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Its name in Postgres and in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::LoggedIn => "logged_in",
            Self::LoginFailed => "login_failed",
            Self::LoginsLimited => "logins_limited",
            Self::LoggedOut => "logged_out",
            Self::LoggedOutEverywhere => "logged_out_everywhere",
            Self::SessionEnded => "session_ended",
            Self::RefreshTokenReused => "refresh_token_reused",
            Self::PasswordChanged => "password_changed",
            Self::UserAdded => "user_added",
            Self::UserDisabled => "user_disabled",
            Self::UserEnabled => "user_enabled",
            Self::UserDeleted => "user_deleted",
            Self::UserExported => "user_exported",
            Self::RoomGranted => "room_granted",
            Self::RoomRevoked => "room_revoked",
            Self::KeysChanged => "keys_changed",
            Self::EventsErased => "events_erased",
        }
    }
}

/// One event. Never holds a secret.
#[derive(Clone, Debug)]
pub struct Event {
    /// Which one it is, however often it is written.
    key: Uuid,
    at: OffsetDateTime,
    kind: Kind,
    user_id: Option<i64>,
    /// The user's identity. Without one the event is of the user who has the number when it is written, if they had it at `at`.
    uid: Option<Uuid>,
    family: Option<Uuid>,
    address: Option<IpAddr>,
    user_agent: Option<String>,
    details: Value,
}

impl Event {
    /// An event that happens now.
    pub fn now(kind: Kind) -> Self {
        let at = OffsetDateTime::UNIX_EPOCH + clock::since_epoch();
        let key = Uuid::now_v7();
        Self {
            key,
            at,
            kind,
            user_id: None,
            uid: None,
            family: None,
            address: None,
            user_agent: None,
            details: json!({}),
        }
    }

    /// Whose account it concerns.
    pub fn of_user(mut self, user_id: i64) -> Self {
        self.user_id = Some(user_id);
        self
    }

    /// Which owner of the number that is.
    pub fn of_owner(mut self, owner: &Owner) -> Self {
        (self.user_id, self.uid) = (Some(owner.id), Some(owner.uid));
        self
    }

    /// Which session it concerns.
    pub fn of_session(mut self, family: Uuid) -> Self {
        self.family = Some(family);
        self
    }

    /// Who did it, as far as the request tells.
    pub fn from(mut self, address: IpAddr, user_agent: &str) -> Self {
        self.address = Some(address);
        self.user_agent = Some(user_agent.replace('\0', ""));
        self
    }

    /// What else there is to say.
    pub fn with(mut self, details: Value) -> Self {
        self.details = details;
        self
    }
}

enum Entry {
    Event(Box<Event>),
    Flush(oneshot::Sender<()>),
}

/// The way into the audit; clones are the same.
#[derive(Clone)]
pub struct Audit(mpsc::Sender<Entry>);

impl Audit {
    /// Begins to write to `postgres`.
    pub fn start(postgres: PgPool, limit: Duration, life: &Lifecycle) -> Self {
        let (sender, queue) = mpsc::channel(QUEUE);
        life.spawn_forever("write the audit", write_all(postgres, limit, queue));
        Self(sender)
    }

    /// Takes note of an event. Never waits.
    pub fn record(&self, event: Event) {
        let kind = event.kind.as_str();
        counter!("gatefold_events_total", "kind" => kind).increment(1);
        if self.0.try_send(Entry::Event(Box::new(event))).is_err() {
            error!(event.kind = kind, "the audit's queue is full: an event is lost");
            counter!("gatefold_events_lost_total").increment(1);
        }
        tell_free_places(self.0.capacity());
    }

    /// Waits until everything recorded so far is written.
    pub async fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.0.send(Entry::Flush(done)).await.is_ok() {
            let _ = written.await;
        }
    }
}

fn tell_free_places(places: usize) {
    gauge!("gatefold_events_free_places").set(u32::try_from(places).unwrap_or(u32::MAX));
}

async fn write_all(postgres: PgPool, limit: Duration, mut queue: mpsc::Receiver<Entry>) {
    let mut entries = Vec::with_capacity(BATCH);
    while queue.recv_many(&mut entries, BATCH).await > 0 {
        let (mut events, mut waiting) = (Vec::new(), Vec::new());
        for entry in entries.drain(..) {
            match entry {
                Entry::Event(event) => events.push(*event),
                Entry::Flush(done) => waiting.push(done),
            }
        }
        while let Err(failure) = append(&postgres, &events, limit).await {
            if !failure.is_outage() {
                error!(error = %failure, events = events.len(), "events cannot be written: they are lost");
                counter!("gatefold_events_lost_total").increment(events.len() as u64);
                break;
            }
            warn!(error = %failure, "the audit waits for postgres");
            sleep(PAUSE).await;
        }
        tell_free_places(queue.capacity());
        for done in waiting {
            let _ = done.send(());
        }
    }
}

/// Appends events, all or none; those that are there already stay as they are.
pub async fn append(postgres: impl PgExecutor<'_>, events: &[Event], limit: Duration) -> Result<(), PostgresError> {
    if events.is_empty() {
        return Ok(());
    }
    let keys: Vec<_> = events.iter().map(|event| event.key).collect();
    let at: Vec<_> = events.iter().map(|event| event.at).collect();
    let kinds: Vec<_> = events.iter().map(|event| event.kind.as_str().to_owned()).collect();
    let users: Vec<_> = events.iter().map(|event| event.user_id).collect();
    let identities: Vec<_> = events.iter().map(|event| event.uid).collect();
    let families: Vec<_> = events.iter().map(|event| event.family).collect();
    let addresses: Vec<_> = events.iter().map(|event| event.address.map(IpNet::from)).collect();
    let agents: Vec<_> = events.iter().map(|event| event.user_agent.clone()).collect();
    let details: Vec<_> = events.iter().map(|event| event.details.clone()).collect();
    let query = sqlx::query!(
        "INSERT INTO events (key, at, kind, user_id, family, address, user_agent, details, uid)
         SELECT key, at, kind, user_id, family, address, user_agent, details, coalesce(uid, (
             SELECT uid FROM users WHERE users.id = user_id AND users.created_at <= at + interval '10 seconds'))
         FROM UNNEST($1::uuid[], $2::timestamptz[], $3::text[], $4::bigint[], $5::uuid[], $6::inet[], $7::text[],
                     $8::jsonb[], $9::uuid[])
             AS event (key, at, kind, user_id, family, address, user_agent, details, uid)
         ON CONFLICT DO NOTHING",
        &keys,
        &at,
        &kinds,
        &users as &[Option<i64>],
        &families as &[Option<Uuid>],
        &addresses as &[Option<IpNet>],
        &agents as &[Option<String>],
        &details,
        &identities as &[Option<Uuid>]
    );
    within(limit, "events_append", query.execute(postgres)).await.map(drop)
}

/// Something that happened to an account.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = Event)]
#[serde(rename_all = "camelCase")]
pub struct Recorded {
    pub id: i64,
    #[schema(value_type = Kind)]
    pub kind: String,
    /// In milliseconds since 1970.
    #[serde(serialize_with = "as_millis")]
    #[schema(value_type = i64)]
    pub at: OffsetDateTime,
    #[schema(required = true)]
    pub user_id: Option<i64>,
    #[schema(required = true)]
    pub session_id: Option<Uuid>,
    #[schema(required = true)]
    pub ip: Option<String>,
    #[schema(required = true)]
    pub user_agent: Option<String>,
    /// More about it, depending on its kind.
    #[schema(value_type = Object)]
    pub details: Value,
}

fn as_millis<S: serde::Serializer>(at: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_i64(i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX))
}

/// The newest events, of one user or of all.
pub async fn newest(
    postgres: &PgPool,
    user_id: Option<i64>,
    most: i64,
    limit: Duration,
) -> Result<Vec<Recorded>, PostgresError> {
    let query = sqlx::query_as!(
        Recorded,
        r#"SELECT id, kind, at, user_id, family AS session_id, host(address) AS ip, user_agent, details
           FROM events WHERE $1::bigint IS NULL OR user_id = $1 ORDER BY id DESC LIMIT $2"#,
        user_id,
        most
    );
    within(limit, "events_newest", query.fetch_all(postgres)).await
}

/// Which events are to be erased.
#[derive(Clone, Copy, Debug)]
pub enum Erase {
    /// Those of one user, who may be gone.
    OfUser(i64),
    /// Those of everybody that are older.
    Before(OffsetDateTime),
}

/// Erases events, which are otherwise never changed; how many. `transaction` is one: the permission ends with it.
pub async fn erase(transaction: &mut PgConnection, which: Erase, limit: Duration) -> Result<u64, PostgresError> {
    let (user_id, before) = match which {
        Erase::OfUser(id) => (Some(id), None),
        Erase::Before(time) => (None, Some(time)),
    };
    let permission = sqlx::query!("SELECT set_config('gatefold.erasing', 'on', true)");
    within(limit, "events_permit_erasing", permission.fetch_one(&mut *transaction)).await?;
    let query = sqlx::query!("DELETE FROM events WHERE user_id = $1::bigint OR at < $2::timestamptz", user_id, before);
    Ok(within(limit, "events_erase", query.execute(transaction)).await?.rows_affected())
}
