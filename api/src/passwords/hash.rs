//! Argon2id (RFC 9106) with memory that is used again; and the bcrypt hashes of the original, until their owners log in.

use std::sync::{Mutex, PoisonError};

use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::phc::{Ident, Output, ParamsString, PasswordHash, Salt},
};
use aws_lc_rs::rand;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

const HASH: usize = 32;
const SALT: usize = 16;

/// What became of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Wrong,
    Right,
    /// It is the password, and this is its hash under the parameters of today.
    RightAndOutdated(String),
}

impl Verdict {
    pub fn is_right(&self) -> bool {
        *self != Self::Wrong
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
    #[error("a stored password hash cannot be read: {0}")]
    Stored(#[from] argon2::password_hash::Error),
    #[error("a stored password hash has no salt or no output")]
    Incomplete,
    #[error("bcrypt: {0}")]
    Bcrypt(#[from] bcrypt::BcryptError),
    #[error("no randomness")]
    Random(#[from] aws_lc_rs::error::Unspecified),
}

impl From<argon2::password_hash::phc::Error> for HashError {
    fn from(error: argon2::password_hash::phc::Error) -> Self {
        Self::Stored(error.into())
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
        if stored.starts_with("$2") {
            // The original hashed what was typed, without normalisation.
            let is_right = bcrypt::verify(password, stored)?;
            return if is_right { self.hash(password).map(Verdict::RightAndOutdated) } else { Ok(Verdict::Wrong) };
        }
        let stored = PasswordHash::new(stored)?;
        if stored.algorithm.as_str() != Algorithm::Argon2id.as_str() {
            return Err(argon2::Error::AlgorithmInvalid.into());
        }
        let (Some(salt), Some(expected)) = (&stored.salt, &stored.hash) else { return Err(HashError::Incomplete) };
        let mut output = Zeroizing::new(vec![0; expected.as_ref().len()]);
        let parameters = Params::try_from(&stored)?;
        self.compute(&parameters, password, salt.as_ref(), &mut output)?;
        // Constant in time (ASVS 5.0 11.2.4).
        if Output::new(&output)? != *expected {
            return Ok(Verdict::Wrong);
        }
        let (then, now) = (&parameters, &self.parameters);
        let is_current = (then.m_cost(), then.t_cost(), then.p_cost()) == (now.m_cost(), now.t_cost(), now.p_cost());
        if is_current { Ok(Verdict::Right) } else { self.hash(password).map(Verdict::RightAndOutdated) }
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

    use super::*;

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
    fn the_originals_bcrypt_verifies_and_is_replaced() {
        for hash in [
            bcrypt::hash("correct horse", 4).unwrap(),
            bcrypt::hash("correct horse", 4).unwrap().replacen("$2b$", "$2a$", 1),
        ] {
            assert_eq!(hasher().verify("correct horsf", &hash).unwrap(), Verdict::Wrong);
            let Verdict::RightAndOutdated(new) = hasher().verify("correct horse", &hash).unwrap() else { panic!() };
            assert!(new.starts_with("$argon2id$"));
        }
    }

    #[test]
    fn composed_and_decomposed_characters_are_the_same_password() {
        let hash = hasher().hash("pa\u{df}w\u{f6}rd").unwrap();
        assert!(hasher().verify("pa\u{df}wo\u{308}rd", &hash).unwrap().is_right());
    }

    #[test]
    fn garbage_in_the_database_is_an_error_and_no_entry() {
        for stored in [
            "",
            "x",
            "$argon2id$",
            "$argon2id$v=19$m=64,t=1,p=1",
            "$argon2i$v=19$m=64,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
        ] {
            assert!(hasher().verify("", stored).is_err(), "{stored}");
        }
    }
}
