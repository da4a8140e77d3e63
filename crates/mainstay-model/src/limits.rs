//! What a service takes on: requests of one address, requests under way, requests that wait, and who goes first.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::endpoint::UNIX;

/// The limits of a service. By default there are none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// How often one address may ask; `None`: as often as it likes.
    pub per_address: Option<AddressLimit>,
    /// Addresses that may ask as often as they like.
    pub exempt: Vec<Subnet>,
    /// Proxies in front of Mainstay: the address that they name last is taken for the visitor's.
    pub trusted_proxies: Vec<Subnet>,
    /// How many requests are under way at once; `None`: any number.
    pub room: Option<Room>,
    /// Which requests go first when there is no room for all.
    pub priorities: Vec<Priority>,
    /// A larger body is refused with 413; `None`: of any size.
    pub body_max: Option<u64>,
}

impl Limits {
    /// There are none.
    pub const NONE: Limits = Limits {
        per_address: None,
        exempt: Vec::new(),
        trusted_proxies: Vec::new(),
        room: None,
        priorities: Vec::new(),
        body_max: None,
    };

    /// How a request for this path (with or without a query) stands against others: by the longest entry that it lies under.
    pub fn level(&self, target: &str) -> Level {
        if self.priorities.is_empty() {
            return Level::Normal;
        }
        let path = target.split('?').next().unwrap_or_default();
        let under = self.priorities.iter().filter(|priority| priority.covers(path));
        under.max_by_key(|priority| priority.path.len()).map_or(Level::Normal, |priority| priority.level)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::NONE
    }
}

/// A token bucket for each IPv4 address or IPv6 network of 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressLimit {
    /// So many requests …
    pub requests: u32,
    /// … in this time. Of the two follows the rate at which the bucket fills.
    pub per: Duration,
    /// What the bucket holds: requests that may come at once. At least 1.
    pub burst: u32,
    /// The connection is closed after a refusal; otherwise it is kept, which is cheaper for both sides.
    pub close: bool,
}

impl fmt::Display for AddressLimit {
    /// As it is written in a config: `50/s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.per.as_secs() {
            1 => write!(f, "{}/s", self.requests),
            60 => write!(f, "{}/m", self.requests),
            3600 => write!(f, "{}/h", self.requests),
            seconds => write!(f, "{} in {seconds} s", self.requests),
        }
    }
}

/// Requests under way at once, over all workers, and those that wait for one to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// Requests under way. At least 1.
    pub concurrent: u32,
    /// `concurrent` is the most; how many the service can do is found out from how long its answers take.
    pub adaptive: bool,
    /// Requests that wait.
    pub queue: u32,
    /// How long one waits before it is refused.
    pub queue_deadline: Duration,
}

impl Room {
    /// Requests that wait unless the config says otherwise.
    pub const QUEUE: u32 = 100;
    /// A visitor has given up after a few seconds; an answer for whom nobody waits helps nobody.
    pub const QUEUE_DEADLINE: Duration = Duration::from_secs(2);

    /// With the usual queue.
    pub fn of(concurrent: u32) -> Self {
        Self { concurrent, adaptive: false, queue: Self::QUEUE, queue_deadline: Self::QUEUE_DEADLINE }
    }
}

/// The requests under one path and their level.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Priority {
    /// `/checkout` is that path and everything below it; it begins with `/`.
    pub path: String,
    /// Theirs.
    pub level: Level,
}

impl Priority {
    fn covers(&self, path: &str) -> bool {
        let own = self.path.strip_suffix('/').unwrap_or(&self.path);
        path.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// Who goes first when there is no room for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Waits behind all others, and is refused first.
    Low,
    /// What is not listed.
    #[default]
    Normal,
    /// Goes before all others.
    High,
}

impl Level {
    /// All, the lowest first.
    pub const ALL: [Level; 3] = [Level::Low, Level::Normal, Level::High];

    /// The word used in the config and on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Low => "low",
            Level::Normal => "normal",
            Level::High => "high",
        }
    }
}

/// Where somebody comes from, as people write it: a network, `10.0.0.0/8` or `2001:db8::/32`, one address, or `unix:`, by any Unix
/// socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Subnet {
    /// From an address of this network.
    Ip {
        /// One of its addresses.
        address: IpAddr,
        /// So many of its first bits are those of all.
        bits: u8,
    },
    /// By a Unix socket, without an address.
    Unix,
}

impl Subnet {
    /// Whether an address lies in it; `None`: somebody who came by a Unix socket. An IPv4 address written as IPv6 is an IPv4
    /// address.
    pub fn contains(&self, address: impl Into<Option<IpAddr>>) -> bool {
        let (own, bits, address) = match (self, address.into()) {
            (Subnet::Ip { address: own, bits }, Some(address)) => (*own, u32::from(*bits), address),
            (Subnet::Unix, None) => return true,
            (Subnet::Unix, Some(_)) | (Subnet::Ip { .. }, None) => return false,
        };
        match (own, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differs = own.to_bits() ^ other.to_bits();
                differs.checked_shr(32 - bits).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differs = own.to_bits() ^ other.to_bits();
                differs.checked_shr(128 - bits).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// Why a text is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadSubnet(&'static str);

impl FromStr for Subnet {
    type Err = BadSubnet;

    fn from_str(text: &str) -> Result<Self, BadSubnet> {
        if text == UNIX {
            return Ok(Subnet::Unix);
        }
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| BadSubnet("not an IP address or network"))?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) if bits.bytes().all(|b| b.is_ascii_digit()) => bits.parse().unwrap_or(u8::MAX),
            Some(_) => u8::MAX,
        };
        if bits > most {
            return Err(BadSubnet("a network has at most 32 bits in IPv4 and 128 in IPv6"));
        }
        Ok(Subnet::Ip { address, bits })
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subnet::Ip { address, bits } => write!(f, "{address}/{bits}"),
            Subnet::Unix => f.write_str(UNIX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_its_own_addresses_and_no_others() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("192.0.2.0/24", "::ffff:192.0.2.9", "::ffff:192.0.3.9"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
            ("::/0", "2001:db8::1", "10.0.0.1"),
            ("::1", "::1", "::2"),
        ] {
            let subnet: Subnet = network.parse().expect("a network");
            assert!(
                subnet.contains(inside.parse::<IpAddr>().expect("an address")),
                "{inside} is in {network}"
            );
            assert!(
                !subnet.contains(outside.parse::<IpAddr>().expect("an address")),
                "{outside} is not in {network}"
            );
        }
        let unix: Subnet = "unix:".parse().expect("Unix sockets");
        assert!(unix.contains(None) && !unix.contains(IpAddr::from([127, 0, 0, 1])));
        assert!(!"0.0.0.0/0".parse::<Subnet>().expect("a network").contains(None));
        for text in
            ["", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/", "10.0.0/8", "::/129", "host", "10.0.0.0/8/8"]
        {
            assert!(text.parse::<Subnet>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_request_has_the_level_of_the_longest_path_that_it_lies_under() {
        let priority = |path: &str, level| Priority { path: path.to_owned(), level };
        let limits = Limits {
            priorities: vec![
                priority("/checkout", Level::High),
                priority("/search/", Level::Low),
                priority("/search/by-number", Level::Normal),
            ],
            ..Limits::NONE
        };
        for (target, level) in [
            ("/checkout", Level::High),
            ("/checkout?step=2", Level::High),
            ("/checkout/pay", Level::High),
            ("/checkouts", Level::Normal),
            ("/search", Level::Low),
            ("/search/by-number/7", Level::Normal),
            ("/", Level::Normal),
            ("*", Level::Normal),
        ] {
            assert_eq!(limits.level(target), level, "{target}");
        }
        let all = Limits { priorities: vec![priority("/", Level::Low)], ..Limits::NONE };
        assert_eq!((all.level("/"), all.level("/x")), (Level::Low, Level::Low));
    }
}
