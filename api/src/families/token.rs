//! The refresh token: opaque to the client, and telling any replica with the refresh key which family it belongs to.
//!
//! ```text
//! base64url( version 1 | user id 8 | family 16 | generation 4 | secret of the family 16 | tag 32 )
//! tag = HMAC-SHA-256(refresh key, all bytes before it)
//! ```
//!
//! Garbage and forgeries are refused by the tag before any I/O. Redis keeps only a digest of the family's secret: whoever
//! has the refresh key lacks the secret, whoever has a dump of Redis lacks both. And since nothing in a token is random but
//! what the family already has, a retry gets the very same successor without a token ever being stored.

use std::path::{Path, PathBuf};

use aws_lc_rs::{digest, hmac};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use secrecy::{ExposeSecret, SecretBox, SecretString};
use uuid::Uuid;
use zeroize::Zeroizing;

const VERSION: u8 = 1;
const BODY: usize = 1 + 8 + 16 + 4 + SECRET;
const SECRET: usize = 16;
const TAG: usize = 32;
/// Fewer bytes than the tag has would make it easier to guess the key than the tag (RFC 2104 3).
const MIN_KEY: usize = 32;

/// A refresh token that was really issued here (though perhaps long ago).
#[derive(Clone)]
pub struct RefreshToken {
    /// Whose session it is.
    pub user_id: i64,
    /// The session.
    pub family: Uuid,
    /// How often the session had been refreshed when this token was issued.
    pub generation: u32,
    secret: std::sync::Arc<SecretBox<[u8; SECRET]>>,
}

impl RefreshToken {
    /// The first token of a new family.
    pub fn first(user_id: i64, family: Uuid) -> Result<Self, aws_lc_rs::error::Unspecified> {
        let mut secret = Zeroizing::new([0; SECRET]);
        aws_lc_rs::rand::fill(secret.as_mut())?;
        Ok(Self { user_id, family, generation: 0, secret: secret_of(&secret) })
    }

    /// The token of another generation of the same family.
    pub fn at_generation(&self, generation: u32) -> Self {
        Self { generation, ..self.clone() }
    }

    /// Whether this is the same token; what it was sealed with makes no difference.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.user_id, self.family, self.generation) == (other.user_id, other.family, other.generation)
    }

    /// What Redis knows of the family's secret: SHA-256, in hexadecimal.
    pub fn secret_digest(&self) -> String {
        sha256_hex(self.secret.expose_secret())
    }
}

fn secret_of(bytes: &[u8; SECRET]) -> std::sync::Arc<SecretBox<[u8; SECRET]>> {
    std::sync::Arc::new(SecretBox::new(Box::new(*bytes)))
}

/// SHA-256 in hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}"); // Writing to a String cannot fail.
        hex
    })
}

/// The keys that authenticate refresh tokens: the first one signs, all of them verify.
pub struct RefreshKeys {
    signing: hmac::Key,
    verifying: Vec<RefreshKey>,
}

/// A key that authenticates refresh tokens.
pub struct RefreshKey {
    /// The file that it was read from.
    pub path: PathBuf,
    key: hmac::Key,
}

impl RefreshKey {
    /// Tells keys apart without telling anything of them: the beginning of a MAC of what no token begins with.
    pub fn fingerprint(&self) -> String {
        hex(&hmac::sign(&self.key, b"fingerprint of a refresh key").as_ref()[..4])
    }
}

/// Why the refresh keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RefreshKeyError {
    /// The file is not there or cannot be read.
    #[error("{path}: {error} (./generate-keys.sh makes the keys)", path = .0.display(), error = .1)]
    Unreadable(PathBuf, std::io::Error),
    /// The file does not hold a key.
    #[error("{path}: expected {MIN_KEY} random bytes or more in base64, a line for each key (./generate-keys.sh makes them)", path = .0.display())]
    Unusable(PathBuf),
    /// `REFRESH_KEY_PATH` is empty.
    #[error("REFRESH_KEY_PATH names no file")]
    None,
}

impl RefreshKeys {
    /// Reads the keys in the files at `paths`.
    pub fn read(paths: &[PathBuf]) -> Result<Self, RefreshKeyError> {
        let files = paths.iter().map(|path| read_file(path)).collect::<Result<Vec<_>, _>>()?;
        let verifying: Vec<_> = files.into_iter().flatten().collect();
        Ok(Self { signing: verifying.first().ok_or(RefreshKeyError::None)?.key.clone(), verifying })
    }

    /// The keys, in order.
    pub fn keys(&self) -> &[RefreshKey] {
        &self.verifying
    }

    /// Authenticates something other than a refresh token. `label` says what, and keeps the tags of different things apart:
    /// it must not begin with a version of refresh tokens.
    pub fn sign(&self, label: &[u8], message: &[u8]) -> hmac::Tag {
        hmac::sign(&self.signing, &[label, message].concat())
    }

    /// Whether one of the keys made this tag with [`Self::sign`].
    pub fn verifies(&self, label: &[u8], message: &[u8], tag: &[u8]) -> bool {
        let labelled = [label, message].concat();
        // Compared in constant time by the library (ASVS 5.0 11.2.4).
        self.verifying.iter().any(|key| hmac::verify(&key.key, &labelled, tag).is_ok())
    }

    /// The token as the client gets it.
    pub fn seal(&self, token: &RefreshToken) -> SecretString {
        let mut bytes = Zeroizing::new(Vec::with_capacity(BODY + TAG));
        bytes.push(VERSION);
        bytes.extend_from_slice(&token.user_id.to_be_bytes());
        bytes.extend_from_slice(token.family.as_bytes());
        bytes.extend_from_slice(&token.generation.to_be_bytes());
        bytes.extend_from_slice(token.secret.expose_secret());
        let tag = hmac::sign(&self.signing, &bytes);
        bytes.extend_from_slice(tag.as_ref());
        URL_SAFE_NO_PAD.encode(&*bytes).into()
    }

    /// The token behind what a client sent, if one of our keys sealed it.
    pub fn open(&self, text: &str) -> Option<RefreshToken> {
        let mut bytes = Zeroizing::new([0; BODY + TAG]);
        if URL_SAFE_NO_PAD.decode_slice(text, bytes.as_mut()) != Ok(BODY + TAG) {
            return None;
        }
        let (body, tag) = bytes.split_first_chunk::<BODY>()?;
        // Compared in constant time by the library (ASVS 5.0 11.2.4).
        if !self.verifying.iter().any(|key| hmac::verify(&key.key, body, tag).is_ok()) {
            return None;
        }
        let (&[version], rest) = body.split_first_chunk::<1>()?;
        let (user_id, rest) = rest.split_first_chunk::<8>()?;
        let (family, rest) = rest.split_first_chunk::<16>()?;
        let (generation, secret) = rest.split_first_chunk::<4>()?;
        (version == VERSION).then_some(RefreshToken {
            user_id: i64::from_be_bytes(*user_id),
            family: Uuid::from_bytes(*family),
            generation: u32::from_be_bytes(*generation),
            secret: secret_of(secret.first_chunk()?),
        })
    }
}

fn read_file(path: &Path) -> Result<Vec<RefreshKey>, RefreshKeyError> {
    let text = std::fs::read(path).map_err(|error| RefreshKeyError::Unreadable(path.to_owned(), error))?;
    let text = Zeroizing::new(text);
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    let keys = lines.map(|line| {
        let key = STANDARD.decode(line).map(Zeroizing::new).ok().filter(|key| key.len() >= MIN_KEY);
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key?);
        Some(RefreshKey { path: path.to_owned(), key })
    });
    let keys: Option<Vec<_>> = keys.collect();
    keys.filter(|keys| !keys.is_empty()).ok_or_else(|| RefreshKeyError::Unusable(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(seed: u8) -> RefreshKeys {
        several(&[seed])
    }

    fn several(seeds: &[u8]) -> RefreshKeys {
        let lines: Vec<_> = seeds.iter().map(|seed| STANDARD.encode([*seed; 32])).collect();
        written(&(lines.join("\n") + "\n")).unwrap()
    }

    fn written(text: &str) -> Result<RefreshKeys, RefreshKeyError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        RefreshKeys::read(&[file.path().to_owned()])
    }

    #[test]
    fn a_sealed_token_opens_to_what_it_was() {
        let token = RefreshToken::first(42, Uuid::new_v4()).unwrap().at_generation(7);
        let opened = keys(1).open(keys(1).seal(&token).expose_secret()).unwrap();
        assert_eq!((opened.user_id, opened.family, opened.generation), (42, token.family, 7));
        assert_eq!(opened.secret_digest(), token.secret_digest());
    }

    #[test]
    fn a_retry_computes_the_very_same_successor() {
        let token = RefreshToken::first(42, Uuid::new_v4()).unwrap();
        let successor = || keys(1).seal(&token.at_generation(1)).expose_secret().to_owned();
        assert_eq!(successor(), successor());
    }

    #[test]
    fn another_key_does_not_open_it_and_a_retired_one_does() {
        let token = RefreshToken::first(42, Uuid::new_v4()).unwrap();
        let sealed = keys(1).seal(&token);
        assert!(keys(2).open(sealed.expose_secret()).is_none());
        let rotated = several(&[2, 1]);
        assert!(rotated.open(sealed.expose_secret()).is_some());
        assert!(keys(2).open(rotated.seal(&token).expose_secret()).is_some(), "the first one seals");
    }

    #[test]
    fn a_file_with_anything_but_keys_in_it_is_refused() {
        let good = STANDARD.encode([1; 32]);
        for bad in ["", "\n", "c2hvcnQ=\n", &format!("{good}\nc2hvcnQ=\n"), &format!("{good}\n{}", &good[..20])] {
            assert!(matches!(written(bad), Err(RefreshKeyError::Unusable(_))), "{bad:?}");
        }
        assert!(matches!(RefreshKeys::read(&[]), Err(RefreshKeyError::None)));
    }

    #[test]
    fn keys_are_told_apart_by_fingerprints() {
        let prints: Vec<_> = several(&[1, 2, 1]).keys().iter().map(RefreshKey::fingerprint).collect();
        assert_eq!(prints[0].len(), 8);
        assert_eq!(prints[0], prints[2]);
        assert_ne!(prints[0], prints[1]);
    }

    proptest! {
        #[test]
        fn any_changed_character_makes_it_invalid(position in 0usize..103, replacement in "[A-Za-z0-9_-]") {
            let sealed = keys(1).seal(&RefreshToken::first(42, Uuid::nil()).unwrap());
            let mut forged = sealed.expose_secret().to_owned();
            prop_assert_eq!(forged.len(), 103);
            forged.replace_range(position..=position, &replacement);
            prop_assume!(forged != sealed.expose_secret());
            prop_assert!(keys(1).open(&forged).is_none());
        }

        #[test]
        fn arbitrary_text_is_no_token(text in ".{0,200}") {
            prop_assert!(keys(1).open(&text).is_none());
        }
    }
}
