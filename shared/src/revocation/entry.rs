//! One line of the revocation log.

use std::collections::HashMap;

use uuid::Uuid;

use crate::redis::StreamId;

/// Why a session ended; the same words reach clients in close frames and lists of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its user logged out.
    Logout,
    /// Its user logged out everywhere.
    LogoutAll,
    /// Its user changed the password, from another session.
    PasswordChanged,
    /// One of its refresh tokens was used a second time: somebody else has a copy.
    RefreshTokenReused,
    /// Its user ended it from the list of sessions.
    EndedByUser,
    /// An administrator ended it.
    EndedByAdmin,
    /// Its user was disabled or deleted.
    Disabled,
    /// Its user opened more sessions than are kept.
    Evicted,
    /// Its user's number belongs to another account by now.
    AccountReplaced,
}

impl Why {
    const ALL: [Self; 9] = [
        Self::Logout,
        Self::LogoutAll,
        Self::PasswordChanged,
        Self::RefreshTokenReused,
        Self::EndedByUser,
        Self::EndedByAdmin,
        Self::Disabled,
        Self::Evicted,
        Self::AccountReplaced,
    ];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::LogoutAll => "logout_all",
            Self::PasswordChanged => "password_changed",
            Self::RefreshTokenReused => "refresh_token_reused",
            Self::EndedByUser => "ended_by_user",
            Self::EndedByAdmin => "ended_by_admin",
            Self::Disabled => "disabled",
            Self::Evicted => "evicted",
            Self::AccountReplaced => "account_replaced",
        }
    }

    /// A word that a newer replica may have written must still end the session, so any unknown one is an administrator's.
    pub fn of(word: &str) -> Self {
        Self::ALL.into_iter().find(|why| why.as_str() == word).unwrap_or(Self::EndedByAdmin)
    }
}

/// A session that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub(super) id: StreamId,
    /// The session.
    pub family: Uuid,
    /// Whose it was.
    pub user_id: i64,
    /// Why it ended.
    pub why: Why,
    /// Until when an access token of it could be valid, in milliseconds of Redis's clock.
    pub until: i64,
}

impl Entry {
    /// As published: `id family user why until`.
    pub(super) fn from_message(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let entry = Self {
            id: words.next()?.parse().ok()?,
            family: words.next()?.parse().ok()?,
            user_id: words.next()?.parse().ok()?,
            why: Why::of(words.next()?),
            until: words.next()?.parse().ok()?,
        };
        words.next().is_none().then_some(entry)
    }

    /// As it stands in the stream.
    pub(super) fn from_stream(id: &str, fields: &HashMap<String, String>) -> Option<Self> {
        Some(Self {
            id: id.parse().ok()?,
            family: fields.get("family")?.parse().ok()?,
            user_id: fields.get("user")?.parse().ok()?,
            why: Why::of(fields.get("why")?),
            until: fields.get("until")?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_and_garbage_is_not() {
        let family = Uuid::from_u128(7);
        let entry = Entry::from_message(&format!("1700-2 {family} 42 logout 9000")).expect("an entry");
        assert_eq!((entry.id, entry.family, entry.user_id), (StreamId(1700, 2), family, 42));
        assert_eq!((entry.why, entry.until), (Why::Logout, 9000));
        for garbage in
            ["", "probe x 1", &format!("1700-2 {family} 42 logout"), &format!("1700-2 {family} 42 logout 9 x")]
        {
            assert_eq!(Entry::from_message(garbage), None, "{garbage}");
        }
    }

    #[test]
    fn every_reason_is_read_back_and_an_unknown_one_still_ends_the_session() {
        for why in Why::ALL {
            assert_eq!(Why::of(why.as_str()), why);
        }
        assert_eq!(Why::of("from_the_future"), Why::EndedByAdmin);
    }
}
