//! The cookie that carries the refresh token: its names, its attributes, and which of those that a request brings are ours.
//!
//! `HttpOnly`, so that no script reads it; `SameSite=Strict`, so that no foreign page makes a browser send it; only to `/api`
//! (ASVS 5.0 3.3), or with a `__Host-` name to the whole host, so that no other host can set it.
//!
//! Browsers send several cookies of one name, of different paths and domains, in an order that says nothing. So all of them
//! are looked at, under every name that is accepted, and those without a valid tag are somebody else's.

use std::time::Duration;

use cookie::{Cookie, SameSite};
use http::{HeaderMap, HeaderValue, header, response};
use secrecy::{ExposeSecret, SecretString};

use crate::{
    config::{CookieConfig, CookieName},
    families::RefreshToken,
};

/// Reads and writes the cookie.
pub struct RefreshCookies {
    /// Those that are accepted; new cookies have the first one.
    names: Vec<CookieName>,
    secure: bool,
}

impl RefreshCookies {
    pub fn new(config: CookieConfig) -> Self {
        let CookieConfig { cookie_name, cookie_previous_names, cookie_secure } = config;
        // Always accepted, since no other host can set it: so replicas that have not been renamed yet understand those that
        // have, and the other way round.
        let host = cookie_name.with_host_prefix();
        let mut names = vec![cookie_name];
        for name in [host].into_iter().chain(cookie_previous_names.0) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Self { names, secure: cookie_secure }
    }

    /// The refresh tokens in the cookies of a request; `open` tells whether a value is one.
    pub fn read(&self, headers: &HeaderMap, open: impl Fn(&str) -> Option<RefreshToken>) -> Presented {
        let mut presented = Presented::default();
        for cookie in cookies_of(headers) {
            let Some(name) = self.names.iter().position(|name| name.as_str() == cookie.name()) else { continue };
            presented.is_empty = false;
            if let Some(token) = open(cookie.value()) {
                presented.add(name, token);
            }
        }
        presented
    }

    /// Has the browser keep `token` for `lifetime`, and forget the tokens of other names and paths that it sent.
    pub fn replace(&self, response: &mut response::Parts, sent: &Presented, token: &SecretString, lifetime: Duration) {
        let seconds = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX);
        if let Some(name) = self.names.first() {
            self.write(response, name, name.path(), token.expose_secret(), seconds);
        }
        for (place, name) in self.names.iter().enumerate() {
            self.clear_name(response, name, sent.count(place), place == 0);
        }
    }

    /// Has the browser forget the tokens that it sent. What is not ours stays: it is somebody else's cookie.
    pub fn clear(&self, response: &mut response::Parts, sent: &Presented) {
        for (place, name) in self.names.iter().enumerate() {
            self.clear_name(response, name, sent.count(place), false);
        }
    }

    /// Clears a name under which there were `count` tokens. Where there was more than one they had different paths, and
    /// another deployment may have used `/`.
    fn clear_name(&self, response: &mut response::Parts, name: &CookieName, count: usize, keeps_own: bool) {
        if count > 0 && !keeps_own {
            self.write(response, name, name.path(), "", 0);
        }
        if count > 1 && name.path() != "/" {
            self.write(response, name, "/", "", 0);
        }
    }

    fn write(&self, response: &mut response::Parts, name: &CookieName, path: &str, value: &str, max_age: i64) {
        let is_secure = self.secure || name.requires_secure();
        if let Some(header) = set_cookie((name.as_str(), value), is_secure, path, max_age) {
            response.headers.append(header::SET_COOKIE, header);
        }
    }
}

/// All cookies of a request, in whichever of its lines they stand.
pub fn cookies_of(headers: &HeaderMap) -> impl Iterator<Item = Cookie<'static>> {
    let lines = headers.get_all(header::COOKIE).iter().map(|line| String::from_utf8_lossy(line.as_bytes()));
    lines.flat_map(|line| Cookie::split_parse(line.into_owned()).filter_map(Result::ok))
}

/// A `Set-Cookie` for a cookie that no script reads and no foreign page sends, kept for `max_age` seconds.
pub fn set_cookie(name_and_value: (&str, &str), is_secure: bool, path: &str, max_age: i64) -> Option<HeaderValue> {
    let cookie = Cookie::build(name_and_value)
        .http_only(true)
        .secure(is_secure)
        .same_site(SameSite::Strict)
        .path(path)
        .max_age(time::Duration::seconds(max_age))
        .build();
    let mut header = HeaderValue::from_str(&cookie.to_string()).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// The refresh tokens that a request brought, each with the place of the name under which it came.
pub struct Presented {
    tokens: Vec<(usize, RefreshToken)>,
    is_empty: bool,
}

impl Default for Presented {
    fn default() -> Self {
        Self { tokens: Vec::new(), is_empty: true }
    }
}

impl Presented {
    /// Whether there was no refresh cookie at all, not even one of somebody else.
    pub fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// The tokens, each once.
    pub fn tokens(&self) -> Vec<&RefreshToken> {
        let mut tokens: Vec<&RefreshToken> = Vec::new();
        for (_, token) in &self.tokens {
            if !tokens.iter().any(|other| other.is_same(token)) {
                tokens.push(token);
            }
        }
        tokens
    }

    /// What there is of one user.
    #[must_use]
    pub fn of_user(mut self, user_id: i64) -> Self {
        self.tokens.retain(|(_, token)| token.user_id == user_id);
        self
    }

    fn add(&mut self, name: usize, token: RefreshToken) {
        if !self.tokens.iter().any(|(other, same)| *other == name && same.is_same(&token)) {
            self.tokens.push((name, token));
        }
    }

    /// How many different tokens came under a name.
    fn count(&self, name: usize) -> usize {
        self.tokens.iter().filter(|(other, _)| *other == name).count()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::config::CookieNames;

    fn cookies(name: &str, previous: &str) -> RefreshCookies {
        let cookie_name = name.parse().unwrap();
        let cookie_previous_names: CookieNames = previous.parse().unwrap();
        RefreshCookies::new(CookieConfig { cookie_name, cookie_previous_names, cookie_secure: true })
    }

    /// `ours-1` is a token of session 1.
    fn open(text: &str) -> Option<RefreshToken> {
        let session = text.strip_prefix("ours-")?.parse().ok()?;
        Some(RefreshToken::first(1, Uuid::from_u128(session)).unwrap())
    }

    fn read(cookies: &RefreshCookies, lines: &[&'static [u8]]) -> Presented {
        let lines = lines.iter().map(|line| (header::COOKIE, HeaderValue::from_bytes(line).unwrap()));
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, value);
        }
        cookies.read(&headers, open)
    }

    fn sessions(presented: &Presented) -> Vec<u128> {
        presented.tokens().iter().map(|token| token.family.as_u128()).collect()
    }

    fn written(write: impl FnOnce(&mut response::Parts)) -> Vec<String> {
        let (mut response, ()) = http::Response::new(()).into_parts();
        write(&mut response);
        let lines = response.headers.get_all(header::SET_COOKIE).iter();
        lines.map(|line| line.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_cookie_is_out_of_reach_of_scripts_and_foreign_pages() {
        for (name, set, clear) in [
            (
                "refreshToken",
                "refreshToken=abc; HttpOnly; SameSite=Strict; Secure; Path=/api; Max-Age=60",
                "refreshToken=; HttpOnly; SameSite=Strict; Secure; Path=/api; Max-Age=0",
            ),
            (
                "__Host-refreshToken",
                "__Host-refreshToken=abc; HttpOnly; SameSite=Strict; Secure; Path=/; Max-Age=60",
                "__Host-refreshToken=; HttpOnly; SameSite=Strict; Secure; Path=/; Max-Age=0",
            ),
        ] {
            let cookies = cookies(name, "");
            let nothing = Presented::default();
            let kept = written(|response| cookies.replace(response, &nothing, &"abc".into(), Duration::from_mins(1)));
            assert_eq!(kept, [set]);
            let line = format!("{name}=ours-1").leak().as_bytes();
            let sent = read(&cookies, &[line]);
            assert_eq!(written(|response| cookies.clear(response, &sent)), [clear]);
        }
    }

    #[test]
    fn tokens_are_found_among_other_cookies_in_any_line() {
        let cookies = cookies("refreshToken", "");
        for lines in [
            &[&b"a=1; refreshToken=ours-1; b=2"[..]][..],
            &[b"a=1", b"refreshToken=ours-1"],
            &[b"\xff\xfe=\xff; ; =; refreshToken=ours-1"],
            &[b"refreshToken=foreign; refreshToken=ours-1"],
            &[b"refreshToken=ours-1", b"refreshToken=foreign"],
            &[b"refreshToken=ours-1; refreshToken=ours-1"],
            &[b"refreshToken=ours-1; __Host-refreshToken=ours-1"],
        ] {
            assert_eq!(sessions(&read(&cookies, lines)), [1], "{lines:?}");
        }
        assert_eq!(sessions(&read(&cookies, &[b"refreshToken=ours-1", b"refreshToken=ours-2"])), [1, 2]);
        let foreign = read(&cookies, &[b"refreshToken=foreign"]);
        assert!(!foreign.is_empty() && foreign.tokens().is_empty());
        assert!(read(&cookies, &[b"refreshtoken=ours-1; xrefreshToken=1"]).is_empty());
        assert!(read(&cookies, &[]).is_empty());
    }

    #[test]
    fn only_names_that_brought_a_token_are_cleared() {
        let cookies = cookies("__Host-refreshToken", "__Secure-refreshToken,refreshToken");
        let clear = |lines: &[&'static [u8]]| {
            let sent = read(&cookies, lines);
            let lines = written(|response| cookies.clear(response, &sent));
            let name_and_path = |line: &String| {
                let path = line.split("Path=").nth(1).unwrap().split(';').next().unwrap();
                format!("{}{path}", line.split_once("; ").unwrap().0)
            };
            lines.iter().map(name_and_path).collect::<Vec<_>>()
        };
        assert_eq!(clear(&[b"refreshToken=foreign; __Host-refreshToken=foreign"]), [""; 0]);
        assert_eq!(clear(&[b"refreshToken=ours-1; __Host-refreshToken=foreign"]), ["refreshToken=/api"]);
        let all = clear(&[b"refreshToken=ours-1; __Secure-refreshToken=ours-2; __Host-refreshToken=ours-3"]);
        assert_eq!(all, ["__Host-refreshToken=/", "__Secure-refreshToken=/api", "refreshToken=/api"]);
        assert_eq!(
            clear(&[b"refreshToken=ours-1; refreshToken=ours-2"]),
            ["refreshToken=/api", "refreshToken=/"],
            "of different paths"
        );
    }

    #[test]
    fn a_new_token_takes_the_place_of_those_of_previous_names() {
        let cookies = cookies("__Host-refreshToken", "refreshToken");
        let replace = |lines: &[&'static [u8]]| {
            let sent = read(&cookies, lines);
            written(|response| cookies.replace(response, &sent, &"abc".into(), Duration::from_mins(1)))
        };
        let set = "__Host-refreshToken=abc; HttpOnly; SameSite=Strict; Secure; Path=/; Max-Age=60";
        assert_eq!(replace(&[b"__Host-refreshToken=ours-1; refreshToken=foreign"]), [set]);
        let cleared = "refreshToken=; HttpOnly; SameSite=Strict; Secure; Path=/api; Max-Age=0";
        assert_eq!(replace(&[b"refreshToken=ours-1"]), [set, cleared]);
    }
}
