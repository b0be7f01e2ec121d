//! The cookie that carries the refresh token.
//!
//! `HttpOnly`, so that no script reads it; `SameSite=Strict`, so that no foreign page makes a browser send it; only to `/api`
//! (ASVS 5.0 3.3).

use std::time::Duration;

use cookie::{Cookie, SameSite};
use http::{HeaderMap, HeaderValue, header};
use secrecy::{ExposeSecret, SecretString};

use crate::config::CookieConfig;

/// Reads and writes the cookie.
pub struct RefreshCookies {
    name: String,
    secure: bool,
}

impl RefreshCookies {
    pub fn new(config: CookieConfig) -> Self {
        Self { name: config.cookie_name, secure: config.cookie_secure }
    }

    /// The cookie's value in a request, if it is there.
    pub fn read(&self, headers: &HeaderMap) -> Option<SecretString> {
        let lines = headers.get_all(header::COOKIE).iter().map(|line| String::from_utf8_lossy(line.as_bytes()));
        lines.into_iter().find_map(|line| {
            let mut cookies = Cookie::split_parse(line.into_owned()).filter_map(Result::ok);
            cookies.find(|cookie| cookie.name() == self.name).map(|cookie| cookie.value().into())
        })
    }

    /// `Set-Cookie` that keeps `token` for `lifetime`.
    pub fn set(&self, token: &SecretString, lifetime: Duration) -> Option<HeaderValue> {
        let seconds = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX);
        self.header(token.expose_secret(), seconds)
    }

    /// `Set-Cookie` that makes the browser forget the token.
    pub fn clear(&self) -> Option<HeaderValue> {
        self.header("", 0)
    }

    fn header(&self, value: &str, max_age: i64) -> Option<HeaderValue> {
        let cookie = Cookie::build((self.name.as_str(), value))
            .http_only(true)
            .secure(self.secure)
            .same_site(SameSite::Strict)
            .path("/api")
            .max_age(time::Duration::seconds(max_age))
            .build();
        let mut header = HeaderValue::from_str(&cookie.to_string()).ok()?;
        header.set_sensitive(true);
        Some(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookies() -> RefreshCookies {
        RefreshCookies::new(CookieConfig { cookie_name: "refreshToken".to_owned(), cookie_secure: true })
    }

    #[test]
    fn the_cookie_is_out_of_reach_of_scripts_and_foreign_pages() {
        let header = cookies().set(&"abc".into(), Duration::from_mins(1)).unwrap();
        assert_eq!(header, "refreshToken=abc; HttpOnly; SameSite=Strict; Secure; Path=/api; Max-Age=60");
        assert_eq!(
            cookies().clear().unwrap(),
            "refreshToken=; HttpOnly; SameSite=Strict; Secure; Path=/api; Max-Age=0"
        );
    }

    #[test]
    fn it_is_found_among_others_and_in_any_line_and_garbage_does_not_hide_it() {
        let read = |lines: &[&'static [u8]]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::COOKIE, HeaderValue::from_bytes(line).unwrap());
            }
            cookies().read(&headers).map(|token| token.expose_secret().to_owned())
        };
        assert_eq!(read(&[b"a=1; refreshToken=abc; b=2"]).as_deref(), Some("abc"));
        assert_eq!(read(&[b"a=1", b"refreshToken=abc"]).as_deref(), Some("abc"));
        assert_eq!(read(&[b"\xff\xfe=\xff; ; =; refreshToken=abc"]).as_deref(), Some("abc"));
        assert_eq!(read(&[b"refreshtoken=abc; xrefreshToken=1"]), None);
        assert_eq!(read(&[]), None);
    }
}
