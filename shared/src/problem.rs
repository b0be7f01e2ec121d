//! The shape of every error over HTTP: RFC 9457 `application/problem+json`, with the fields of the original beside it.

use std::{borrow::Cow, time::Duration};

use axum::{
    body::Body as ResponseBody,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

/// An error as a client sees it. Rendered by [`crate::request::context`], which knows the id of the request.
#[derive(Clone, Debug)]
pub struct Problem {
    /// The status of the response.
    pub status: StatusCode,
    /// Stable, for programs: `invalid_credentials`.
    pub code: &'static str,
    /// For people; says what to do where that is not obvious. Never holds a secret or anything internal.
    pub detail: Cow<'static, str>,
    /// Whether the session is over, so that only a new log-in helps.
    pub require_reauth: bool,
    /// When it makes sense to come back, for 429 and 503.
    pub retry_after: Option<Duration>,
}

impl Problem {
    /// A problem that neither ends the session nor says when to come back.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, detail: detail.into(), require_reauth: false, retry_after: None }
    }

    /// 503 `unavailable`: something that the answer needs is away; the same request may be sent again.
    pub fn unavailable() -> Self {
        let detail = "Temporarily unavailable, please try again";
        let retry_after = Some(Duration::from_secs(1));
        Self { retry_after, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail) }
    }

    /// 500 `internal_error`: a fault of ours, whose cause is only in the log.
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "Internal error, please report the request id")
    }

    pub(crate) fn body(&self, request_id: &str) -> Vec<u8> {
        let title = self.status.canonical_reason().unwrap_or("Error");
        let body = Body {
            r#type: "about:blank",
            title,
            status: self.status.as_u16(),
            detail: &self.detail,
            error: &self.detail,
            code: self.code,
            require_reauth: self.require_reauth,
            request_id,
        };
        serde_json::to_vec(&body).unwrap_or_default()
    }
}

/// An error (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
#[serde(rename_all = "camelCase")]
pub struct Body<'a> {
    /// Always `about:blank`: `code` says what is wrong.
    #[schema(example = "about:blank")]
    r#type: &'static str,
    /// The name of the status.
    #[schema(example = "Unauthorized")]
    title: &'static str,
    /// The status of the response.
    #[schema(example = 401, minimum = 400, maximum = 599)]
    status: u16,
    /// What is wrong, for people. May change.
    #[schema(example = "Invalid credentials")]
    detail: &'a str,
    /// The same as `detail`.
    #[schema(example = "Invalid credentials")]
    error: &'a str,
    /// What is wrong, for programs. Stable.
    #[schema(example = "invalid_credentials")]
    code: &'static str,
    /// Whether the session is over, so that the user has to log in again.
    require_reauth: bool,
    /// Names the request in the logs.
    request_id: &'a str,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(ResponseBody::empty());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(after) = self.retry_after {
            // Whole seconds, rounded up: nobody is told to come back too early.
            headers
                .insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs() + u64::from(after.subsec_nanos() > 0)));
        }
        response.extensions_mut().insert(self);
        response
    }
}
