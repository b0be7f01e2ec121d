//! Verifying access tokens, as RFC 8725 advises: one algorithm, known keys, explicit type, every claim that we rely on.

use std::{path::Path, time::Duration};

use jsonwebtoken::{Algorithm, Validation, decode, decode_header, errors::ErrorKind, jwk::JwkSet};

use super::{AccessToken, Claims, KeyError, TYPE, keys::PublicKey};
use crate::{clock, config::IssuerConfig, grants};

/// Longer than any token of ours by far; what is longer is not looked at.
const MAX_LENGTH: usize = 5 * 1024;

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// It was ours and its time is over.
    #[error("the access token has expired")]
    Expired,
    /// Anything else; what exactly is nobody's business but the forger's.
    #[error("the access token is not valid")]
    Invalid,
}

/// The public keys whose signatures count.
pub struct Verifier {
    /// One, or two while keys are rotated: not worth a map.
    keys: Vec<PublicKey>,
    validation: Validation,
}

impl Verifier {
    /// How far clocks may differ: for this long an expired token is still accepted, and one from the future already.
    pub const LEEWAY: Duration = Duration::from_secs(5);

    /// Reads the public keys in the files at `paths`.
    pub fn read(paths: &[impl AsRef<Path>]) -> Result<Self, KeyError> {
        let mut keys: Vec<PublicKey> = Vec::with_capacity(paths.len());
        for path in paths {
            for key in PublicKey::read_all(path.as_ref())? {
                if keys.iter().all(|known| known.kid() != key.kid()) {
                    keys.push(key);
                }
            }
        }
        // RFC 8725 3.1: the algorithm is ours to choose, never the token's.
        let mut validation = Validation::new(Algorithm::RS256);
        validation.leeway = Self::LEEWAY.as_secs();
        validation.validate_nbf = true;
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        Ok(Self { keys, validation }.accepting(&IssuerConfig::default()))
    }

    /// The same for tokens of the configured issuers, for any of the configured audiences.
    #[must_use]
    pub fn accepting(mut self, config: &IssuerConfig) -> Self {
        let issuers: Vec<_> = config.accepted_issuers.iter().chain([&config.issuer]).collect();
        let audiences: Vec<_> = config.accepted_audiences.iter().chain([&config.audience]).collect();
        self.validation.set_issuer(&issuers);
        self.validation.set_audience(&audiences);
        self
    }

    /// Accepts a token of ours that has not expired, give or take the clocks.
    pub fn verify(&self, token: &str) -> Result<AccessToken, VerifyError> {
        if token.len() > MAX_LENGTH {
            return Err(VerifyError::Invalid);
        }
        let header = decode_header(token).map_err(|_| VerifyError::Invalid)?;
        // RFC 8725 3.11 and RFC 7515 4.1.11: the type is explicit, and we understand no critical extensions.
        if header.alg != Algorithm::RS256 || header.typ.as_deref() != Some(TYPE) || header.crit.is_some() {
            return Err(VerifyError::Invalid);
        }
        let key = header.kid.as_deref().and_then(|kid| self.key(kid)).ok_or(VerifyError::Invalid)?;
        let claims = decode::<Claims>(token, key.key(), &self.validation).map_err(|error| match error.kind() {
            ErrorKind::ExpiredSignature => VerifyError::Expired,
            _ => VerifyError::Invalid,
        })?;
        let claims = claims.claims;
        if claims.iat > clock::unix_seconds() + Self::LEEWAY.as_secs() {
            return Err(VerifyError::Invalid);
        }
        let user_id = claims.sub.parse().map_err(|_| VerifyError::Invalid)?;
        if claims.rooms.len() > grants::MOST || !claims.rooms.iter().all(|room| grants::is_grantable(room)) {
            return Err(VerifyError::Invalid);
        }
        let Claims { uid, username, sid: family, exp: expires_at, rooms, .. } = claims;
        Ok(AccessToken { user_id, uid, username, family, expires_at, rooms })
    }

    /// Whether the key with this `kid` is one of ours.
    pub fn knows(&self, kid: &str) -> bool {
        self.key(kid).is_some()
    }

    /// The keys, in the order in which they were read.
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// The keys as they are published (RFC 7517).
    pub fn jwks(&self) -> JwkSet {
        JwkSet { keys: self.keys.iter().map(|key| key.jwk().clone()).collect() }
    }

    fn key(&self, kid: &str) -> Option<&PublicKey> {
        self.keys.iter().find(|key| key.kid() == kid)
    }
}
