//! Which events a request asks for: `?limit=…&before=…&kind=…`.

use axum::extract::FromRequestParts;
use http::request::Parts;

use crate::{
    audit::{Kind, PageRequest},
    error::ApiError,
};

/// Events in an answer at most, and where a request names no limit.
const MAX_EVENTS: u8 = 100;

/// The page of events that a request asks for.
pub struct EventsQuery(pub PageRequest);

impl<S: Sync> FromRequestParts<S> for EventsQuery {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parse(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

/// Other parameters are ignored, as fields of bodies are; one that is given twice is refused.
fn parse(query: &str) -> Result<PageRequest, ApiError> {
    let (mut limit, mut before, mut kind) = (None, None, None);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let is_first = match &*name {
            "limit" => {
                let number = value.parse().ok().filter(|number| (1..=MAX_EVENTS).contains(number));
                limit.replace(number.ok_or_else(|| invalid("`limit` must be a number from 1 to 100"))?).is_none()
            }
            "before" => {
                let id = value.parse().ok().filter(|id| *id >= 1);
                before.replace(id.ok_or_else(|| invalid("`before` must be the `next` of a page"))?).is_none()
            }
            "kind" => {
                let known = Kind::of(&value);
                kind.replace(known.ok_or_else(|| invalid("`kind` is not a kind of event"))?).is_none()
            }
            _ => true,
        };
        if !is_first {
            return Err(invalid("A parameter is given twice"));
        }
    }
    Ok(PageRequest { limit: limit.unwrap_or(MAX_EVENTS), before: before.unwrap_or(i64::MAX), kind })
}

fn invalid(message: &str) -> ApiError {
    ApiError::InvalidRequest(message.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_a_page_and_its_absence_the_newest() {
        let newest = PageRequest { limit: 100, before: i64::MAX, kind: None };
        assert_eq!(parse("").unwrap(), newest);
        assert_eq!(parse("other=1&other=2").unwrap(), newest);
        let page = PageRequest { limit: 7, before: 12, kind: Some(Kind::RefreshTokenReused) };
        assert_eq!(parse("limit=7&before=12&kind=refresh_token_reused").unwrap(), page);
    }

    #[test]
    fn malformed_and_repeated_parameters_are_refused() {
        for query in [
            "limit=0",
            "limit=101",
            "limit=-1",
            "limit=",
            "limit=1&limit=1",
            "before=0",
            "before=-5",
            "before=x",
            "before=9223372036854775808",
            "before=1&before=2",
            "kind=",
            "kind=no_such_kind",
            "kind=logged_in&kind=logged_in",
        ] {
            assert!(matches!(parse(query), Err(ApiError::InvalidRequest(_))), "{query}");
        }
    }
}
