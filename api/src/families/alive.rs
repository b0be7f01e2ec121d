//! Which of several refresh tokens counts, where a browser sends more than one.

use gatefold_shared::redis::{Script, keys};

use tokio::time::Instant;

use super::{Families, FamilyError, RefreshToken};

static ALIVE: Script = Script::new("alive", &[include_str!("alive.lua")]);

/// More tokens than this in one request are nobody's mistake, and not worth asking Redis about.
const MAX_TOKENS: usize = 8;

/// What several refresh tokens of one request come to.
pub enum Choice<'a> {
    /// This one counts: the session of no other one is alive.
    Only(&'a RefreshToken),
    /// More than one would do, and one of them may be somebody else's.
    Ambiguous,
}

impl Families {
    /// Chooses among refresh tokens, of which there is at least one. Tokens of sessions that have ended count only where there
    /// is nothing else.
    pub async fn choose<'a>(
        &self,
        first: &'a RefreshToken,
        others: &[&'a RefreshToken],
    ) -> Result<Choice<'a>, FamilyError> {
        if others.is_empty() {
            return Ok(Choice::Only(first));
        }
        if others.len() >= MAX_TOKENS {
            return Ok(Choice::Ambiguous);
        }
        let deadline = self.redis.deadline();
        let mut living = None;
        for token in [first].into_iter().chain(others.iter().copied()) {
            if self.is_alive(token, deadline).await? && living.replace(token).is_some() {
                return Ok(Choice::Ambiguous);
            }
        }
        Ok(Choice::Only(living.unwrap_or(first)))
    }

    async fn is_alive(&self, token: &RefreshToken, deadline: Instant) -> Result<bool, FamilyError> {
        let keys = [keys::family(token.user_id, token.family)];
        let reply: Vec<i64> = self.redis.run(&ALIVE, &keys, vec![token.secret_digest().into()], deadline).await?;
        match reply[..] {
            [alive] => Ok(alive == 1),
            _ => Err(ALIVE.unexpected_reply().into()),
        }
    }
}
