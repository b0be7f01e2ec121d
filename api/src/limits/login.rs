//! Failed log-ins and other guesses at a password, counted by account, device or session.

use std::sync::Arc;

use super::{Count, Counter, Policy, Refused, Rule, Standing, counter::count};
use crate::passwords::Verdict;

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
    pub fn of(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Right | Verdict::RightAndOutdated(_) => Self::Right,
            Verdict::Wrong => Self::Wrong,
            Verdict::Unverifiable(_) => Self::NotJudged,
        }
    }
}

/// A log-in that is under way. It counts as failed until it has ended otherwise, so that many at once are no more guesses
/// than one after the other, and hanging up early saves none.
pub struct LoginAttempt<'a> {
    counter: &'a Arc<Counter>,
    rule: Rule,
    key: String,
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
    /// Unless too many have failed under this key.
    pub(super) async fn begin(counter: &'a Arc<Counter>, rule: Rule, key: String) -> Result<Self, NotBegun> {
        match counter.take_for_sure(rule, &key).await {
            Count::Counted(standing) => Ok(Self { counter, rule, key, standing }),
            Count::Unknown => {
                // It may have been counted, or may be when Redis gets to it: a client that is told 503 ten times must not
                // be locked out. If it was not, a failure is forgotten, which is no more than an outage's worth of guesses.
                counter.give_back(rule, &key).await;
                Err(NotBegun::Unknown)
            }
            Count::Refused(standing) => {
                count(rule, "refused");
                Err(NotBegun::Refused(Refused(standing)))
            }
        }
    }

    /// How the account, the device or the session stands after it.
    pub async fn end(self, guess: Guess) -> Standing {
        let standing = match (guess, self.rule.policy) {
            (Guess::Wrong, _) => None,
            // The device gets another cookie. Who has a copy of this one does not get all guesses back whenever the owner
            // logs in.
            (Guess::Right, Policy::LoginDevice) | (Guess::NotJudged, _) => {
                self.counter.give_back(self.rule, &self.key).await
            }
            (Guess::Right, _) => self.counter.clear(self.rule, &self.key).await,
        };
        standing.unwrap_or(self.standing)
    }
}
