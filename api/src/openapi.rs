//! The description of the API (OpenAPI 3.1), made from the handlers themselves, and the page that shows it.

use axum::{
    Router,
    middleware::map_response,
    response::{self, IntoResponse},
};
use gatefold_shared::problem;
use http::{HeaderValue, header};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        ContentBuilder, Ref, RefOr, Response,
        path::Operation,
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::{error::ApiError, handlers};

/// The description. Every route of the router is listed here; a test below holds the two together.
#[derive(OpenApi)]
#[openapi(
    info(title = "Gatefold", description = "Log-in, sessions and realtime sockets. Every error is `application/problem+json` (RFC 9457) with a stable `code`."),
    paths(
        handlers::login::login,
        handlers::logout::logout,
        handlers::refresh::refresh,
        handlers::register::register,
        handlers::password::password,
        handlers::protected::protected,
        handlers::sessions::sessions,
        handlers::sessions::end_session,
        handlers::sessions::logout_all,
        handlers::events::events,
        handlers::ws_ticket::ws_ticket,
        handlers::rooms::presence,
        handlers::rooms::publish,
        handlers::health::health,
        handlers::health::ready,
        handlers::jwks::jwks,
    ),
    components(schemas(problem::Body)),
    modifiers(&Problems, &Credentials),
)]
pub struct Description;

/// Every error has the same shape, and what the layers around all handlers refuse is the same for all: so no handler repeats
/// it.
struct Problems;

impl Modify for Problems {
    fn modify(&self, description: &mut utoipa::openapi::OpenApi) {
        let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        for path in description.paths.paths.values_mut() {
            let operations = [(&mut path.get, true), (&mut path.post, false), (&mut path.delete, false)];
            for (operation, is_safe) in operations {
                let Some(operation) = operation else { continue };
                if !is_safe {
                    describe(operation, "403", "`forbidden_origin`");
                }
                if operation.request_body.is_some() {
                    describe(operation, "413", "`payload_too_large`");
                    describe(operation, "415", "`unsupported_media_type`");
                }
                for (status, response) in &mut operation.responses.responses {
                    let RefOr::T(response) = response else { continue };
                    if status.starts_with(['4', '5']) && response.content.is_empty() {
                        response.content.insert("application/problem+json".to_owned(), RefOr::T(problem.clone()));
                    }
                }
            }
        }
    }
}

/// Describes a response of an operation that does not say more about it itself.
fn describe(operation: &mut Operation, status: &str, description: &str) {
    let response = || RefOr::T(Response::new(description));
    operation.responses.responses.entry(status.to_owned()).or_insert_with(response);
}

/// How callers say who they are.
struct Credentials;

impl Modify for Credentials {
    fn modify(&self, description: &mut utoipa::openapi::OpenApi) {
        let components = description.components.get_or_insert_default();
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        components.add_security_scheme("accessToken", SecurityScheme::Http(bearer));
        let cookie = ApiKey::Cookie(ApiKeyValue::new("refreshToken"));
        components.add_security_scheme("refreshToken", SecurityScheme::ApiKey(cookie));
    }
}

/// Swagger UI styles its elements in place and draws its icons from `data:`; scripts come from our own files only.
const PAGE_POLICY: &str = "default-src 'self'; base-uri 'none'; frame-ancestors 'none'; object-src 'none'; \
    img-src 'self' data:; style-src 'self' 'unsafe-inline'";

/// `GET /api/openapi.json`, and `GET /api/docs`: a page from our own assets that renders it.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let config = Config::default().validator_url("none").try_it_out_enabled(false);
    let page = SwaggerUi::new("/api/docs").url("/api/openapi.json", Description::openapi()).config(config);
    Router::from(page).layer(map_response(async |mut response: response::Response| {
        if response.status().is_client_error() {
            return ApiError::NotFound.into_response(); // Of the page's assets: it says so in words of its own.
        }
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
        response
    }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let router = include_str!("router.rs");
        // `.route("/path", method(handler))`, one method a route.
        let rows = router.split(".route(\"").skip(1).map(|rest| rest.split_once("\", ").unwrap());
        let listed: BTreeSet<_> =
            rows.map(|(path, rest)| format!("{} {path}", rest.split('(').next().unwrap())).collect();
        let description = serde_json::to_value(Description::openapi()).unwrap();
        let operations = description["paths"].as_object().unwrap().iter().flat_map(|(path, operations)| {
            operations.as_object().unwrap().keys().map(move |method| format!("{method} {path}"))
        });
        let described: BTreeSet<_> = operations.collect();
        assert_eq!(listed, described);
    }
}
