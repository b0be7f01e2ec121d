//! Signing access tokens.
//!
//! `jsonwebtoken` parses the private key anew at each call, which costs more than the signature itself; here it is parsed
//! once and AWS-LC signs. The signature is nearly all that a refresh costs.

use std::{path::Path, sync::Arc, time::Duration};

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeyPair,
    signature::{KeyPair as _, RSA_PKCS1_SHA256},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, Header};
use uuid::Uuid;

use super::{
    CLIENT_ID, Claims, KeyError, Subject, TYPE,
    keys::{PublicKey, read, unusable},
};
use crate::{clock, config::IssuerConfig, grants::Rooms};

/// The private key that signs, and how long its tokens live.
pub struct Signer {
    key: KeyPair,
    kid: String,
    /// The encoded header, the same in every token.
    header: String,
    lifetime: Duration,
    issuer: String,
    audience: String,
    random: SystemRandom,
}

/// No signature could be made; the cryptographic library does not say why.
#[derive(Debug, thiserror::Error)]
#[error("could not sign an access token")]
pub struct SignError;

impl Signer {
    /// Reads the private key at `path`. Tokens live for `lifetime`.
    pub fn read(path: &Path, lifetime: Duration) -> Result<Self, KeyError> {
        let pem = pem::parse(read(path)?).map_err(|_| unusable(path, "not a private key in PEM form"))?;
        let key = match pem.tag() {
            "PRIVATE KEY" => KeyPair::from_pkcs8(pem.contents()),
            "RSA PRIVATE KEY" => KeyPair::from_der(pem.contents()),
            other => return Err(unusable(path, format!("holds a {other} instead of an unencrypted RSA private key"))),
        };
        let key = key.map_err(|error| unusable(path, format!("not a usable RSA private key: {error}")))?;
        let public = key.public_key();
        let modulus = public.modulus().big_endian_without_leading_zero();
        let exponent = public.exponent().big_endian_without_leading_zero();
        let kid = PublicKey::of(path, DecodingKey::from_rsa_raw_components(modulus, exponent))?.into_kid();
        let mut header = Header::new(Algorithm::RS256);
        header.typ = Some(TYPE.to_owned());
        header.kid = Some(kid.clone());
        let header = serde_json::to_vec(&header).map_err(|error| unusable(path, error.to_string()))?;
        let IssuerConfig { issuer, audience, .. } = IssuerConfig::default();
        let header = URL_SAFE_NO_PAD.encode(header);
        Ok(Self { key, kid, header, lifetime, issuer, audience, random: SystemRandom::new() })
    }

    /// The same in the name of the configured issuer, for the configured audience.
    #[must_use]
    pub fn issuing(self, config: &IssuerConfig) -> Self {
        Self { issuer: config.issuer.clone(), audience: config.audience.clone(), ..self }
    }

    /// The key's name in the header of its tokens: the thumbprint (RFC 7638) of its public half.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// How long a token lives unless its session ends before.
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// A new access token for a session of a user, which lives for the whole seconds of `lifetime`.
    pub fn sign(
        &self,
        user: impl Into<Subject>,
        username: Arc<str>,
        family: Uuid,
        rooms: Rooms,
        lifetime: Duration,
    ) -> Result<String, SignError> {
        let (Subject { id, uid }, iat) = (user.into(), clock::unix_seconds());
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: self.audience.clone(),
            client_id: Some(CLIENT_ID.to_owned()),
            sub: id.to_string(),
            uid,
            username,
            sid: family,
            jti: Uuid::new_v4(),
            iat,
            exp: iat + lifetime.as_secs(),
            rooms,
            nbf: None,
        };
        let claims = serde_json::to_vec(&claims).map_err(|_| SignError)?;
        let mut token = String::with_capacity(1024);
        token.push_str(&self.header);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key.sign(&RSA_PKCS1_SHA256, &self.random, token.as_bytes(), &mut signature).map_err(|_| SignError)?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }
}
