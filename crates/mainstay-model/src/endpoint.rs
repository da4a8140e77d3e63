//! Where somebody listens: an IP address with a port, or a Unix socket on this machine.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Before the path of a Unix socket, as an address is written (nginx writes it so too).
pub const UNIX: &str = "unix:";

/// Where somebody listens. It is written as people write it, in configs, in the record and on pages.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Endpoint {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(Arc<str>),
}

impl Endpoint {
    /// The IP address, where there is one.
    pub fn ip(&self) -> Option<IpAddr> {
        self.tcp().map(|address| address.ip())
    }

    /// The IP address and the port, where there are some.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Endpoint::Tcp(address) => Some(*address),
            Endpoint::Unix(_) => None,
        }
    }

    /// The port, where there is one.
    pub fn port(&self) -> Option<u16> {
        self.tcp().map(|address| address.port())
    }

    /// It is on this machine and nowhere else.
    pub fn is_here(&self) -> bool {
        self.ip().is_none_or(|ip| ip.is_loopback())
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Endpoint::Tcp(address)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp(address) => address.fmt(f),
            Endpoint::Unix(path) => write!(f, "{UNIX}{path}"),
        }
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.to_string()
    }
}

/// A text is neither an IP address with a port nor a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("neither an IP address with a port nor {UNIX} and a path")]
pub struct BadEndpoint;

impl FromStr for Endpoint {
    type Err = BadEndpoint;

    fn from_str(text: &str) -> Result<Self, BadEndpoint> {
        match text.strip_prefix(UNIX) {
            Some("") => Err(BadEndpoint),
            Some(path) => Ok(Endpoint::Unix(path.into())),
            None => text.parse().map(Endpoint::Tcp).map_err(|_| BadEndpoint),
        }
    }
}

impl TryFrom<String> for Endpoint {
    type Error = BadEndpoint;

    fn try_from(text: String) -> Result<Self, BadEndpoint> {
        text.parse()
    }
}

/// Where a probe is to look: an address, or a name that is looked up by whoever probes, each time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Whereabouts {
    /// An address.
    Known(Endpoint),
    /// A host by its name, and a port.
    Named {
        /// The host.
        host: Arc<str>,
        /// The port.
        port: u16,
    },
}

impl Whereabouts {
    /// Its IP address, if that is known without asking anybody.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Whereabouts::Known(endpoint) => endpoint.ip(),
            Whereabouts::Named { .. } => None,
        }
    }

    /// It is on this machine, as far as can be told without asking anybody.
    pub fn is_here(&self) -> bool {
        match self {
            Whereabouts::Known(endpoint) => endpoint.is_here(),
            Whereabouts::Named { host, .. } => host.eq_ignore_ascii_case("localhost"),
        }
    }

    /// The host alone, as it is written: a name, an IP address, or the path of a socket.
    pub fn host(&self) -> String {
        match self {
            Whereabouts::Known(Endpoint::Tcp(address)) => address.ip().to_string(),
            Whereabouts::Known(Endpoint::Unix(path)) => path.to_string(),
            Whereabouts::Named { host, .. } => host.to_string(),
        }
    }
}

impl<T: Into<Endpoint>> From<T> for Whereabouts {
    fn from(address: T) -> Self {
        Self::Known(address.into())
    }
}

impl fmt::Display for Whereabouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Whereabouts::Known(address) => address.fmt(f),
            Whereabouts::Named { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_written_as_people_write_it_and_read_back() {
        for text in ["10.0.0.11:3000", "[::1]:3000", "unix:/run/app.sock"] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), text);
            assert_eq!(serde_json::to_string(&endpoint).unwrap(), format!("{text:?}"));
            assert_eq!(serde_json::from_str::<Endpoint>(&format!("{text:?}")).unwrap(), endpoint);
        }
        for text in ["", "unix:", "10.0.0.11", "/run/app.sock"] {
            assert_eq!(text.parse::<Endpoint>(), Err(BadEndpoint), "{text}");
        }
    }

    #[test]
    fn a_unix_socket_is_on_this_machine() {
        let is_here = |text: &str| text.parse::<Endpoint>().unwrap().is_here();
        assert!(is_here("unix:/run/app.sock") && is_here("127.0.0.1:1") && !is_here("10.0.0.1:1"));
    }
}
