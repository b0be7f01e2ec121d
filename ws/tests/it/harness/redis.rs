//! What Redis says of rooms, asked directly.

use std::collections::BTreeSet;

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use super::Gatefold;

impl Gatefold {
    /// The reply of Redis to a command whose reply is a list of texts.
    pub async fn redis_list(&self, command: &[&str]) -> Vec<String> {
        let url = self.cluster.redis_url();
        let address = url.trim_start_matches("redis://").trim_end_matches('/');
        let mut connection = BufReader::new(TcpStream::connect(address).await.expect("Redis is there"));
        let words = command
            .iter()
            .fold(format!("*{}\r\n", command.len()), |words, word| format!("{words}${}\r\n{word}\r\n", word.len()));
        connection.get_mut().write_all(words.as_bytes()).await.expect("sent");
        let length = length_of(&mut connection, '*').await;
        let mut list = Vec::new();
        for _ in 0..length {
            let mut text = vec![0; length_of(&mut connection, '$').await + 2];
            connection.read_exact(&mut text).await.expect("a text");
            text.truncate(text.len() - 2);
            list.push(String::from_utf8(text).expect("UTF-8"));
        }
        list
    }

    /// Who is in a room, as Redis has it.
    pub async fn users_in_redis(&self, room: &str) -> BTreeSet<i64> {
        let users = self.redis_list(&["HKEYS", &format!("room:{{{room}}}:users")]).await;
        users.iter().map(|user| user.parse().expect("an id")).collect()
    }

    /// The number of the latest of all the events of a room.
    pub async fn events_in_redis(&self, room: &str) -> u64 {
        let number = self.redis_list(&["HMGET", &format!("room:{{{room}}}:clock"), "seq"]).await;
        number[0].parse().expect("a number")
    }

    /// The replicas that have users in a room, and those that have a lease.
    pub async fn replicas_in_redis(&self, room: &str) -> (BTreeSet<String>, BTreeSet<String>) {
        let prefix = format!("room:{{{room}}}:members:");
        let members = self.redis_list(&["KEYS", &format!("{prefix}*")]).await;
        let members = members.iter().map(|key| key[prefix.len()..].to_owned()).collect();
        (members, self.redis_list(&["ZRANGE", "replicas", "0", "-1"]).await.into_iter().collect())
    }
}

async fn length_of(connection: &mut BufReader<TcpStream>, kind: char) -> usize {
    let mut line = String::new();
    connection.read_line(&mut line).await.expect("a reply");
    let length = line.trim_end().strip_prefix(kind);
    length.and_then(|length| length.parse().ok()).unwrap_or_else(|| panic!("{line}"))
}
