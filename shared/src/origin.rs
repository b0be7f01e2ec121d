//! Web origins: which pages may make a browser change state here or open a socket.
//!
//! A browser sends cookies with requests that foreign pages cause, and opens WebSockets to anywhere; the `Origin` header
//! is how it says for whom (OWASP ASVS 5.0 3.5.1, 4.4.2). Programs that are not browsers send none and are let through.

use std::{fmt, net::Ipv6Addr, str::FromStr};

use http::{HeaderMap, Uri, header};

/// Scheme, host and port, in lower case and with the scheme's own port left out, as browsers write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(String);

/// Text that is not an origin, or that no browser would send as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnOrigin {
    /// Another form.
    #[error("expected an origin such as https://app.example.com or http://localhost:8080")]
    Malformed,
    /// A pattern, which would match nothing.
    #[error("wildcards are not supported and would match nothing: list each origin, such as https://app.example.com")]
    Wildcard,
}

impl FromStr for Origin {
    type Err = NotAnOrigin;

    fn from_str(text: &str) -> Result<Self, NotAnOrigin> {
        if text.contains('*') {
            return Err(NotAnOrigin::Wildcard);
        }
        let uri: Uri = text.trim().trim_end_matches('/').parse().map_err(|_| NotAnOrigin::Malformed)?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(NotAnOrigin::Malformed);
        };
        let (host, port) = (authority.host(), authority.port_u16());
        // Neither user information nor a port in another form than browsers write, such as `:` or `:0443`.
        let as_written = port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        if uri.path() != "/" || uri.query().is_some() || as_written != authority.as_str() || !is_as_sent(host) {
            return Err(NotAnOrigin::Malformed);
        }
        Self::from_parts(scheme, &as_written).ok_or(NotAnOrigin::Malformed)
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

/// Whether browsers write a host like this: there is one, and an IPv6 address is in its shortest form.
fn is_as_sent(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => {
            address.parse::<Ipv6Addr>().is_ok_and(|parsed| parsed.to_string().eq_ignore_ascii_case(address))
        }
        None => !host.is_empty(),
    }
}

/// The most that is repeated of a header, in characters.
const SHOWN: usize = 128;

/// The request of a page of a foreign origin. Says what was compared, for the developer or operator who has to fix it: most
/// often a proxy has rewritten `Host`. The configured origins are not listed, since anybody can ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignOrigin {
    /// What the headers say; none if there are several.
    origin: Option<String>,
    /// Where the request arrived, unless it does not say so.
    own: Option<Origin>,
}

impl fmt::Display for ForeignOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(origin) = &self.origin else { return f.write_str("The request has more than one Origin header") };
        write!(f, "The request's Origin ({origin}) is neither the origin at which it arrived (")?;
        match &self.own {
            Some(own) => write!(f, "{own}, by its Host and a trusted proxy's X-Forwarded-Proto")?,
            None => f.write_str("unknown, without a valid Host")?,
        }
        f.write_str(
            ") nor one of ALLOWED_ORIGINS: have the proxy in between pass on Host unchanged, or add the Origin to ALLOWED_ORIGINS",
        )
    }
}

/// Whether a request with these headers may act for the page that caused it: it names no origin, the one under which it
/// reached us (`scheme` is what the client used, as the trusted proxy saw it), or one of `allowed`.
pub fn check(headers: &HeaderMap, scheme: &str, allowed: &[Origin]) -> Result<(), ForeignOrigin> {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let Some(sent) = origins.next() else { return Ok(()) };
    let is_single = origins.next().is_none();
    let origin = sent.to_str().ok().filter(|_| is_single).and_then(|text| text.parse::<Origin>().ok());
    let own =
        headers.get(header::HOST).and_then(|host| host.to_str().ok()).and_then(|host| Origin::from_parts(scheme, host));
    if origin.is_some_and(|origin| own.as_ref() == Some(&origin) || allowed.contains(&origin)) {
        return Ok(());
    }
    let shown = || String::from_utf8_lossy(sent.as_bytes()).chars().take(SHOWN).collect();
    Err(ForeignOrigin { origin: is_single.then(shown), own })
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
        let check = |host, origin, scheme| check(&headers(host, origin), scheme, &allowed).is_ok();
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
        let foreign = check(&headers, "http", &[]).unwrap_err();
        assert_eq!(foreign.to_string(), "The request has more than one Origin header");
    }

    #[test]
    fn a_foreign_origin_names_what_was_compared_and_the_setting() {
        let rewritten = headers("127.0.0.1:3000", Some("http://localhost:5173"));
        assert_eq!(
            check(&rewritten, "http", &[]).unwrap_err().to_string(),
            "The request's Origin (http://localhost:5173) is neither the origin at which it arrived \
             (http://127.0.0.1:3000, by its Host and a trusted proxy's X-Forwarded-Proto) nor one of ALLOWED_ORIGINS: \
             have the proxy in between pass on Host unchanged, or add the Origin to ALLOWED_ORIGINS"
        );
        let long = headers("localhost", Some(&"x".repeat(10_000)));
        assert!(check(&long, "http", &[]).unwrap_err().to_string().len() < 500);
    }

    #[test]
    fn origins_that_no_browser_sends_are_refused() {
        let parse = |text: &str| text.parse::<Origin>();
        for pattern in ["*", "https://*", "https://*.example.com", "https://app.example.com:*", "*.example.com"] {
            assert_eq!(parse(pattern), Err(NotAnOrigin::Wildcard), "{pattern}");
        }
        for other in [
            "null",
            "app.example.com",
            "https://",
            "https://:8443",
            "https://app.example.com:",
            "https://app.example.com:0443",
            "https://app.example.com:65536",
            "https://user@app.example.com",
            "https://[0:0:0:0:0:0:0:1]",
            "wss://app.example.com",
        ] {
            assert_eq!(parse(other), Err(NotAnOrigin::Malformed), "{other}");
        }
        for good in ["https://app.example.com", " http://[::1]:5173/ ", "HTTPS://App.Example.com:443"] {
            assert!(parse(good).is_ok(), "{good}");
        }
    }
}
