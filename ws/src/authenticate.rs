//! Who opens a socket: where the token travels, and what a token must be to keep a socket open.
//!
//! A token may come in the query (`?token=`, or `?ticket=` for one that stands for it), as `Authorization: Bearer`, as the
//! subprotocols `gatefold.v1, bearer.<token>` or, with none of these, in the first message. More than one at once is refused (RFC 6750 2 allows only one), so that no
//! two parts of an installation can take the same request for two users'.

use std::borrow::Cow;

use gatefold_shared::{
    clock,
    jwt::{AccessToken, Verifier, VerifyError},
    revocation::Denied,
};
use http::{HeaderMap, header};

use crate::refusal::Refusal;

/// The subprotocol that a client which offers any must offer.
pub(crate) const SUBPROTOCOL: &str = "gatefold.v1";

/// What a request brought.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Credential<'a> {
    /// Nothing: the token must be in the first message.
    Absent,
    /// An access token.
    Token(Cow<'a, str>),
    /// A ticket, which stands for an access token.
    Ticket(Cow<'a, str>),
    /// Something that is never an access token.
    Unusable,
}

/// Why the bearer of a token is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denial {
    /// The token is not good.
    Token(VerifyError),
    /// It is, but its session is not, as far as is known.
    Session(Denied),
}

impl From<VerifyError> for Denial {
    fn from(error: VerifyError) -> Self {
        Self::Token(error)
    }
}

impl From<Denied> for Denial {
    fn from(denied: Denied) -> Self {
        Self::Session(denied)
    }
}

/// The credential of a request, and whether its client offers our subprotocol.
pub(crate) fn credential<'a>(
    query: Option<&'a str>,
    headers: &'a HeaderMap,
) -> Result<(Credential<'a>, bool), Refusal> {
    let (subprotocols, in_subprotocols) = in_subprotocols(headers)?;
    let mut found = in_query(query).chain(in_authorization(headers)).chain(in_subprotocols);
    let credential = found.next().unwrap_or(Credential::Absent);
    match found.next() {
        None => Ok((credential, subprotocols)),
        Some(_) => Err(Refusal::BadHandshake("More than one access token: send it in one way, and once")),
    }
}

fn in_query(query: Option<&str>) -> impl Iterator<Item = Credential<'_>> {
    form_urlencoded::parse(query.unwrap_or_default().as_bytes()).filter_map(|(name, value)| match &*name {
        "token" => Some(Credential::Token(value)),
        "ticket" => Some(Credential::Ticket(value)),
        _ => None,
    })
}

/// Other schemes are not for us: a proxy in front may have its own.
fn in_authorization(headers: &HeaderMap) -> impl Iterator<Item = Credential<'_>> {
    headers.get_all(header::AUTHORIZATION).iter().filter_map(|value| {
        let Ok(value) = value.to_str() else { return Some(Credential::Unusable) };
        let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
        scheme.eq_ignore_ascii_case("bearer").then_some(Credential::Token(token.trim().into()))
    })
}

fn in_subprotocols(headers: &HeaderMap) -> Result<(bool, impl Iterator<Item = Credential<'_>>), Refusal> {
    let mut offered = Vec::new();
    for line in headers.get_all(header::SEC_WEBSOCKET_PROTOCOL) {
        let line = line.to_str().map_err(|_| Refusal::BadHandshake("Sec-WebSocket-Protocol is not a list of names"))?;
        offered.extend(line.split(',').map(str::trim));
    }
    let ours = offered.contains(&SUBPROTOCOL);
    let tokens = offered.into_iter().filter_map(|name| name.strip_prefix("bearer.")).collect::<Vec<_>>();
    if !ours && !tokens.is_empty() {
        // Some subprotocol has to be answered, and that must not be the token.
        return Err(Refusal::BadHandshake("Offer the subprotocol gatefold.v1 beside the one with the token"));
    }
    Ok((ours, tokens.into_iter().map(|token| Credential::Token(token.into()))))
}

/// Whose token this is. On a socket it expires at `exp` and not a moment later: the leeway that the verifier grants is for
/// requests, which are over when they are answered.
pub(crate) fn verify(verifier: &Verifier, token: &str) -> Result<AccessToken, VerifyError> {
    let token = verifier.verify(token)?;
    if token.expires_at <= clock::unix_seconds() { Err(VerifyError::Expired) } else { Ok(token) }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let line = |&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        lines.iter().map(line).collect()
    }

    fn token(text: &str) -> Credential<'_> {
        Credential::Token(text.into())
    }

    #[test]
    fn a_token_is_found_in_the_query_the_header_and_the_subprotocols() {
        let none = HeaderMap::new();
        assert_eq!(credential(Some("a=1&token=a.b.c"), &none), Ok((token("a.b.c"), false)));
        assert_eq!(credential(Some("%74oken=a%2Eb.c%20%C3%A4"), &none), Ok((token("a.b.c ä"), false)));
        assert_eq!(credential(Some("token="), &none), Ok((token(""), false)));
        let bearer = headers(&[("authorization", "bEARER a.b.c")]);
        assert_eq!(credential(None, &bearer), Ok((token("a.b.c"), false)));
        let subprotocols = headers(&[("sec-websocket-protocol", "gatefold.v1, bearer.a.b.c")]);
        assert_eq!(credential(None, &subprotocols), Ok((token("a.b.c"), true)));
        let lines = headers(&[("sec-websocket-protocol", "bearer.a.b.c"), ("sec-websocket-protocol", "gatefold.v1")]);
        assert_eq!(credential(None, &lines), Ok((token("a.b.c"), true)));
    }

    #[test]
    fn a_ticket_may_stand_for_the_token_and_only_in_the_query() {
        let none = HeaderMap::new();
        assert_eq!(credential(Some("ticket=a-b_c"), &none), Ok((Credential::Ticket("a-b_c".into()), false)));
        let in_header = headers(&[("authorization", "Ticket a-b_c")]);
        assert_eq!(credential(None, &in_header), Ok((Credential::Absent, false)));
    }

    #[test]
    fn without_a_token_the_first_message_must_bring_it() {
        assert_eq!(credential(None, &HeaderMap::new()), Ok((Credential::Absent, false)));
        let ours = headers(&[("sec-websocket-protocol", "gatefold.v1"), ("authorization", "Basic Zm9vOmJhcg==")]);
        assert_eq!(credential(Some("tokens=1"), &ours), Ok((Credential::Absent, true)));
    }

    #[test]
    fn what_cannot_be_a_token_is_not_taken_for_none() {
        let empty = headers(&[("authorization", "Bearer")]);
        assert_eq!(credential(None, &empty), Ok((token(""), false)));
    }

    #[test]
    fn more_than_one_token_is_refused() {
        let bearer = headers(&[("authorization", "Bearer a.b.c")]);
        for query in ["token=a.b.c", "ticket=abc"] {
            assert!(matches!(credential(Some(query), &bearer), Err(Refusal::BadHandshake(_))), "{query}");
        }
        assert!(matches!(credential(Some("token=a&token=b"), &HeaderMap::new()), Err(Refusal::BadHandshake(_))));
        let two = headers(&[("sec-websocket-protocol", "gatefold.v1, bearer.a, bearer.b")]);
        assert!(matches!(credential(None, &two), Err(Refusal::BadHandshake(_))));
    }

    #[test]
    fn a_token_as_the_only_subprotocol_is_refused_since_it_could_not_be_answered() {
        let alone = headers(&[("sec-websocket-protocol", "bearer.a.b.c")]);
        assert!(matches!(credential(None, &alone), Err(Refusal::BadHandshake(_))));
    }
}
