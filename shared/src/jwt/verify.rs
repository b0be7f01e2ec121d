//! Verifying access tokens, as RFC 8725 advises: one algorithm, known keys, explicit type, every claim that we rely on.

use std::{collections::HashMap, path::Path, time::Duration};

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, errors::ErrorKind};

use super::{AUDIENCE, AccessToken, Claims, ISSUER, KeyError, TYPE, keys};
use crate::clock;

/// Longer than any token of ours by far; what is longer is not looked at.
const MAX_LENGTH: usize = 4096;

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

/// The public keys whose signatures count, by `kid`.
pub struct Verifier {
    keys: HashMap<String, DecodingKey>,
    validation: Validation,
}

impl Verifier {
    /// How far clocks may differ: for this long an expired token is still accepted, and one from the future already.
    pub const LEEWAY: Duration = Duration::from_secs(5);

    /// Reads the public keys at `paths`.
    pub fn read(paths: &[impl AsRef<Path>]) -> Result<Self, KeyError> {
        let mut keys = HashMap::with_capacity(paths.len());
        for path in paths.iter().map(AsRef::as_ref) {
            let key = keys::read_public(path)?;
            let (_, kid) = keys::published(path, &key)?;
            keys.insert(kid, key);
        }
        // RFC 8725 3.1: the algorithm is ours to choose, never the token's.
        let mut validation = Validation::new(Algorithm::RS256);
        validation.leeway = Self::LEEWAY.as_secs();
        validation.validate_nbf = true;
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        Ok(Self { keys, validation })
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
        let key = header.kid.as_deref().and_then(|kid| self.keys.get(kid));
        let Some(key) = key else { return Err(VerifyError::Invalid) };
        let claims = decode::<Claims>(token, key, &self.validation).map_err(|error| match error.kind() {
            ErrorKind::ExpiredSignature => VerifyError::Expired,
            _ => VerifyError::Invalid,
        })?;
        let claims = claims.claims;
        if claims.iat > clock::unix_seconds() + Self::LEEWAY.as_secs() {
            return Err(VerifyError::Invalid);
        }
        let user_id = claims.sub.parse().map_err(|_| VerifyError::Invalid)?;
        Ok(AccessToken { user_id, username: claims.username, family: claims.sid, expires_at: claims.exp })
    }

    /// Whether the key with this `kid` is one of ours.
    pub fn knows(&self, kid: &str) -> bool {
        self.keys.contains_key(kid)
    }
}
