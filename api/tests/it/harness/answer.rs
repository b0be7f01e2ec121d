//! An answer over HTTP, and how it looks in a snapshot: what changes from run to run is named instead of shown.

use std::{
    fmt::{self, Write},
    time::Duration,
};

use http::{HeaderMap, HeaderName, header};
use serde_json::Value;

/// Names of headers that say nothing about us, or change with whatever else a test did before.
const LEFT_OUT: [HeaderName; 6] = [
    header::DATE,
    header::CONTENT_LENGTH,
    header::CONNECTION,
    header::SERVER,
    HeaderName::from_static("ratelimit"),
    HeaderName::from_static("ratelimit-policy"),
];

pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    /// From sending the request to the last byte of the body.
    pub took: Duration,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} after {:?}: {:?} {}", self.status, self.took, self.headers, String::from_utf8_lossy(&self.body))
    }
}

impl Answer {
    /// The body, if it is JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The `code` of a problem; empty on success.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// Status and code, for short assertions: `401 invalid_credentials`.
    pub fn summary(&self) -> String {
        format!("{} {}", self.status, self.code()).trim_end().to_owned()
    }

    pub fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The value of the refresh cookie that is set; empty if it is cleared.
    pub fn cookie(&self) -> Option<String> {
        let cookies = self.headers.get_all(header::SET_COOKIE).iter().filter_map(|line| line.to_str().ok());
        let mut values = cookies.filter_map(|line| line.strip_prefix("refreshToken=")?.split(';').next());
        values.next().map(str::to_owned)
    }

    /// The device cookie that is set, as a client sends it back.
    pub fn device_cookie(&self) -> Option<String> {
        let cookies = self.headers.get_all(header::SET_COOKIE).iter().filter_map(|line| line.to_str().ok());
        let mut pairs = cookies.filter_map(|line| line.split(';').next());
        pairs.find(|pair| pair.starts_with("refreshToken-device=")).map(str::to_owned)
    }

    /// Whether the client is told to forget its cookie.
    pub fn clears_cookie(&self) -> bool {
        self.cookie().is_some_and(|value| value.is_empty())
    }

    pub fn access_token(&self) -> Option<String> {
        self.json()["accessToken"].as_str().map(str::to_owned)
    }

    /// A refusal by our own hand, in the documented shape.
    #[track_caller]
    pub fn assert_problem(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.code().as_str()), (status, code), "{self:?}");
        assert_eq!(self.header(header::CONTENT_TYPE), Some("application/problem+json"), "{self:?}");
        assert!(self.header(header::RETRY_AFTER).is_some() == matches!(status, 429 | 503), "{self:?}");
    }

    /// Status, headers and body, with whatever is new in each run replaced by its name.
    pub fn snapshot(&self) -> String {
        let mut text = self.status.to_string();
        let mut lines: Vec<String> =
            self.headers.iter().filter(|(name, _)| !LEFT_OUT.contains(name)).map(line).collect();
        lines.sort();
        for line in lines {
            let _ = write!(text, "\n{line}");
        }
        let body = match serde_json::from_slice::<Value>(&self.body) {
            Ok(mut value) => {
                redact(&mut value);
                serde_json::to_string_pretty(&value).unwrap_or_default()
            }
            Err(_) => String::from_utf8_lossy(&self.body).into_owned(),
        };
        let _ = write!(text, "\n\n{body}");
        text
    }
}

fn line((name, value): (&HeaderName, &http::HeaderValue)) -> String {
    let value = value.to_str().unwrap_or("(not text)");
    let value = match name.as_str() {
        "x-replica" if !value.is_empty() => "[replica]".to_owned(),
        "x-request-id" if !value.is_empty() => "[request id]".to_owned(),
        "set-cookie" => match value.split_once(';') {
            Some((pair, attributes)) if !pair.ends_with('=') => {
                format!("{}=[token];{attributes}", pair.split('=').next().unwrap_or_default())
            }
            _ => value.to_owned(),
        },
        _ => value.to_owned(),
    };
    format!("{name}: {value}")
}

/// Lists of sessions may hold nothing but their ids.
fn redact_ids(value: &mut Value) {
    if let Value::Array(items) = value {
        items.iter_mut().filter(|item| item.is_string()).for_each(|item| *item = "[id]".into());
    }
}

fn redact(value: &mut Value) {
    if let Value::Object(fields) = value {
        for (name, value) in fields {
            match name.as_str() {
                "accessToken" => *value = "[access token]".into(),
                "id" => *value = "[id]".into(),
                "sessions" => redact_ids(value),
                "requestId" => *value = "[request id]".into(),
                "timestamp" => *value = "[time]".into(),
                _ => redact(value),
            }
        }
    }
}
