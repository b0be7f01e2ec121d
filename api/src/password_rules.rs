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
/// Longer ones are on no list.
const LONGEST_LISTED: usize = 32;
/// Patterns are looked for in this many characters at once. The time for it doubles with each character that can stand for
/// several letters (`1` for `i` and `l`): up to 16 ms for 16 of them in a release build, and over 100 ms for 32.
const WINDOW: usize = 16;
/// Common passwords that do not fit into a window.
const LONGER_COMMON: [&str; 8] = [
    "12345678900987654321",
    "123456789987654321",
    "aaaaarrrrrrggghhh",
    "momsanaladventure",
    "nemvxyheqdd5oqxyxyzi",
    "polniypizdec110211",
    "q1w2e3r4t5y6u7i8o9p0",
    "stankylecartmankennymr",
];

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

/// How many characters it has after normalisation; of one that is too long, [`MAX`] and one.
pub fn length(password: &SecretString) -> usize {
    password.expose_secret().nfkc().take(MAX + 1).count()
}

/// Checks length, and that it is not the username: what costs next to nothing.
pub fn check_form(password: &SecretString, username: &str) -> Result<(), WeakPassword> {
    let length = length(password);
    if length < MIN {
        return Err(WeakPassword::Short);
    }
    if length > MAX {
        return Err(WeakPassword::Long);
    }
    let password: Zeroizing<String> = Zeroizing::new(password.expose_secret().nfkc().collect());
    if password.to_lowercase() == username.to_lowercase() { Err(WeakPassword::Username) } else { Ok(()) }
}

/// Checks that it is not too common. This costs a core for milliseconds, so only the pool of password hashes does it.
///
/// Too common is one word of a list of common passwords and words (30,000 and more of them), in whatever case, or one
/// simple pattern: a keyboard row, a repetition, a sequence. One of more than [`WINDOW`] characters is, if both its
/// beginning and its end are, or if it is one of a few that are known.
pub fn check_common(password: &SecretString) -> Result<(), WeakPassword> {
    let characters: Zeroizing<Vec<char>> =
        Zeroizing::new(password.expose_secret().nfkc().take(LONGEST_LISTED + 1).collect());
    let length = characters.len();
    let is_common = if length <= WINDOW {
        is_one_pattern(&characters)
    } else {
        let (first, last) = (&characters[..WINDOW], &characters[length - WINDOW..]);
        length <= LONGEST_LISTED && (is_long_common(&characters) || is_one_pattern(first) && is_one_pattern(last))
    };
    if is_common { Err(WeakPassword::Common) } else { Ok(()) }
}

fn is_long_common(characters: &[char]) -> bool {
    let text: Zeroizing<String> = Zeroizing::new(characters.iter().map(char::to_ascii_lowercase).collect());
    LONGER_COMMON.contains(&text.as_str())
}

fn is_one_pattern(characters: &[char]) -> bool {
    let text: Zeroizing<String> = Zeroizing::new(characters.iter().collect());
    match zxcvbn(&text, &[]).sequence() {
        [only] => !matches!(only.pattern, MatchPattern::BruteForce),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(password: &str) -> Result<(), WeakPassword> {
        let password = password.into();
        check_form(&password, "alice.miller").and_then(|()| check_common(&password))
    }

    #[test]
    fn good_ones_of_any_alphabet_are_accepted_without_rules_of_composition() {
        for password in [
            "correct horse battery staple",
            "tr4velling-by-night",
            "пароль моей бабушки",
            "🦀🦀🦞🦐🦑🐙🐚🪸",
            &"x1y".repeat(85),
            "aaaaaaaaaaaaaaaa, correct horse",
            "correct horse, aaaaaaaaaaaaaaaa",
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
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "abcdefghijklmnopqrstuvwxyz",
            "Q1w2e3r4t5y6u7i8o9p0",
            "passwordpasswordpassword",
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
