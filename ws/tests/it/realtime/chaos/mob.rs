//! Users with one to three connections each, who do something at random.

use std::{collections::BTreeSet, fmt, time::Duration};

use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};

use crate::harness::{
    Gatefold, User,
    member::{Addresses, Member},
    new_room, within,
};

const ROOMS: usize = 12;
/// How much happens at once.
const ACTIONS: usize = 3;

pub struct Mob<'a> {
    gatefold: &'a Gatefold,
    places: Addresses,
    random: StdRng,
    pub rooms: Vec<String>,
    members: Vec<Member>,
    counts: [usize; 6],
}

impl<'a> Mob<'a> {
    pub fn new(gatefold: &'a Gatefold, places: Addresses, random: StdRng) -> Self {
        let rooms = (0..ROOMS).map(|_| new_room()).collect();
        Self { gatefold, places, random, rooms, members: Vec::new(), counts: [0; 6] }
    }

    /// So many users come, with all of their connections.
    pub async fn gather(&mut self, users: usize) {
        for _ in 0..users {
            let user = User::new();
            for _ in 0..self.random.random_range(1..=3) {
                self.comes(&user);
            }
            if self.members.len().is_multiple_of(40) {
                within(Duration::from_secs(30), "they have come", async || self.is_settled()).await;
            }
        }
        within(Duration::from_secs(30), "all have come", async || self.is_settled()).await;
    }

    fn comes(&mut self, user: &User) {
        let member = self.gatefold.member(user, &self.places);
        for _ in 0..self.random.random_range(1..=3) {
            member.join(self.rooms.choose(&mut self.random).expect("a room"));
        }
        self.members.push(member);
    }

    /// Something happens.
    pub fn riot(&mut self) {
        for _ in 0..ACTIONS {
            let number = self.random.random_range(0..self.members.len());
            let member = &self.members[number];
            let room = self.rooms.choose(&mut self.random).expect("a room");
            let action = self.random.random_range(0..20);
            let kind = match action {
                0..6 => {
                    member.join(room);
                    0
                }
                6..10 => {
                    let joined = member.view().wanted.iter().next().cloned();
                    if let Some(room) = joined {
                        member.leave(&room);
                    }
                    1
                }
                10..14 => {
                    member.cut(Duration::from_millis(self.random.random_range(0..3000)));
                    2
                }
                14..17 => {
                    member.typing(room, self.random.random());
                    3
                }
                17 | 18 => {
                    member.publish(room, number);
                    4
                }
                _ => {
                    // A tab is closed, and its user opens another one.
                    let member = self.members.swap_remove(number);
                    self.comes(&member.user);
                    5
                }
            };
            self.counts[kind] += 1;
        }
    }

    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.iter()
    }

    pub fn is_settled(&self) -> bool {
        self.members.iter().all(|member| member.view().is_settled())
    }

    /// The truth: who wants to be there, on whichever connection.
    pub fn users_in(&self, room: &str) -> BTreeSet<i64> {
        let wanting = self.members.iter().filter(|member| member.view().wanted.contains(room));
        wanting.map(|member| member.user.id).collect()
    }
}

impl fmt::Display for Mob<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [joined, left, cut, typed, published, closed] = self.counts;
        let connections: usize = self.members.iter().map(|member| member.view().connections).sum();
        write!(
            formatter,
            "{} members, connected {connections} times: {joined} joins, {left} leaves, {cut} cut, {typed} times typing, \
             {published} messages, {closed} tabs closed",
            self.members.len()
        )
    }
}
