//! The description of the API (OpenAPI 3.1), made from the handlers themselves, and the page that shows it.

mod modify;

use axum::{
    Router,
    middleware::map_response,
    response::{self, IntoResponse},
};
use gatefold_shared::problem;
use http::{HeaderValue, header};
use utoipa::OpenApi;
use utoipa_swagger_ui::{Config, SwaggerUi};

use self::modify::{Codes, Credentials, Optional, Responses};
use crate::{error::ApiError, handlers};

/// The description. Every route of the router is listed here; a test below holds the two together.
#[derive(OpenApi)]
#[openapi(
    info(title = "Gatefold", description = "Login, sessions and realtime rooms. Every error is `application/problem+json` (RFC 9457) with a stable `code`."),
    servers((url = "/", description = "The server that this document comes from")),
    tags(
        (name = "Sessions", description = "Logging in and out, and the sessions of a user"),
        (name = "Account", description = "The account of a user"),
        (name = "Rooms", description = "Realtime rooms without a socket, and tickets for sockets"),
        (name = "Operation", description = "Health, public keys and metadata"),
    ),
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
        handlers::server_metadata::server_metadata,
    ),
    components(schemas(problem::Body)),
    modifiers(&Responses, &Optional, &Codes, &Credentials),
)]
pub struct Description;

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

    /// The document in the repository is for whoever generates clients, and is what is linted.
    #[test]
    fn the_document_in_the_repository_is_this_one() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
        let now = Description::openapi().to_pretty_json().unwrap() + "\n";
        if std::fs::read_to_string(&path).unwrap_or_default() != now {
            let new = std::env::temp_dir().join("gatefold-openapi.json");
            std::fs::write(&new, now).unwrap();
            panic!("docs/openapi.json is not what the handlers say: cp {} docs/openapi.json", new.display());
        }
    }

    #[test]
    fn every_code_and_kind_that_clients_can_meet_is_listed_and_no_other() {
        let sources = [
            include_str!("error.rs"),
            include_str!("../../shared/src/problem.rs"),
            include_str!("../../shared/src/request.rs"),
        ];
        // `(StatusCode::X, "code")` and `Problem::new(StatusCode::X, "code", …)`.
        let ours = sources.iter().flat_map(|source| source.split("StatusCode::").skip(1)).filter_map(|rest| {
            let (status, rest) = rest.split_once(", \"")?;
            let is_status = status.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
            is_status.then(|| rest.split('"').next().unwrap())
        });
        let nginx =
            [include_str!("../../nginx/snippets/problems.conf"), include_str!("../../nginx/container/redirect.conf")];
        let of_nginx = nginx.iter().flat_map(|source| source.split("\"code\":\"").skip(1));
        let of_nginx = of_nginx.map(|rest| rest.split('"').next().unwrap());
        let used: BTreeSet<_> = ours.chain(of_nginx).collect();
        let description = serde_json::to_value(Description::openapi()).unwrap();
        let listed = |schema: &str| {
            let values = description["components"]["schemas"][schema]["enum"].as_array().unwrap().clone();
            values.into_iter().map(|value| value.as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
        };
        assert_eq!(listed("ProblemCode"), used.iter().map(ToString::to_string).collect());
        let kinds = crate::audit::Kind::ALL.map(|kind| kind.as_str().to_owned());
        assert_eq!(listed("EventKind"), kinds.into());
    }
}
