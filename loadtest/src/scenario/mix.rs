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

/// Every deed with its weight where nothing else is said: an ordinary user of a chat on an ordinary day.
pub(crate) const USUAL: [(Deed, u32); 9] = [
    (Deed::Protected, 40),
    (Deed::Ping, 20),
    (Deed::Publish, 12),
    (Deed::Typing, 8),
    (Deed::Refresh, 8),
    (Deed::Rejoin, 4),
    (Deed::Presence, 3),
    (Deed::Reconnect, 3),
    (Deed::Login, 2),
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
            let known = USUAL.iter().map(|(deed, _)| deed.name()).find(|known| *known == name);
            let names = || USUAL.map(|(deed, _)| deed.name()).join(", ");
            let name = known.ok_or_else(|| format!("no operation {name}; there are {}", names()))?;
            let weight = weight.parse().ok().filter(|weight| *weight <= 1_000_000);
            weights.insert(name, weight.ok_or("a weight is a number from 0 to 1000000")?);
        }
        Ok(Self(weights))
    }
}

impl Mix {
    /// None if nothing is left to be chosen.
    pub(crate) fn choice(&self, original: bool) -> Option<Choice> {
        let deeds = USUAL.iter().filter(|(deed, _)| !original || deed.is_original());
        let weighted = deeds.map(|(deed, usual)| (*deed, self.0.get(deed.name()).copied().unwrap_or(*usual)));
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
    /// On the command line and in reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Protected => "protected",
            Self::Ping => "ping",
            Self::Publish => "publish",
            Self::Typing => "typing",
            Self::Refresh => "refresh",
            Self::Rejoin => "rejoin",
            Self::Presence => "presence",
            Self::Reconnect => "reconnect",
            Self::Login => "login",
        }
    }

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
