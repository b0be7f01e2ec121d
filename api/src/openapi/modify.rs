//! What is the same for all operations, and so is said once instead of at each handler.

use utoipa::{
    Modify,
    openapi::{
        ContentBuilder, Header, HeaderBuilder, ObjectBuilder, OpenApi, Ref, RefOr, Required, Response, Schema, Type,
        path::{Operation, PathItem},
        schema::SchemaType,
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

/// All values of `code`; a test holds them and the errors together.
const CODES: [&str; 30] = [
    "account_disabled",
    "forbidden",
    "forbidden_origin",
    "forbidden_room",
    "https_required",
    "internal_error",
    "invalid_credentials",
    "invalid_data",
    "invalid_refresh_token",
    "invalid_request",
    "invalid_token",
    "method_not_allowed",
    "missing_refresh_token",
    "missing_token",
    "not_found",
    "password_reset_required",
    "payload_too_large",
    "rate_limited",
    "refresh_superseded",
    "refresh_token_reused",
    "registration_closed",
    "session_not_found",
    "session_revoked",
    "several_refresh_tokens",
    "token_expired",
    "unavailable",
    "unsupported_media_type",
    "username_reserved",
    "username_taken",
    "weak_password",
];

fn operations(description: &mut OpenApi) -> impl Iterator<Item = (&mut Operation, bool)> {
    description.paths.paths.values_mut().flat_map(|PathItem { get, post, delete, .. }| {
        let operations = [(get, true), (post, false), (delete, false)];
        operations.into_iter().filter_map(|(operation, is_safe)| Some((operation.as_mut()?, is_safe)))
    })
}

/// Every error has the same shape, and what the layers around all handlers refuse is the same for all.
pub(super) struct Responses;

impl Modify for Responses {
    fn modify(&self, description: &mut OpenApi) {
        let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        for (operation, is_safe) in operations(description) {
            if !is_safe {
                describe(operation, "403", "`forbidden_origin`");
            }
            if operation.request_body.is_some() {
                describe(operation, "413", "`payload_too_large`");
                describe(operation, "415", "`unsupported_media_type`");
            }
            describe(operation, "429", "`rate_limited`");
            describe(operation, "default", "Any other error");
            // Said, and not left out: it needs none.
            operation.security.get_or_insert_default();
            for (status, response) in &mut operation.responses.responses {
                let RefOr::T(response) = response else { continue };
                // Readiness has a shape of its own.
                if status.starts_with(['4', '5', 'd']) && response.content.is_empty() {
                    response.content.insert("application/problem+json".to_owned(), RefOr::T(problem.clone()));
                    let headers = headers(status).into_iter();
                    response.headers.extend(headers.map(|(name, header)| (name.to_owned(), RefOr::T(header))));
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

/// The headers that a problem of a status has, or may have.
fn headers(status: &str) -> Vec<(&'static str, Header)> {
    let header = |schema_type, description: &str| {
        let schema = ObjectBuilder::new().schema_type(schema_type);
        HeaderBuilder::new().schema(Some(schema.build())).description(Some(description)).build()
    };
    let retry = || ("Retry-After", header(Type::Integer, "Seconds after which to try again"));
    match status {
        "429" => vec![
            retry(),
            ("RateLimit", header(Type::String, "What is left of the closest limit, such as `\"login-ip\";r=0;t=2`")),
            ("RateLimit-Policy", header(Type::String, "The limits that apply, such as `\"login-ip\";q=30;w=60`")),
        ],
        "503" => vec![retry()],
        _ => Vec::new(),
    }
}

/// A parameter that may be left out is never null, as the type in Rust would have it.
pub(super) struct Optional;

impl Modify for Optional {
    fn modify(&self, description: &mut OpenApi) {
        for (operation, _) in operations(description) {
            for parameter in operation.parameters.iter_mut().flatten() {
                if let RefOr::T(parameter) = parameter
                    && matches!(parameter.required, Required::False)
                    && let Some(schema) = &mut parameter.schema
                {
                    without_null(schema);
                }
            }
        }
    }
}

fn without_null(schema: &mut RefOr<Schema>) {
    match schema {
        RefOr::T(Schema::Object(object)) => {
            if let SchemaType::Array(types) = &object.schema_type
                && let Some(other) = types.iter().find(|schema_type| !matches!(schema_type, Type::Null))
            {
                object.schema_type = SchemaType::Type(other.clone());
            }
        }
        RefOr::T(Schema::OneOf(one_of)) => {
            if let Some(reference) = one_of.items.iter().find(|item| matches!(item, RefOr::Ref(_))) {
                *schema = reference.clone();
            }
        }
        _ => {}
    }
}

/// The codes of errors as a type of their own.
pub(super) struct Codes;

impl Modify for Codes {
    fn modify(&self, description: &mut OpenApi) {
        let components = description.components.get_or_insert_default();
        if let Some(RefOr::T(Schema::Object(problem))) = components.schemas.get_mut("Problem") {
            problem.properties.insert("code".to_owned(), Ref::from_schema_name("ProblemCode").into());
        }
        let codes = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(CODES));
        let codes = codes.description(Some("What is wrong, for programs. Stable; later versions may have more."));
        components.schemas.insert("ProblemCode".to_owned(), codes.build().into());
    }
}

/// How callers say who they are.
pub(super) struct Credentials;

impl Modify for Credentials {
    fn modify(&self, description: &mut OpenApi) {
        let components = description.components.get_or_insert_default();
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        components.add_security_scheme("accessToken", SecurityScheme::Http(bearer));
        let cookie = ApiKey::Cookie(ApiKeyValue::with_description(
            "refreshToken",
            "Set by login, registration and refresh. The name is a setting: clients keep whatever cookie they get.",
        ));
        components.add_security_scheme("refreshToken", SecurityScheme::ApiKey(cookie));
    }
}
