//! Reading RSA keys from PEM files, and refusing those that cannot protect anything.

use std::{
    io,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, Jwk, PublicKeyUse, ThumbprintHash},
};

/// Smallest modulus that is accepted, in bits (RFC 7518 3.3).
const MIN_MODULUS_BITS: usize = 2048;

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file is not there or cannot be read.
    #[error("{path}: {error} (./generate-keys.sh makes the keys)", path = .0.display(), error = .1)]
    Unreadable(PathBuf, io::Error),
    /// The file does not hold what it should.
    #[error("{path}: {what} (./generate-keys.sh makes a good one)", path = .0.display(), what = .1)]
    Unusable(PathBuf, String),
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, KeyError> {
    std::fs::read(path).map_err(|error| KeyError::Unreadable(path.to_owned(), error))
}

pub(super) fn unusable(path: &Path, what: impl Into<String>) -> KeyError {
    KeyError::Unusable(path.to_owned(), what.into())
}

/// A public key that verifies access tokens.
pub struct PublicKey {
    path: PathBuf,
    kid: String,
    bits: usize,
    jwk: Jwk,
    key: DecodingKey,
}

impl PublicKey {
    /// The keys in a PEM file: one, or several while keys are rotated. A file that ends in the middle of a key is refused.
    pub(super) fn read_all(path: &Path) -> Result<Vec<Self>, KeyError> {
        let text = read(path)?;
        if !text.starts_with(b"-----BEGIN PUBLIC KEY-----") {
            return Err(unusable(path, "not a public key in PEM form (it begins with -----BEGIN PUBLIC KEY-----)"));
        }
        let broken = |error: &dyn std::fmt::Display| unusable(path, format!("not an RSA public key: {error}"));
        let blocks = pem::parse_many(&text).map_err(|error| broken(&error))?;
        // Of what it cannot make out, the parser says nothing.
        if String::from_utf8_lossy(&text).matches("-----BEGIN").count() != blocks.len() {
            return Err(broken(&"it is cut off"));
        }
        if let Some(other) = blocks.iter().find(|block| block.tag() != "PUBLIC KEY") {
            return Err(unusable(path, format!("not a public key alone: it also holds a {}", other.tag())));
        }
        let key = |block: &pem::Pem| {
            let key = DecodingKey::from_rsa_pem(pem::encode(block).as_bytes()).map_err(|error| broken(&error))?;
            Self::of(path, key)
        };
        blocks.iter().map(key).collect()
    }

    /// The key, if it is long enough to protect anything.
    pub(super) fn of(path: &Path, key: DecodingKey) -> Result<Self, KeyError> {
        let not_rsa = |error: jsonwebtoken::errors::Error| unusable(path, format!("not an RSA key: {error}"));
        let mut jwk = Jwk::from_decoding_key(&key, Some(Algorithm::RS256)).map_err(not_rsa)?;
        let bits = modulus_bits(&jwk).ok_or_else(|| unusable(path, "not an RSA key"))?;
        if bits < MIN_MODULUS_BITS {
            return Err(unusable(path, format!("{bits} bits are too few for an RSA key: {MIN_MODULUS_BITS} at least")));
        }
        let kid = jwk.thumbprint(ThumbprintHash::SHA256).map_err(not_rsa)?;
        jwk.common.key_id = Some(kid.clone());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        Ok(Self { path: path.to_owned(), kid, bits, jwk, key })
    }

    /// The file that it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its name in the header of tokens: its thumbprint (RFC 7638).
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The length of its modulus.
    pub fn bits(&self) -> usize {
        self.bits
    }

    pub(super) fn into_kid(self) -> String {
        self.kid
    }

    pub(super) fn jwk(&self) -> &Jwk {
        &self.jwk
    }

    pub(super) fn key(&self) -> &DecodingKey {
        &self.key
    }
}

fn modulus_bits(jwk: &Jwk) -> Option<usize> {
    let AlgorithmParameters::RSA(rsa) = &jwk.algorithm else { return None };
    let modulus = URL_SAFE_NO_PAD.decode(&rsa.n).ok()?;
    let leading = modulus.iter().position(|byte| *byte != 0)?;
    Some((modulus.len() - leading) * 8 - modulus[leading].leading_zeros() as usize)
}
