//! Mainstay doubts itself first: before servers on several hosts are called down for their silence, it looks at its own sight.
//!
//! *Silence* is no answer at all: no way there, or not in time, or nobody who says where its name leads. A refusal or a bad answer has
//! come all the way back, and proves that Mainstay sees; so does DNS when it says that there is no such name. When `HOSTS_MIN` hosts
//! other than this machine, each known by its address or by its name, fall silent within `SPAN`, a look is ordered
//! ([`crate::Effect::LookAround`]), and what is silent is not judged until it has its answer, which takes a second at most.
//!
//! | control targets | gateway | resolvers | |
//! | --- | --- | --- | --- |
//! | one answers | | | it sees |
//! | none of them answers | | | **blind** |
//! | none are named | answers | | it sees |
//! | none are named | does not | | **blind** |
//! | none are named | not known | none of them answers | **blind** |
//! | anything else | | | not known, which explains nothing away |
//!
//! While it is blind there is one incident, *this observer is suspect*. What is silent then is unknown: neither ejected nor recovered nor
//! counted as down, and real requests go on to it. What is on this machine is seen as ever. A look each `AGAIN_BLIND` ends it.
//!
//! Mainstay may see and still not find anything by its name: none of the resolvers that probes ask answers a question. Then the same
//! incident says so, what nobody says the address of is unknown, and everything else is judged as ever.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cause::{Cause, Diagnosis};
use crate::effect::Effect;
use crate::endpoint::{Endpoint, Whereabouts};
use crate::incident::Scope;
use crate::input::{FailureKind, OwnPart, ProbeFailure};
use crate::model::Model;
use crate::out::Out;
use crate::server::{Server, Verdict};
use crate::service::Service;
use crate::time::Mono;

/// So many hosts that are silent are no chance.
const HOSTS_MIN: usize = 2;
/// Silence within so long belongs together: as long as probes with a long timeout take to be sure.
const SPAN: Duration = Duration::from_secs(10);
/// A look takes no longer.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);
/// Its answer is not waited for any longer.
const LOOK_GIVEN_UP: Duration = Duration::from_secs(2);
/// After a look that saw something another one waits for so long.
const AGAIN: Duration = Duration::from_secs(5);
/// While it is blind.
const AGAIN_BLIND: Duration = Duration::from_secs(2);
/// Hosts that are remembered; more of them say nothing more.
const HOSTS_MAX: usize = 1000;

/// One look at Mainstay's own sight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SightOrder {
    /// What the config names to compare with.
    pub control: Vec<SocketAddr>,
    /// How long it may take as a whole.
    pub timeout: Duration,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SightReport {
    /// The default gateway; `None`: there is none, or nobody knows whether it is there.
    pub gateway: Option<Seen>,
    /// The resolvers that are on other machines.
    pub resolvers: Vec<Seen>,
    /// What the config names to compare with.
    pub control: Vec<Seen>,
    /// Every resolver that probes go by, on whatever machine. It answers if it answers a question: a refusal is none.
    #[serde(default)]
    pub names: Vec<Seen>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Where: `192.0.2.1`, `1.1.1.1:443`.
    pub what: String,
    /// It answered, be it by a refusal.
    pub answers: bool,
}

impl SightReport {
    /// Why Mainstay sees nothing; `None`: it sees, or that is not known.
    pub fn blindness(&self) -> Option<String> {
        if !self.control.is_empty() {
            let why = || format!("none of the control targets answers ({})", listed(&self.control));
            return none_answers(&self.control).then(why);
        }
        match &self.gateway {
            Some(gateway) if gateway.answers => None,
            Some(gateway) => Some(format!("the gateway {} does not answer", gateway.what)),
            None => none_answers(&self.resolvers)
                .then(|| format!("no resolver answers ({})", listed(&self.resolvers))),
        }
    }

    /// Why Mainstay finds nothing by its name; `None`: somebody answers, or nobody is known who would.
    pub fn namelessness(&self) -> Option<String> {
        let why = match self.names.as_slice() {
            [only] => format!("its resolver {} does not answer", only.what),
            all => format!("none of its resolvers answers ({})", listed(all)),
        };
        none_answers(&self.names).then_some(why)
    }
}

fn none_answers(list: &[Seen]) -> bool {
    !list.is_empty() && list.iter().all(|seen| !seen.answers)
}

fn listed(list: &[Seen]) -> String {
    list.iter().map(|seen| seen.what.as_str()).collect::<Vec<_>>().join(", ")
}

/// Another machine, by what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Host {
    Ip(IpAddr),
    /// Where it leads is whoever probes' business.
    Name(Arc<str>),
}

impl From<IpAddr> for Host {
    fn from(ip: IpAddr) -> Self {
        Host::Ip(ip)
    }
}

/// What is known of Mainstay's own sight.
#[derive(Debug, Default)]
pub(crate) struct Sight {
    pub(crate) control: Vec<SocketAddr>,
    /// Hosts that did not answer, and when they last did not.
    silent: BTreeMap<Host, Mono>,
    /// A look is under way, and waited for until then.
    asked: Option<Mono>,
    last_asked: Option<Mono>,
    blind: Option<String>,
    nameless: Option<String>,
}

impl Sight {
    /// The observer is suspect: nothing that is silent may be called down. Why, for a person.
    pub(crate) fn suspect(&self) -> Option<&str> {
        self.blind.as_deref()
    }

    /// Nothing is found by its name: why, for a person.
    pub(crate) fn nameless(&self) -> Option<&str> {
        self.nameless.as_deref()
    }

    /// It is blind, or may turn out to be in a moment: silence is not judged now.
    pub(crate) fn is_doubted(&self, now: Mono) -> bool {
        self.blind.is_some() || self.asked.is_some() || self.wants_a_look(now)
    }

    /// A host was asked something: it was silent, or answered. Whoever watches anything on other machines says so here.
    pub(crate) fn heard(&mut self, host: Option<impl Into<Host>>, silent: bool, now: Mono) {
        let is_far = |host: &Host| !matches!(host, Host::Ip(ip) if ip.is_loopback());
        let Some(host) = host.map(Into::into).filter(is_far) else { return };
        if !silent {
            self.silent.remove(&host);
        } else if self.silent.len() < HOSTS_MAX || self.silent.contains_key(&host) {
            self.silent.insert(host, now);
        }
    }

    fn wants_a_look(&self, now: Mono) -> bool {
        let again = if self.blind.is_some() { AGAIN_BLIND } else { AGAIN };
        let rested = self.last_asked.is_none_or(|at| now >= at + again);
        let lately = self.silent.values().filter(|at| now.since(**at) <= SPAN).count();
        let suspect = self.blind.is_some() || self.nameless.is_some();
        rested && self.asked.is_none() && (suspect || lately >= HOSTS_MIN)
    }

    fn due(&self) -> Option<Mono> {
        let again = match (&self.blind, &self.nameless) {
            (Some(_), _) => Some(AGAIN_BLIND),
            (None, Some(_)) => Some(AGAIN),
            (None, None) => None,
        };
        self.asked.or_else(|| Some(self.last_asked? + again?))
    }
}

impl ProbeFailure {
    /// Nothing came back.
    pub(crate) fn is_nothing_back(&self) -> bool {
        self.is_silence() || matches!(self, Self::Unreachable(_) | Self::Unresolved(_))
    }
}

impl Whereabouts {
    /// Its address, if that is known and another machine's.
    pub(crate) fn far_ip(&self) -> Option<IpAddr> {
        match self.far()? {
            Host::Ip(ip) => Some(ip),
            Host::Name(_) => None,
        }
    }

    /// What it is known by, if that is another machine.
    pub(crate) fn far(&self) -> Option<Host> {
        match self {
            _ if self.is_here() => None,
            Whereabouts::Known(endpoint) => endpoint.ip().map(Host::Ip),
            Whereabouts::Named { host, .. } => Some(Host::Name(Arc::clone(host))),
        }
    }
}

impl FailureKind {
    /// Nothing came back.
    pub(crate) fn is_silence(self) -> bool {
        matches!(self, Self::Unreachable | Self::ConnectTimeout | Self::Timeout)
    }
}

impl Server {
    /// Where it is, if that is another machine.
    pub(crate) fn far(&self) -> Option<IpAddr> {
        self.address.as_ref().and_then(Endpoint::ip).filter(|ip| !ip.is_loopback())
    }
}

impl Service {
    /// What is silent on other machines may be as it was: nobody can see it.
    fn lose_sight(&mut self, out: &mut Out) {
        for server in self.servers.values_mut().filter(|s| s.far().is_some()) {
            let silent = server.probes.last_result.as_ref().is_some_and(ProbeFailure::is_nothing_back);
            let heard = server.traffic.last_failure.is_some_and(|at| out.now.mono.since(at) <= SPAN);
            if silent && server.probes.verdict == Verdict::Bad {
                server.probes.verdict = Verdict::Unknown;
            }
            server.unseen |= silent;
            if silent || heard {
                (server.ejection, server.condemned) = (None, None);
            }
        }
    }

    /// Everything is looked at anew.
    fn regain_sight(&mut self, out: &mut Out) {
        for server in self.servers.values_mut().filter(|s| s.unseen) {
            server.unseen = false;
            let probes = &mut server.probes;
            probes.start_over();
            (probes.run_since, probes.last_result) = (None, None);
            probes.next_at = probes.next_at.map(|_| out.now.mono);
            server.traffic.start_over(out.now.mono);
        }
        self.hurt_from = self.hurt_from.max(out.now.mono + crate::incidents::HURT_FORGOTTEN);
    }
}

impl Model {
    /// Looks around if there is a reason to, and gives up a look that was not answered.
    pub(crate) fn tend_sight(&mut self) {
        let now = self.out.now.mono;
        let sight = &mut self.out.sight;
        sight.asked = sight.asked.filter(|until| now < *until);
        sight.silent.retain(|_, at| now.since(*at) <= SPAN);
        if sight.wants_a_look(now) {
            (sight.asked, sight.last_asked) = (Some(now + LOOK_GIVEN_UP), Some(now));
            let order = SightOrder { control: sight.control.clone(), timeout: LOOK_TIMEOUT };
            self.out.effect(Effect::LookAround(order));
        }
    }

    /// When that is next due.
    pub(crate) fn sight_due(&self) -> Option<Mono> {
        self.out.sight.due()
    }

    /// What was seen.
    pub(crate) fn on_sight(&mut self, report: &SightReport) {
        // Nobody asked, or it was given up.
        if self.out.sight.asked.take().is_none() {
            return;
        }
        let blind = report.blindness();
        // Who sees nothing cannot say anything of its resolvers.
        let nameless = report.namelessness().filter(|_| blind.is_none());
        let was_blind = std::mem::replace(&mut self.out.sight.blind, blind.clone()).is_some();
        let was_nameless = std::mem::replace(&mut self.out.sight.nameless, nameless.clone()).is_some();
        if (was_blind, was_nameless) != (blind.is_some(), nameless.is_some()) {
            let scope = Scope::Own(OwnPart::Sight);
            let own = self.own.entry(OwnPart::Sight).or_default();
            own.on_trouble(scope, blind.as_deref().or(nameless.as_deref()), &mut self.out);
            let found = blind.as_ref().map(|text| (Cause::Network, text));
            if let Some((cause, text)) = found.or_else(|| nameless.as_ref().map(|text| (Cause::Dns, text)))
                && let Some(open) = &mut own.incident
            {
                open.diagnose(Diagnosis::sure(cause, vec![text.clone()]), &mut self.out);
            }
            own.tend(&mut self.out);
            if was_blind && blind.is_none() {
                self.out.sight.silent.clear();
            }
        }
        let ids: Vec<_> = self.services.keys().cloned().collect();
        for id in ids {
            self.with(&id, |service, out| match (&blind, was_blind) {
                (Some(_), _) => service.lose_sight(out),
                (None, true) => service.regain_sight(out),
                (None, false) => {}
            });
        }
    }
}

#[cfg(test)]
mod tests;
