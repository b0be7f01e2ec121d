//! Who is there: users, however many tabs and devices they have, and only after they are really gone, not.

use std::time::{Duration, Instant};

use futures_util::SinkExt;
use gatefold_cluster::Cluster;
use serde_json::json;
use tokio::sync::OnceCell;
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use super::{GRACE, patient, shared};
use crate::harness::{Gatefold, User, new_room, unhurried, visitor::Visitor};

/// How long a lost connection counts where somebody has to come back in time.
const LONG_GRACE: Duration = Duration::from_secs(8);

/// Replicas on which coming back within the grace is possible on a machine that does nothing for some seconds.
async fn long_grace() -> &'static Gatefold {
    static SHARED: OnceCell<Gatefold> = OnceCell::const_new();
    SHARED.get_or_init(|| Gatefold::start(unhurried(Cluster::builder()).ws(3).env("PRESENCE_GRACE", "8s"))).await
}

/// Somebody who watches a new room, and has heard everything until now.
async fn observer(gatefold: &Gatefold) -> (Visitor, String) {
    let room = new_room();
    let mut observer = gatefold.visitor("ws-3").await;
    observer.join(&room).await;
    (observer, room)
}

/// A lost connection is noticed after the grace, and not before.
async fn hears_late_leave(observer: &mut Visitor, room: &str, user: &User, lost: Instant, grace: Duration) {
    observer.hears_presence(room, "leave", user).await;
    let after = lost.elapsed();
    assert!(after > grace.mul_f32(0.9), "left after {after:?}");
}

#[tokio::test]
async fn several_tabs_and_devices_are_one_user() {
    let gatefold = shared().await;
    let (mut observer, room) = observer(gatefold).await;
    let user = User::new();
    let mut tabs = Vec::new();
    for replica in ["ws-1", "ws-1", "ws-2", "ws-3"] {
        let mut tab = gatefold.visit(&user, replica).await;
        assert_eq!(tab.join(&room).await["count"], 2);
        tabs.push(tab);
    }
    observer.hears_presence(&room, "join", &user).await;
    while let Some(mut tab) = tabs.pop() {
        let last = tabs.is_empty();
        tab.leave(&room).await;
        if last {
            observer.hears_presence(&room, "leave", &user).await;
        }
    }
    let mut other = gatefold.visit(&observer.user, "ws-1").await;
    assert_eq!(other.join(&room).await["count"], 1);
    observer.has_heard_everything(&room, &mut other).await;
}

#[tokio::test]
async fn nobody_hears_of_their_own_coming_and_going() {
    let gatefold = shared().await;
    let room = new_room();
    let user = User::new();
    let mut first = gatefold.visit(&user, "ws-1").await;
    first.join(&room).await;
    let mut second = gatefold.visit(&user, "ws-2").await;
    second.join(&room).await;
    second.leave(&room).await;
    second.join(&room).await;
    first.has_heard_everything(&room, &mut second).await;
}

#[tokio::test]
async fn whoever_leaves_is_gone_at_once() {
    let gatefold = patient().await;
    let (mut observer, room) = observer(gatefold).await;
    let mut visitor = gatefold.visitor("ws-1").await;
    visitor.join(&room).await;
    observer.hears_presence(&room, "join", &visitor.user).await;
    visitor.leave(&room).await;
    // Nobody waits for as long as a grace is here.
    observer.hears_presence(&room, "leave", &visitor.user).await;
}

#[tokio::test]
async fn whoever_is_lost_is_gone_after_the_grace_however_the_connection_ended() {
    let gatefold = long_grace().await;
    let mut ends = Vec::new();
    for way in ["reset", "hang up", "close frame", "going away"] {
        let (mut observer, room) = observer(gatefold).await;
        let mut visitor = gatefold.visitor("ws-1").await;
        visitor.join(&room).await;
        observer.hears_presence(&room, "join", &visitor.user).await;
        ends.push(async move {
            let user = visitor.user.clone();
            let lost = Instant::now();
            match way {
                "reset" => visitor.cut(),
                "hang up" => drop(visitor),
                way => {
                    let code = if way == "going away" { CloseCode::Away } else { CloseCode::Normal };
                    let goodbye = CloseFrame { code, reason: "".into() };
                    visitor.client.stream.send(Message::Close(Some(goodbye))).await.expect("sent");
                }
            }
            // Until then they count as there.
            assert_eq!(observer.presence(&room).await, (2, vec![observer.user.id, user.id]), "{way}");
            hears_late_leave(&mut observer, &room, &user, lost, LONG_GRACE).await;
            assert_eq!(observer.presence(&room).await, (1, vec![observer.user.id]), "{way}");
        });
    }
    futures_util::future::join_all(ends).await;
}

#[tokio::test]
async fn a_page_that_is_reloaded_is_not_noticed_wherever_it_comes_back() {
    let gatefold = long_grace().await;
    let (mut observer, room) = observer(gatefold).await;
    let user = User::new();
    let mut page = gatefold.visit(&user, "ws-1").await;
    page.join(&room).await;
    observer.hears_presence(&room, "join", &user).await;
    for replica in ["ws-1", "ws-2", "ws-3", "ws-2", "ws-2"] {
        page.cut();
        page = gatefold.visit(&user, replica).await;
        assert_eq!(page.join(&room).await["count"], 2);
    }
    // By then each of the connections that were cut would have been missed.
    observer.hears_nothing_for(LONG_GRACE + Duration::from_secs(1)).await;
    page.leave(&room).await;
    observer.hears_presence(&room, "leave", &user).await;
}

#[tokio::test]
async fn a_reload_and_then_leaving_is_one_leave() {
    let gatefold = long_grace().await;
    let (mut observer, room) = observer(gatefold).await;
    let user = User::new();
    for replica in ["ws-1", "ws-2"] {
        let mut page = gatefold.visit(&user, "ws-1").await;
        page.join(&room).await;
        observer.hears_presence(&room, "join", &user).await;
        let lost = Instant::now();
        page.cut();
        let mut page = gatefold.visit(&user, replica).await;
        page.join(&room).await;
        page.leave(&room).await;
        observer.hears_presence(&room, "leave", &user).await;
        // At once, unless another replica has lost a connection for which it still waits.
        assert!(replica == "ws-2" || lost.elapsed() < LONG_GRACE, "it waited for the connection that was lost");
        let mut other = gatefold.visit(&observer.user, "ws-1").await;
        other.join(&room).await;
        observer.has_heard_everything(&room, &mut other).await;
        other.leave(&room).await;
    }
    observer.hears_nothing_for(LONG_GRACE + Duration::from_secs(1)).await;
}

#[tokio::test]
async fn one_device_lost_and_one_left_is_one_leave() {
    let gatefold = shared().await;
    let (mut observer, room) = observer(gatefold).await;
    let user = User::new();
    let mut phone = gatefold.visit(&user, "ws-1").await;
    let mut laptop = gatefold.visit(&user, "ws-2").await;
    phone.join(&room).await;
    laptop.join(&room).await;
    observer.hears_presence(&room, "join", &user).await;
    let lost = Instant::now();
    phone.cut();
    laptop.leave(&room).await;
    hears_late_leave(&mut observer, &room, &user, lost, GRACE).await;
    observer.hears_nothing_for(Duration::from_millis(500)).await;
}

#[tokio::test]
async fn whoever_is_lost_is_gone_from_every_room() {
    let gatefold = shared().await;
    let mut visitor = gatefold.visitor("ws-1").await;
    let mut observers = Vec::new();
    for _ in 0..20 {
        let (mut observer, room) = observer(gatefold).await;
        visitor.join(&room).await;
        observer.hears_presence(&room, "join", &visitor.user).await;
        observers.push((observer, room));
    }
    let user = visitor.user.clone();
    let lost = Instant::now();
    visitor.cut();
    for (observer, room) in &mut observers {
        hears_late_leave(observer, room, &user, lost, GRACE).await;
    }
}

#[tokio::test]
async fn coming_and_going_without_rest_ends_as_it_is() {
    let gatefold = shared().await;
    let (mut observer, room) = observer(gatefold).await;
    let user = User::new();
    let mut devices = [gatefold.visit(&user, "ws-1").await, gatefold.visit(&user, "ws-2").await];
    for round in 0..40 {
        let device = &mut devices[round % 2];
        // Both at once, without waiting for answers.
        device.say(json!({"type": "join", "room": room})).await;
        device.say(json!({"type": "leave", "room": room})).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for device in &mut devices {
        device.join(&room).await;
        device.leave(&room).await;
    }
    devices[0].join(&room).await;
    let mut there = false;
    let marker = "the end";
    devices[0].publish(&room, marker).await;
    loop {
        let heard = observer.hear().await;
        if heard["type"] == "message" {
            break;
        }
        // Each change is heard, in its order: nobody comes twice or goes twice.
        let came = heard["payload"]["event"] == "join";
        assert_ne!(there, came, "{heard}");
        there = came;
    }
    assert!(there);
    assert_eq!(observer.presence(&room).await, (2, vec![observer.user.id, user.id]));
}
