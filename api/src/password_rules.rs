//! Which passwords may be chosen: long enough, not known to every attacker, not the username.
//!
//! Length and a blocklist, and no rules of composition, as NIST SP 800-63B-4 3.1.1.2 has it. Whoever is refused is told why.

use secrecy::{ExposeSecret, SecretString};
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;
use zxcvbn::{matching::patterns::MatchPattern, zxcvbn};

/// Fewest characters (NIST SP 800-63B-4: 8 where it is one factor of several; our users may have just this one and a limit
/// on guesses).
pub const MIN: usize = 8;
/// Most characters.
pub const MAX: usize = 256;
/// Longer ones are on no list, and looking for patterns in them would take long.
const LONGEST_LISTED: usize = 32;

/// Why a password may not be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeakPassword {
    #[error("The password must have at least {MIN} characters")]
    Short,
    #[error("The password must have at most {MAX} characters")]
    Long,
    #[error("The password must not be the username")]
    Username,
    #[error("The password is among those that attackers try first")]
    Common,
}

/// How many characters it has, after normalisation.
pub fn length(password: &SecretString) -> usize {
    password.expose_secret().nfkc().count()
}

/// Whether `username` may choose `password`.
pub fn check(password: &SecretString, username: &str) -> Result<(), WeakPassword> {
    let password: Zeroizing<String> = Zeroizing::new(password.expose_secret().nfkc().collect());
    let length = password.chars().count();
    if length < MIN {
        Err(WeakPassword::Short)
    } else if length > MAX {
        Err(WeakPassword::Long)
    } else if password.to_lowercase() == username.to_lowercase() {
        Err(WeakPassword::Username)
    } else if length <= LONGEST_LISTED && is_common(&password) {
        Err(WeakPassword::Common)
    } else {
        Ok(())
    }
}

/// Whether the whole of it is one word of a list of common passwords and words (30,000 and more of them), in whatever case,
/// or one simple pattern: a keyboard row, a repetition, a sequence.
fn is_common(password: &str) -> bool {
    match zxcvbn(password, &[]).sequence() {
        [only] => !matches!(only.pattern, MatchPattern::BruteForce),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(password: &str) -> Result<(), WeakPassword> {
        super::check(&password.into(), "alice.miller")
    }

    #[test]
    fn good_ones_of_any_alphabet_are_accepted_without_rules_of_composition() {
        for password in [
            "correct horse battery staple",
            "tr4velling-by-night",
            "пароль моей бабушки",
            "🦀🦀🦞🦐🦑🐙🐚🪸",
            &"x1y".repeat(85),
        ] {
            assert_eq!(check(password), Ok(()), "{password}");
        }
    }

    #[test]
    fn short_long_common_ones_and_the_username_are_refused_with_the_reason() {
        assert_eq!(check("7 chars"), Err(WeakPassword::Short));
        assert_eq!(check(&"x".repeat(257)), Err(WeakPassword::Long));
        assert_eq!(check("Alice.MILLER"), Err(WeakPassword::Username));
        for password in [
            "password",
            "PASSWORD",
            "password123",
            "12345678",
            "qwertyuiop",
            "iloveyou",
            "sunshine",
            "aaaaaaaa",
            "abcdefgh",
            "P@ssw0rd",
        ] {
            assert_eq!(check(password), Err(WeakPassword::Common), "{password}");
        }
    }

    #[test]
    fn length_is_counted_in_characters_after_normalisation() {
        assert_eq!(check("ﬁﬁﬁﬁ"), Err(WeakPassword::Common).or(check("fifififi")), "four ligatures are eight letters");
        assert_eq!(check("äöüßäöü"), Err(WeakPassword::Short));
    }
}
