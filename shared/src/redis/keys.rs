//! The names of everything in Redis.
//!
//! Redis Cluster runs a script only over keys of one slot, so all that belongs to one user's sessions carries the tag of
//! that user's *partition*. One script can then change a family, the user's list of families and the revocation log
//! together, on one Redis as on a cluster.
//!
//! | key | type | holds | expires | written by | read by |
//! |---|---|---|---|---|---|
//! | `family:{pNN}:<uuid>` | hash | one session: user, generation, digest of its secret, times, client, state | with the refresh token, never after `expires_at` | `issue`, `rotate`, `reopen`, `revoke`, `revoke_all`, `reassert` | the same, `list` |
//! | `families:{pNN}:<user>` | sorted set | the user's living families by the time at which they expire | with its last family | `issue`, `rotate`, `revoke`, `revoke_all`, `reassert` | `issue`, `revoke_all`, `list` |
//! | `grants:{pNN}:<user>` | hash | the private rooms that a user may enter: `version`, `rooms` (a JSON array) | never; a day after it became empty | `write_grants`, `issue` | `issue`, `rotate`, whoever lets a user into a private room |
//! | `identity:{pNN}:<user>` | string | which owner of the user's number the sessions are of | with the sessions | `issue`, `claim`, `confirm` | the same, `rotate` |
//! | `mark:{pNN}` | hash | whether what Redis has of a partition is as new as it should be: `n`, `at`, `before`, `repair_from`, `blocks`, `accounts`, `epoch`, `users` | never | `renew_mark`, `end_again`, `issue` | the same, `rotate` |
//! | `revocations:{pNN}` | stream, and a sharded channel of the same name | families that were revoked: `family`, `user`, `why`, `at`, `until` | trimmed when no access token of theirs can be valid any more | `rotate`, `revoke`, `revoke_all`, `reassert` | every replica |
//! | `ratelimit:{<policy>:<key>}` | string | when a rate limit will be as if nothing had come, in µs since 1970; `<key>` is an address, a /64, the SHA-256 of a username, or a user id for what users do in rooms | when that is so | `gcra` | `gcra` |
//! | `revocations:{pNN}:probe:<uuid>` | sharded channel | a replica's messages to itself | | `follow` | the same replica |
//! | `ready:{<number>}` | none | never there; it is deleted to know whether a primary takes writes | | `/ready` | |
//! | `ticket:{<SHA-256>}` | string | for whom a socket may be opened once: user, username, family, access expiry, rooms, as JSON; under the digest of the ticket, so that a dump of Redis opens nothing | after 30 s, never after the access token | `issue_ticket`, `redeem_ticket` | `redeem_ticket` |
//! | `room:{<room>}` | sharded channel | what happens in a room, numbered | | `publish`, `expel`, `update_presence`, `evict`, `typing` | ws replicas with members there |
//! | `room:{<room>}:clock` | hash | `seq`: number of the last event; `last`: id of the last message; `gone`: id up to which messages may be missing from the history; `pace`: when the room's publish limit is as if nothing had been published, in µs since 1970 | an hour after the last event | the same | the same, `history` |
//! | `room:{<room>}:users` | hash | user → on how many replicas, and username | with its last user | `update_presence`, `evict` | the same, `present` |
//! | `room:{<room>}:members:<replica>` | set | the users who are there through one ws replica | with its last user | `update_presence`, `evict` | the same |
//! | `room:{<room>}:replicas` | set | the ws replicas that have a set of members there | with the last one | `update_presence`, `evict` | `update_presence` |
//! | `room:{<room>}:typing` | sorted set | user → until when they type, in ms since 1970 | with its last entry | `typing`, `publish`, `update_presence`, `evict` | `update_presence` |
//! | `room:{<room>}:history` | stream | the last messages: user, data | 5 minutes after the last one | `publish` | `history` |
//! | `sockets:{pNN}:<user>` | hash | ws replica → how many sockets a user has there, and until when that counts, in ms since 1970 | when the last of it does not count any more | `count_sockets` | the same |
//! | `replicas` | sorted set | ws replica (a new id at every start) → end of its lease, in ms since 1970 | | `renew`, `claim` | the same |
//! | `{replicas}:dead` | sorted set | replicas that are being evicted → until when whoever does it may take | | `claim` | `claim` |
//! | `{replicas}:probe:<replica>` | sharded channel | a ws replica's messages to itself | | `renew` | the same replica |
//! | `clocks:postgres` | string | by how many ms Postgres's clock is ahead of Redis's, at least | after a minute | api replicas | ws replicas |
//! | `replica:<replica>:rooms` | set | the rooms where a ws replica has users | 30 s after it was evicted | its replica | who evicts it |

use std::fmt::Display;

use uuid::Uuid;

/// How many partitions there are: as many primaries can share the work. Fixed for ever, since it is in the names of keys.
pub const PARTITIONS: i64 = 64;

/// The hash tag of a user's partition.
fn partition(user_id: i64) -> String {
    format!("{{p{:02}}}", partition_of(user_id))
}

/// The number of a user's partition.
pub fn partition_of(user_id: i64) -> usize {
    usize::try_from(user_id.rem_euclid(PARTITIONS)).unwrap_or_default()
}

/// The hash of one family.
pub fn family(user_id: i64, family: Uuid) -> String {
    format!("family:{}:{family}", partition(user_id))
}

/// What the keys of all of a user's families begin with.
pub fn family_prefix(user_id: i64) -> String {
    format!("family:{}:", partition(user_id))
}

/// The sorted set of a user's families.
pub fn families(user_id: i64) -> String {
    format!("families:{}:{user_id}", partition(user_id))
}

/// The copy of a user's grants.
pub fn grants(user_id: i64) -> String {
    format!("grants:{}:{user_id}", partition(user_id))
}

/// What the keys of the sorted sets of families of a user's partition begin with.
pub fn families_prefix(user_id: i64) -> String {
    format!("families:{}:", partition(user_id))
}

/// Which owner of a user's number the sessions are of.
pub fn identity(user_id: i64) -> String {
    format!("identity:{}:{user_id}", partition(user_id))
}

/// The mark of the partition of a user.
pub fn mark(user_id: i64) -> String {
    format!("mark:{}", partition(user_id))
}

/// The revocation log of the partition of a user.
pub fn revocations(user_id: i64) -> String {
    format!("revocations:{}", partition(user_id))
}

/// The revocation log of a partition.
pub fn revocations_of(partition: usize) -> String {
    format!("revocations:{{p{partition:02}}}")
}

/// The channel on which a replica hears itself beside the log of a partition.
pub fn revocation_probe(partition: usize, replica: Uuid) -> String {
    format!("{}:probe:{replica}", revocations_of(partition))
}

/// How far a rate limit is used up by an address or account.
pub fn rate_limit(policy: &str, key: impl Display) -> String {
    format!("ratelimit:{{{policy}:{key}}}")
}

/// The partition of a [`revocation_probe`], if it is one.
pub fn partition_of_revocation_probe(channel: &str) -> Option<usize> {
    channel.strip_prefix("revocations:{p")?.split_once("}:probe:")?.0.parse().ok()
}

/// A socket ticket, by the digest of its id.
pub fn ticket(digest: &str) -> String {
    format!("ticket:{{{digest}}}")
}

/// The channel of a room, which is also what the names of its keys begin with.
pub fn room(room: &str) -> String {
    format!("room:{{{room}}}")
}

/// The room of a channel, if it is one of a room.
pub fn room_of_channel(channel: &str) -> Option<&str> {
    channel.strip_prefix("room:{")?.strip_suffix('}')
}

/// What every script over a room is given first: channel, clock, users, typing, history.
pub fn of_room(name: &str) -> Vec<String> {
    let room = room(name);
    ["clock", "users", "typing", "history"].into_iter().fold(vec![room.clone()], |mut keys, part| {
        keys.push(format!("{room}:{part}"));
        keys
    })
}

/// The users who are in a room through one ws replica.
pub fn room_members(name: &str, replica: Uuid) -> String {
    format!("{}:members:{replica}", room(name))
}

/// The ws replicas through which users are in a room.
pub fn room_replicas(name: &str) -> String {
    format!("{}:replicas", room(name))
}

/// The sockets of a user, by ws replica.
pub fn sockets(user_id: i64) -> String {
    format!("sockets:{}:{user_id}", partition(user_id))
}

/// The leases of the ws replicas.
pub const REPLICAS: &str = "replicas";
/// The ws replicas whose members are being removed.
pub const DEAD_REPLICAS: &str = "{replicas}:dead";

/// How the clocks of the stores differ.
pub const CLOCKS: &str = "clocks:postgres";

/// The channel on which a ws replica hears itself.
pub fn replica_probe(replica: Uuid) -> String {
    format!("{{replicas}}:probe:{replica}")
}

/// The rooms where a ws replica has users, and an empty name once it drains.
pub fn replica_rooms(replica: Uuid) -> String {
    format!("replica:{replica}:rooms")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_of_a_user_is_in_one_slot() {
        assert_eq!(family(67, Uuid::nil()), "family:{p03}:00000000-0000-0000-0000-000000000000");
        assert_eq!(families(67), "families:{p03}:67");
        assert_eq!(grants(67), "grants:{p03}:67");
        assert_eq!(revocations(67), "revocations:{p03}");
        assert_eq!((identity(67), mark(67)), ("identity:{p03}:67".to_owned(), "mark:{p03}".to_owned()));
        assert_eq!(families_prefix(67) + "67", families(67));
    }

    #[test]
    fn everything_of_a_room_is_in_one_slot_and_a_channel_tells_its_room() {
        assert_eq!(
            of_room("a:b").join(" "),
            "room:{a:b} room:{a:b}:clock room:{a:b}:users room:{a:b}:typing room:{a:b}:history"
        );
        assert_eq!(room_members("a", Uuid::nil()), "room:{a}:members:00000000-0000-0000-0000-000000000000");
        assert_eq!(room_of_channel(&room("a:b")), Some("a:b"));
        assert_eq!(room_of_channel(&replica_probe(Uuid::nil())), None);
    }

    #[test]
    fn a_probe_tells_its_partition_and_the_log_is_none() {
        assert_eq!(revocations_of(9), revocations(9));
        assert_eq!(revocation_probe(9, Uuid::nil()), "revocations:{p09}:probe:00000000-0000-0000-0000-000000000000");
        for partition in 0..64 {
            assert_eq!(partition_of_revocation_probe(&revocation_probe(partition, Uuid::nil())), Some(partition));
        }
        assert_eq!(partition_of_revocation_probe(&revocations(9)), None);
    }
}
