//! How much memory Redis uses: one whose memory is full refuses writes, and with them logins.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use metrics::gauge;
use tokio::time::{Duration, MissedTickBehavior, interval};
use tracing::debug;

use super::{Redis, RedisError, address::Address, node::Lane};

const EVERY: Duration = Duration::from_secs(10);

/// What a server says of its memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Memory {
    used: u64,
    /// `maxmemory`; 0 is no limit.
    limit: u64,
}

impl Memory {
    /// Reads the reply to `INFO memory`.
    fn parse(info: &str) -> Option<Self> {
        let value =
            |name| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok());
        Some(Self { used: value("used_memory")?, limit: value("maxmemory")? })
    }
}

/// Measures the memory of each primary again and again.
pub async fn measure(redis: Redis) {
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known = BTreeSet::new();
    loop {
        tick.tick().await;
        let nodes = redis.nodes.now().nodes.clone();
        // A server that is no primary any more has no figures, nor has one that does not answer.
        let gone = known.iter().filter(|server: &&Address| nodes.iter().all(|node| node.address != **server));
        gone.for_each(|server| record(server, None));
        known = nodes.iter().map(|node| node.address.clone()).collect();
        let asked = nodes.iter().map(async |node| match redis.memory_of(&node.address).await {
            Ok(memory) => record(&node.address, memory),
            Err(error) => {
                debug!(server = %node.address, %error, "redis does not say how much memory it uses");
                record(&node.address, None);
            }
        });
        join_all(asked).await;
    }
}

fn record(server: &Address, memory: Option<Memory>) {
    #[expect(clippy::cast_precision_loss, reason = "bytes that a float can count exactly up to 8 PiB")]
    let (used, limit) = memory.map_or((f64::NAN, f64::NAN), |memory| (memory.used as f64, memory.limit as f64));
    gauge!("gatefold_redis_memory_bytes", "server" => server.to_string()).set(used);
    gauge!("gatefold_redis_memory_limit_bytes", "server" => server.to_string()).set(limit);
}

impl Redis {
    async fn memory_of(&self, server: &Address) -> Result<Option<Memory>, RedisError> {
        let map = self.nodes.now();
        let Some(slot) = map.node(server).and_then(|node| map.first_slot_of(node)) else { return Ok(None) };
        let (_, reply) = self.nodes.call(Lane::Sessions, slot, "INFO", &["memory".into()], self.deadline()).await?;
        Ok(Memory::parse(&reply.convert::<String>()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reply_is_understood() {
        let info = "# Memory\r\nused_memory:1034\r\nused_memory_human:1.01K\r\nmaxmemory:402653184\r\nmaxmemory_human:384.00M\r\n";
        assert_eq!(Memory::parse(info), Some(Memory { used: 1034, limit: 402_653_184 }));
        assert_eq!(Memory::parse("# Memory\r\nused_memory_human:1.01K\r\n"), None);
    }
}
