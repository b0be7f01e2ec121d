//! What `rotate` answers.

use gatefold_shared::redis::Value;

use super::{Families, FamilyError, ROTATE, RefreshToken, Rotation, Session};
use tokio::time::Instant;

/// What is to be done about it.
pub(super) enum Reading {
    /// Nothing more.
    Done(Rotation),
    /// The script was too late by a wrong idea of Redis's clock: ask again.
    AskAgain,
    /// Nobody has vouched for what Redis has: ask again when somebody has.
    NotVouched,
    /// Postgres was restored: ask it first whether the session is of the present owner of the number.
    Unconfirmed(i64),
}

impl Families {
    pub(super) fn read_rotation(
        &self,
        old: &RefreshToken,
        reply: &[Value],
        until: Instant,
    ) -> Result<Reading, FamilyError> {
        let unexpected = || FamilyError::from(ROTATE.unexpected_reply());
        let number = |index: usize| reply.get(index).and_then(Value::as_i64);
        let (Some(outcome), Some(now)) = (number(0), number(1)) else { return Err(unexpected()) };
        self.redis.time().learn(now);
        let session = || -> Result<Session, FamilyError> {
            let generation = number(2).and_then(|generation| u32::try_from(generation).ok()).ok_or_else(unexpected)?;
            let expires = number(3).ok_or_else(unexpected)?;
            let username = reply.get(4).and_then(Value::as_str).ok_or_else(unexpected)?;
            let uid = reply.get(6).and_then(Value::as_str).and_then(|uid| uid.parse().ok());
            let session =
                self.session(&old.at_generation(generation), username.as_ref().into(), now, expires, reply.get(5));
            Ok(Session { uid, ..session })
        };
        let rotation = match outcome {
            0 => Rotation::Unknown,
            1 => Rotation::Rotated(session()?),
            2 => Rotation::Retried(session()?),
            3 => Rotation::RolledForward(session()?),
            4 => Rotation::Replayed { last_address: reply.get(2).and_then(Value::as_string).unwrap_or_default() },
            5 => Rotation::Revoked,
            6 => {
                self.redis.too_late(&reply[1], until, &ROTATE)?;
                return Ok(Reading::AskAgain);
            }
            7 => return Err(FamilyError::NotJudged),
            8 => Rotation::Superseded,
            9 => Rotation::TradedAnew(session()?),
            10 => Rotation::KeyReused,
            11 => return Ok(Reading::NotVouched),
            12 => return Ok(Reading::Unconfirmed(number(2).ok_or_else(unexpected)?)),
            _ => return Err(unexpected()),
        };
        Ok(Reading::Done(rotation))
    }
}
