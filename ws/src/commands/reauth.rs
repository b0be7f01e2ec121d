//! `reauth`: the socket lives on by another token of the same session. Also after its own has expired, within the grace.

use gatefold_shared::{
    jwt::{AccessToken, VerifyError},
    revocation::Denied,
};
use tokio::time::Instant;

use crate::{
    close::CloseReason,
    protocol::{ErrorCode, ServerMessage},
    session::{AnotherIdentity, Session},
};

/// A bad token changes nothing; a good one of somebody else must not stay on this socket, and none mends a session that
/// was revoked. While it is not known whether it was, the old token counts as far as it goes.
pub(super) fn reauth(
    session: &mut Session,
    brought: Result<AccessToken, VerifyError>,
    standing: Result<(), Denied>,
    now: Instant,
) -> Result<ServerMessage, CloseReason> {
    if let Err(Denied::Revoked(why)) = standing {
        return Err(CloseReason::Revoked(why));
    }
    let Ok(token) = brought else { return Ok(ServerMessage::error(ErrorCode::ReauthFailed)) };
    if standing == Err(Denied::Stale) {
        return Ok(ServerMessage::error(ErrorCode::Unavailable));
    }
    match session.renew(token, now) {
        Ok(()) => Ok(ServerMessage::ReauthSuccess { expires_at: session.expires_at() }),
        Err(AnotherIdentity) => Err(CloseReason::IdentityMismatch),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use gatefold_shared::{clock, revocation::Why};
    use uuid::Uuid;

    use super::*;
    use crate::token_clock::{TokenEvent, TokenPolicy};

    /// What the client hears, or why its socket is closed.
    fn answer(
        session: &mut Session,
        brought: Result<AccessToken, VerifyError>,
        standing: Result<(), Denied>,
        now: Instant,
    ) -> Result<String, CloseReason> {
        reauth(session, brought, standing, now).map(|answer| answer.to_json(None))
    }

    fn error(code: ErrorCode) -> String {
        ServerMessage::error(code).to_json(None)
    }

    fn token(user_id: i64, family: u128, lifetime: u64) -> AccessToken {
        let expires_at = clock::unix_seconds() + lifetime;
        AccessToken {
            user_id,
            uid: None,
            username: "alice".into(),
            family: Uuid::from_u128(family),
            expires_at,
            rooms: [].into(),
        }
    }

    fn session(now: Instant) -> Session {
        let policy = TokenPolicy { warning: Duration::from_mins(2), grace: Duration::from_secs(30) };
        Session::start(token(1, 1, 10), policy, now)
    }

    #[test]
    fn a_token_of_the_same_session_renews_it_even_in_the_grace() {
        let now = Instant::now();
        let mut session = session(now);
        let late = now + Duration::from_secs(20);
        while session.clock.tick(late).is_some_and(|event| event != TokenEvent::GraceOver) {}
        assert!(session.clock.is_expired());
        let renewed = token(1, 1, 900);
        let answer = answer(&mut session, Ok(renewed.clone()), Ok(()), late);
        assert_eq!(answer, Ok(ServerMessage::ReauthSuccess { expires_at: renewed.expires_at * 1000 }.to_json(None)));
        assert!(!session.clock.is_expired());
    }

    #[test]
    fn a_bad_token_changes_nothing() {
        let now = Instant::now();
        let mut session = session(now);
        let before = session.token().clone();
        for bad in [VerifyError::Expired, VerifyError::Invalid] {
            let answer = answer(&mut session, Err(bad), Ok(()), now);
            assert_eq!(answer, Ok(error(ErrorCode::ReauthFailed)));
        }
        assert_eq!(session.token(), &before);
    }

    #[test]
    fn a_token_of_another_user_or_of_another_session_closes_the_socket() {
        let now = Instant::now();
        for another in [token(2, 1, 900), token(1, 2, 900)] {
            assert_eq!(answer(&mut session(now), Ok(another), Ok(()), now), Err(CloseReason::IdentityMismatch));
        }
    }

    #[test]
    fn no_token_mends_a_session_that_was_revoked() {
        let now = Instant::now();
        let revoked = Err(Denied::Revoked(Why::Logout));
        for brought in [Ok(token(1, 1, 900)), Ok(token(2, 2, 900)), Err(VerifyError::Invalid)] {
            let answer = answer(&mut session(now), brought, revoked, now);
            assert_eq!(answer, Err(CloseReason::Revoked(Why::Logout)));
        }
    }

    #[test]
    fn while_nothing_is_known_of_the_session_the_old_token_counts() {
        let now = Instant::now();
        let mut session = session(now);
        let before = session.token().clone();
        let answer = answer(&mut session, Ok(token(1, 1, 900)), Err(Denied::Stale), now);
        assert_eq!(answer, Ok(error(ErrorCode::Unavailable)));
        assert_eq!(session.token(), &before);
    }
}
