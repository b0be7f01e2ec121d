//! The keys of a REST replica: one that signs access tokens, those that verify them, and those of refresh tokens.

use std::sync::Arc;

use gatefold_shared::{
    config::PublicKeyConfig,
    jwt::{AccessToken, Signer, Verifier, VerifyError},
    live_keys::{KeySet, LiveKeys},
};

use crate::{config::TokenConfig, families::RefreshKeys, verified_tokens::VerifiedTokens};

/// They belong together: what is signed must be verifiable.
pub struct Keys {
    /// Verifies access tokens.
    pub verifier: Verifier,
    /// Signs access tokens.
    pub signer: Signer,
    /// Seals and opens refresh tokens.
    pub refresh: RefreshKeys,
    verified: VerifiedTokens,
}

impl Keys {
    /// Accepts an access token as [`Verifier::verify`] does, one that was accepted before at less cost.
    pub fn verify(&self, token: &str) -> Result<AccessToken, VerifyError> {
        self.verified.verify(&self.verifier, token)
    }

    /// Reads them, or says everything that is wrong with them.
    pub fn read(tokens: &TokenConfig, public_keys: &PublicKeyConfig) -> Result<Self, Vec<String>> {
        let verifier = Verifier::read(&public_keys.public_key_path).map(|keys| keys.accepting(&public_keys.issuer));
        let signer = Signer::read(&tokens.private_key_path, tokens.access_token_expiry);
        let signer = signer.map(|signer| signer.issuing(&public_keys.issuer));
        let refresh = RefreshKeys::read(&tokens.refresh_key_path);
        match (verifier, signer, refresh) {
            (Ok(verifier), Ok(signer), Ok(refresh)) if verifier.knows(signer.kid()) => {
                Ok(Self { verifier, signer, refresh, verified: VerifiedTokens::default() })
            }
            (Ok(_), Ok(_), Ok(_)) => {
                Err(vec!["the public half of PRIVATE_KEY_PATH is not among PUBLIC_KEY_PATH".to_owned()])
            }
            (verifier, signer, refresh) => {
                let errors = [
                    signer.err().map(|error| error.to_string()),
                    verifier.err().map(|error| error.to_string()),
                    refresh.err().map(|error| error.to_string()),
                ];
                Err(errors.into_iter().flatten().collect())
            }
        }
    }

    /// As [`Keys::read`], to be replaced when the files change.
    pub fn live(tokens: &TokenConfig, public_keys: &PublicKeyConfig) -> Result<Arc<LiveKeys<Self>>, Vec<String>> {
        let (tokens, public_keys) = (tokens.clone(), public_keys.clone());
        let public = public_keys.public_key_path.iter();
        let files = public.chain([&tokens.private_key_path]).chain(&tokens.refresh_key_path).cloned().collect();
        LiveKeys::read(files, move || Self::read(&tokens, &public_keys))
    }
}

impl KeySet for Keys {
    fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    fn signing_kid(&self) -> Option<&str> {
        Some(self.signer.kid())
    }
}
