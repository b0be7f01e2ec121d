//! Rate limits: the fences between clients and what is dear, inside of Nginx's own.
//!
//! First comes a fence in each replica's memory ([`Fence`]), at four times the limits, so that a flood never reaches Redis.
//! Then come the limits themselves, which hold however many replicas there are: Redis counts, by its own clock and with a
//! key for each address or account that vanishes when it says nothing any more.
//!
//! Log-ins and registrations ask Redis and wait for the answer: they cost a password hash, and theirs are the limits that
//! a guesser must not get around by meeting many replicas at once. All other calls are decided by a copy ([`Tally`]): a
//! refresh is promised to be one round trip to Redis and a protected call none, and waiting for a count would double
//! the one and be most of the other. Either way, what is refused has not happened: no password is looked at
//! and no token traded.
//!
//! While Redis is away its limits count nothing and refuse nothing; the fences in memory and the copies stand.

mod counter;
mod fence;
mod login;
mod network;
mod policy;
mod standing;
mod tally;
#[cfg(test)]
mod tests;

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
pub use gatefold_shared::limit::Limit;
use gatefold_shared::{client_ip::Client, lifecycle::Lifecycle, redis::Redis};
use tokio::time::interval;
use uuid::Uuid;

use self::{
    counter::{Count, Counter, count},
    fence::Fence,
    network::Network,
    policy::Rule,
    tally::Tally,
};
pub use self::{
    login::{Guess, LoginAttempt, NotBegun},
    policy::Policy,
    standing::{Refused, Standing},
};
use crate::{config::LimitConfig, device_cookie::Device, error::ApiError, families::sha256_hex, state::App};

/// How often addresses are forgotten that have not been heard of.
const EVICTION: Duration = Duration::from_mins(1);

/// All limits of a replica; clones are the same.
#[derive(Clone)]
pub struct Limits(Arc<Inner>);

struct Inner {
    config: LimitConfig,
    counter: Arc<Counter>,
    tally: Tally,
    fences: Vec<(Policy, Fence)>,
}

impl Limits {
    /// Limits counted in `redis`, for which no request waits longer than `wait`.
    pub fn start(config: LimitConfig, redis: Redis, wait: Duration, life: &Lifecycle) -> Self {
        let counter = Arc::new(Counter::new(redis, wait, life));
        let tally = Tally::start(Arc::clone(&counter), life);
        let fence = |policy: Policy| Some((policy, Fence::new(policy.rule(&config))?));
        let fences = Policy::BY_ADDRESS.into_iter().filter_map(fence).collect();
        let limits = Self(Arc::new(Inner { config, counter, tally, fences }));
        life.spawn_forever("forget addresses", limits.clone().evict());
        limits
    }

    /// Puts the limits of a policy around routes, each request counting for its address.
    pub fn guard(&self, routes: Router<App>, policy: Policy) -> Router<App> {
        let routes = routes.route_layer(from_fn_with_state((self.clone(), policy), limited));
        match self.0.fences.iter().find(|(fenced, _)| *fenced == policy) {
            Some((_, fence)) => routes.route_layer(fence.layer()),
            None => routes,
        }
    }

    /// Begins a log-in, unless too many have failed: on this device, if it has logged in to the account before, or for this
    /// name, in any letters, whether there is such a user or not. A device with none left is like any other.
    pub async fn begin_login(&self, username: &str, device: Option<&Device>) -> Result<LoginAttempt<'_>, NotBegun> {
        if let Some(device) = device {
            let attempt = self.begin_guess(Policy::LoginDevice, device.key()).await;
            if !matches!(attempt, Err(NotBegun::Refused(_))) {
                return attempt;
            }
        }
        // A digest, so that nothing that a client made up is a key; it hides nothing.
        self.begin_guess(Policy::LoginAccount, sha256_hex(username.to_lowercase().as_bytes())).await
    }

    /// Begins to verify the current password of a user who is logged in, unless too many were wrong in this session.
    /// Strangers, who can use up the guesses of the account, cannot use up these.
    pub async fn begin_password_check(&self, session: Uuid) -> Result<LoginAttempt<'_>, NotBegun> {
        self.begin_guess(Policy::PasswordSession, session.to_string()).await
    }

    async fn begin_guess(&self, policy: Policy, key: String) -> Result<LoginAttempt<'_>, NotBegun> {
        LoginAttempt::begin(&self.0.counter, policy.rule(&self.0.config), key).await
    }

    /// Counts a request for its address.
    async fn take(&self, policy: Policy, address: IpAddr) -> Count {
        let rule = policy.rule(&self.0.config);
        let network = Network::of(address);
        let taken = match policy {
            Policy::RefreshAddress | Policy::ApiAddress => self.0.tally.take(rule, network),
            _ => self.0.counter.take(rule, network).await,
        };
        match taken {
            Count::Counted(_) => count(rule, "passed"),
            Count::Refused(_) => count(rule, "refused"),
            Count::Unknown => (), // The counter has said so.
        }
        taken
    }

    async fn evict(self) {
        let mut tick = interval(EVICTION);
        loop {
            tick.tick().await;
            self.0.tally.evict();
            for (_, fence) in &self.0.fences {
                fence.evict();
            }
        }
    }
}

/// Middleware: counts a request, and tells the client how it stands with every limit that was looked at on the way: a
/// [`Standing`] among the response's extensions is a handler's.
async fn limited(State((limits, policy)): State<(Limits, Policy)>, request: Request, next: Next) -> Response {
    let Some(client) = request.extensions().get::<Client>() else { return ApiError::NoClient.into_response() };
    let (mut response, standing) = match limits.take(policy, client.address).await {
        Count::Counted(standing) => (next.run(request).await, Some(standing)),
        Count::Unknown => (next.run(request).await, None),
        Count::Refused(standing) => (ApiError::from(Refused(standing)).into_response(), None),
    };
    let inner = response.extensions_mut().remove::<Standing>();
    let standings: Vec<Standing> = standing.into_iter().chain(inner).collect();
    standing::tell(response.headers_mut(), &standings);
    response
}
