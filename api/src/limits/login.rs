//! Failed log-ins, counted by account.

use std::sync::Arc;

use super::{Count, Counter, Refused, Rule, Standing, counter::count};
use crate::families::sha256_hex;

/// What a log-in was, as a guess at the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guess {
    Right,
    Wrong,
    /// It could not be found out.
    NotJudged,
}

impl Guess {
    /// A password that was looked at.
    pub fn of(is_right: bool) -> Self {
        if is_right { Self::Right } else { Self::Wrong }
    }
}

/// A log-in that is under way. It counts as failed until it has ended otherwise, so that many at once are no more guesses
/// than one after the other, and hanging up early saves none.
pub struct LoginAttempt<'a> {
    counter: &'a Arc<Counter>,
    rule: Rule,
    account: String,
    standing: Standing,
}

/// Why a log-in does not begin.
pub enum NotBegun {
    /// Too many have failed.
    Refused(Refused),
    /// It cannot be known how many have failed, and an outage must not be the time for guessing. A log-in needs Redis anyway.
    Unknown,
}

impl<'a> LoginAttempt<'a> {
    /// Unless too many have failed for this name, in any letters, whether there is such a user or not.
    pub(super) async fn begin(counter: &'a Arc<Counter>, rule: Rule, username: &str) -> Result<Self, NotBegun> {
        // A digest, so that nothing that a client made up is a key; it hides nothing.
        let account = sha256_hex(username.to_lowercase().as_bytes());
        match counter.take_for_sure(rule, &account).await {
            Count::Counted(standing) => Ok(Self { counter, rule, account, standing }),
            Count::Unknown => {
                // It may have been counted, or may be when Redis gets to it: a client that is told 503 ten times must not
                // be locked out. If it was not, a failure is forgotten, which is no more than an outage's worth of guesses.
                counter.give_back(rule, &account).await;
                Err(NotBegun::Unknown)
            }
            Count::Refused(standing) => {
                count(rule, "refused");
                Err(NotBegun::Refused(Refused(standing)))
            }
        }
    }

    /// How the account stands after it.
    pub async fn end(self, guess: Guess) -> Standing {
        let standing = match guess {
            Guess::Right => self.counter.clear(self.rule, &self.account).await,
            Guess::Wrong => None,
            Guess::NotJudged => self.counter.give_back(self.rule, &self.account).await,
        };
        standing.unwrap_or(self.standing)
    }
}
