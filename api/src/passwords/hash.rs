//! Argon2id (RFC 9106) with memory that is used again.

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

    pub(super) fn verify(&self, password: &str, stored: &str) -> Result<bool, HashError> {
        let stored = PasswordHash::new(stored)?;
        if stored.algorithm.as_str() != Algorithm::Argon2id.as_str() {
            return Err(argon2::Error::AlgorithmInvalid.into());
        }
        let (Some(salt), Some(expected)) = (&stored.salt, &stored.hash) else { return Err(HashError::Incomplete) };
        let mut output = Zeroizing::new(vec![0; expected.as_ref().len()]);
        self.compute(&Params::try_from(&stored)?, password, salt.as_ref(), &mut output)?;
        Ok(Output::new(&output)? == *expected) // Constant in time (ASVS 5.0 11.2.4).
    }

    /// The work of [`Self::verify`], for a user who does not exist.
    pub(super) fn verify_nothing(&self, password: &str) -> Result<bool, HashError> {
        let mut output = Zeroizing::new([0; HASH]);
        self.compute(&self.parameters, password, &[0; SALT], output.as_mut())?;
        Ok(false)
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
        assert!(hasher().verify("correct horse", &hash).unwrap());
        assert!(!hasher().verify("correct horsf", &hash).unwrap());
        assert!(Argon2::default().verify_password(b"correct horse", hash.as_str()).is_ok());
    }

    #[test]
    fn hashes_with_other_parameters_verify() {
        let hash = Hasher::new(128, 2).unwrap().hash("correct horse").unwrap();
        assert!(hasher().verify("correct horse", &hash).unwrap());
    }

    #[test]
    fn composed_and_decomposed_characters_are_the_same_password() {
        let hash = hasher().hash("pa\u{df}w\u{f6}rd").unwrap();
        assert!(hasher().verify("pa\u{df}wo\u{308}rd", &hash).unwrap());
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
