//! What the observations mean: who is at fault, in words for a person, and what that person can do. Pure: observations in, verdict
//! out. The first fault on the way from this machine to the page is the one that counts.

use std::net::IpAddr;

use super::findings;
use super::observed::{Hop, Names, Observations};
use super::walk::is_near;
use super::warnings::warnings;
use crate::exit_code::Exit;

/// Who is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    Machine,
    Network,
    Dns,
    Path,
    Server,
    Application,
}

impl Fault {
    /// As `--json` names it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Fault::None => "none",
            Fault::Machine => "machine",
            Fault::Network => "network",
            Fault::Dns => "dns",
            Fault::Path => "path",
            Fault::Server => "server",
            Fault::Application => "application",
        }
    }

    /// As a person says it.
    pub(super) fn words(self) -> &'static str {
        match self {
            Fault::None => "nothing is wrong",
            Fault::Machine => "this machine",
            Fault::Network => "this network",
            Fault::Dns => "DNS",
            Fault::Path => "the way there",
            Fault::Server => "the server",
            Fault::Application => "the application",
        }
    }

    /// What the program ends with.
    pub(super) fn exit(self) -> Exit {
        match self {
            Fault::None => Exit::Ok,
            Fault::Machine => Exit::Machine,
            Fault::Network => Exit::Network,
            Fault::Dns => Exit::Dns,
            Fault::Path => Exit::Path,
            Fault::Server => Exit::Server,
            Fault::Application => Exit::Application,
        }
    }
}

/// What is the matter, before warnings are added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub fault: Fault,
    /// One line.
    pub headline: String,
    /// What was seen, in a paragraph.
    pub seen: String,
    /// What the person can do, in a paragraph.
    pub advice: String,
}

impl Finding {
    pub(super) fn new(
        fault: Fault,
        headline: impl Into<String>,
        seen: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self { fault, headline: headline.into(), seen: seen.into(), advice: advice.into() }
    }
}

/// The verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub finding: Finding,
    /// What is not right beside it, a sentence each.
    pub warnings: Vec<String>,
}

/// Judges what was seen.
pub(super) fn judge(seen: &Observations) -> Verdict {
    let case = Case::new(seen);
    let mut finding = findings::first(&case).unwrap_or_else(|| findings::nothing(&case));
    if let (Some(first), true) = (seen.hops.first(), seen.hops.len() > 1 && finding.fault != Fault::None) {
        let hops = seen.hops.len() - 1;
        let times = if hops == 1 { String::new() } else { format!(" after {hops} redirects") };
        finding.seen = format!("{} leads to {}{times}. {}", first.url, case.hop.url, finding.seen);
    }
    Verdict { finding, warnings: warnings(&case) }
}

/// The observations with what every finding asks of them.
pub(super) struct Case<'a> {
    pub seen: &'a Observations,
    /// The place where the check ended.
    pub hop: &'a Hop,
    /// What resolvers said of its host.
    pub names: Option<&'a Names>,
}

impl<'a> Case<'a> {
    pub(super) fn new(seen: &'a Observations) -> Self {
        Self::at(seen, seen.last())
    }

    /// The same for any place on the way.
    pub(super) fn at(seen: &'a Observations, hop: &'a Hop) -> Self {
        let same_host = seen.hops.iter().filter(|other| other.host == hop.host);
        Self { seen, hop, names: same_host.rev().find_map(|other| other.names.as_ref()) }
    }

    /// Whether something at an address of the host spoke TCP.
    pub(super) fn connected(&self) -> bool {
        self.hop.way().is_some()
    }

    /// Whether the page is this machine's own.
    pub(super) fn is_loopback(&self) -> bool {
        let mut addresses = self.own_addresses().peekable();
        addresses.peek().is_some() && addresses.all(|address| address.is_loopback())
    }

    /// Whether every address of the host is in a private network.
    pub(super) fn is_near(&self) -> bool {
        let mut addresses = self.own_addresses().peekable();
        addresses.peek().is_some() && addresses.all(is_near)
    }

    fn own_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.hop.tcp.own().map(|attempt| attempt.address.ip())
    }

    /// Whether anything out in the world spoke: a reference, or a resolver that is not in this network. `None` when none was asked.
    pub(super) fn world(&self) -> Option<bool> {
        let far = |ip: IpAddr| !is_near(ip) && !self.seen.machine.is_neighbour(ip);
        let resolvers = self.names.iter().flat_map(|names| &names.resolvers);
        let far_resolvers = resolvers.filter(|asked| far(asked.address.ip()));
        let spoke: Vec<bool> = far_resolvers.map(|asked| asked.answer().is_spoken()).collect();
        match (self.seen.network.world(), spoke.is_empty()) {
            (Some(true), _) => Some(true),
            (None, true) => None,
            (reference, _) => Some(reference.unwrap_or(false) || spoke.contains(&true)),
        }
    }
}
