//! Access tokens that were verified before.
//!
//! A client shows the same token with each request until it expires, and its signature is as good the second time: checking
//! it again would be most of what a protected call costs. What can change about a token is its age and whether its session
//! was revoked; neither is remembered here. Tokens are known by their digests, so that none stays in memory after
//! its request, and forgotten with the keys that verified them: this belongs to one set of keys.

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use gatefold_shared::{
    clock,
    jwt::{AccessToken, Verifier, VerifyError},
};
use quick_cache::sync::Cache;

/// So many are remembered, at some 250 bytes each; what is used least goes first.
const CAPACITY: usize = 50_000;

/// See the module.
pub struct VerifiedTokens(Cache<[u8; SHA256_OUTPUT_LEN], AccessToken>);

impl Default for VerifiedTokens {
    fn default() -> Self {
        Self(Cache::new(CAPACITY))
    }
}

impl VerifiedTokens {
    /// As [`Verifier::verify`].
    pub fn verify(&self, verifier: &Verifier, token: &str) -> Result<AccessToken, VerifyError> {
        let key = key_of(token);
        // The leeway for one that has expired is the verifier's business.
        if let Some(known) = self.0.get(&key).filter(|known| known.expires_at > clock::unix_seconds()) {
            return Ok(known);
        }
        let fresh = verifier.verify(token)?;
        self.0.insert(key, fresh.clone());
        Ok(fresh)
    }
}

fn key_of(token: &str) -> [u8; SHA256_OUTPUT_LEN] {
    let mut key = [0; SHA256_OUTPUT_LEN];
    key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    key
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use uuid::Uuid;

    use super::*;

    /// What a verifier without keys says of a token that was accepted before and expires then.
    fn verdict(expires_at: u64) -> Result<AccessToken, VerifyError> {
        let known = VerifiedTokens::default();
        let token = AccessToken {
            user_id: 7,
            uid: None,
            username: "grace".into(),
            family: Uuid::nil(),
            expires_at,
            rooms: [].into(),
        };
        known.0.insert(key_of("a token"), token);
        let nobody = Verifier::read(&[] as &[PathBuf]).unwrap();
        assert_eq!(known.verify(&nobody, "another token"), Err(VerifyError::Invalid));
        known.verify(&nobody, "a token")
    }

    #[test]
    fn a_known_token_is_accepted_until_it_expires_and_no_other_is() {
        let now = clock::unix_seconds();
        assert_eq!(verdict(now + 60).unwrap().user_id, 7);
        for gone in [0, now - 1, now] {
            assert_eq!(verdict(gone), Err(VerifyError::Invalid), "{gone}");
        }
    }
}
