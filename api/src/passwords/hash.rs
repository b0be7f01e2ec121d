//! Argon2id (RFC 9106) with memory that is used again; and the bcrypt hashes of the legacy system, until their owners log in.

use std::sync::{Mutex, PoisonError};

use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::phc::{Ident, Output, ParamsString, PasswordHash, Salt},
};
use aws_lc_rs::rand;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use super::stored::{Bcrypt, StoredHash, verify_bcrypt};

const HASH: usize = 32;
const SALT: usize = 16;

/// What became of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Wrong,
    Right,
    /// It is the password, and this is its hash under the parameters of today.
    RightAndOutdated(String),
    /// The stored hash cannot verify it: an administrator has to set a new password.
    Unverifiable(Unverifiable),
}

/// Why a stored hash cannot verify a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unverifiable {
    /// The hash is of an unknown format, or damaged.
    Unreadable,
    /// bcrypt saw the beginning of the password, which is right, and not the rest.
    BeyondBcrypt,
}

impl Verdict {
    pub fn is_right(&self) -> bool {
        matches!(self, Self::Right | Self::RightAndOutdated(_))
    }
}

/// The configured parameters are none that Argon2 knows.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ParameterError(#[from] argon2::Error);

/// A password could not be hashed or compared.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    #[error("argon2: {0}")]
    Argon2(#[from] argon2::Error),
    #[error("encoding a password hash: {0}")]
    Encoding(#[from] argon2::password_hash::Error),
    #[error("bcrypt: {0}")]
    Bcrypt(#[from] bcrypt::BcryptError),
    #[error("no randomness")]
    Random(#[from] aws_lc_rs::error::Unspecified),
}

impl From<argon2::password_hash::phc::Error> for HashError {
    fn from(error: argon2::password_hash::phc::Error) -> Self {
        Self::Encoding(error.into())
    }
}

/// Hashes with the configured parameters, and verifies with those of the stored hash.
pub(super) struct Hasher {
    parameters: Params,
    /// Memory of hashes that are not running; as many as ever ran at once.
    memory: Mutex<Vec<Vec<Block>>>,
}

impl Hasher {
    pub(super) fn new(memory_kib: u32, passes: u32) -> Result<Self, ParameterError> {
        let parameters = Params::new(memory_kib, passes, 1, Some(HASH))?;
        Ok(Self { parameters, memory: Mutex::default() })
    }

    pub(super) fn hash(&self, password: &str) -> Result<String, HashError> {
        let mut salt = [0; SALT];
        rand::fill(&mut salt)?;
        let mut output = Zeroizing::new([0; HASH]);
        self.compute(&self.parameters, password, &salt, output.as_mut())?;
        let hash = PasswordHash {
            algorithm: Ident::new(Algorithm::Argon2id.as_str())?,
            version: Some(Version::V0x13.into()),
            params: ParamsString::try_from(&self.parameters)?,
            salt: Some(Salt::new(&salt)?),
            hash: Some(Output::new(output.as_ref())?),
        };
        Ok(hash.to_string())
    }

    pub(super) fn verify(&self, password: &str, stored: &str) -> Result<Verdict, HashError> {
        match StoredHash::parse(stored) {
            Some(StoredHash::Argon2id { parameters, salt, expected }) => {
                let mut output = Zeroizing::new(vec![0; expected.as_ref().len()]);
                self.compute(&parameters, password, salt.as_ref(), &mut output)?;
                // Constant in time (ASVS 5.0 11.2.4).
                if Output::new(&output)? != expected {
                    return Ok(Verdict::Wrong);
                }
                let (then, now) = (&parameters, &self.parameters);
                let is_current =
                    (then.m_cost(), then.t_cost(), then.p_cost()) == (now.m_cost(), now.t_cost(), now.p_cost());
                if is_current { Ok(Verdict::Right) } else { self.hash(password).map(Verdict::RightAndOutdated) }
            }
            Some(StoredHash::Bcrypt(stored)) => match verify_bcrypt(password, stored)? {
                Bcrypt::Wrong => Ok(Verdict::Wrong),
                Bcrypt::Right => self.hash(password).map(Verdict::RightAndOutdated),
                Bcrypt::RightAsFarAsSeen => Ok(Verdict::Unverifiable(Unverifiable::BeyondBcrypt)),
            },
            None => {
                self.verify_nothing(password)?;
                Ok(Verdict::Unverifiable(Unverifiable::Unreadable))
            }
        }
    }

    /// The work of [`Self::verify`], for a user who does not exist.
    pub(super) fn verify_nothing(&self, password: &str) -> Result<Verdict, HashError> {
        let mut output = Zeroizing::new([0; HASH]);
        self.compute(&self.parameters, password, &[0; SALT], output.as_mut())?;
        Ok(Verdict::Wrong)
    }

    fn compute(&self, parameters: &Params, password: &str, salt: &[u8], output: &mut [u8]) -> Result<(), HashError> {
        // NIST SP 800-63B-4 3.1.1.2: the same characters are the same password, however a keyboard composes them.
        let password: Zeroizing<String> = Zeroizing::new(password.nfkc().collect());
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        memory.resize(memory.len().max(parameters.block_count()), Block::new());
        let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters.clone());
        let result = argon.hash_password_into_with_memory(password.as_bytes(), salt, output, &mut memory[..]);
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
        Ok(result?)
    }
}

#[cfg(test)]
mod tests {
    use argon2::PasswordVerifier;

    use super::{super::stored::HashFormat, *};

    fn hasher() -> Hasher {
        Hasher::new(64, 1).unwrap()
    }

    #[test]
    fn a_hash_verifies_its_own_password_only_and_with_the_library_too() {
        let hash = hasher().hash("correct horse").unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{hash}");
        assert_eq!(hasher().verify("correct horse", &hash).unwrap(), Verdict::Right);
        assert_eq!(hasher().verify("correct horsf", &hash).unwrap(), Verdict::Wrong);
        assert!(Argon2::default().verify_password(b"correct horse", hash.as_str()).is_ok());
    }

    #[test]
    fn a_hash_with_other_parameters_verifies_and_comes_back_with_todays() {
        let hash = Hasher::new(128, 2).unwrap().hash("correct horse").unwrap();
        assert_eq!(hasher().verify("correct horsf", &hash).unwrap(), Verdict::Wrong);
        let Verdict::RightAndOutdated(hash) = hasher().verify("correct horse", &hash).unwrap() else { panic!() };
        assert_eq!(hasher().verify("correct horse", &hash).unwrap(), Verdict::Right);
    }

    #[test]
    fn bcrypt_of_every_version_verifies_and_is_replaced() {
        let hash = bcrypt::hash("correct horse", 4).unwrap();
        for version in ["$2a$", "$2b$", "$2x$", "$2y$"] {
            let hash = hash.replacen("$2b$", version, 1);
            assert_eq!(hasher().verify("correct horsf", &hash).unwrap(), Verdict::Wrong);
            let Verdict::RightAndOutdated(new) = hasher().verify("correct horse", &hash).unwrap() else { panic!() };
            assert!(new.starts_with("$argon2id$"));
            assert_eq!(hasher().verify("correct horse", &new).unwrap(), Verdict::Right);
        }
    }

    #[test]
    fn bcrypt_never_accepts_or_rehashes_what_it_did_not_see() {
        let beyond = Verdict::Unverifiable(Unverifiable::BeyondBcrypt);
        let long = "0123456789ab".repeat(6) + " and the rest";
        let hash = bcrypt::hash(&long, 4).unwrap();
        let (seen, other) = (&long[..72], "x".repeat(72));
        for password in [&long, &format!("{seen}!"), &format!("{seen} and another rest")] {
            assert_eq!(hasher().verify(password, &hash).unwrap(), beyond, "{password}");
        }
        for password in [&other, &format!("{other}!"), &long[..71]] {
            assert_eq!(hasher().verify(password, &hash).unwrap(), Verdict::Wrong, "{password}");
        }
        assert!(hasher().verify(seen, &hash).unwrap().is_right(), "all that the hash can prove");

        // 71 ASCII bytes and a character of two: the cut is in the middle of it.
        let split = "x".repeat(71) + "\u{e4}";
        assert_eq!(hasher().verify(&split, &bcrypt::hash(&split, 4).unwrap()).unwrap(), beyond);
    }

    /// bcrypt repeats a password and its final NUL: to it `abc` and `abc NUL abc` are the same.
    #[test]
    fn bcrypt_accepts_no_password_with_a_nul_in_it() {
        let hash = bcrypt::hash("abc", 4).unwrap();
        assert!(bcrypt::verify("abc\0abc", &hash).unwrap(), "the library takes it");
        for password in ["abc\0", "abc\0abc", "abc\0xyz"] {
            let verdict = hasher().verify(password, &hash).unwrap();
            assert_eq!(verdict, Verdict::Unverifiable(Unverifiable::BeyondBcrypt), "{password:?}");
        }
        assert_eq!(hasher().verify("\0abc", &hash).unwrap(), Verdict::Wrong);
    }

    #[test]
    fn composed_and_decomposed_characters_are_the_same_password() {
        let hash = hasher().hash("pa\u{df}w\u{f6}rd").unwrap();
        assert!(hasher().verify("pa\u{df}wo\u{308}rd", &hash).unwrap().is_right());
    }

    #[test]
    fn unreadable_hashes_are_told_apart_and_let_nobody_in() {
        let good = hasher().hash("").unwrap();
        let bcrypt = bcrypt::hash("", 4).unwrap();
        for stored in [
            "",
            "x",
            "$argon2id$",
            "$argon2id$v=19$m=64,t=1,p=1",
            "$argon2i$v=19$m=64,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
            &good.replace("v=19", "v=16"),
            &good.replace("v=19$", ""),
            // As much as this would end the process, or take until tomorrow.
            &good.replace("m=64", "m=4294967295"),
            &good.replace("t=1", "t=4294967295"),
            &bcrypt.replacen("$04$", "$31$", 1),
            &bcrypt.replacen("$04$", "$03$", 1),
            &bcrypt.replacen("$2b$", "$2z$", 1),
            &bcrypt[..59],
            "$2b$",
            "$2$04$aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "$6$salt$hash",
            "5f4dcc3b5aa765d61d8327deb882cf99",
            "{SSHA}AAAA",
        ] {
            let verdict = hasher().verify("", stored).unwrap();
            assert_eq!(verdict, Verdict::Unverifiable(Unverifiable::Unreadable), "{stored}");
            assert_eq!(HashFormat::of(stored).as_str(), "unreadable", "{stored}");
        }
        assert_eq!((HashFormat::of(&good), HashFormat::of(&bcrypt)), (HashFormat::Argon2id, HashFormat::Bcrypt));
    }
}
