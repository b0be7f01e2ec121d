//! What counts as one address.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
};

/// An IPv4 address, or the /64 of an IPv6 one: whoever has one of those has all 2^64 of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network(IpAddr);

impl Network {
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => Self(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into()),
            address @ IpAddr::V4(_) => Self(address),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn network(address: &str) -> String {
        Network::of(address.parse().unwrap()).to_string()
    }

    #[test]
    fn ipv6_counts_by_64_bits_and_ipv4_however_it_is_written_by_all() {
        assert_eq!(network("203.0.113.9"), "203.0.113.9");
        assert_eq!(network("::ffff:203.0.113.9"), "203.0.113.9");
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(network("2001:db8::1"), "2001:db8::");
        assert_eq!(network("::1"), "::");
    }

    proptest! {
        #[test]
        fn two_ipv6_addresses_count_as_one_exactly_when_their_first_half_is_the_same(prefix: u64, a: u64, b: u64, bit in 0..64) {
            let address = |prefix: u64, host: u64| {
                IpAddr::from(Ipv6Addr::from_bits(u128::from(prefix) << 64 | u128::from(host)))
            };
            prop_assume!(prefix != 0 && prefix != 1_u64 << bit);
            prop_assert_eq!(Network::of(address(prefix, a)), Network::of(address(prefix, b)));
            prop_assert_ne!(Network::of(address(prefix, a)), Network::of(address(prefix ^ (1_u64 << bit), a)));
        }
    }
}
