//! Who is on a socket, and how long the token lasts that says so.

use std::time::Duration;

use gatefold_shared::{clock, jwt::AccessToken};
use tokio::time::Instant;

use crate::token_clock::{TokenClock, TokenPolicy};

/// No token lives longer than that; keeps sums of times within their types.
const LONG: Duration = Duration::from_hours(24 * 365);

/// An authenticated socket's session.
pub(crate) struct Session {
    token: AccessToken,
    pub(crate) clock: TokenClock,
}

/// A token of another user or of another session.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct AnotherIdentity;

impl Session {
    pub(crate) fn start(token: AccessToken, policy: TokenPolicy, now: Instant) -> Self {
        let clock = TokenClock::start(policy, now, left(&token));
        Self { token, clock }
    }

    /// The user and the session that the token names.
    pub(crate) fn token(&self) -> &AccessToken {
        &self.token
    }

    /// When the token expires, in milliseconds since 1970.
    pub(crate) fn expires_at(&self) -> u64 {
        self.token.expires_at.saturating_mul(1000)
    }

    /// Goes on with another token of the same session.
    pub(crate) fn renew(&mut self, token: AccessToken, now: Instant) -> Result<(), AnotherIdentity> {
        if (token.user_id, token.family) != (self.token.user_id, self.token.family) {
            return Err(AnotherIdentity);
        }
        self.clock.renew(now, left(&token));
        self.token = token;
        Ok(())
    }
}

fn left(token: &AccessToken) -> Duration {
    Duration::from_secs(token.expires_at).saturating_sub(clock::since_epoch()).min(LONG)
}
