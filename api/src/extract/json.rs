//! JSON bodies, and precise words about those that are none.

use std::{error::Error, time::Duration};

use axum::extract::{FromRequest, Request};
use http::header;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::error::ApiError;

/// Largest body of a request that is read, in bytes.
const MAX_BODY: usize = 16 * 1024;
/// How long a client may take for the body of a request: a slow one could otherwise hold a connection for ever.
const PATIENCE: Duration = Duration::from_secs(10);

/// A body of `application/json` that is an object of this type.
pub struct Json<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        if !is_json(&request) {
            return Err(ApiError::UnsupportedMediaType);
        }
        let body = timeout(PATIENCE, Limited::new(request.into_body(), MAX_BODY).collect());
        let body = body.await.map_err(|_| too_slow())?.map_err(|error| read_error(&*error))?.to_bytes();
        // serde would take an array for a struct.
        if body.trim_ascii_start().first() != Some(&b'{') {
            return Err(ApiError::InvalidRequest("The body must be a JSON object".to_owned()));
        }
        let mut parser = serde_json::Deserializer::from_slice(&body);
        let value = serde_path_to_error::deserialize(&mut parser).map_err(|error| parse_error(&error))?;
        parser.end().map_err(|_| malformed())?;
        Ok(Self(value))
    }
}

fn is_json(request: &Request) -> bool {
    let media_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = media_type.and_then(|text| text.split(';').next()).map(str::trim);
    essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"))
}

fn read_error(error: &(dyn Error + 'static)) -> ApiError {
    if error.is::<LengthLimitError>() {
        ApiError::PayloadTooLarge
    } else {
        ApiError::InvalidRequest("The body ended before it was complete".to_owned())
    }
}

fn too_slow() -> ApiError {
    ApiError::InvalidRequest("The body took too long to arrive".to_owned())
}

fn malformed() -> ApiError {
    ApiError::InvalidRequest("The body is not valid JSON".to_owned())
}

/// Names the field, and never repeats its value: it may be a password.
fn parse_error(error: &serde_path_to_error::Error<serde_json::Error>) -> ApiError {
    if !error.inner().is_data() {
        return malformed();
    }
    let path = error.path().to_string();
    if path != "." {
        return ApiError::InvalidRequest(format!("`{path}` has the wrong type"));
    }
    // "missing field `password` at line 1 column 2"; what stands between the quotes is a name of ours.
    let message = error.inner().to_string();
    let about = message.split(" at line").next().unwrap_or_default();
    match about.strip_prefix("missing field ") {
        Some(field) => ApiError::InvalidRequest(format!("{field} is missing")),
        None if about.starts_with("duplicate field ") => ApiError::InvalidRequest("A field is given twice".to_owned()),
        None => malformed(),
    }
}
