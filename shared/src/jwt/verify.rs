//! Verifying access tokens, as RFC 8725 advises: one algorithm, known keys, explicit type, every claim that we rely on.

use std::{collections::HashMap, path::Path};

use aws_lc_rs::rsa::PublicKey;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, decode, decode_header,
    errors::ErrorKind,
    jwk::{AlgorithmParameters, Jwk},
};

use super::{AUDIENCE, AccessToken, Claims, ISSUER, KeyError, TYPE, keys};
use crate::clock;

/// How far clocks may differ, in seconds: an expired token is accepted, and one from the future too, for this long.
const LEEWAY: u64 = 5;
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
    keys: HashMap<String, (DecodingKey, Jwk)>,
    validation: Validation,
}

impl Verifier {
    /// Reads the public keys at `paths`.
    pub fn read(paths: &[impl AsRef<Path>]) -> Result<Self, KeyError> {
        let mut keys = HashMap::with_capacity(paths.len());
        for path in paths.iter().map(AsRef::as_ref) {
            let jwk = keys::read_public(path)?;
            let key = DecodingKey::from_jwk(&jwk).map_err(|error| keys::unusable(path, error.to_string()))?;
            let kid = jwk.common.key_id.clone().unwrap_or_default();
            keys.insert(kid, (key, jwk));
        }
        // RFC 8725 3.1: the algorithm is ours to choose, never the token's.
        let mut validation = Validation::new(Algorithm::RS256);
        validation.leeway = LEEWAY;
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
        let Some((key, _)) = key else { return Err(VerifyError::Invalid) };
        let claims = decode::<Claims>(token, key, &self.validation).map_err(|error| match error.kind() {
            ErrorKind::ExpiredSignature => VerifyError::Expired,
            _ => VerifyError::Invalid,
        })?;
        let claims = claims.claims;
        if claims.iat > clock::unix_seconds() + LEEWAY {
            return Err(VerifyError::Invalid);
        }
        let user_id = claims.sub.parse().map_err(|_| VerifyError::Invalid)?;
        Ok(AccessToken { user_id, username: claims.username, family: claims.sid, expires_at: claims.exp })
    }

    /// The `kid` of the key whose public half this is, if it is one of ours.
    pub(super) fn kid_of(&self, public: &PublicKey) -> Option<&str> {
        let modulus = URL_SAFE_NO_PAD.encode(public.modulus().big_endian_without_leading_zero());
        let is_it = |jwk: &Jwk| matches!(&jwk.algorithm, AlgorithmParameters::RSA(rsa) if rsa.n == modulus);
        self.keys.iter().find(|(_, (_, jwk))| is_it(jwk)).map(|(kid, _)| kid.as_str())
    }
}
