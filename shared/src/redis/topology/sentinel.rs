//! What a Sentinel says.

use std::collections::HashMap;

use fred::types::Value;
use tokio::time::Instant;

use super::{Address, Claim, Testimony};
use crate::redis::{RedisError, connection::Connection};

/// Asks a Sentinel who the primary is, since which epoch, and who else watches over it.
pub(super) async fn ask(sentinel: &Connection, service: &str, until: Instant) -> Result<Testimony, RedisError> {
    let asked_at = Instant::now();
    let ask = |what: &'static str| sentinel.exchange("SENTINEL", vec![what.into(), service.into()], until);
    // While it fails over it names the new primary in the second, as soon as that has been promoted, and in the first only
    // once all replicas follow it; the epoch is the new one from then on.
    let asked = tokio::join!(ask("MASTER"), ask("GET-MASTER-ADDR-BY-NAME"), ask("SENTINELS"));
    let (primary, place): (HashMap<String, String>, (String, u16)) = (asked.0?.convert()?, asked.1?.convert()?);
    let epoch = primary.get("config-epoch").and_then(|epoch| epoch.parse().ok());
    let claim = Claim::of_everything(Address::new(place.0, place.1), epoch.unwrap_or_default());
    Ok(Testimony { asked_at, claims: vec![claim], others: others(asked.2?)? })
}

fn others(reply: Value) -> Result<Vec<Address>, RedisError> {
    let sentinels: Vec<HashMap<String, String>> = reply.convert()?;
    let address = |sentinel: &HashMap<String, String>| {
        let (host, port) = (sentinel.get("ip")?, sentinel.get("port")?.parse().ok()?);
        // One that was only heard of has none yet.
        (!host.is_empty() && port != 0).then(|| Address::new(host, port))
    };
    Ok(sentinels.iter().filter_map(address).collect())
}
