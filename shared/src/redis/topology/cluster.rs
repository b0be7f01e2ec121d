//! What a node of a Redis Cluster says.

use fred::types::Value;
use tokio::time::Instant;

use super::{Address, Claim, Testimony};
use crate::redis::{RedisError, connection::Connection};

/// Asks a node who has which slots, since which epoch. `by_name`: whether nodes are reached by their names, if they say any.
pub(super) async fn ask(node: &Connection, by_name: bool, until: Instant) -> Result<Testimony, RedisError> {
    let asked_at = Instant::now();
    let reply: Value = node.exchange("CLUSTER", vec!["NODES".into()], until).await?;
    let text: String = reply.convert()?;
    let nodes: Vec<_> = text.lines().filter_map(|line| read(line, &node.address, by_name)).collect();
    let others = nodes.iter().map(|(claim, _)| claim.address.clone()).collect();
    let claims = nodes.into_iter().filter(|(claim, is_primary)| *is_primary && !claim.slots.is_empty());
    Ok(Testimony { asked_at, claims: claims.map(|(claim, _)| claim).collect(), others })
}

/// Reads `id ip:port@bus,name flags primary ping pong epoch link slots…`, and tells whether the node is a primary.
fn read(line: &str, says_it: &Address, by_name: bool) -> Option<(Claim, bool)> {
    let mut words = line.split(' ');
    let (place, flags) = (words.nth(1)?, words.next()?);
    let flags: Vec<_> = flags.split(',').collect();
    if flags.contains(&"handshake") || flags.contains(&"noaddr") {
        return None;
    }
    let (place, names) = place.split_once('@')?;
    let mut address = Address::parse(place, says_it)?;
    let name = names.split(',').nth(1).filter(|name| !name.is_empty() && !name.contains('='));
    if let Some(name) = name.filter(|_| by_name) {
        name.clone_into(&mut address.host);
    }
    let epoch = words.nth(3)?.parse().ok()?;
    let slots = words.skip(1).filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        // Others stand in brackets: those that are on their way.
        Some((first.parse().ok()?, last.parse().ok()?))
    });
    Some((Claim { address, epoch, slots: slots.collect() }, flags.contains(&"master")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(line: &str, by_name: bool) -> Option<(Claim, bool)> {
        read(line, &Address::new("asked", 1), by_name)
    }

    #[test]
    fn lines_of_nodes_are_read_with_their_slots_but_not_those_on_their_way() {
        let line =
            "07c3 127.0.0.1:30004@31004,host-4 myself,master - 0 1426238317239 4 connected 0-5460 7000 [93->-292f]";
        let (read, is_primary) = claim(line, false).expect("a node");
        assert!(is_primary);
        assert_eq!((read.address, read.epoch), (Address::new("127.0.0.1", 30004), 4));
        assert_eq!(read.slots, [(0, 5460), (7000, 7000)]);
        assert_eq!(claim(line, true).expect("a node").0.address.host, "host-4");
    }

    #[test]
    fn a_node_that_does_not_know_its_own_address_has_that_under_which_it_was_asked() {
        let (read, is_primary) = claim("07c3 :30004@31004 myself,slave e7d1 0 0 4 connected", true).expect("a node");
        assert!(!is_primary && read.address == Address::new("asked", 30004) && read.slots.is_empty());
    }

    #[test]
    fn nodes_that_cannot_be_reached_are_none() {
        for line in ["", "07c3 :0@0 master,noaddr - 0 0 4 disconnected", "x 1.2.3.4:5@6 handshake - 0 0 0 connected"] {
            assert_eq!(claim(line, true), None, "{line}");
        }
    }
}
