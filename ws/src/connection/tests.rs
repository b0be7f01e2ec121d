//! Connections over a pipe in memory, in time that only passes when everybody waits.

use std::{future::pending, net::Ipv4Addr};

use clap::Parser;
use futures_util::{SinkExt, StreamExt};
use gatefold_shared::{
    clock,
    config::{IssuerConfig, PublicKeyConfig},
    lifecycle::Lifecycle,
    live_keys::LiveKeys,
    redis::Redis,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, duplex, split};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, Utf8Bytes, protocol::Role},
};
use uuid::Uuid;

use super::*;
use crate::{config::Config, state::AppState};

/// What fits into the pipe before somebody has to read.
const PIPE: usize = 1024;

fn app() -> App {
    let config =
        Config::parse_from(["gatefold-ws", "--redis-url", "redis://127.0.0.1:1", "--revocation-staleness-limit=0"]);
    let life = Lifecycle::begin().expect("signals");
    let keys = LiveKeys::verifying(&PublicKeyConfig { public_key_path: Vec::new(), issuer: IssuerConfig::default() });
    let keys = keys.expect("no keys");
    let redis = Redis::connect(&config.store, &life).expect("a good URL");
    AppState::new(&config, keys, redis, life)
}

type Piped = Connection<ReadHalf<DuplexStream>>;

fn pipe(app: &App, token: Option<AccessToken>) -> (Piped, DuplexStream) {
    let (ours, theirs) = duplex(PIPE);
    let (reader, writer) = split(ours);
    let peer = Arc::new(Peer::new(writer));
    let socket = Socket::accept(reader, Vec::new(), Arc::clone(&peer));
    let seat = app.seats.take().expect("a seat");
    (Connection::new(Arc::clone(app), Ipv4Addr::LOCALHOST.into(), (peer, socket), token, seat), theirs)
}

async fn client(pipe: DuplexStream) -> WebSocketStream<DuplexStream> {
    WebSocketStream::from_raw_socket(pipe, Role::Client, None).await
}

fn token(lifetime: u64) -> AccessToken {
    let expires_at = clock::unix_seconds() + lifetime;
    AccessToken { user_id: 1, uid: None, username: "alice".into(), family: Uuid::nil(), expires_at, rooms: [].into() }
}

/// How a connection ends whose peer does nothing but what `peer` does.
async fn ending(mut connection: Piped) -> (Ending, u64) {
    let started = Instant::now();
    let Err(ending) = connection.serve(&mut None).await;
    (ending, started.elapsed().as_secs())
}

fn json_of(text: &Utf8Bytes) -> Value {
    serde_json::from_str(text).expect("JSON")
}

/// All that a well-behaved client hears until it is closed, and when.
async fn story(mut client: WebSocketStream<DuplexStream>) -> Vec<(u64, String)> {
    let started = Instant::now();
    let mut story = Vec::new();
    while let Some(Ok(message)) = client.next().await {
        let what = match message {
            Message::Text(text) => {
                let message = json_of(&text);
                let kind = message["type"].as_str().expect("a type").to_owned();
                message["payload"]["code"].as_str().map_or(kind, str::to_owned)
            }
            Message::Close(frame) => {
                let frame = frame.expect("a reason");
                format!("{} {}", u16::from(frame.code), frame.reason)
            }
            Message::Ping(_) => "ping".to_owned(),
            other => panic!("unexpected {other:?}"),
        };
        story.push((started.elapsed().as_secs(), what));
    }
    story
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_dropped_after_sixty_seconds() {
    let (connection, _pipe) = pipe(&app(), Some(token(900)));
    assert_eq!(ending(connection).await, (Ending::Silence, 60));
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_slept_reads_what_was_said_meanwhile_before_it_judges_anybody() {
    for silence in [60, 61, 600] {
        let (mut connection, mut theirs) = pipe(&app(), Some(token(9000)));
        let sleeps = async {
            // Whoever serves has begun to wait.
            tokio::task::yield_now().await;
            // A masked pong.
            theirs.write_all(&[0x8a, 0x80, 0, 0, 0, 0]).await.expect("sent");
            tokio::time::advance(Duration::from_secs(silence)).await;
            tokio::time::sleep(Duration::from_secs(50)).await;
        };
        let mut session = None;
        tokio::select! {
            biased;
            Err(ending) = connection.serve(&mut session) => panic!("{ending:?} after {silence} s"),
            () = sleeps => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_not_finished_within_a_minute_closes_the_socket() {
    let (connection, mut theirs) = pipe(&app(), Some(token(900)));
    let crumbs = async {
        // The first fragment of a text, masked.
        theirs.write_all(&[0x01, 0x81, 0, 0, 0, 0, b'{']).await.expect("sent");
        loop {
            tokio::time::sleep(Duration::from_secs(20)).await;
            // A pong, and another byte of the text.
            theirs.write_all(&[0x8a, 0x80, 0, 0, 0, 0]).await.expect("sent");
            theirs.write_all(&[0x00, 0x81, 0, 0, 0, 0, b' ']).await.expect("sent");
        }
    };
    let ended = tokio::select! { ended = ending(connection) => ended, () = crumbs => unreachable!() };
    assert_eq!(ended, (Ending::ByUs(CloseReason::MessageTimeout), 60));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_finished_in_time_starts_the_minute_anew() {
    let (connection, mut theirs) = pipe(&app(), Some(token(900)));
    let slow = async {
        for _ in 0..5 {
            theirs.write_all(&[0x01, 0x81, 0, 0, 0, 0, b'{']).await.expect("sent");
            tokio::time::sleep(Duration::from_secs(40)).await;
            theirs.write_all(&[0x80, 0x81, 0, 0, 0, 0, b'}']).await.expect("sent");
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    };
    tokio::select! { ended = ending(connection) => panic!("{ended:?}"), () = slow => {} }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_only_answers_pings_stays_and_hears_of_its_token_once() {
    let (connection, theirs) = pipe(&app(), Some(token(301)));
    let ((), story) = tokio::join!(Box::new(connection).run(), async { story(client(theirs).await).await });
    let (pings, rest): (Vec<_>, Vec<_>) = story.into_iter().partition(|(_, what)| what == "ping");
    let pinged_at: Vec<_> = pings.iter().map(|(at, _)| *at).collect();
    assert_eq!(pinged_at, (1..=13).map(|n| n * 25).collect::<Vec<_>>());
    let kinds: Vec<_> = rest.iter().map(|(_, what)| what.as_str()).collect();
    assert_eq!(kinds, ["connected", "token_expiring", "token_expired", "4401 token_expired"]);
    // The wall clock was somewhere within its second.
    for ((at, _), expected) in rest.iter().zip([0, 181, 301, 331]) {
        assert!((expected - 1..=expected).contains(&i64::try_from(*at).expect("seconds")), "{rest:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn with_less_left_than_the_warning_it_comes_right_after_the_greeting() {
    let (connection, theirs) = pipe(&app(), Some(token(10)));
    let ((), story) = tokio::join!(Box::new(connection).run(), async { story(client(theirs).await).await });
    let kinds: Vec<_> = story.iter().map(|(_, what)| what.as_str()).filter(|what| *what != "ping").collect();
    assert_eq!(kinds, ["connected", "token_expiring", "token_expired", "4401 token_expired"]);
    assert_eq!(story[1].0, 0);
}

#[tokio::test(start_paused = true)]
async fn without_an_auth_message_a_socket_is_closed_after_five_seconds() {
    let (connection, theirs) = pipe(&app(), None);
    let ((), story) = tokio::join!(Box::new(connection).run(), async { story(client(theirs).await).await });
    assert_eq!(story, [(5, "4408 auth_timeout".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn a_first_message_that_is_no_auth_closes_the_socket() {
    for first in [r#"{"type":"ping"}"#, "garbage", r#"{"type":"auth","access":"a.b.c"}"#] {
        let (connection, theirs) = pipe(&app(), None);
        let mut client = client(theirs).await;
        client.send(Message::text(first)).await.expect("sent");
        let ((), story) = tokio::join!(Box::new(connection).run(), story(client));
        assert_eq!(story, [(0, "4401 invalid_token".to_owned())], "{first}");
    }
}

#[tokio::test(start_paused = true)]
async fn in_the_grace_only_ping_and_reauth_are_served() {
    let (connection, theirs) = pipe(&app(), Some(token(5)));
    let mut client = client(theirs).await;
    let answers = async {
        loop {
            let Some(Ok(Message::Text(text))) = client.next().await else { continue };
            if json_of(&text)["payload"]["code"] == "token_expired" {
                break;
            }
        }
        let mut answers = Vec::new();
        for kind in ["ping", "dance", "reauth"] {
            let message = json!({"type": kind, "access": "a.b.c", "id": kind});
            client.send(Message::text(message.to_string())).await.expect("sent");
            let Some(Ok(Message::Text(text))) = client.next().await else { panic!("no answer") };
            let answer = json_of(&text);
            assert_eq!(answer["id"], kind);
            answers.push(answer["payload"]["code"].as_str().unwrap_or("ok").to_owned());
        }
        answers
    };
    let answers = tokio::select! { answers = answers => answers, () = Box::new(connection).run() => panic!("ended") };
    assert_eq!(answers, ["ok", "token_expired", "reauth_failed"]);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_is_too_slow_after_ten_seconds() {
    let (connection, theirs) = pipe(&app(), Some(token(900)));
    let mut client = client(theirs).await;
    let talk_without_listening = async {
        for _ in 0..50 {
            client.send(Message::text(r#"{"type":"ping"}"#)).await.expect("sent");
        }
        pending::<()>().await;
    };
    let ended = tokio::select! { ended = ending(connection) => ended, () = talk_without_listening => unreachable!() };
    assert_eq!(ended, (Ending::ByUs(CloseReason::SlowConsumer), 10));
}

#[tokio::test(start_paused = true)]
async fn closing_never_waits_for_a_peer_for_longer_than_a_second() {
    let app = app();
    let (connection, _pipe) = pipe(&app, Some(token(900)));
    app.life.draining().cancel();
    let started = Instant::now();
    Box::new(connection).run().await;
    assert_eq!(started.elapsed(), Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_draining_replica_says_so_to_its_sockets() {
    let app = app();
    let (connection, theirs) = pipe(&app, Some(token(900)));
    app.life.draining().cancel();
    let ((), story) = tokio::join!(Box::new(connection).run(), async { story(client(theirs).await).await });
    assert_eq!(story.last(), Some(&(0, "1012 service_restart".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn the_close_frame_arrives_although_the_peer_goes_on_sending_what_is_too_big() {
    let (connection, mut theirs) = pipe(&app(), Some(token(900)));
    let too_big = async {
        // A masked text frame of 1 MiB.
        theirs.write_all(&[0x81, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0]).await.expect("sent");
        let chunk = [b'x'; 4096];
        for _ in 0..256 {
            theirs.write_all(&chunk).await.expect("somebody still reads");
        }
        let mut heard = Vec::new();
        theirs.read_to_end(&mut heard).await.expect("read");
        heard
    };
    let ((), heard) = tokio::join!(Box::new(connection).run(), too_big);
    let close_frame = [&[0x88, 17, 0x03, 0xf1][..], b"message_too_big"].concat();
    assert!(heard.ends_with(&close_frame), "{}", String::from_utf8_lossy(&heard));
}

#[tokio::test]
async fn what_an_idle_connection_keeps_is_small() {
    let (connection, _pipe) = pipe(&app(), None);
    let kept = size_of_val(&connection) + size_of::<Peer>();
    let waits = Box::new(connection).run();
    let kept = kept + size_of_val(&waits);
    assert!(kept <= 1024, "{kept} bytes");
}
