//! Who issues access tokens, and for whom they are.

use std::str::FromStr;

use clap::Args;

use crate::origin::Origin;

/// Issuer and audience where nothing is configured, and the only ones that version 0.1.0 knows.
pub const DEFAULT: &str = "gatefold";
/// The longest issuer or audience, in bytes: the longest token has to stay below 5 KiB.
pub const MAX_LENGTH: usize = 128;

/// Issuer and audience of access tokens. What separates two installations is their keys; these are for services that verify
/// tokens with a library.
#[derive(Args, Clone, Debug)]
pub struct IssuerConfig {
    /// Issuer (`iss`) of access tokens: the URL of Gatefold's origin, e.g. `https://auth.example.com`
    #[arg(long, env = "ISSUER", default_value = DEFAULT, value_parser = issuer)]
    pub issuer: String,
    /// Audience (`aud`) of access tokens, e.g. `https://api.example.com`
    #[arg(long, env = "AUDIENCE", default_value = DEFAULT, value_parser = audience)]
    pub audience: String,
    /// Issuers, separated by commas, whose tokens are accepted besides, for the time in which ISSUER changes
    #[arg(long, env = "ACCEPTED_ISSUERS", value_delimiter = ',', default_value = DEFAULT, value_parser = issuer)]
    pub accepted_issuers: Vec<String>,
    /// Audiences, separated by commas, whose tokens are accepted besides, for the time in which AUDIENCE changes
    #[arg(long, env = "ACCEPTED_AUDIENCES", value_delimiter = ',', default_value = DEFAULT, value_parser = audience)]
    pub accepted_audiences: Vec<String>,
}

impl Default for IssuerConfig {
    fn default() -> Self {
        let default = || DEFAULT.to_owned();
        let accepted = || vec![default()];
        Self { issuer: default(), audience: default(), accepted_issuers: accepted(), accepted_audiences: accepted() }
    }
}

impl IssuerConfig {
    /// The issuer, if it is a URL, so that others can find Gatefold there.
    pub fn url(&self) -> Option<&str> {
        Some(self.issuer.as_str()).filter(|issuer| *issuer != DEFAULT)
    }
}

/// The metadata of an issuer is at its root (RFC 8414), so it has no path. It is compared as text, so it is taken as it is or
/// not at all.
fn issuer(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text == DEFAULT {
        return Ok(text.to_owned());
    }
    let origin = Origin::from_str(text).map_err(|error| error.to_string())?.to_string();
    if origin != text {
        return Err(format!("write it as {origin}: issuers are compared character by character"));
    }
    audience(text)
}

fn audience(text: &str) -> Result<String, String> {
    let text = text.trim();
    if (1..=MAX_LENGTH).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err(format!("must have 1 to {MAX_LENGTH} visible ASCII characters"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_is_an_origin_as_it_is_compared() {
        for good in ["gatefold", "https://auth.example.com", "http://localhost:8080", " https://auth.example.com"] {
            assert_eq!(issuer(good), Ok(good.trim().to_owned()));
        }
        for (bad, complaint) in [
            ("https://auth.example.com/", "write it as https://auth.example.com:"),
            ("https://Auth.example.com", "write it as https://auth.example.com:"),
            ("https://auth.example.com:443", "write it as https://auth.example.com:"),
            ("https://auth.example.com/auth", "expected an origin"),
            ("auth.example.com", "expected an origin"),
            ("", "expected an origin"),
            (&format!("https://{}.example", "a".repeat(128)), "1 to 128"),
        ] {
            let problem = issuer(bad);
            assert!(problem.as_ref().is_err_and(|text| text.contains(complaint)), "{bad}: {problem:?}");
        }
    }

    #[test]
    fn an_audience_is_short_text() {
        assert_eq!(audience("orders"), Ok("orders".to_owned()));
        for bad in ["", " ", "two words", "caf\u{e9}", &"a".repeat(129)] {
            assert!(audience(bad).is_err(), "{bad}");
        }
    }
}
