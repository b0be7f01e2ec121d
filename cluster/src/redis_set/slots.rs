//! A Redis Cluster: who owns which slot, and moving one.

use anyhow::{Context, Result, ensure};

use super::{RedisSet, ask_all};
use crate::redis_client::{ask, await_reply, order};
use crate::state::Node;

/// What a server of a Redis Cluster says of itself.
pub(super) struct Myself {
    pub(super) id: String,
    is_primary: bool,
    /// The higher, the later elected.
    epoch: u64,
    ranges: Vec<(u16, u16)>,
}

impl Myself {
    /// From the reply to `CLUSTER NODES`.
    pub(super) fn of(reply: &str) -> Option<Self> {
        let line = reply.lines().find(|line| line.contains("myself"))?;
        let fields: Vec<&str> = line.split_whitespace().collect();
        let range = |text: &&str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            Some((first.parse().ok()?, last.parse().ok()?)) // not those on the move, in brackets
        };
        Some(Self {
            id: (*fields.first()?).to_owned(),
            is_primary: fields.get(2)?.contains("master"),
            epoch: fields.get(6)?.parse().ok()?,
            ranges: fields.get(8..).unwrap_or_default().iter().filter_map(range).collect(),
        })
    }

    fn owns(&self, slot: u16) -> bool {
        self.is_primary && self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&slot))
    }
}

impl RedisSet {
    /// The server that owns a key's slot: of several that say so, as one that was thawed may, the one elected last.
    pub(super) async fn owner_of(&self, key: &str) -> Result<Node> {
        let slot = self.slot_of(key).await?;
        let replies = ask_all(self.servers()?, "CLUSTER NODES").await;
        let owners = replies.into_iter().filter_map(|(server, reply)| Some((Myself::of(&reply)?, server)));
        let owner = owners.filter(|(myself, _)| myself.owns(slot)).max_by_key(|(myself, _)| myself.epoch);
        owner.map(|(_, server)| server).with_context(|| format!("no primary owns slot {slot}"))
    }

    /// The slot of a key.
    pub(super) async fn slot_of(&self, key: &str) -> Result<u16> {
        for server in self.servers()? {
            if let Ok(reply) = ask(server.port, &format!("CLUSTER KEYSLOT {key}")).await {
                return Ok(reply.trim_start_matches(':').trim().parse()?);
            }
        }
        anyhow::bail!("no server replies")
    }

    /// Moves the slot of a key to another primary, with all that is in it, as an operator would; in a Redis Cluster.
    pub async fn move_slot_of(&self, key: &str) -> Result<()> {
        let from = self.owner_of(key).await?;
        let replies = ask_all(self.servers()?, "CLUSTER NODES").await;
        let is_primary = |reply: &str| Myself::of(reply).is_some_and(|myself| myself.is_primary);
        let other = replies.into_iter().find(|(server, reply)| server.name != from.name && is_primary(reply));
        let (to, _) = other.context("there is no other primary")?;
        self.move_slot(key, &from, &to).await
    }

    /// As [`Self::move_slot_of`], to the primary of this name: also back to where it was.
    pub async fn move_slot_to(&self, key: &str, name: &str) -> Result<()> {
        let from = self.owner_of(key).await?;
        let to = self.state()?.node(name)?.clone();
        self.move_slot(key, &from, &to).await
    }

    async fn move_slot(&self, key: &str, from: &Node, to: &Node) -> Result<()> {
        let slot = self.slot_of(key).await?;
        let ids = [id_of(from.port).await?, id_of(to.port).await?];
        await_reply(to.port, &format!("CLUSTER SETSLOT {slot} IMPORTING {}", ids[0]), "OK").await?;
        await_reply(from.port, &format!("CLUSTER SETSLOT {slot} MIGRATING {}", ids[1]), "OK").await?;
        loop {
            let keys = order(from.port, &format!("CLUSTER GETKEYSINSLOT {slot} 100")).await?;
            let keys: Vec<&str> = keys.lines().skip(1).filter(|line| !line.starts_with('$')).collect();
            if keys.is_empty() {
                break;
            }
            let moved =
                order(from.port, &format!("MIGRATE 127.0.0.1 {} \"\" 0 5000 KEYS {}", to.port, keys.join(" "))).await?;
            ensure!(moved.starts_with('+'), "the keys do not move: {moved}");
        }
        for server in [to, from] {
            await_reply(server.port, &format!("CLUSTER SETSLOT {slot} NODE {}", ids[1]), "OK").await?;
        }
        Ok(())
    }

    /// Whether a server owns the slot of a key, as far as itself knows.
    pub(super) fn claims(reply: &str, slot: u16) -> bool {
        Myself::of(reply).is_some_and(|myself| myself.owns(slot))
    }
}

async fn id_of(port: u16) -> Result<String> {
    let reply = order(port, "CLUSTER NODES").await?;
    Ok(Myself::of(&reply).context("a server knows itself")?.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_of_the_server_itself_are_read_and_those_on_the_move_are_not() {
        let reply = "$500\r\nabc 127.0.0.1:30001@31001 master - 0 0 1 connected 0-5460\n\
                     def 127.0.0.1:30002@31002 myself,master - 0 0 7 connected 5461-10922 16000 [93-<-abc]\n\r\n";
        let myself = Myself::of(reply).unwrap();
        assert!(myself.id == "def" && myself.epoch == 7 && myself.owns(5461) && myself.owns(16_000));
        assert!(!myself.owns(93) && !myself.owns(0));
        let replica = "def 127.0.0.1:30002@31002 myself,slave abc 0 0 7 connected\n";
        assert!(!Myself::of(replica).unwrap().owns(1));
    }
}
