//! What all sockets of a replica share.

use std::sync::Arc;

use gatefold_shared::{
    budgets::Budgets,
    clock::ClockCheck,
    jwt::{AccessToken, Verifier, VerifyError},
    lifecycle::Lifecycle,
    live_keys::LiveKeys,
    origin::Origin,
    redis::Redis,
    revocation::Revocations,
};

use crate::{
    authenticate::{self, Denial},
    budgets::UserBudgets,
    config::Config,
    drain,
    hub::{Charges, Hub, RoomPolicy},
    roster::{Roster, Sessions},
    seats::Seats,
    token_clock::TokenPolicy,
    user_seats::UserSeats,
};

/// A handle to the replica's state; clones are the same state.
pub(crate) type App = Arc<AppState>;

/// See the module.
pub(crate) struct AppState {
    /// The keys that verify access tokens.
    keys: Arc<LiveKeys<Verifier>>,
    /// Asked for tickets and by `/ready`; the hub has its own handle. Redis going away never ends a socket.
    pub(crate) redis: Redis,
    /// The sessions that were revoked.
    pub(crate) revocations: Revocations,
    /// Whether this machine's clock is right.
    pub(crate) clock: ClockCheck,
    /// Who is connected.
    pub(crate) roster: Arc<Roster>,
    /// The rooms.
    pub(crate) hub: Hub,
    /// Foreign origins whose pages may open sockets.
    pub(crate) allowed_origins: Vec<Origin>,
    /// When a socket hears of the end of its token.
    pub(crate) token_policy: TokenPolicy,
    /// The sockets that may still be opened.
    pub(crate) seats: Seats,
    /// How many sockets each user has.
    pub(crate) user_seats: UserSeats,
    /// What each user may do in rooms.
    pub(crate) budgets: UserBudgets,
    /// The life of the process.
    pub(crate) life: Lifecycle,
}

impl AppState {
    pub(crate) fn new(config: &Config, keys: Arc<LiveKeys<Verifier>>, redis: Redis, life: Lifecycle) -> App {
        let staleness_limit = config.store.revocation_staleness_limit;
        let revocations = Revocations::follow(redis.clone(), staleness_limit, &life);
        let roster = Arc::<Roster>::default();
        life.spawn_forever("end revoked", Arc::clone(&roster).follow(revocations.clone(), revocations.listen()));
        life.spawn_forever("drain", drain::drain(Arc::clone(&roster), life.clone(), config.listen.drain_seconds));
        let policy = RoomPolicy {
            presence_grace: config.presence_grace,
            typing_expiry: config.typing_expiry,
            typing_room_limit: config.typing_room_limit,
            publishes: config.publish.limit_room_publishes,
        };
        let rooms = redis.rooms();
        let budgets = Budgets::start(rooms.clone(), &life);
        let charges = Charges { budgets: budgets.clone(), bytes: config.publish.bytes() };
        let sessions = Sessions { roster: Arc::clone(&roster), revocations: revocations.clone() };
        let user_seats = UserSeats::start(rooms, config.max_sockets_per_user, &life);
        let hub = Hub::start(redis.clone(), policy, charges, sessions, &life);
        let clock = ClockCheck::follow_others(redis.clone(), &life);
        Arc::new(Self {
            keys,
            clock,
            redis,
            revocations,
            roster,
            hub,
            allowed_origins: config.proxy.allowed_origins.clone(),
            token_policy: TokenPolicy { warning: config.token_warning, grace: config.reauth_grace },
            seats: Seats::new(config.listen.max_connections),
            user_seats,
            budgets: UserBudgets::new(budgets, config),
            life,
        })
    }

    /// Whose token this is, if it may open a socket.
    pub(crate) fn admit(&self, token: &str) -> Result<AccessToken, Denial> {
        let token = self.verify(token)?;
        self.revocations.check(token.user_id, token.family)?;
        Ok(token)
    }

    /// Whose token this is, whatever became of its session.
    pub(crate) fn verify(&self, token: &str) -> Result<AccessToken, VerifyError> {
        authenticate::verify(&self.keys.load(), token)
    }
}
