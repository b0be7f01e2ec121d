//! The device cookie: proof that somebody has logged in to an account from this browser before.
//!
//! Failed logins are counted by account, so anybody can lock anybody out by guessing. A device that has logged in before is
//! counted for itself instead (OWASP device cookies): guesses from elsewhere do not lock it out.
//!
//! ```text
//! base64url( version 1 | user's uid 16 | security version 4 | issued at 8 | nonce 16 | tag 32 )
//! tag = HMAC-SHA-256(refresh key, label | all bytes before it)
//! ```
//!
//! It lets nobody in and names no session, so logging out leaves it where it is. A new one is issued at each login. It is
//! worth nothing for another account, also one that got the same number after a restore, and for its own once the password has been changed or an administrator has disabled
//! the account: the security version is another one then.

use std::{convert::Infallible, time::Duration};

use axum::{extract::FromRequestParts, response::Response};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use gatefold_shared::clock;
use http::{HeaderMap, HeaderValue, header, request::Parts};
use uuid::Uuid;

use crate::{
    config::CookieConfig,
    cookies::{cookies_of, set_cookie},
    families::{RefreshKeys, hex},
    state::App,
    users::User,
};

/// Keeps the tag apart from those of refresh tokens, whose first byte is a version.
const LABEL: &[u8] = b"gatefold device cookie\0";
const VERSION: u8 = 1;
const NONCE: usize = 16;
const BODY: usize = 1 + 16 + 4 + 8 + NONCE;
const TAG: usize = 32;
/// How long a device is known after its last login. Browsers keep no cookie for more than 400 days.
const LIFETIME: Duration = Duration::from_hours(365 * 24);

/// A device on which somebody has logged in to an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    user: Uuid,
    security_version: i32,
    nonce: [u8; NONCE],
}

impl Device {
    /// The name under which its failed logins are counted.
    pub fn key(&self) -> String {
        hex(&self.nonce)
    }

    fn is_of(&self, user: &User) -> bool {
        (self.user, self.security_version) == (user.uid, user.security_version)
    }
}

/// The devices that a request says it comes from, as far as it proves it. A browser has one cookie; a page of a sibling
/// host may have added others, which must not hide it.
pub struct Devices(Vec<Device>);

impl Devices {
    /// The one that has logged in to this account.
    pub fn of(&self, user: &User) -> Option<&Device> {
        self.0.iter().find(|device| device.is_of(user))
    }
}

impl FromRequestParts<App> for Devices {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        Ok(app.device_cookies.read(&parts.headers, &app.keys.load().refresh))
    }
}

/// Reads and writes the cookie.
pub struct DeviceCookies {
    name: String,
    secure: bool,
    path: &'static str,
}

impl DeviceCookies {
    /// The name is that of the refresh cookie with `-device` after it: prefixes that browsers give a meaning to
    /// (`__Host-`, `__Secure-`) hold for both, and two deployments that have different names for one have for the other.
    pub fn new(config: &CookieConfig) -> Self {
        let CookieConfig { cookie_name, cookie_secure, .. } = config;
        // __Host- demands this path. Otherwise the cookie goes only where it is of use.
        let path = if cookie_name.path() == "/" { "/" } else { "/api/login" };
        let name = format!("{}-device", cookie_name.as_str());
        Self { name, secure: *cookie_secure || cookie_name.requires_secure(), path }
    }

    fn read(&self, headers: &HeaderMap, keys: &RefreshKeys) -> Devices {
        let values = cookies_of(headers).filter(|cookie| cookie.name() == self.name);
        Devices(values.filter_map(|cookie| open(cookie.value(), keys, clock::since_epoch())).collect())
    }

    /// Has the browser keep a new cookie of this account. Without randomness the device stays unknown.
    pub fn add(&self, response: &mut Response, keys: &RefreshKeys, user: Uuid, security_version: i32) {
        if let Some(cookie) = self.issue(keys, user, security_version) {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
    }

    fn issue(&self, keys: &RefreshKeys, user: Uuid, security_version: i32) -> Option<HeaderValue> {
        let mut nonce = [0; NONCE];
        aws_lc_rs::rand::fill(&mut nonce).ok()?;
        let value = seal(&Device { user, security_version, nonce }, keys, clock::since_epoch());
        let max_age = i64::try_from(LIFETIME.as_secs()).ok()?;
        set_cookie((&self.name, &value), self.secure, self.path, max_age)
    }
}

fn seal(device: &Device, keys: &RefreshKeys, now: Duration) -> String {
    let mut bytes = Vec::with_capacity(BODY + TAG);
    bytes.push(VERSION);
    bytes.extend_from_slice(device.user.as_bytes());
    bytes.extend_from_slice(&device.security_version.to_be_bytes());
    bytes.extend_from_slice(&now.as_secs().to_be_bytes());
    bytes.extend_from_slice(&device.nonce);
    let tag = keys.sign(LABEL, &bytes);
    bytes.extend_from_slice(tag.as_ref());
    URL_SAFE_NO_PAD.encode(bytes)
}

fn open(text: &str, keys: &RefreshKeys, now: Duration) -> Option<Device> {
    let mut bytes = [0; BODY + TAG];
    if URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) != Ok(BODY + TAG) {
        return None;
    }
    let (body, tag) = bytes.split_first_chunk::<BODY>()?;
    if !keys.verifies(LABEL, body, tag) {
        return None;
    }
    let (&[version], rest) = body.split_first_chunk::<1>()?;
    let (user, rest) = rest.split_first_chunk::<16>()?;
    let (security_version, rest) = rest.split_first_chunk::<4>()?;
    let (issued_at, nonce) = rest.split_first_chunk::<8>()?;
    let age = now.saturating_sub(Duration::from_secs(u64::from_be_bytes(*issued_at)));
    (version == VERSION && age < LIFETIME).then_some(Device {
        user: Uuid::from_bytes(*user),
        security_version: i32::from_be_bytes(*security_version),
        nonce: *nonce.first_chunk()?,
    })
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;
    use secrecy::ExposeSecret;

    use super::*;
    use crate::{config::CookieNames, families::RefreshToken};

    const NOW: Duration = Duration::from_hours(500_000);

    fn keys(seeds: &[u8]) -> RefreshKeys {
        let file = tempfile::NamedTempFile::new().unwrap();
        let lines: Vec<_> = seeds.iter().map(|seed| STANDARD.encode([*seed; 32])).collect();
        std::fs::write(file.path(), lines.join("\n")).unwrap();
        RefreshKeys::read(&[file.path().to_owned()]).unwrap()
    }

    fn device() -> Device {
        Device { user: Uuid::from_u128(42), security_version: 3, nonce: *b"0123456789abcdef" }
    }

    fn cookies(name: &str) -> DeviceCookies {
        let (cookie_name, cookie_previous_names) = (name.parse().unwrap(), CookieNames(Vec::new()));
        DeviceCookies::new(&CookieConfig { cookie_name, cookie_previous_names, cookie_secure: true })
    }

    #[test]
    fn sealed_device_opens_under_its_keys_until_it_expires() {
        let sealed = seal(&device(), &keys(&[1]), NOW);
        assert_eq!(open(&sealed, &keys(&[1]), NOW), Some(device()));
        assert_eq!(open(&sealed, &keys(&[2, 1]), NOW), Some(device()), "after a rotation");
        assert_eq!(open(&sealed, &keys(&[2]), NOW), None);
        assert_eq!(
            open(&sealed, &keys(&[1]), NOW.saturating_sub(Duration::from_mins(1))),
            Some(device()),
            "a clock that is behind"
        );
        assert_eq!(open(&sealed, &keys(&[1]), NOW + LIFETIME), None);
    }

    #[test]
    fn any_changed_character_makes_it_worthless() {
        let sealed = seal(&device(), &keys(&[1]), NOW);
        for position in 0..sealed.len() {
            let other = if sealed.as_bytes()[position] == b'A' { "B" } else { "A" };
            let mut forged = sealed.clone();
            forged.replace_range(position..=position, other);
            assert_eq!(open(&forged, &keys(&[1]), NOW), None, "{position}");
        }
        for garbage in ["", "x", &sealed[1..], &format!("{sealed}A")] {
            assert_eq!(open(garbage, &keys(&[1]), NOW), None, "{garbage}");
        }
    }

    #[test]
    fn refresh_tokens_and_device_cookies_are_never_taken_for_each_other() {
        let keys = keys(&[1]);
        let token = RefreshToken::first(42, Uuid::nil()).unwrap();
        assert_eq!(open(keys.seal(&token).expose_secret(), &keys, NOW), None);
        // Without the label, a tag over the same bytes would be the same.
        let body = [VERSION; BODY];
        assert!(!keys.verifies(b"", &body, keys.sign(LABEL, &body).as_ref()));
        assert!(keys.open(&seal(&device(), &keys, NOW)).is_none());
    }

    #[test]
    fn it_is_found_among_foreign_ones_of_the_same_name() {
        let keys = keys(&[1]);
        let sealed = seal(&device(), &keys, clock::since_epoch());
        let mut headers = HeaderMap::new();
        let line = format!("refreshToken-device=forged; b=\u{fc}; refreshToken-device={sealed}; refreshToken=x");
        headers.append(header::COOKIE, HeaderValue::from_static("a=1"));
        headers.append(header::COOKIE, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        assert_eq!(cookies("refreshToken").read(&headers, &keys).0, [device()]);
        assert_eq!(cookies("another").read(&headers, &keys).0, []);
    }

    #[test]
    fn it_is_out_of_reach_of_scripts_and_foreign_pages_and_goes_where_its_prefix_allows() {
        for (name, path) in [("refreshToken", "/api/login"), ("__Secure-r", "/api/login"), ("__Host-r", "/")] {
            let header = cookies(name).issue(&keys(&[1]), Uuid::from_u128(42), 3).unwrap();
            let (pair, attributes) = header.to_str().unwrap().split_once(';').unwrap();
            assert!(pair.starts_with(&format!("{name}-device=")), "{pair}");
            assert_eq!(attributes, format!(" HttpOnly; SameSite=Strict; Secure; Path={path}; Max-Age=31536000"));
        }
    }
}
