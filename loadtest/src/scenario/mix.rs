//! What `mixed` does, and how often.

use std::collections::BTreeMap;
use std::str::FromStr;

use rand::distr::{Distribution, weighted::WeightedIndex};
use rand::rngs::StdRng;

/// One thing that a user does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    Protected,
    Ping,
    Publish,
    Typing,
    Refresh,
    Rejoin,
    Presence,
    Reconnect,
    /// Logs out, and in again.
    Login,
}

/// Every deed with its name and its weight where nothing else is said: an ordinary user of a chat on an ordinary day.
const USUAL: [(Deed, &str, u32); 9] = [
    (Deed::Protected, "protected", 40),
    (Deed::Ping, "ping", 20),
    (Deed::Publish, "publish", 12),
    (Deed::Typing, "typing", 8),
    (Deed::Refresh, "refresh", 8),
    (Deed::Rejoin, "rejoin", 4),
    (Deed::Presence, "presence", 3),
    (Deed::Reconnect, "reconnect", 3),
    (Deed::Login, "login", 2),
];

/// Weights other than the usual ones.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Mix(BTreeMap<&'static str, u32>);

/// Chooses by weight.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    deeds: Vec<Deed>,
    weights: WeightedIndex<u32>,
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut weights = BTreeMap::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (name, weight) =
                part.split_once('=').ok_or_else(|| format!("expected OPERATION=WEIGHT, not {part}"))?;
            let known = USUAL.iter().find(|(_, known, _)| *known == name);
            let names = || USUAL.map(|(_, name, _)| name).join(", ");
            let (_, name, _) = known.ok_or_else(|| format!("no operation {name}; there are {}", names()))?;
            let weight = weight.parse().ok().filter(|weight| *weight <= 1_000_000);
            weights.insert(*name, weight.ok_or("a weight is a number from 0 to 1000000")?);
        }
        Ok(Self(weights))
    }
}

impl Mix {
    /// None if nothing is left to be chosen.
    pub(crate) fn choice(&self, original: bool) -> Option<Choice> {
        let deeds = USUAL.iter().filter(|(deed, ..)| !original || deed.is_original());
        let weighted = deeds.map(|(deed, name, usual)| (*deed, self.0.get(name).copied().unwrap_or(*usual)));
        let (deeds, weights): (Vec<Deed>, Vec<u32>) = weighted.unzip();
        Some(Choice { deeds, weights: WeightedIndex::new(weights).ok()? })
    }
}

impl Choice {
    pub(crate) fn choose(&self, random: &mut StdRng) -> Deed {
        self.deeds[self.weights.sample(random)]
    }
}

impl Deed {
    fn is_original(self) -> bool {
        matches!(self, Self::Protected | Self::Ping | Self::Refresh | Self::Reconnect | Self::Login)
    }

    pub(crate) fn speaks(self) -> bool {
        matches!(self, Self::Ping | Self::Publish | Self::Typing | Self::Rejoin | Self::Presence)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn chosen(mix: &str, original: bool) -> Vec<Deed> {
        let choice = mix.parse::<Mix>().unwrap().choice(original).unwrap();
        let mut random = StdRng::seed_from_u64(1);
        (0..10_000).map(|_| choice.choose(&mut random)).collect()
    }

    #[test]
    fn what_is_done_follows_the_weights_and_the_seed() {
        let deeds = chosen("protected=0,ping=74", false);
        let pings = deeds.iter().filter(|deed| **deed == Deed::Ping).count();
        assert!(!deeds.contains(&Deed::Protected) && (6_300..6_600).contains(&pings), "{pings}");
        assert_eq!(deeds, chosen("protected=0,ping=74", false));
    }

    #[test]
    fn the_original_has_no_rooms() {
        assert!(chosen("", true).into_iter().all(Deed::is_original));
    }

    #[test]
    fn a_mix_that_makes_no_sense_is_refused() {
        for mix in ["ping", "ping=x", "dance=3"] {
            assert!(mix.parse::<Mix>().is_err(), "{mix}");
        }
        let only_rooms = "protected=0,ping=0,refresh=0,reconnect=0,login=0".parse::<Mix>().unwrap();
        assert!(only_rooms.choice(true).is_none() && only_rooms.choice(false).is_some());
    }
}
