//! Web origins: which pages may make a browser change state here or open a socket.
//!
//! A browser sends cookies with requests that foreign pages cause, and opens WebSockets to anywhere; the `Origin` header
//! is how it says for whom (OWASP ASVS 5.0 3.5.1, 4.4.2). Programs that are not browsers send none and are let through.

use std::{fmt, str::FromStr};

use http::{HeaderMap, Uri, header};

/// Scheme, host and port, in lower case and with the scheme's own port left out, as browsers write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(String);

/// Text that is no origin.
#[derive(Debug, thiserror::Error)]
#[error("expected an origin such as https://app.example.com or http://localhost:8080")]
pub struct NotAnOrigin;

impl FromStr for Origin {
    type Err = NotAnOrigin;

    fn from_str(text: &str) -> Result<Self, NotAnOrigin> {
        let uri: Uri = text.trim().trim_end_matches('/').parse().map_err(|_| NotAnOrigin)?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return Err(NotAnOrigin) };
        if uri.path() != "/" || uri.query().is_some() || authority.as_str().contains('@') {
            return Err(NotAnOrigin);
        }
        Self::from_parts(scheme, authority.as_str()).ok_or(NotAnOrigin)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Origin {
    fn from_parts(scheme: &str, host_and_port: &str) -> Option<Self> {
        let (scheme, host_and_port) = (scheme.to_ascii_lowercase(), host_and_port.to_ascii_lowercase());
        let own_port = match scheme.as_str() {
            "http" => ":80",
            "https" => ":443",
            _ => return None,
        };
        Some(Self(format!("{scheme}://{}", host_and_port.strip_suffix(own_port).unwrap_or(&host_and_port))))
    }
}

/// Whether a request with these headers may act for the page that caused it: it names no origin, the one under which it
/// reached us (`scheme` is what the client used, as the trusted proxy saw it), or one of `allowed`.
pub fn is_allowed(headers: &HeaderMap, scheme: &str, allowed: &[Origin]) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let Some(origin) = origins.next() else { return true };
    if origins.next().is_some() {
        return false;
    }
    let Some(origin) = origin.to_str().ok().and_then(|text| text.parse::<Origin>().ok()) else { return false };
    let own =
        headers.get(header::HOST).and_then(|host| host.to_str().ok()).and_then(|host| Origin::from_parts(scheme, host));
    own.as_ref() == Some(&origin) || allowed.contains(&origin)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(host: &str, origin: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(host).expect("a header"));
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_str(origin).expect("a header"));
        }
        headers
    }

    #[test]
    fn the_own_origin_and_listed_ones_are_allowed_and_others_are_not() {
        let allowed = ["https://App.example.com".parse().expect("an origin")];
        let check = |host, origin, scheme| is_allowed(&headers(host, origin), scheme, &allowed);
        assert!(check("localhost", None, "http"));
        assert!(check("localhost", Some("http://localhost"), "http"));
        assert!(check("localhost:80", Some("http://LOCALHOST"), "http"));
        assert!(check("localhost:8080", Some("http://localhost:8080"), "http"));
        assert!(check("api.example.com", Some("https://app.example.com:443"), "https"));
        for foreign in [
            "https://localhost",
            "http://localhost:8080",
            "http://localhost.evil.example",
            "null",
            "http://a@localhost",
            "ws://localhost",
            "http://localhost/x",
        ] {
            assert!(!check("localhost", Some(foreign), "http"), "{foreign}");
        }
    }

    #[test]
    fn two_origin_headers_are_refused() {
        let mut headers = headers("localhost", Some("http://localhost"));
        headers.append(header::ORIGIN, HeaderValue::from_static("http://evil.example"));
        assert!(!is_allowed(&headers, "http", &[]));
    }
}
