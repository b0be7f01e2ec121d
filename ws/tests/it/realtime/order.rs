//! Everybody hears the same, in the same order, once.

use std::{collections::BTreeSet, time::Duration};

use serde_json::json;

use super::shared;
use crate::harness::{
    Gatefold, User,
    member::{Member, addresses},
    new_room, within,
};

const PER_REPLICA: usize = 4;
const MESSAGES: usize = 50;

/// Members on each of the three replicas, all in a room.
async fn members(gatefold: &Gatefold, room: &str) -> Vec<Member> {
    let mut members = Vec::new();
    for url in gatefold.socket_urls() {
        for _ in 0..PER_REPLICA {
            let member = gatefold.member(&User::new(), &addresses([url.clone()]));
            member.join(room);
            members.push(member);
        }
    }
    for member in &members {
        member.joined(room).await;
    }
    members
}

/// Everybody says everything they have to say, as fast as they may and all at once.
async fn everybody_talks(members: &[Member], room: &str, mut disturb: impl FnMut(usize)) {
    for number in 0..MESSAGES {
        for (author, member) in members.iter().enumerate() {
            member.publish(room, json!([author, number]));
        }
        disturb(number);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn all_published(members: &[Member]) {
    let all = members.len() * MESSAGES;
    within(Duration::from_secs(30), "all is published", async || {
        members.iter().map(|member| member.view().published).sum::<usize>() == all
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_nothing_fails_everybody_hears_everything_once_and_in_the_same_order() {
    let gatefold = shared().await;
    let room = new_room();
    let members = members(gatefold, &room).await;
    everybody_talks(&members, &room, |_| {}).await;
    all_published(&members).await;
    let all = members.len() * MESSAGES;
    within(Duration::from_secs(30), "all is heard", async || {
        members.iter().all(|member| member.view().rooms[&room].messages.len() >= all)
    })
    .await;
    let first = members[0].view().rooms[&room].clone();
    let said: BTreeSet<_> = first.messages.iter().map(|message| message.data.to_string()).collect();
    assert_eq!((first.messages.len(), said.len()), (all, all), "each is heard once");
    for member in &members {
        let view = member.view();
        let heard = &view.rooms[&room];
        assert!(heard.messages == first.messages, "another order");
        assert_eq!((heard.duplicates, &view.errors[..], view.connections), (0, &[][..], 1));
        assert_eq!(heard.contradictions, [""; 0]);
    }
    // What one author says stays in the order in which it was said.
    for author in 0..members.len() {
        let numbers = first.messages.iter().filter(|message| message.data[0] == json!(author));
        let numbers: Vec<_> = numbers.map(|message| message.data[1].as_u64().expect("a number")).collect();
        assert!(numbers.is_sorted(), "{author} said {numbers:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_cut_gets_what_they_missed_once_or_is_told_that_it_is_not_all() {
    let gatefold = shared().await;
    let room = new_room();
    let members = members(gatefold, &room).await;
    // The first of each replica only watches: their views are the truth.
    let watchers: Vec<_> = members.iter().step_by(PER_REPLICA).collect();
    // One is away before the first message.
    members[1].cut(Duration::from_millis(100));
    everybody_talks(&members, &room, |number| {
        let unlucky = &members[number % members.len()];
        if !watchers.iter().any(|watcher| watcher.user.id == unlucky.user.id) {
            unlucky.cut(Duration::from_millis(100));
        }
    })
    .await;
    within(Duration::from_secs(30), "everybody is back", async || {
        members.iter().all(|member| member.view().is_settled())
    })
    .await;
    watchers[0].publish(&room, "the end");
    let has_heard_the_end =
        |member: &Member| member.view().rooms[&room].messages.last().is_some_and(|message| message.data == "the end");
    within(Duration::from_secs(30), "everybody hears the end", async || members.iter().all(has_heard_the_end)).await;
    let truth = watchers[0].view().rooms[&room].messages.clone();
    let mut cut = 0;
    for member in &members {
        let view = member.view();
        let heard = &view.rooms[&room];
        assert_eq!(heard.duplicates, 0);
        if heard.gaps == 0 {
            assert!(heard.messages == truth, "something is missing, and nobody said so");
        } else {
            let mut truth = truth.iter();
            assert!(heard.messages.iter().all(|message| truth.any(|known| known == message)), "another order");
        }
        cut += view.connections - 1;
    }
    assert!(cut > 8, "only {cut} were cut");
}
