//! The names of everything in Redis.
//!
//! Redis Cluster runs a script only over keys of one slot, so all that belongs to one user's sessions carries the tag of
//! that user's *partition*. One script can then change a family, the user's list of families and the revocation log
//! together, on one Redis as on a cluster.
//!
//! | key | type | holds | expires | written by | read by |
//! |---|---|---|---|---|---|
//! | `family:{pNN}:<uuid>` | hash | one session: user, generation, digest of its secret, times, client, state | with the refresh token, never after `expires_at` | `issue`, `rotate`, `reopen`, `revoke`, `revoke_all`, `reassert` | the same |
//! | `families:{pNN}:<user>` | sorted set | the user's living families by the time at which they expire | with its last family | `issue`, `rotate`, `revoke`, `revoke_all`, `reassert` | `issue`, `revoke_all` |
//! | `revocations:{pNN}` | stream, and a sharded channel of the same name | families that were revoked: `family`, `user`, `why`, `at`, `until` | trimmed when no access token of theirs can be valid any more | `rotate`, `revoke`, `revoke_all`, `reassert` | every replica |
//! | `ratelimit:{<policy>:<key>}` | string | when a rate limit will be as if nothing had come, in µs since 1970; `<key>` is an address, a /64 or the SHA-256 of a username | when that is so | `gcra` | `gcra` |

use std::fmt::Display;

use uuid::Uuid;

/// How many partitions there are: as many primaries can share the work. Fixed for ever, since it is in the names of keys.
pub const PARTITIONS: i64 = 64;

/// The hash tag of a user's partition.
fn partition(user_id: i64) -> String {
    format!("{{p{:02}}}", user_id.rem_euclid(PARTITIONS))
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

/// The revocation log of the partition of a user.
pub fn revocations(user_id: i64) -> String {
    format!("revocations:{}", partition(user_id))
}

/// How far a rate limit is used up by an address or account.
pub fn rate_limit(policy: &str, key: impl Display) -> String {
    format!("ratelimit:{{{policy}:{key}}}")
}

/// The revocation logs of all partitions, in order.
pub fn all_revocations() -> Vec<String> {
    (0..PARTITIONS).map(revocations).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_of_a_user_is_in_one_slot() {
        assert_eq!(family(67, Uuid::nil()), "family:{p03}:00000000-0000-0000-0000-000000000000");
        assert_eq!(families(67), "families:{p03}:67");
        assert_eq!(revocations(67), "revocations:{p03}");
    }
}
