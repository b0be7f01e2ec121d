//! What a stored password hash is: Argon2id, bcrypt of the legacy system, or nothing that can be verified.

use std::str::FromStr;

use argon2::{
    Algorithm, Params,
    password_hash::phc::{Output, PasswordHash, Salt},
};
use zeroize::Zeroizing;

/// The most memory that a stored hash may ask for, in KiB. As `ARGON2_MEMORY_KIB`: more would end the process.
const MAX_MEMORY_KIB: u32 = 1_048_576;
/// The most passes that a stored hash may ask for. As `ARGON2_PASSES`.
const MAX_PASSES: u32 = 100;
/// The most lanes that a stored hash may ask for.
const MAX_LANES: u32 = 64;
/// The highest cost of bcrypt that is computed: some ten seconds. Each one more doubles that.
const MAX_BCRYPT_COST: u32 = 17;
/// bcrypt looks at no more bytes of a password.
const BCRYPT_BYTES: usize = 72;

/// The kind of a stored hash, as administrators see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashFormat {
    Argon2id,
    /// Replaced at the user's next login.
    Bcrypt,
    /// The user cannot log in until an administrator sets a password.
    Unreadable,
}

impl HashFormat {
    /// The format of a stored hash.
    pub fn of(stored: &str) -> Self {
        match StoredHash::parse(stored) {
            Some(StoredHash::Argon2id { .. }) => Self::Argon2id,
            Some(StoredHash::Bcrypt(_)) => Self::Bcrypt,
            None => Self::Unreadable,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Argon2id => "argon2id",
            Self::Bcrypt => "bcrypt",
            Self::Unreadable => "unreadable",
        }
    }
}

/// A stored hash that can be verified.
pub(super) enum StoredHash<'a> {
    Argon2id { parameters: Params, salt: Salt, expected: Output },
    Bcrypt(&'a str),
}

impl<'a> StoredHash<'a> {
    /// Parses a hash; `None` if it cannot be verified, whatever the password.
    pub(super) fn parse(stored: &'a str) -> Option<Self> {
        if stored.starts_with("$2") {
            // $2a$, $2b$ and $2y$ are one algorithm. So is $2x$ for ASCII; other passwords under it verify as wrong.
            let parts = bcrypt::HashParts::from_str(stored).ok()?;
            return (4..=MAX_BCRYPT_COST).contains(&parts.get_cost()).then_some(Self::Bcrypt(stored));
        }
        let hash = PasswordHash::new(stored).ok()?;
        if hash.algorithm.as_str() != Algorithm::Argon2id.as_str() {
            return None;
        }
        // The library takes hashes without a version, or of version 16, for those of version 19.
        if hash.version != Some(argon2::Version::V0x13.into()) {
            return None;
        }
        let parameters = Params::try_from(&hash).ok()?;
        let is_bounded = parameters.m_cost() <= MAX_MEMORY_KIB
            && parameters.t_cost() <= MAX_PASSES
            && parameters.p_cost() <= MAX_LANES;
        match (hash.salt, hash.hash) {
            (Some(salt), Some(expected)) if is_bounded => Some(Self::Argon2id { parameters, salt, expected }),
            _ => None,
        }
    }
}

/// What a bcrypt hash says of a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bcrypt {
    Wrong,
    /// The password is right, and bcrypt saw all of it.
    Right,
    /// The part that bcrypt saw is right; nobody can tell about the rest.
    RightAsFarAsSeen,
}

/// Compares a password with a hash of the legacy system, which hashed what was typed, without normalisation.
///
/// bcrypt sees the bytes before a NUL, and 72 of them at most. What it did not see it cannot verify: a password that goes on
/// is never right, however it goes on.
pub(super) fn verify_bcrypt(password: &str, stored: &str) -> Result<Bcrypt, bcrypt::BcryptError> {
    let bytes = password.as_bytes();
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len()).min(BCRYPT_BYTES);
    let seen = Zeroizing::new(bytes[..end].to_vec());
    Ok(match (bcrypt::verify(&*seen, stored)?, seen.len() == bytes.len()) {
        (false, _) => Bcrypt::Wrong,
        (true, true) => Bcrypt::Right,
        (true, false) => Bcrypt::RightAsFarAsSeen,
    })
}
