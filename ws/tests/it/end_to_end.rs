//! A deployment as its clients know it: one address, and nothing else of it. The cluster is a test's own, or one that runs
//! somewhere, such as containers: then `GATEFOLD_URL` says where, and `GATEFOLD_ROLL` names a program that replaces all
//! replicas of a kind (`api` or `ws`), one after the other. It must not limit requests.

pub mod account;
pub mod deployment;
mod load;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use gatefold_cluster::Kind;
use http::Method;
use serde_json::{Value, json};

use self::{account::Account, deployment::Deployment, load::Load};
use crate::harness::{
    Client,
    member::{Member, addresses},
    new_room, within,
};

/// How soon a session that was ended must have ended everywhere, on a machine that may do nothing for some seconds.
const AT_ONCE: Duration = Duration::from_secs(10);

/// A call for each operation that the API says it has, and for the files that are served beside it.
#[tokio::test]
async fn every_call_of_the_rest_api_is_served() {
    let deployment = Deployment::find().await;
    let mut ada = Account::register(&deployment).await;
    let room = new_room();
    let (presence, messages) = (format!("/api/rooms/{room}/presence"), format!("/api/rooms/{room}/messages"));
    let other = ada.log_in_again().await;
    let ended = format!("/api/sessions/{}", other.session());
    let password = json!({"currentPassword": account::PASSWORD, "newPassword": account::NEXT_PASSWORD});
    let calls = [
        (Method::GET, "/api/protected", Value::Null, 200, "/user/username"),
        (Method::GET, "/api/sessions", Value::Null, 200, "/sessions/1/id"),
        (Method::DELETE, &ended, Value::Null, 204, ""),
        (Method::GET, "/api/events", Value::Null, 200, "/events"),
        (Method::POST, "/api/ws-ticket", Value::Null, 200, "/ticket"),
        (Method::GET, &presence, Value::Null, 200, "/count"),
        (Method::POST, &messages, json!({"data": "Hello"}), 202, "/id"),
        (Method::POST, "/api/password", password, 204, ""),
        (Method::GET, "/.well-known/jwks.json", Value::Null, 200, "/keys/0/kid"),
        // Without ISSUER there is none.
        (Method::GET, "/.well-known/oauth-authorization-server", Value::Null, 404, "/code"),
        (Method::GET, "/api/health", Value::Null, 200, "/timestamp"),
        (Method::GET, "/api/ready", Value::Null, 200, "/checks/revocations"),
        (Method::GET, "/api/openapi.json", Value::Null, 200, "/paths"),
        (Method::GET, "/api/docs", Value::Null, 200, ""),
        (Method::GET, "/", Value::Null, 200, ""),
        (Method::GET, "/gatefold.js", Value::Null, 200, ""),
        (Method::GET, "/health", Value::Null, 200, "/status"),
        (Method::POST, "/api/logout-all", Value::Null, 200, "/revoked"),
    ];
    let mut called = BTreeSet::from(["post /api/register".to_owned(), "post /api/login".to_owned()]);
    ada.refresh().await.expect("a refresh");
    called.insert("post /api/refresh".to_owned());
    let mut described = Value::Null;
    for (method, path, body, status, has) in calls {
        let (answered, answer) = ada.ask(method.clone(), path, body).await.expect("an answer");
        assert!(answered == status && answer.pointer(has).is_some(), "{method} {path}: {answered} {answer}");
        let path = path.replace(&room, "{room}").replace(&ended, "/api/sessions/{id}");
        called.insert(format!("{} {path}", method.as_str().to_lowercase()));
        if path == "/api/openapi.json" {
            described = answer["paths"].clone();
        }
    }
    let mut other = ada.log_in_with(account::NEXT_PASSWORD).await;
    other.log_out().await;
    assert_eq!(other.refresh().await.expect_err("it has ended"), "401 missing_refresh_token");
    called.insert("post /api/logout".to_owned());

    let paths = described.as_object().expect("paths").iter();
    let operations = paths.flat_map(|(path, operations)| {
        let methods = operations.as_object().expect("operations").keys();
        methods.map(move |method| format!("{method} {path}"))
    });
    let missing: Vec<_> = operations.filter(|operation| !called.contains(operation)).collect();
    assert!(missing.is_empty(), "nobody has called {missing:?}");
}

#[tokio::test]
async fn every_message_of_a_socket_is_served_and_every_way_in_is_open() {
    let deployment = Deployment::find().await;
    let (mut ada, grace) = (Account::register(&deployment).await, Account::register(&deployment).await);
    let (url, room) = (deployment.ws_url(), new_room());
    let ticket = ada.ask(Method::POST, "/api/ws-ticket", Value::Null).await.expect("an answer").1;
    let ticket = ticket["ticket"].as_str().expect("a ticket");
    let mut socket = Client::connect(&format!("{url}?ticket={ticket}")).await;
    let mut other = Client::connect(&format!("{url}?token={}", grace.access)).await;
    let mut first_message = Client::connect_with(&url, &[("sec-websocket-protocol", "gatefold.v1")]).await;
    first_message.say(json!({"type": "auth", "access": ada.access})).await;
    let bearer = format!("Bearer {}", ada.access);
    let mut header = Client::connect_with(&url, &[("authorization", &bearer)]).await;
    let offered = format!("gatefold.v1, bearer.{}", ada.access);
    let mut subprotocol = Client::connect_with(&url, &[("sec-websocket-protocol", &offered)]).await;
    for socket in [&mut socket, &mut other, &mut first_message, &mut header, &mut subprotocol] {
        socket.is_greeted().await;
    }

    assert_eq!(socket.ask(json!({"type": "ping"})).await["type"], "pong");
    ada.refresh().await.expect("a refresh");
    let answer = socket.ask(json!({"type": "reauth", "access": ada.access})).await;
    assert_eq!(answer["type"], "reauth_success", "{answer}");
    assert_eq!(socket.ask(json!({"type": "join", "room": room})).await["payload"]["count"], 1);
    let joined = other.ask(json!({"type": "join", "room": room, "id": 1})).await;
    assert_eq!((&joined["payload"]["count"], &joined["id"]), (&json!(2), &json!(1)), "{joined}");
    assert_eq!(socket.hear_of("presence").await["payload"]["event"], "join");
    socket.say(json!({"type": "typing", "room": room, "typing": true})).await;
    assert_eq!(other.hear_of("typing").await["payload"]["user"]["username"], json!(ada.name));
    socket.say(json!({"type": "publish", "room": room, "data": {"text": "Hello"}})).await;
    assert_eq!(other.hear_of("message").await["payload"]["data"]["text"], "Hello");
    socket.hear_of("published").await;
    socket.say(json!({"type": "presence", "room": room})).await;
    assert_eq!(socket.hear_of("presence_state").await["payload"]["count"], 2);
    other.say(json!({"type": "leave", "room": room})).await;
    other.hear_of("left").await;
    assert_eq!(socket.hear_of("presence").await["payload"]["event"], "leave");
    assert_eq!(socket.ask(json!({"type": "nonsense"})).await["payload"]["code"], "unknown_type");
}

#[tokio::test]
async fn a_log_out_ends_the_sessions_sockets_and_tokens_on_every_replica() {
    let deployment = Deployment::find().await;
    let mut ada = Account::register(&deployment).await;
    let bystander = Account::register(&deployment).await;
    let mut replicas = BTreeSet::new();
    let mut sockets = Vec::new();
    for _ in 0..16 {
        let mut socket = Client::connect(&format!("{}?token={}", deployment.ws_url(), ada.access)).await;
        let greeting = socket.hear().await;
        replicas.insert(greeting["payload"]["replica"].as_str().expect("a replica").to_owned());
        sockets.push(socket);
    }
    assert!(replicas.len() >= 2, "all sockets are on one replica: {replicas:?}");
    let access = ada.access.clone();
    ada.log_out().await;
    let told = Instant::now();
    for socket in &mut sockets {
        assert_eq!(socket.closed().await, (4503, "logout".to_owned()));
    }
    assert!(told.elapsed() < AT_ONCE, "it took {:?}", told.elapsed());
    ada.access = access;
    // A replica of the API may hear of it a little later than those that hold the sockets did.
    let refused = async || {
        let (status, problem) = ada.ask(Method::GET, "/api/protected", Value::Null).await.expect("an answer");
        assert!(
            matches!((status, problem["code"].as_str()), (200, None) | (401, Some("session_revoked"))),
            "{problem}"
        );
        status == 401
    };
    within(AT_ONCE, "every replica refuses the token", async || {
        let mut refusals = 0;
        while refusals < 16 && refused().await {
            refusals += 1;
        }
        refusals == 16
    })
    .await;
    let (status, _) = bystander.ask(Method::GET, "/api/protected", Value::Null).await.expect("an answer");
    assert_eq!(status, 200, "nobody else is concerned");
}

/// How long a replica that is gone may still be taken for one that lives, and its users for present: lease and grace, and a
/// little. What is noticed of its end is noticed by then.
const NOTICED: Duration = Duration::from_secs(15 + 10 + 2);
const ROOMS: usize = 4;
const IN_EACH: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_update_of_both_kinds_fails_no_request_and_drops_no_presence() {
    let deployment = Deployment::find().await;
    let nginx = addresses([deployment.ws_url()]);
    let rooms: Vec<_> = (0..ROOMS).map(|_| new_room()).collect();
    let mut members = Vec::new();
    for number in 0..ROOMS * IN_EACH {
        let account = Account::register(&deployment).await;
        let member = Member::enter(&account.user(), account.access.clone(), &nginx);
        member.join(&rooms[number % ROOMS]);
        members.push(member);
    }
    let settled = async || members.iter().all(|member| member.view().is_settled());
    within(Duration::from_secs(30), "everybody is there", settled).await;
    // Whoever came later was not there when the others joined; from now on nobody comes or goes.
    let there = |number: usize| members[number % ROOMS..].iter().step_by(ROOMS).map(|there| there.user.id).collect();
    let complete = async || {
        members.iter().enumerate().all(|(number, member)| {
            let there: BTreeSet<_> = there(number);
            member.view().rooms[&rooms[number % ROOMS]].present == there
        })
    };
    within(Duration::from_secs(30), "everybody sees everybody", complete).await;

    let load = Load::start(&deployment).await;
    load.goes_on().await;
    let began = Instant::now();
    for kind in [Kind::Api, Kind::Ws, Kind::Api] {
        deployment.roll(kind).await;
        println!("every {} was replaced after {:?}", kind.as_str(), began.elapsed());
        load.goes_on().await;
    }
    within(Duration::from_mins(1), "everybody is there again", settled).await;
    tokio::time::sleep(NOTICED).await;
    load.goes_on().await;
    let served = load.stop().await;
    println!("{served} requests were served, none failed");
    assert!(served > 200, "only {served} requests");

    let mut connections = 0;
    for (number, member) in members.iter().enumerate() {
        let view = member.view();
        let room = &view.rooms[&rooms[number % ROOMS]];
        let gone: Vec<_> = room.gone().collect();
        assert!(gone.is_empty(), "{} heard {gone:?}", member.user.name);
        let there: BTreeSet<_> = there(number);
        assert_eq!(room.present, there);
        assert!(view.closes.iter().all(|(code, _)| *code == 1012), "{:?}", view.closes);
        connections += view.connections;
    }
    println!("{} members connected {connections} times", members.len());
    assert!(connections >= 2 * members.len(), "everybody was on a replica that was replaced");
}
