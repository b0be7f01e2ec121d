//! What one user may do, over all sockets and replicas, and what one room takes.

use http::Method;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::harness::{Gatefold, Login, User, eventually, many_sessions, new_room, refused, visitor::Visitor};

const PUBLISHES: usize = 40;
const IN_A_ROOM: usize = 60;
const SOCKETS: usize = 16;

/// Two replicas with limits that a test reaches.
async fn limited() -> &'static Gatefold {
    static SHARED: OnceCell<Gatefold> = OnceCell::const_new();
    let builder = || {
        let builder = many_sessions().api(1).ws(2).env("LIMIT_USER_PUBLISHES", format!("1/1h:{PUBLISHES}"));
        let builder = builder.env("LIMIT_ROOM_PUBLISHES", format!("1/1h:{IN_A_ROOM}"));
        builder.env("MAX_SOCKETS_PER_USER", SOCKETS.to_string()).env("PRESENCE_GRACE", "60s")
    };
    SHARED.get_or_init(|| Gatefold::start(builder())).await
}

async fn publish(visitor: &mut Visitor, room: &str) -> Value {
    visitor.patiently_served(json!({"type": "publish", "room": room, "data": 1})).await
}

fn is_published(answer: &Value) -> bool {
    if answer["type"] != "published" {
        let payload = &answer["payload"];
        assert_eq!(payload["code"], "rate_limited", "{answer}");
        assert!(payload["retryAfter"].as_u64().is_some_and(|seconds| seconds > 0), "{answer}");
    }
    answer["type"] == "published"
}

#[tokio::test]
async fn a_user_may_publish_so_much_over_all_sockets_and_replicas_and_over_rest() {
    let gatefold = limited().await;
    let name = gatefold.new_user().await;
    let login: Login = gatefold.log_in(&name).await;
    let user = User { id: login.user_id, name, family: login.family() };
    let rooms: Vec<_> = (0..4).map(|_| new_room()).collect();
    let mut published = 0;
    for (socket, replica) in ["ws-1", "ws-1", "ws-2"].into_iter().enumerate() {
        let mut visitor = gatefold.visit_with(&user, &login.access_token, replica).await;
        visitor.join(&rooms[socket]).await;
        // The second replica hears of what was published at the first one soon, and not at once.
        while is_published(&publish(&mut visitor, &rooms[socket]).await) {
            published += 1;
            assert!(published < PUBLISHES * 3 / 2, "{published} of {PUBLISHES}");
            if socket == 2 {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
    assert!(published >= PUBLISHES, "{published} of {PUBLISHES}");
    eventually("REST refuses them too", async || {
        let path = format!("rooms/{}/messages", rooms[3]);
        let (status, body) = gatefold.call("api-1", Method::POST, &path, &login, json!({"data": 1})).await;
        assert!(status == 202 || (status == 429 && body["code"] == "rate_limited"), "{status} {body}");
        status == 429
    })
    .await;
    // Nobody else is affected.
    let mut other = gatefold.visitor("ws-1").await;
    other.join(&rooms[0]).await;
    assert!(is_published(&publish(&mut other, &rooms[0]).await));
}

#[tokio::test]
async fn a_room_takes_so_much_from_all_of_its_members_and_other_rooms_are_served() {
    let gatefold = limited().await;
    let [room, other] = [new_room(), new_room()];
    let mut published = 0;
    let mut authors = Vec::new();
    for replica in ["ws-1", "ws-2", "ws-1"] {
        let mut author = gatefold.visitor(replica).await;
        author.join(&room).await;
        author.join(&other).await;
        authors.push(author);
    }
    for number in 0..IN_A_ROOM + 10 {
        let author = &mut authors[number % 3];
        published += usize::from(is_published(&publish(author, &room).await));
    }
    assert_eq!(published, IN_A_ROOM);
    for author in &mut authors {
        assert!(!is_published(&publish(author, &room).await));
        assert!(is_published(&publish(author, &other).await));
    }
}

#[tokio::test]
async fn a_user_may_have_so_many_sockets_over_all_replicas() {
    let gatefold = limited().await;
    let user = User::new();
    let url = |replica: &str| format!("{}?token={}", gatefold.socket_url(replica), gatefold.token_of_user(&user));
    let mut sockets = Vec::new();
    for _ in 0..SOCKETS {
        sockets.push(gatefold.visit(&user, "ws-1").await);
    }
    assert_eq!(refused(&url("ws-1"), &[]).await, (429, "rate_limited".to_owned()));
    // The other replica hears of them when the user has some there, too.
    let mut elsewhere = Vec::new();
    for _ in 0..3 {
        elsewhere.push(gatefold.visit(&user, "ws-2").await);
    }
    eventually("the other replica knows", async || is_refused(&url("ws-2")).await).await;
    drop(sockets);
    eventually("they are free again", async || !is_refused(&url("ws-2")).await).await;
    gatefold.visitor("ws-2").await;
}

async fn is_refused(url: &str) -> bool {
    match tokio_tungstenite::connect_async(url).await {
        Ok(_) => false,
        Err(tokio_tungstenite::tungstenite::Error::Http(response)) => response.status() == 429,
        Err(error) => panic!("{error}"),
    }
}
