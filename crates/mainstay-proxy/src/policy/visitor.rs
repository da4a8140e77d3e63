//! Who asks, as far as it may be known: a network to be limited by, and a keyed hash to be counted by.
//!
//! An IPv6 visitor has a whole /64 to choose addresses from, so there the network stands for the visitor.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IPv4 address, or an IPv6 network of 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Network {
    is_v6: bool,
    bits: u64,
}

impl Network {
    /// The network of an address; an IPv4 address written as IPv6 is an IPv4 address.
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self { is_v6: false, bits: u64::from(v4.to_bits()) },
            IpAddr::V6(v6) => Self { is_v6: true, bits: (v6.to_bits() >> 64) as u64 },
        }
    }

    /// A hash that nobody can turn back, or make collide, without the key.
    pub(crate) fn hash(self, key: &HashKey) -> u64 {
        // The family is in the tag, so that an IPv4 address is never a network of IPv6.
        siphash_2_4(key, self.bits, u8::from(self.is_v6))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_v6 {
            write!(f, "{}/64", Ipv6Addr::from_bits(u128::from(self.bits) << 64))
        } else {
            // An IPv4 address was put in, so nothing is cut off.
            write!(f, "{}", Ipv4Addr::from_bits(self.bits as u32))
        }
    }
}

/// The key of a keyed hash. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct HashKey(u64, u64);

impl HashKey {
    pub(crate) fn new(bytes: [u8; 16]) -> Self {
        let all = u128::from_le_bytes(bytes);
        Self(all as u64, (all >> 64) as u64)
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey(…)")
    }
}

/// SipHash-2-4 (Aumasson and Bernstein, 2012) of the nine bytes of `word` and `tag`.
fn siphash_2_4(key: &HashKey, word: u64, tag: u8) -> u64 {
    const LENGTH: u64 = 9;
    let mut state = [
        key.0 ^ 0x736f_6d65_7073_6575,
        key.1 ^ 0x646f_7261_6e64_6f6d,
        key.0 ^ 0x6c79_6765_6e65_7261,
        key.1 ^ 0x7465_6462_7974_6573,
    ];
    for block in [word, LENGTH << 56 | u64::from(tag)] {
        state[3] ^= block;
        round(&mut state);
        round(&mut state);
        state[0] ^= block;
    }
    state[2] ^= 0xff;
    for _ in 0..4 {
        round(&mut state);
    }
    state[0] ^ state[1] ^ state[2] ^ state[3]
}

fn round([a, b, c, d]: &mut [u64; 4]) {
    *a = a.wrapping_add(*b);
    *b = b.rotate_left(13) ^ *a;
    *a = a.rotate_left(32);
    *c = c.wrapping_add(*d);
    *d = d.rotate_left(16) ^ *c;
    *a = a.wrapping_add(*d);
    *d = d.rotate_left(21) ^ *a;
    *c = c.wrapping_add(*b);
    *b = b.rotate_left(17) ^ *c;
    *c = c.rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        Network::of(text.parse().expect("an address"))
    }

    #[test]
    fn the_hash_is_siphash_2_4_as_its_authors_print_it() {
        // From the reference implementation's vectors: key 00…0f, input 00 01 … 08.
        let key = HashKey::new(std::array::from_fn(|i| i as u8));
        assert_eq!(siphash_2_4(&key, 0x0706_0504_0302_0100, 8), 0x9e00_82df_0ba9_e4b0);
    }

    #[test]
    fn an_ipv6_visitor_is_its_network_and_an_ipv4_visitor_its_address_however_it_is_written() {
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:2"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(network("::ffff:198.51.100.7"), network("198.51.100.7"));
        assert_ne!(network("198.51.100.7"), network("198.51.100.8"));
        assert_ne!(network("0.0.0.0"), network("::"), "the families are apart");
        assert_eq!(network("2001:db8::1").to_string(), "2001:db8::/64");
        assert_eq!(network("::ffff:198.51.100.7").to_string(), "198.51.100.7");
    }

    #[test]
    fn another_key_makes_another_hash_and_no_key_is_printed() {
        let (today, tomorrow) = (HashKey::new([1; 16]), HashKey::new([2; 16]));
        let visitor = network("198.51.100.7");
        assert_eq!(visitor.hash(&today), visitor.hash(&today));
        assert_ne!(visitor.hash(&today), visitor.hash(&tomorrow));
        assert_eq!(format!("{today:?}"), "HashKey(…)");
    }
}
