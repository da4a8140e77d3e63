//! How a service's requests are carried: what the data plane is told of a service and the judge has no say in.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::affinity::{HashBy, Sticky};
use crate::id::ServiceId;
use crate::limits::Limits;
use crate::policy::{Balance, Protocol, RetryPolicy, Timeouts};
use crate::route::{Condition, Handling, PathRule, Route};

/// How requests of one service are carried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Carriage {
    /// Host names that lead here, lower case, without port; `*.example.com` is every name below it, `*` every host. Empty:
    /// every host, unless it takes nothing by itself.
    pub hosts: Vec<String>,
    /// Paths that lead here, with all below them; empty: every path.
    #[serde(default)]
    pub paths: Vec<String>,
    /// No host leads here: only routes of other services do.
    #[serde(default)]
    pub unlisted: bool,
    /// What is done to requests that no route takes.
    #[serde(default)]
    pub handling: Arc<Handling>,
    /// Parts of its requests that are treated in their own way, and requests that it takes beside those of `hosts` and `paths`.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// How a server is chosen for a request.
    pub balance: Balance,
    /// By what, when it is by a hash.
    #[serde(default)]
    pub hash_by: HashBy,
    /// Visitors keep to their server by a cookie.
    #[serde(default)]
    pub sticky: Option<Sticky>,
    /// Deadlines.
    pub timeouts: Timeouts,
    /// An answer that begins later than this is slow for its visitor.
    pub slow_after: Duration,
    /// When a request is tried again.
    pub retry: RetryPolicy,
    /// What the service takes on.
    pub limits: Arc<Limits>,
    /// What its servers speak.
    #[serde(default)]
    pub protocol: Protocol,
    /// Connections are passed on as they are, whatever is spoken on them, and `hosts` are names that clients of TLS ask for.
    /// `None`: it is a service of HTTP.
    #[serde(default)]
    pub tcp: Option<Tcp>,
    /// Servers are told in front of each connection who it comes from.
    #[serde(default)]
    pub send_proxy: Option<SendProxy>,
    /// How long what is under way at a server may go on once that is drained, taken out or gone from the config.
    #[serde(default = "drain_timeout")]
    pub drain_timeout: Duration,
}

fn drain_timeout() -> Duration {
    Carriage::DRAIN_TIMEOUT
}

/// How connections are passed on as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tcp {
    /// Connections with a server that is put out of rotation for its health are closed, so that clients make new ones with
    /// another server (HAProxy's `on-marked-down shutdown-sessions`).
    pub close_when_down: bool,
}

/// The version of the PROXY protocol that a server understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SendProxy {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

impl SendProxy {
    /// What Mainstay says in front of a connection of its own, of a probe: that it comes from nobody else.
    pub fn own_greeting(self) -> &'static [u8] {
        match self {
            SendProxy::V1 => b"PROXY UNKNOWN\r\n",
            SendProxy::V2 => b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
        }
    }
}

/// Requests that a service takes, and what is done with them.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule<'c> {
    /// Which.
    pub when: Cow<'c, Condition>,
    /// The service that answers; `None`: the one that takes them.
    pub service: Option<&'c ServiceId>,
    /// What is done to them.
    pub handling: &'c Arc<Handling>,
    /// The place of its route; `None`: by the service's own hosts and paths.
    pub route: Option<usize>,
}

impl Carriage {
    /// As long as Envoy lets what is open go on (`--drain-time-s`, 600), and as long as a Mainstay that was replaced does.
    pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(600);

    /// How long what is under way at a server may go on once a person drains it: not shorter than visitors that keep to it
    /// may come back to it.
    pub fn drains_within(&self) -> Duration {
        self.sticky.as_ref().map_or(self.drain_timeout, |sticky| sticky.drain.max(self.drain_timeout))
    }

    /// All that it takes. Of two that are equally specific the first one goes first.
    pub fn rules(&self) -> impl Iterator<Item = Rule<'_>> {
        let own = (!self.unlisted && self.tcp.is_none()).then(|| Rule {
            when: Cow::Owned(self.condition()),
            service: None,
            handling: &self.handling,
            route: None,
        });
        let routes = self.routes.iter().enumerate().map(|(place, route)| Rule {
            when: Cow::Borrowed(&route.when),
            service: route.service.as_ref(),
            handling: &route.handling,
            route: Some(place),
        });
        own.into_iter().chain(routes)
    }

    /// The requests that lead here by its hosts and paths.
    pub fn condition(&self) -> Condition {
        let paths = self.paths.iter().map(|path| PathRule::below(path)).collect();
        Condition { hosts: self.hosts.clone(), paths, ..Condition::default() }
    }
}

impl Default for Carriage {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            paths: Vec::new(),
            handling: Arc::default(),
            routes: Vec::new(),
            unlisted: false,
            balance: Balance::default(),
            hash_by: HashBy::default(),
            sticky: None,
            timeouts: Timeouts::default(),
            slow_after: Duration::from_secs(1),
            retry: RetryPolicy::default(),
            limits: Arc::default(),
            tcp: None,
            send_proxy: None,
            protocol: Protocol::default(),
            drain_timeout: Self::DRAIN_TIMEOUT,
        }
    }
}
