//! The settings of the refresh token's cookie.

use std::str::FromStr;

use clap::Args;

/// Browsers take a cookie of such a name only with `Secure`.
const SECURE: &str = "__Secure-";
/// Browsers take a cookie of such a name only from its own host, with `Secure` and `Path=/`.
const HOST: &str = "__Host-";

/// The refresh token's cookie.
#[derive(Args, Clone, Debug)]
pub struct CookieConfig {
    /// Name of the cookie; behind TLS a name that begins with __Host- is recommended, which no other host can set
    #[arg(long, env = "COOKIE_NAME", default_value = "refreshToken")]
    pub cookie_name: CookieName,
    /// Names (separated by commas) of cookies that are accepted besides, and replaced at the next refresh; empty for none
    #[arg(long, env = "COOKIE_PREVIOUS_NAMES", default_value = "refreshToken")]
    pub cookie_previous_names: CookieNames,
    /// Whether browsers may send the cookie only over https
    #[arg(long, env = "COOKIE_SECURE", default_value_t = true, action = clap::ArgAction::Set)]
    pub cookie_secure: bool,
}

impl CookieConfig {
    /// What does not fit together, in words for an operator.
    pub(super) fn problem(&self) -> Option<String> {
        let prefix = if self.cookie_name.has_prefix(HOST) { HOST } else { SECURE };
        (self.cookie_name.requires_secure() && !self.cookie_secure).then(|| {
            format!(
                "COOKIE_NAME begins with {prefix}, which browsers accept only over https: it needs COOKIE_SECURE=true"
            )
        })
    }
}

/// A cookie's name: a `token` of RFC 9110.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieName(String);

impl CookieName {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where the cookie is sent.
    pub fn path(&self) -> &'static str {
        if self.has_prefix(HOST) { "/" } else { "/api" }
    }

    /// Whether browsers take it only with `Secure`.
    pub fn requires_secure(&self) -> bool {
        self.has_prefix(HOST) || self.has_prefix(SECURE)
    }

    /// The same name with the prefix `__Host-`, in place of another one.
    #[must_use]
    pub fn with_host_prefix(&self) -> Self {
        let prefix = [HOST, SECURE].into_iter().find(|prefix| self.has_prefix(prefix)).unwrap_or_default();
        Self(format!("{HOST}{}", &self.0[prefix.len()..]))
    }

    /// Browsers compare prefixes without regard to case.
    fn has_prefix(&self, prefix: &str) -> bool {
        self.0.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    }
}

impl FromStr for CookieName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let name = Self(text.to_owned());
        if text.is_empty() || !text.bytes().all(allowed) {
            return Err("must be a cookie name: letters, digits and some punctuation".to_owned());
        }
        if [HOST, SECURE].into_iter().any(|prefix| name.has_prefix(prefix) && text.len() == prefix.len()) {
            return Err("must be more than a prefix".to_owned());
        }
        Ok(name)
    }
}

/// Any number of names, separated by commas.
#[derive(Clone, Debug)]
pub struct CookieNames(pub Vec<CookieName>);

impl FromStr for CookieNames {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        names.map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_decides_path_and_secure_in_any_case() {
        let of = |name: &str| {
            let name: CookieName = name.parse().unwrap();
            (name.path(), name.requires_secure(), name.with_host_prefix().0)
        };
        assert_eq!(of("refreshToken"), ("/api", false, "__Host-refreshToken".to_owned()));
        assert_eq!(of("__Secure-refreshToken"), ("/api", true, "__Host-refreshToken".to_owned()));
        assert_eq!(of("__Host-refreshToken"), ("/", true, "__Host-refreshToken".to_owned()));
        assert_eq!(of("__hOST-refreshToken"), ("/", true, "__Host-refreshToken".to_owned()));
        assert_eq!(of("Host-x"), ("/api", false, "__Host-Host-x".to_owned()));
    }

    #[test]
    fn names_are_tokens_and_lists_of_them_may_be_empty() {
        for bad in ["", "a;b", "a b", "a=b", "\u{e9}", "__Host-", "__secure-"] {
            assert!(bad.parse::<CookieName>().is_err(), "{bad}");
        }
        let names = |text: &str| text.parse::<CookieNames>().map(|names| names.0.len());
        assert_eq!((names(""), names("a"), names("a, b,")), (Ok(0), Ok(1), Ok(2)));
        assert!(names("a,b c").is_err());
    }
}
