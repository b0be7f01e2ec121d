//! `GET /ws`: from an HTTP request to a WebSocket (RFC 6455 4.2), or to a refusal.
//!
//! Everything that can be refused is refused here, with a status and words. After the upgrade there are only close codes,
//! which browsers do show, but which no proxy and no log understands.

use std::sync::Arc;

use axum::{
    Extension,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use gatefold_shared::{
    client_ip::Client,
    jwt::{AccessToken, VerifyError},
    origin, tickets,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use metrics::counter;
use tokio::net::{TcpStream, tcp::OwnedReadHalf};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tracing::{debug, warn};

use crate::{
    authenticate::{self, Credential, Denial, SUBPROTOCOL},
    connection::Connection,
    peer::Peer,
    refusal::Refusal,
    seats::Seat,
    socket::Socket,
    state::{App, AppState},
};

/// A handshake that can be answered, whoever brings it.
struct Handshake<'a> {
    accept_key: String,
    subprotocol: bool,
    credential: Credential<'a>,
}

/// A handshake that is accepted.
struct Accepted {
    response: Response,
    on_upgrade: OnUpgrade,
    seat: Seat,
    /// Absent if the first message will bring it.
    token: Option<AccessToken>,
}

/// `GET /ws`: see the module.
pub(crate) async fn open(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    mut request: Request,
) -> Response {
    let on_upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let (request, _) = request.into_parts();
    let accepted = accept(&app, &client, &request, on_upgrade).await;
    let result = accepted.as_ref().map_or_else(|refusal| refusal.problem().code, |_| "accepted");
    counter!("gatefold_ws_handshakes_total", "result" => result).increment(1);
    let Accepted { response, on_upgrade, seat, token } = match accepted {
        Ok(accepted) => accepted,
        Err(refusal) => return refusal.into_response(),
    };
    let life = app.life.clone();
    life.clone().spawn(async move {
        let Some(socket) = upgraded(on_upgrade).await else { return };
        let connection = Box::new(Connection::new(app, client.address, socket, token, seat));
        // A task of its own, since what the upgrade took is not needed any more. Boxed, because each wrapper around a task
        // has room for its own copy of what it wraps.
        life.spawn(Box::pin(connection.run()));
    });
    response
}

/// The seat comes before the token: a ticket must not be used up for a socket that cannot be opened.
async fn accept(
    app: &AppState,
    client: &Client,
    request: &Parts,
    on_upgrade: Option<OnUpgrade>,
) -> Result<Accepted, Refusal> {
    let on_upgrade = on_upgrade.ok_or(Refusal::UpgradeRequired)?;
    let handshake = read(app, client, request)?;
    let response = switching_protocols(&handshake);
    let seat = app.seats.take().filter(|_| !app.life.draining().is_cancelled()).ok_or(Refusal::Unavailable)?;
    let token = authenticate(app, handshake.credential).await?;
    Ok(Accepted { response, on_upgrade, seat, token })
}

fn read<'a>(app: &AppState, client: &Client, request: &'a Parts) -> Result<Handshake<'a>, Refusal> {
    let headers = &request.headers;
    let wants_upgrade = request.method == Method::GET
        && has_word(headers, &header::CONNECTION, "upgrade")
        && has_word(headers, &header::UPGRADE, "websocket");
    let version = headers.get(header::SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
    if !(wants_upgrade && version) {
        return Err(Refusal::UpgradeRequired);
    }
    let accept_key = accept_key(headers)?;
    origin::check(headers, client.scheme, &app.allowed_origins).map_err(Refusal::ForeignOrigin)?;
    let (credential, subprotocol) = authenticate::credential(request.uri.query(), headers)?;
    Ok(Handshake { accept_key, subprotocol, credential })
}

/// Who opens the socket, unless the first message will tell.
async fn authenticate(app: &AppState, credential: Credential<'_>) -> Result<Option<AccessToken>, Refusal> {
    let token = match credential {
        Credential::Absent => return Ok(None),
        Credential::Unusable => return Err(Refusal::Token(VerifyError::Invalid)),
        Credential::Token(token) => app.admit(&token)?,
        Credential::Ticket(ticket) => {
            let redeemed = tickets::redeem(&app.redis, &ticket).await.map_err(|error| {
                warn!(%error, "a ticket could not be redeemed");
                Refusal::Unavailable
            })?;
            let token = redeemed.ok_or(Refusal::Token(VerifyError::Invalid))?;
            app.revocations.check(token.user_id, token.family).map_err(Denial::from)?;
            token
        }
    };
    // Whoever comes between this and the first message is closed then.
    if app.user_seats.is_full(token.user_id) {
        return Err(Refusal::TooManySockets);
    }
    Ok(Some(token))
}

/// The key must be 16 bytes in base64; what becomes of it proves to the client that we speak its protocol.
fn accept_key(headers: &HeaderMap) -> Result<String, Refusal> {
    const BAD_KEY: Refusal = Refusal::BadHandshake("Sec-WebSocket-Key is not one key of 16 bytes in base64");
    let mut keys = headers.get_all(header::SEC_WEBSOCKET_KEY).iter();
    let (Some(key), None) = (keys.next(), keys.next()) else { return Err(BAD_KEY) };
    let is_base64 = |key: &[u8]| key.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(byte));
    match key.as_bytes().strip_suffix(b"==") {
        Some(digits) if digits.len() == 22 && is_base64(digits) => Ok(derive_accept_key(key.as_bytes())),
        _ => Err(BAD_KEY),
    }
}

/// Whether a header that is a list of words, on one line or on several, has this one.
fn has_word(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|listed| listed.trim().eq_ignore_ascii_case(word))
}

fn switching_protocols(handshake: &Handshake<'_>) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(key) = HeaderValue::from_str(&handshake.accept_key) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, key);
    }
    if handshake.subprotocol {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    }
    response
}

/// The connection below, once our answer has been sent. It was a `TcpStream` before and is one again: going through hyper
/// for every byte would cost memory and time.
async fn upgraded(on_upgrade: OnUpgrade) -> Option<(Arc<Peer>, Socket<OwnedReadHalf>)> {
    let upgraded: Upgraded = on_upgrade.await.inspect_err(|error| debug!(%error, "no upgrade")).ok()?;
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().ok()?;
    let (reader, writer) = parts.io.into_inner().into_split();
    let peer = Arc::new(Peer::new(writer));
    Some((Arc::clone(&peer), Socket::accept(reader, parts.read_buf.into(), peer)))
}
