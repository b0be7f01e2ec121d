//! What all sockets of a replica share.

use std::sync::Arc;

use gatefold_shared::{
    jwt::{AccessToken, Verifier, VerifyError},
    lifecycle::Lifecycle,
    origin::Origin,
    redis::Redis,
};

use crate::{authenticate, config::Config, seats::Seats, token_clock::TokenPolicy};

/// A handle to the replica's state; clones are the same state.
pub(crate) type App = Arc<AppState>;

/// See the module.
pub(crate) struct AppState {
    /// The keys that verify access tokens.
    verifier: Verifier,
    /// Asked by `/ready` only: Redis going away never touches a socket.
    pub(crate) redis: Redis,
    /// Foreign origins whose pages may open sockets.
    pub(crate) allowed_origins: Vec<Origin>,
    /// When a socket hears of the end of its token.
    pub(crate) token_policy: TokenPolicy,
    /// The sockets that may still be opened.
    pub(crate) seats: Seats,
    /// The life of the process.
    pub(crate) life: Lifecycle,
}

impl AppState {
    pub(crate) fn new(config: &Config, verifier: Verifier, redis: Redis, life: Lifecycle) -> App {
        Arc::new(Self {
            verifier,
            redis,
            allowed_origins: config.proxy.allowed_origins.clone(),
            token_policy: TokenPolicy { warning: config.token_warning, grace: config.reauth_grace },
            seats: Seats::new(config.listen.max_connections),
            life,
        })
    }

    /// Whose token this is, if a socket may live by it.
    pub(crate) fn verify(&self, token: &str) -> Result<AccessToken, VerifyError> {
        authenticate::verify(&self.verifier, token)
    }
}
